"""Call SLURM's own commands: ``squeue``, ``sacct``, ``scontrol``, ``scancel`` and ``sbatch``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: States of a job that has not begun, or waits to begin again.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD")
#: States of a job that has nodes.
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
#: State given here to a job that SLURM has forgotten or never had.
GONE = "GONE"

_JOB = re.compile(r"([0-9]{1,8})(_[0-9]{1,7})?")
#: Larger than any job number. SLURM refuses a whole list of jobs if one number in it is not possible.
_MOST_JOBS = 2**26
_MEMBER = re.compile(r"\d+_\d+")
#: Seconds that SLURM gets to answer; fewer for the check before a launch, since somebody waits for it.
_SECONDS, _CHECK_SECONDS = 60.0, 20.0
_GPUS = re.compile(r"gres|gpu|generic resource", re.IGNORECASE)
#: Messages of SLURM's commands that mean that the controller does not answer.
_NO_ANSWER = re.compile(r"unable to contact slurm controller|connection refused|timed out", re.IGNORECASE)
_PREFIX = re.compile(r"^(s[a-z]+: )?((error|fatal|allocation failure): )?")


class SlurmError(Exception):
    """Report that SLURM is missing, does not answer, or refuses a request; the message is one line."""


class Unreachable(SlurmError):
    """Report that SLURM is missing or does not answer; it has not refused the request."""


@dataclass(frozen=True)
class State:
    """Hold the state of a job.

    Parameters
    ----------
    name
        The state as ``squeue`` writes it, in capitals.
    reason
        Why the job waits.
    nodes
        The nodes that it runs on.
    """

    name: str
    reason: str = ""
    nodes: str = ""

    @property
    def lives(self) -> bool:
        """Tell whether the job runs or will run."""
        return self.name in WAITING or self.name in RUNNING

    @property
    def waits(self) -> bool:
        """Tell whether the job waits to run."""
        return self.name in WAITING

    def words(self) -> str:
        """Return the state for readers: ``running`` or ``pending (Priority)``."""
        return f"{self.name.lower()}{f' ({self.reason})' if self.waits and self.reason else ''}"


@dataclass(frozen=True)
class Site:
    """Hold facts about a cluster.

    Parameters
    ----------
    most_tasks
        Largest number of jobs in an array.
    accounting
        Whether ``sacct`` remembers ended jobs.
    """

    most_tasks: int
    accounting: bool


def is_job(name: str) -> bool:
    """Tell whether ``name`` can be a SLURM job: ``12``, or ``12_3`` in an array."""
    found = _JOB.fullmatch(name)
    return found is not None and 0 < int(found[1]) < _MOST_JOBS


def site() -> Site:
    """Ask the cluster for its limits and whether it has accounting."""
    found = dict(re.findall(r"^(\w+)\s*= ?(.*)$", _run("scontrol", "show", "config"), re.MULTILINE))
    storage = found.get("AccountingStorageType", "").strip()
    return Site(
        # MaxArraySize is one more than the largest index, and indices begin at 0
        most_tasks=max(int(found.get("MaxArraySize", "1001").strip() or 1001), 1),
        accounting=storage not in ("", "(null)") and not storage.endswith("none"),
    )


def states(jobs: Iterable[str]) -> dict[str, State]:
    """Ask for the state of each of ``jobs`` (``12``, or ``12_3`` in an array).

    ``squeue`` knows jobs that wait or run, and for some minutes those that ended; ``sacct``, if it is
    installed and the site has accounting, knows the others.

    Raises
    ------
    SlurmError
        SLURM is missing, does not answer or refuses.
    """
    wanted = list(jobs)
    if not wanted:
        return {}
    found = _named(wanted, _queued(wanted))
    missing = [job for job in wanted if job not in found]
    if missing and shutil.which("sacct") and site().accounting:
        found |= _named(missing, _accounted(missing))
    return {job: found.get(job, State(GONE)) for job in wanted}


def cancel(jobs: Iterable[str]) -> None:
    """Cancel ``jobs``; those that have ended are ignored."""
    wanted = list(jobs)
    for start in range(0, len(wanted), 500):
        _run("scancel", "--quiet", *wanted[start : start + 500])


def requeue(job: str) -> None:
    """Put ``job`` back into the queue to begin again."""
    _run("scontrol", "requeue", job)


def check(options: Mapping[str, str | bool]) -> None:
    """Check that SLURM would accept a job with these options, without submitting one.

    Parameters
    ----------
    options
        Options of ``sbatch`` without the dashes; the value True means an option without a value.

    Raises
    ------
    SlurmError
        SLURM would refuse the job, is missing, or does not answer.
    """
    flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
    try:
        _run("sbatch", "--test-only", *flags, "--wrap", "true", seconds=_CHECK_SECONDS)
    except Unreachable:
        raise
    except SlurmError as error:
        asked = " ".join(flags) or "nothing"
        hint = "; for other names of GPUs see slurm/example.yaml" if _GPUS.search(str(error)) else ""
        raise SlurmError(f"SLURM would refuse such jobs: {error} (asked for: {asked}{hint})") from None


def require_srun() -> None:
    """Raise ``Unreachable`` if there is no ``srun``, without which submitit submits nothing."""
    if shutil.which("srun") is None:
        raise Unreachable("srun, by which jobs start their processes, is not on PATH")


def _named(jobs: Iterable[str], rows: Mapping[str, State]) -> dict[str, State]:
    """Pick the states of ``jobs`` from the rows that SLURM printed.

    Jobs of an array that ended before they began share one row: ``12`` or ``12_[4-63]``.
    """
    together = {row.partition("_")[0]: state for row, state in rows.items() if not _MEMBER.fullmatch(row)}
    found = {job: rows.get(job) or together.get(job.partition("_")[0]) for job in jobs}
    return {job: state for job, state in found.items() if state is not None}


def _queued(jobs: list[str]) -> dict[str, State]:
    # ask for whole arrays: `squeue --array` prints one line for each of their jobs
    arrays = jobs if len(jobs) == 1 else sorted({job.partition("_")[0] for job in jobs}, key=int)
    try:
        text = _run(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(arrays)}",
            "--format=%i|%T|%r|%N",
        )  # fmt: skip
    except SlurmError as error:
        if len(arrays) > 1 or "Invalid job id" not in str(error):
            raise
        return {}  # SLURM has forgotten the only job that was asked for
    found = {}
    for line in text.splitlines():
        if line.count("|") < 3:
            continue  # a message of the site
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
        # a job that accounting believes alive, but squeue does not know, is gone
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
