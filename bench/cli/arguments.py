"""Define what all commands share: the argument parser and the common arguments.

A command is a function ``main(argv: list[str] | None = None) -> int``, and its module ends with

    if __name__ == "__main__":
        entry(main)
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from bench.cli.entry import BAD_INPUT, typed_as
from bench.experiment.execution import MODES, Execution, on_this_machine
from methods.core.errors import meant

if TYPE_CHECKING:
    from rich.console import Console

#: Width in columns of output that does not go to a terminal.
_WIDTH = 240
#: Beginning of keys in ``--set`` that belong to a SLURM profile, not to runs.
_SLURM = "slurm."


#: What argparse says of an option that there is not, and of a word that is not a choice.
_UNRECOGNIZED = re.compile(r"unrecognized arguments: (--[\w-]+)")
_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        if found := _UNRECOGNIZED.match(message):
            message += meant(found[1], (word for action in self._actions for word in action.option_strings))
        elif found := _INVALID_CHOICE.search(message):
            message += meant(found[1], re.findall(r"[\w.-]+", found[2]))
        self.exit(BAD_INPUT, f"error: {message}; see {self.prog} --help\n")


def parser(prog: str, doc: str | None) -> Parser:
    """Return the parser of the command in module ``prog``; ``doc``, its docstring, describes it."""
    return Parser(prog=typed_as(prog), description=doc)


#: The folder of results if none is named.
RESULTS = "results"


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add ``--results DIR``."""
    parser.add_argument(
        "--results",
        type=path,
        metavar="DIR",
        default=RESULTS,
        help=f"the results folder (default: {RESULTS})",
    )


def add_set(
    parser: argparse.ArgumentParser,
    words: str = "override settings, as in --set epochs=5,method.sparsity=0.9; repeatable",
) -> None:
    """Add ``--set KEY=VALUE``; ``overrides`` and ``profile_overrides`` read it."""
    parser.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=words
    )


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of runs given by ``--set``: key to value."""
    found = _all_overrides(arguments)
    if not hasattr(arguments, "profile"):
        return found  # a command that submits no jobs has no keys of a profile
    return {key: value for key, value in found.items() if not key.startswith(_SLURM)}


def profile_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given by ``--set slurm.KEY=VALUE``: key of the profile to value."""
    found = _all_overrides(arguments).items()
    return {key.removeprefix(_SLURM): value for key, value in found if key.startswith(_SLURM)}


def _all_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    from bench.experiment.notation import parse_overrides  # imported here because it loads torch

    return parse_overrides(arguments.overrides)


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add ``--where CONDITIONS``, a list for ``bench.planning.filters.parse_where``."""
    parser.add_argument(
        "--where",
        metavar="CONDITIONS",
        action="append",
        default=[],
        help='select cells, as in --where "sparsity>=0.9,method=ssvi|static_vi"; repeatable',
    )


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Add ``--seeds SEEDS``, text for ``bench.experiment.notation.parse_seeds``."""
    parser.add_argument(
        "--seeds", metavar="SEEDS", help="seeds that replace the usual ones, as in 0-4 or 0,2,5-7"
    )


def add_launching(parser: argparse.ArgumentParser, trains: bool = True) -> None:
    """Add arguments that say where runs are computed, how many at once, and which are repeated.

    A command that trains nothing has no ``--force``, which would train runs again.
    """
    parser.add_argument(
        "--executor",
        choices=("local", "inline", "slurm"),
        default="local",
        help="where runs are computed: local: worker processes on this machine; inline: this process; slurm: "
        "jobs on a cluster (default: local)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="worker processes on this machine (default: one for each GPU in use, else usable cores divided "
        "by --threads, fewer if memory is short)",
    )
    parser.add_argument(
        "--profile",
        type=path,
        metavar="NAME",
        help="options of SLURM jobs: slurm/NAME.yaml, or a path; change keys by --set slurm.KEY=VALUE",
    )
    again = "compute failed runs again, and try failed evaluation sets again"
    parser.add_argument("--retry-failed", action="store_true", help=again)
    parser.set_defaults(force=False)
    if trains:
        help_ = "compute all runs again; set old results aside"
        parser.add_argument("--force", action="store_true", help=help_)


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add arguments that say how runs are computed: device, threads, checkpoints, kernels, compilation."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:N, or auto: cuda if there is a GPU, else cpu (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="torch threads of a run (default: 1; in a SLURM job, its number of cores)",
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
        choices=MODES,
        default="auto",
        help="how layers with sparse weights are computed: dense: by dense contractions; sparse: by sparse "
        "kernels (CPU only); auto: by the faster of both (default: auto)",
    )
    parser.add_argument(
        "--channels-last", action="store_true", help="store images and kernels with channels last in memory"
    )
    parser.add_argument("--compile", action="store_true", help="compile networks by torch.compile")


def asked_execution(
    arguments: argparse.Namespace, executor: str = "inline", device: str | None = None, threads: int = 1
) -> Execution:
    """Return how runs are to be computed, from the arguments of ``add_execution`` as they were given.

    Parameters
    ----------
    arguments
        Parsed arguments.
    executor
        Name of the executor.
    device
        Replaces ``--device``, for runs that are computed on other machines.
    threads
        Threads of a run if ``--threads`` is not given.
    """
    return Execution(
        executor=executor,
        device=device or arguments.device,
        mode=arguments.execution,
        threads=arguments.threads or threads,
        channels_last=arguments.channels_last,
        compile=arguments.compile,
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


def execution(arguments: argparse.Namespace) -> Execution:
    """Return how a run is computed in this process; raises as ``on_this_machine``."""
    return on_this_machine(asked_execution(arguments))


def console() -> Console:
    """Return the console to which commands that launch runs print."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def path(text: str) -> str:
    """Parse an argument that is, or may be, a path: ``~`` is the home folder, as in ``--results=~/results``.

    A shell replaces it only at the beginning of a word.
    """
    return os.path.expanduser(text)


def positive(text: str) -> int:
    """Parse an argument that is a positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def seconds(text: str) -> float:
    """Parse an argument that is a positive number of seconds."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return found
