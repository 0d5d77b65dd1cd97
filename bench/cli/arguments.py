"""What every command shares: one-line errors, exit statuses, and the common arguments.

A command is a function ``main(argv: list[str] | None = None) -> int`` and ends in

    if __name__ == "__main__":
        entry(main)
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from bench.cli.entry import BAD_INPUT
from bench.experiment.execution import Execution

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of a terminal that is none.
_WIDTH = 240


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {message}; see {self.prog} --help\n")


def parser(prog: str, doc: str | None) -> Parser:
    """The parser of ``python -m prog``, described by the module's docstring."""
    return Parser(prog=f"python -m {prog}", description=doc)


def add_results(parser: argparse.ArgumentParser) -> None:
    """``--results DIR``."""
    parser.add_argument(
        "--results", metavar="DIR", default="results", help="the results folder (default: results)"
    )


def add_set(
    parser: argparse.ArgumentParser,
    words: str = "override settings, as in --set epochs=5,method.sparsity=0.9; repeatable",
) -> None:
    """``--set KEY=VALUE``; ``overrides`` and ``profile_overrides`` read what was given."""
    parser.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=words
    )


#: ``--set`` of what belongs to a profile of SLURM, not to runs.
_SLURM = "slurm."


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given by ``--set``: key to value."""
    found = _all_overrides(arguments)
    if not hasattr(arguments, "profile"):
        return found  # a command that submits nothing knows no keys of a profile
    return {key: value for key, value in found.items() if not key.startswith(_SLURM)}


def profile_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given by ``--set slurm.KEY=VALUE``: key of the profile to value."""
    found = _all_overrides(arguments).items()
    return {key.removeprefix(_SLURM): value for key, value in found if key.startswith(_SLURM)}


def _all_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    from bench.experiment.notation import parse_overrides  # here, as it imports methods and with it torch

    return parse_overrides(arguments.overrides)


def add_where(parser: argparse.ArgumentParser) -> None:
    """``--where CONDITIONS``, a list for ``bench.planning.filters.parse_where``."""
    parser.add_argument(
        "--where",
        metavar="CONDITIONS",
        action="append",
        default=[],
        help='only some cells, as in --where "sparsity>=0.9,method=ssvi|static_vi"; repeatable',
    )


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """``--seeds SEEDS``, text for ``bench.experiment.notation.parse_seeds``."""
    parser.add_argument(
        "--seeds", metavar="SEEDS", help="seeds in place of the usual ones, as in 0-4 or 0,2,5-7"
    )


def add_launching(parser: argparse.ArgumentParser) -> None:
    """Where runs are computed, how many at once, and what to do with those that are there."""
    parser.add_argument(
        "--executor",
        choices=("local", "inline", "slurm"),
        default="local",
        help="where runs are computed: worker processes of this machine, this process, or jobs of a cluster "
        "(default: local)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes at once on this machine (default: one for each GPU in use, or for each usable core "
        "over --threads, as far as memory has room)",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="what SLURM is told of jobs: slurm/NAME.yaml, or a path; single keys by --set slurm.KEY=VALUE",
    )
    parser.add_argument("--retry-failed", action="store_true", help="run again what failed")
    parser.add_argument("--force", action="store_true", help="run everything again; set aside what there is")


def console() -> Console:
    """Where a command that launches runs prints."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def add_execution(parser: argparse.ArgumentParser) -> None:
    """How runs are computed: device, threads, execution, ``--channels-last`` and ``--compile``."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:N, or auto: cuda where there is one, else cpu (default)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="torch threads of a run (default: 1; of a job of SLURM the cores that it has)",
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        metavar="S",
        default=Execution.checkpoint_seconds,
        help="least time between two checkpoints of a run (default: %(default)g)",
    )
    parser.add_argument(
        "--execution",
        choices=("auto", "dense", "sparse"),
        default="auto",
        help="layers with sparse weights: by sparse kernels (CPU), by dense contractions, or by whichever is "
        "faster (default: auto)",
    )
    parser.add_argument(
        "--channels-last", action="store_true", help="hold images and kernels channel by channel in a pixel"
    )
    parser.add_argument("--compile", action="store_true", help="send networks through torch.compile")


def execution(
    arguments: argparse.Namespace, executor: str = "inline", device: str | None = None, threads: int = 1
) -> Execution:
    """What ``add_execution`` added, resolved.

    device: where it is not this machine that computes, and its devices say nothing. threads: where none are
    asked for. Raises ``UserError`` for a missing device, or kernels that are asked for and missing; says
    where they are missed.
    """
    from bench.experiment.execution import resolve_device
    from methods.core.errors import UserError
    from methods.kernels.library import absent

    device = device or resolve_device(arguments.device)
    if device == "cpu" and arguments.execution != "dense" and (reason := absent()) is not None:
        if arguments.execution == "sparse":
            raise UserError(f"--execution sparse: {reason}")
        print(f"note: every layer is computed densely: {reason}", file=sys.stderr)
    return Execution(
        executor=executor,
        device=device,
        mode=arguments.execution,
        threads=arguments.threads or threads,
        channels_last=arguments.channels_last,
        compile=arguments.compile,
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


def positive(text: str) -> int:
    """The type of arguments that are positive whole numbers."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def seconds(text: str) -> float:
    """The type of arguments that are a time of more than nothing."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return found
