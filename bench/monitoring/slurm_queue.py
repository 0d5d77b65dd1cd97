"""Find out which runs of a results folder wait or run in SLURM, and which were lost when a job ended."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.monitoring import retries, slurm_commands, slurm_records
from bench.monitoring.slurm_commands import GONE, State
from bench.monitoring.slurm_records import Task
from bench.results.files import printable, tail, write_json
from bench.results.store import Store

_LOG_LINES = 20
_REFRESH_SECONDS = 10.0
#: Seconds to wait for cancelled jobs to end: SLURM gives processes 30 s by default.
_ENDING_SECONDS = 45.0
#: Last states of a job, as ``error_kind`` of ``bench/columns.yaml`` or ``cancelled``; others: ``killed``.
_KINDS = {
    "CANCELLED": "cancelled",
    "PREEMPTED": "preempted",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "oom",
    "NODE_FAIL": "node_failure",
    "BOOT_FAIL": "node_failure",
    "LAUNCH_FAILED": "node_failure",
}
#: Messages of SLURM or the kernel about a job that was killed because it took too much memory.
_OUT_OF_MEMORY = re.compile(r"exceeded memory limit|\boom[-_ ]kill|out[ -]of[ -]memory", re.IGNORECASE)
#: Message of Python in a job whose modules have moved since it was submitted.
_OTHER_LAYOUT = re.compile(r"No module named '(bench|methods)\.")


@dataclass
class Sight:
    """Hold what one look at SLURM found.

    Parameters
    ----------
    live
        Job and state of each run whose job waits or runs, by run id.
    over
        Jobs that ended and whose runs have not been settled yet, with their states.
    faults
        What could not be read, one line each.
    """

    live: dict[str, tuple[Task, State]] = field(default_factory=dict)
    over: list[tuple[Task, State]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def ended(self) -> frozenset[str]:
        """Return the ids of the jobs in ``over``; their claims are void."""
        return frozenset(task.job for task, _ in self.over)

    def is_ending(self) -> bool:
        """Tell whether a job is about to end or to go back into the queue."""
        return any(state.name == "COMPLETING" for _, state in self.live.values())

    def queue(self, run_ids: Container[str]) -> str:
        """Count the jobs of these runs by state, as text: ``3 running, 2 pending (Priority)``."""
        jobs = {task.job: state for run_id, (task, state) in self.live.items() if run_id in run_ids}
        counts: dict[str, int] = defaultdict(int)
        for state in jobs.values():
            counts[state.words()] += 1
        return ", ".join(f"{count} {words}" for words, count in sorted(counts.items()))


def look(results: Path) -> Sight:
    """Read the records of all launches and ask SLURM for the state of their jobs.

    Raises
    ------
    SlurmError
        SLURM is missing, does not answer or refuses.
    """
    tasks, faults = slurm_records.read(results)
    states = slurm_commands.states(task.job for task in tasks)
    sight = Sight(faults=faults)
    for task in tasks:
        state = states[task.job]
        if state.lives:
            sight.live |= dict.fromkeys(task.runs, (task, state))
        elif not task.read_note().get("judged"):
            sight.over.append((task, state))
    return sight


@dataclass(frozen=True)
class Fate:
    """Hold how a job ended.

    Parameters
    ----------
    kind
        A value of ``error_kind`` in ``bench/columns.yaml``, or ``cancelled``.
    what
        The same for readers.
    """

    kind: str
    what: str


def fate(job: str, state: State, log: list[str]) -> Fate:
    """Find out how ``job`` ended, from its last state and the last lines of its log."""
    kind = _KINDS.get(state.name, "killed")
    # on sites without control groups the state of a job that was killed for its memory is FAILED
    if kind == "killed" and any(_OUT_OF_MEMORY.search(line) for line in log):
        kind = "oom"
    known = "is over, and SLURM no longer remembers it" if state.name == GONE else f"ended as {state.name}"
    where = f" on {state.nodes}" if state.nodes else ""
    return Fate(kind, f"its job {job} {known}{where}")


@dataclass(frozen=True)
class Verdict:
    """Hold how the job of a run ended.

    Parameters
    ----------
    job
        Id of the job.
    met
        What happened to the job.
    words
        The last line that the job printed.
    """

    job: str
    met: Fate
    words: str

    def applied(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the status document of the run as ``settle`` will write it."""
        return retries.judged(document, self.met.kind, self.met.what, self.words, None, self.job)


def verdicts(sight: Sight) -> dict[str, Verdict]:
    """Return, by run id, how the job of the run ended; without runs that the job had not reached.

    If the job was cancelled, runs that it had not reached are included.
    """
    found: dict[str, Verdict] = {}
    for task, state in sight.over:
        met = fate(task.job, state, tail(task.log, _LOG_LINES))
        if lost := _lost(task, task.read_note(), met, sight):
            found |= dict.fromkeys(lost, Verdict(task.job, met, task.last_words()))
    return found


