"""Record what launches submitted to SLURM, one file ``RESULTS.jobs/<launch>/array-<n>.json`` a submission.

The records are files, so that other launchers and commands know what is in the queue after a launcher ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.monitoring import launch_files
from bench.monitoring.slurm_commands import is_job
from bench.results.files import StoreError, locked, opened, printable, read_json, tail, write_json
from bench.results.run_folder import RUN_ID

#: Version of the format of a record.
SCHEMA = 1
_MOST_NUMBER = 10**9


@dataclass(frozen=True)
class Task:
    """Describe one SLURM job.

    Parameters
    ----------
    job
        Its id: ``12``, or ``12_3`` in an array.
    number
        Its number among the jobs of its launch, from 1.
    runs
        Ids of the runs that it computes one after another.
    launch
        Folder of the launch.
    """

    job: str
    number: int
    runs: tuple[str, ...]
    launch: Path = field(compare=False)

    @property
    def note(self) -> Path:
        """Return the path of the note in which the job's process writes its state."""
        return launch_files.note(self.launch, self.number)

    @property
    def log(self) -> Path:
        """Return the path of the log of what the job's process, and SLURM about it, printed."""
        return launch_files.logs(self.launch) / f"{self.job}_0_log.out"

    def read_note(self) -> dict[str, Any]:
        """Read the note of the job's process; an empty dict if there is none."""
        return launch_files.read_note(self.note)

    def last_words(self) -> str:
        """Return the last meaningful line of the job's log, and the path of the log."""
        lines = tail(self.log, 50)
        if not lines:
            return f"none ({self.log} is empty)" if self.log.exists() else f"none (there is no {self.log})"
        # the last lines of srun say that the process is gone, but not why
        own = [line for line in lines if not line.startswith(("srun: ", "submitit "))]
        return f"{printable((own or lines)[-1].strip()[:300])} (log: {self.log})"


@contextlib.contextmanager
def submitting(results: Path) -> Iterator[None]:
    """Let one launcher at a time find missing runs and submit them, if the file system has locks."""
    with locked(results / ".submitting"):
        yield


def write(launch: Path, tasks: Sequence[Task]) -> None:
    """Record the jobs of one submission."""
    rows = [{"job": task.job, "number": task.number, "runs": list(task.runs)} for task in tasks]
    array = tasks[0].job.partition("_")[0]
    write_json(launch / f"array-{array}.json", {"schema": SCHEMA, "tasks": rows})


def read(results: Path) -> tuple[list[Task], list[str]]:
    """Return the jobs of all launches that may still be alive, and one line for each unreadable record."""
    found: list[Task] = []
    faults: list[str] = []
    for path in _named(results, "array-*.json"):
        try:
            found += _tasks(path)
        except StoreError as error:
            faults.append(f"{error}: the jobs recorded in it are unknown")
    return found, faults


def logs_of(results: Path, run_id: str) -> list[Path]:
    """Return the logs of processes that computed a run, or were to and wrote no note, oldest launch first."""
    found = []
    for launch in launch_files.every(results):
        files = [*launch.glob("array-*.json"), *launch.glob("over-*.json")]
        mine = []
        for path in files:
            with contextlib.suppress(StoreError):
                mine += [task for task in _tasks(path) if run_id in task.runs]
        if files:
            silent = [task.log for task in mine if not task.note.exists()]
            found += [task.log for task in mine if task.note.exists() and mentions(task.log, run_id)] + silent
        else:
            found += [
                log for log in sorted(launch_files.logs(launch).glob("*_log.out")) if mentions(log, run_id)
            ]
    return [log for log in found if log.exists()]


def mentions(log: Path, run_id: str) -> bool:
    """Tell whether ``log`` is that of a worker which computed a run."""
    with contextlib.suppress(OSError, StoreError), opened(log) as file:
        return f"run {run_id}".encode() in file.read()
    return False


def remove_orphans(launch: Path) -> None:
    """Remove what submitit prepared for jobs that SLURM then refused."""
    for path in launch_files.logs(launch).glob("*.pkl"):
        if "_" not in path.stem:  # the file of a submitted job is named by its id and an underscore
            path.unlink(missing_ok=True)


def close(launch: Path, array: str) -> None:
    """Mark an array as over: all its jobs have ended and their runs are settled."""
    with contextlib.suppress(OSError):
        os.replace(launch / f"array-{array}.json", launch / f"over-{array}.json")


def tidy_over(results: Path) -> None:
    """Remove the files of every launch whose jobs all ended on their own."""
    for launch in {path.parent for path in _named(results, "over-*.json")}:
        tasks: list[Task] = []
        with contextlib.suppress(StoreError):
            for path in launch.glob("over-*.json"):
                tasks += _tasks(path)
            live = any(launch.glob("array-*.json"))
            if not live and all(task.read_note().get("ended") for task in tasks):
                launch_files.tidy(launch)


def _named(results: Path, pattern: str) -> list[Path]:
    return [path for launch in launch_files.every(results) for path in sorted(launch.glob(pattern))]


def _tasks(path: Path) -> list[Task]:
    document = read_json(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise StoreError(f"{path}: not what this version writes")
    rows = document.get("tasks")
    if not isinstance(rows, list) or not all(map(_is_task, rows)):
        raise StoreError(f"{path}: not a list of jobs")
    return [Task(row["job"], row["number"], tuple(row["runs"]), path.parent) for row in rows]


def _is_task(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    job, number, runs = row.get("job"), row.get("number"), row.get("runs")
    return (
        isinstance(job, str)
        and is_job(job)
        and type(number) is int
        and 0 < number < _MOST_NUMBER
        and isinstance(runs, list)
        and all(isinstance(run, str) and RUN_ID.fullmatch(run) for run in runs)
    )
