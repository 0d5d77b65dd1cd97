"""What SLURM is asked and told, through its own commands: ``squeue``, ``sacct``, ``scontrol``, ``sbatch``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: States in which a job has not begun, or waits to begin again.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD")
#: States in which a job has nodes.
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
#: Of a job that SLURM remembers no more, or never had.
GONE = "GONE"

_JOB = re.compile(r"([0-9]{1,8})(_[0-9]{1,7})?")
#: Above all numbers that SLURM gives: one of these in a list has it refuse the list.
_MOST_JOBS = 2**26
_MEMBER = re.compile(r"\d+_\d+")
#: What SLURM gets to answer; to the question that comes first, while somebody waits, less.
_SECONDS, _CHECK_SECONDS = 60.0, 20.0
_GPUS = re.compile(r"gres|gpu|generic resource", re.IGNORECASE)
#: How SLURM's commands say that the controller is not there.
_NO_ANSWER = re.compile(r"unable to contact slurm controller|connection refused|timed out", re.IGNORECASE)
_PREFIX = re.compile(r"^(s[a-z]+: )?((error|fatal|allocation failure): )?")


class SlurmError(Exception):
    """SLURM is not here, does not answer or refuses; the message is one line."""


class Unreachable(SlurmError):
    """SLURM is not here, or does not answer: it has not refused anything."""


@dataclass(frozen=True)
class State:
    """Where a job stands. name: as squeue has it, in capitals; reason: why it waits."""

    name: str
    reason: str = ""
    nodes: str = ""

    @property
    def lives(self) -> bool:
        """Whether the job runs, or will."""
        return self.name in WAITING or self.name in RUNNING

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.name in WAITING

    def words(self) -> str:
        """``running``, ``pending (Priority)``."""
        return f"{self.name.lower()}{f' ({self.reason})' if self.waits and self.reason else ''}"


@dataclass(frozen=True)
class Site:
    """What a cluster says of itself. most_tasks: of an array."""

    most_tasks: int
    accounting: bool


def is_job(name: str) -> bool:
    """Whether ``name`` can be one of SLURM's: ``12``, or ``12_3`` of an array."""
    found = _JOB.fullmatch(name)
    return found is not None and 0 < int(found[1]) < _MOST_JOBS


def site() -> Site:
    """The cluster that commands speak to."""
    found = dict(re.findall(r"^(\w+)\s*= ?(.*)$", _run("scontrol", "show", "config"), re.MULTILINE))
    storage = found.get("AccountingStorageType", "").strip()
    return Site(
        # indices begin at 0, and the limit is above the largest one
        most_tasks=max(int(found.get("MaxArraySize", "1001").strip() or 1001), 1),
        accounting=storage not in ("", "(null)") and not storage.endswith("none"),
    )


def states(jobs: Iterable[str]) -> dict[str, State]:
    """Where ``jobs`` (``12`` or ``12_3``, of an array) stand, each of them.

    squeue tells of what waits and runs, and for minutes of what ended; sacct, where the site has
    accounting, of the rest.
    """
    wanted = list(jobs)
    if not wanted:
        return {}
    found = _named(wanted, _queued(wanted))
    missing = [job for job in wanted if job not in found]
    if missing and site().accounting:
        found |= _named(missing, _accounted(missing))
    return {job: found.get(job, State(GONE)) for job in wanted}


def cancel(jobs: Iterable[str]) -> None:
    """Cancel ``jobs``; those that are over are none."""
    wanted = list(jobs)
    for start in range(0, len(wanted), 500):
        _run("scancel", "--quiet", *wanted[start : start + 500])


def requeue(job: str) -> None:
    """Have ``job`` begin again, in the queue."""
    _run("scontrol", "requeue", job)


def check(options: Mapping[str, str | bool]) -> None:
    """Ask whether SLURM would take a job with these options, without submitting one.

    Raises ``SlurmError`` where it would not.
    """
    flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
    try:
        _run("sbatch", "--test-only", *flags, "--wrap", "true", seconds=_CHECK_SECONDS)
    except Unreachable:
        raise
    except SlurmError as error:
        asked = " ".join(flags) or "nothing"
        hint = "; for a site's own word for GPUs see slurm/example.yaml" if _GPUS.search(str(error)) else ""
        raise SlurmError(f"SLURM would not take such jobs: {error} (asked for: {asked}{hint})") from None


def _named(jobs: Iterable[str], rows: Mapping[str, State]) -> dict[str, State]:
    """The states of ``jobs`` that ``rows`` tell.

    Members of an array that ended before they began have one row together: ``12``, or ``12_[4-63]``.
    """
    together = {row.partition("_")[0]: state for row, state in rows.items() if not _MEMBER.fullmatch(row)}
    found = {job: rows.get(job) or together.get(job.partition("_")[0]) for job in jobs}
    return {job: state for job, state in found.items() if state is not None}


def _queued(jobs: list[str]) -> dict[str, State]:
    # a whole array has as many lines as members
    arrays = jobs if len(jobs) == 1 else sorted({job.partition("_")[0] for job in jobs}, key=int)
    try:
        text = _run(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(arrays)}",
            "--format=%i|%T|%r|%N",
        )  # fmt: skip
    except SlurmError as error:
        if len(arrays) > 1 or "Invalid job id" not in str(error):
            raise
        return {}  # the only one that was asked for is forgotten
    found = {}
    for line in text.splitlines():
        job, name, reason, nodes = (part.strip() for part in line.split("|", 3))
        found[job] = State(name, "" if reason == "None" else reason, nodes)
    return found


def _accounted(jobs: list[str]) -> dict[str, State]:
    arrays = sorted({job.partition("_")[0] for job in jobs}, key=int)
    text = _run("sacct", "-X", "-n", "-P", "--format=JobID,State,NodeList", f"--jobs={','.join(arrays)}")
    found = {}
    for line in text.splitlines():
        job, name, nodes = [*line.split("|"), "", ""][:3]
        state = State(name.split()[0] if name else GONE, nodes=nodes)
        # what accounting has not heard the end of, squeue knows, or nobody
        found[job] = State(GONE) if state.lives else state
    return found


def _run(*command: str, seconds: float = _SECONDS) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
    except FileNotFoundError:
        raise Unreachable(f"there is no SLURM here: {command[0]} is not on PATH") from None
    except subprocess.TimeoutExpired:
        waited = f"{command[0]}: SLURM did not answer within {seconds:.0f} s"
        raise Unreachable(f"{waited}: is its controller up (scontrol ping)?") from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: {error.strerror or error}") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = _PREFIX.sub("", said[-1]) if said else f"exit status {done.returncode}"
        kind = Unreachable if _NO_ANSWER.search(reason) else SlurmError
        raise kind(f"{command[0]}: {reason}")
    return done.stdout
