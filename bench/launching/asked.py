"""What a command that launches runs was asked for: its arguments read, and nothing looked up yet."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

from bench.cli import arguments as cli
from bench.experiment.execution import Execution
from bench.launching.slurm_profile import Profile, load
from methods.core.errors import UserError


@dataclass(frozen=True)
class Asked:
    """What the caller wants: how runs are computed, how many at once (None: as many as fit), and what becomes
    of earlier ones.

    profile: what SLURM is told of jobs. detach: leave as soon as they are submitted.
    """

    execution: Execution
    workers: int | None = None
    retry_failed: bool = False
    force: bool = False
    profile: Profile | None = None
    detach: bool = False


def read(arguments: Namespace) -> Asked:
    """What ``arguments`` ask for; see ``cli.add_launching`` and ``cli.add_execution``.

    Raises ``UserError`` for a profile that is not valid, and for options of SLURM beside another executor.
    """
    overrides = cli.profile_overrides(arguments)
    detach = getattr(arguments, "detach", False)  # which not every command has
    profile = None
    if arguments.executor == "slurm":
        if arguments.workers is not None:
            raise UserError(
                "--workers: of this machine; valid with --executor slurm: --set slurm.array_parallelism=N"
            )
        profile = load(arguments.profile, overrides)
        # whether there is a GPU is for the nodes to say
        device = arguments.device if arguments.device != "auto" else "cuda" if profile.gpus else "cpu"
        execution = cli.asked_execution(arguments, "slurm", device, profile.cpus)
    else:
        given = {"--profile": arguments.profile, "--set slurm.…": overrides, "--detach": detach}
        for name, value in given.items():
            if value:
                raise UserError(f"{name}: only with --executor slurm")
        execution = cli.asked_execution(arguments, arguments.executor)
    return Asked(
        execution, arguments.workers, arguments.retry_failed, arguments.force, profile=profile, detach=detach
    )