def settle(store: Store, sight: Sight) -> list[Task]:
    """Write into the runs' folders how their jobs ended, once for each job.

    A cancelled job cancels all its runs. Otherwise only the run that the job was computing is affected; runs
    that it did not reach stay missing.

    Returns
    -------
    list
        Jobs that left runs over although neither a run nor SLURM ended them: something is wrong with how they
        start or where they write.
    """
    futile, ended = [], sight.ended
    for task, state in sight.over:
        note = task.read_note()
        log = tail(task.log, _LOG_LINES)
        met = fate(task.job, state, log)
        if lost := _lost(task, note, met, sight):
            words = task.last_words()
            for run_id in lost:
                retries.blame(store, run_id, met.kind, met.what, words, job=task.job, over=ended)
        if _is_futile(note, met):
            left = [run_id for run_id in task.runs if run_id not in sight.live]
            if not all(store.run(run_id).is_settled() for run_id in left):
                futile.append(task)
        write_json(task.note, {**note, "judged": state.name})
    _close(sight)
    return futile


def _lost(task: Task, note: Mapping[str, object], met: Fate, sight: Sight) -> list[str]:
    """Return the runs that an ended job took down with it, except those that are in another job now."""
    at = note.get("run_id")
    hit = task.runs if met.kind == "cancelled" else [run_id for run_id in task.runs if run_id == at]
    return [run_id for run_id in hit if run_id not in sight.live]


def _is_futile(note: Mapping[str, object], met: Fate) -> bool:
    """Tell whether a job ended on its own without reaching a run, or because it could not write."""
    lost = bool(note.get("fault")) or not note.get("begun")
    return lost and not note.get("ended") and met.kind not in ("preempted", "cancelled", "node_failure")


def in_vain(task: Task) -> str:
    """Explain in one line why a job could do nothing."""
    if (fault := task.read_note().get("fault")) is not None:
        return f"job {task.job} could not go on: {fault}"
    words = task.last_words()
    if _OTHER_LAYOUT.search(words):
        return (
            f"job {task.job} was submitted by another version of ssvi-bench with other module paths; "
            "the same command submits its runs anew"
        )
    hint = "check setup and python in the profile, and whether nodes see this folder"
    return f"job {task.job} ended before it started a run: {hint}; its last words: {words}"


def _close(sight: Sight) -> None:
    """Mark arrays without a waiting or running job as over, so that the next look skips them."""
    live = {(task.launch, task.job.partition("_")[0]) for task, _ in sight.live.values()}
    for launch, array in {(task.launch, task.job.partition("_")[0]) for task, _ in sight.over} - live:
        slurm_records.close(launch, array)


def settle_all(store: Store) -> str | None:
    """Look and ``settle`` if anything was submitted; return why SLURM cannot be asked, or None."""
    if not slurm_records.read(store.root)[0]:
        return None
    try:
        with slurm_records.submitting(store.root):
            sight = look(store.root)
            deadline = time.monotonic() + _ENDING_SECONDS
            # SLURM reports a job as cancelled only once its processes are gone
            while time.monotonic() < deadline and sight.is_ending():
                time.sleep(1.0)
                sight = look(store.root)
            settle(store, sight)
            slurm_records.tidy_over(store.root)
    except slurm_commands.SlurmError as error:
        return f"cannot tell how SLURM jobs ended: {error}"
    return None


class Places:
    """Follow SLURM for live views, asking it at most every 10 seconds.

    The attribute ``fault`` says why SLURM cannot be asked at the moment; None if it can.

    Parameters
    ----------
    results
        The results folder.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._looked = -float("inf")
        self.sight, self.verdicts = Sight(), dict[str, Verdict]()
        self.fault: str | None = None
        self._futile: list[str] = []

    def refresh(self) -> None:
        """Look again if the last look was at least 10 seconds ago."""
        if time.perf_counter() - self._looked < _REFRESH_SECONDS:
            return
        self._looked = time.perf_counter()
        try:
            self.sight = look(self._results)
            self.verdicts, self.fault = verdicts(self.sight), None
            self._futile = [
                in_vain(task)
                for task, state in self.sight.over
                if _is_futile(task.read_note(), fate(task.job, state, []))
            ]
        except slurm_commands.SlurmError as error:
            self.fault = str(error)

    def queue(self, run_ids: Container[str]) -> str:
        """Count the jobs of these runs by state, as text; empty if there are none."""
        return self.sight.queue(run_ids)

    def notes(self) -> list[str]:
        """Return one line for each thing that could not be asked or read and each job that could not work."""
        found = [f"cannot tell which runs are in SLURM jobs: {self.fault}"] if self.fault else []
        return [printable(line) for line in (*found, *self.sight.faults, *self._futile)]
