"""Read what a command that launches runs was asked for, without looking up whether it is possible."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

from bench.cli import arguments as cli
from bench.experiment.execution import Execution
from bench.launching.slurm_profile import Profile, load
from methods.core.errors import UserError


@dataclass(frozen=True)
class Asked:
    """The wishes of a caller that launches runs.

    Parameters
    ----------
    execution
        How runs are computed.
    workers
        How many runs are computed at once; None: as many as fit.
    retry_failed
        Whether failed runs are computed again.
    force
        Whether all runs are computed again, and old results set aside.
    profile
        Options of SLURM jobs; None if the executor is not ``slurm``.
    detach
        Whether the command exits once SLURM jobs are submitted.
    """

    execution: Execution
    workers: int | None = None
    retry_failed: bool = False
    force: bool = False
    profile: Profile | None = None
    detach: bool = False


def read(arguments: Namespace) -> Asked:
    """Return what the arguments of ``cli.add_launching`` and ``cli.add_execution`` ask for.

    Raises
    ------
    UserError
        If the SLURM profile is not valid, or options of SLURM are given with another executor.
    """
    overrides = cli.profile_overrides(arguments)
    detach = getattr(arguments, "detach", False)  # not every command has this option
    profile = None
    if arguments.executor == "slurm":
        if arguments.workers is not None:
            raise UserError(
                "--workers: only for runs on this machine; with SLURM use --set slurm.array_parallelism=N"
            )
        profile = load(arguments.profile, overrides)
        # the profile decides on the device, because the nodes may have GPUs that this machine lacks
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
