"""Read profiles, the options of a site's SLURM jobs: ``slurm/NAME.yaml`` and ``--set slurm.KEY=VALUE``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.experiment.notation import read_yaml
from methods.core.errors import UserError, meant
from methods.core.options import option, parse

#: Folders of profiles: in the current folder, then in this checkout.
FOLDERS = (Path("slurm"), Path(__file__).resolve().parents[2] / "slurm")
#: Forms of times that ``sbatch`` accepts, in the order of its manual page.
_TIMES = (
    r"(?P<minutes>\d+)",
    r"(?P<minutes>\d+):(?P<seconds>\d+)",
    r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)",
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?",
)
_UNITS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_MEMORY = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
_OPTION = re.compile(r"[a-z][a-z-]*")
#: Options of sbatch that are keys of a profile, because this program must know them.
_OURS = {
    **{name: name for name in ("partition", "account", "qos", "time", "exclusive")},
    "cpus-per-task": "cpus", "gpus-per-node": "gpus", "gpus": "gpus", "mem": "memory",
}  # fmt: skip
_TAKEN = frozenset(
    ["array", "chdir", "comment", "error", "help", "job-name", "no-requeue", "nodes", "ntasks", "open-mode"]
    + [f"ntasks-per-{what}" for what in ("core", "gpu", "node", "socket")]
    + ["output", "parsable", "requeue", "signal", "test-only", "version", "wait", "wrap"]
)


@dataclass(frozen=True)
class Profile:
    """The keys of a profile. A job computes its runs one after the other, in one process."""

    partition: str | None = option(None, "partition; null: the site's default")
    account: str | None = option(None, "account to charge")
    qos: str | None = option(None, "quality of service")
    gpus: int = option(0, "GPUs of a job; a run uses at most one", within="[0, 1]")
    cpus: int = option(
        1, "cores of a job, and threads of its runs unless --threads is given", within="[1, 1024]"
    )
    memory: str | int | None = option(
        None, "memory of a job, as in 8G; a number is in MB; null: the site's default"
    )
    time: str | int = option(
        "1:00:00",
        "time limit of a job, in a form that sbatch accepts (a number is minutes); a job with runs left is "
        "requeued and continues them",
    )
    signal_seconds: int = option(60, "seconds before the time limit to signal a job", within="[5, 3600]")
    setup: tuple[str, ...] = option((), "shell commands before a job's process, such as module load")
    array_parallelism: int = option(64, "most jobs of an array that run at once", within="[1, 1000000]")
    runs_per_job: int | None = option(
        None,
        "runs of a job, one after the other; null: as many as are expected to take some minutes together, "
        "one at the scale paper",
        within="[1, 1000000]",
    )
    exclusive: bool = option(False, "use whole nodes, without other jobs, so that times can be compared")
    python: str | None = option(None, "shell code that starts Python on the nodes; null: this interpreter")
    options: dict[str, Any] = option({}, 'other options of sbatch, as in {constraint: a100, gres: "gpu:1"}')

    @property
    def time_seconds(self) -> int:
        """The time limit in seconds."""
        return seconds(self.time)

    def sbatch(self) -> dict[str, str | bool]:
        """Return long options of sbatch with their values; True for an option without a value."""
        found: dict[str, str | int | None] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.time,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
            # a site may ask for GPUs by `gres` instead, which is then among the other options
            "gpus-per-node": self.gpus if self.gpus and "gres" not in self.options else None,
            **self.options,
        }
        flags = {key: True for key, value in self.options.items() if value is True}
        flags |= {"exclusive": True} if self.exclusive else {}
        return {key: str(value) for key, value in found.items() if value is not None} | flags


def load(name: str | None, overrides: Mapping[str, Any]) -> Profile:
    """Load a profile.

    Parameters
    ----------
    name
        Name of a profile, or path of its file; None leaves everything to the site.
    overrides
        Values that replace keys of the profile.

    Raises
    ------
    UserError
        If there is no such profile, or a key or value is not valid.
    """
    path = None if name is None else _find(name)
    if path is not None and not path.is_file():
        raise UserError(f"--profile {name}: there is no such file")
    content = {} if path is None else read_yaml(path)
    where = str(path) if path else "--set slurm"
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected keys of a profile, got {content!r}")
    parse(Profile, content, where)  # without overrides first, so that errors of the file name the file
    profile = parse(Profile, {**content, **overrides}, "--set slurm" if overrides else where)
    _check(profile, where)
    return profile


def seconds(time: str | int) -> int:
    """Convert a time as sbatch accepts it to seconds; raise ``UserError`` if it is not valid."""
    for pattern in _TIMES:
        if found := re.fullmatch(pattern, str(time).strip()):
            parts = {unit: int(number or 0) for unit, number in found.groupdict().items()}
            if total := sum(_UNITS[unit] * number for unit, number in parts.items()):
                return total
    raise UserError(f"time: {time!r} is not a time; valid: minutes, H:M:S, D-H, D-H:M:S")


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.name != name:
        return path
    known: dict[str, Path] = {}
    for folder in FOLDERS:
        for found in sorted(folder.glob("*.yaml")):
            known.setdefault(found.stem, found)
    if name not in known:
        there = ", ".join(known) or "none"
        raise UserError(
            f"--profile {name}: there is no slurm/{name}.yaml{meant(name, known)}; valid: {there}, or a path"
        )
    return known[name]


def _check(profile: Profile, where: str) -> None:
    try:
        limit = profile.time_seconds
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if 2 * profile.signal_seconds > limit:
        told = f"{where}: signal_seconds: {profile.signal_seconds}"
        raise UserError(f"{told} is more than half of the time limit, which is {limit} s")
    if profile.memory is not None and not _MEMORY.fullmatch(str(profile.memory).strip()):
        valid = "8G, 8000M or a number of MB"
        raise UserError(f"{where}: memory: {profile.memory!r} is not valid; valid: {valid}")
    for key, value in profile.options.items():
        if key in _OURS:
            raise UserError(f"{where}: options: {key}: set it by the key {_OURS[key]} of the profile")
        if key in _TAKEN or not _OPTION.fullmatch(key):
            raise UserError(f"{where}: options: {key!r} can't be set here; valid: other options of sbatch")
        if not isinstance(value, str | int | float) or "\n" in str(value):
            raise UserError(f"{where}: options: {key}: {value!r} is not the value of an option")
    for key in ("partition", "account", "qos"):
        value = getattr(profile, key)
        if value is not None and shlex.quote(value) != value and "," not in value:
            raise UserError(f"{where}: {key}: {value!r} is not a name")
