"""Follow the runs of a plan by reading their folders, for live views and ``bench.status``."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bench.monitoring.slurm_queue import Places
from bench.results import beside, claims
from bench.results.files import StoreError, not_launched, printable
from bench.results.integrity import require_files
from bench.results.plans import planned
from bench.results.run_folder import SETTLED, STATUSES, RunFolder, status_of
from bench.results.store import Store

#: Number of folders read at a time besides those of running runs, so that a look is quick for many runs.
_GLANCE = 400
#: Numbers in a status that are larger than this, or not finite, are ignored.
_LARGEST = 2**53


@dataclass(frozen=True)
class Item:
    """Describe a run of a plan.

    Parameters
    ----------
    run_id
        Id of the run.
    label
        Name of the configuration.
    seed
        Seed of the run.
    weight
        Work of the run relative to others: its number of epochs.
    sets
        Keys of the sets beside the test part on which it is to be evaluated (see ``bench.results.beside``).
    """

    run_id: str
    label: str
    seed: int | None = None
    weight: float = 1.0
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Running:
    """Describe a run in progress.

    Parameters
    ----------
    item
        The run.
    stage
        Name of the stage that is being trained.
    epoch, epochs
        Epochs of this stage that are done, and all epochs of this stage.
    share
        Share of the run that is done, in [0, 1].
    val_accuracy
        Last accuracy on validation data, in [0, 1]; None if there is none yet.
    """

    item: Item
    stage: str
    epoch: int
    epochs: int
    share: float
    val_accuracy: float | None


@dataclass
class Snapshot:
    """Hold the state of all runs at one moment.

    Parameters
    ----------
    counts
        Number of runs by status.
    running
        The runs in progress.
    failed
        Each failed run with the reason.
    seconds_left
        Estimated time until all runs are settled; None while it cannot be estimated.
    queue
        Numbers of SLURM jobs by state, as text.
    notes
        Problems that a reader should know of, one line each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    running: list[Running] = field(default_factory=list)
    failed: list[tuple[Item, str]] = field(default_factory=list)
    seconds_left: float | None = None
    queue: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return the number of runs."""
        return self.counts.total()

    @property
    def settled(self) -> int:
        """Return the number of runs that are done, failed or cancelled."""
        return sum(self.counts[status] for status in SETTLED)

    def counted(self) -> str:
        """Return the counts as text: ``3 done, 1 running, 8 pending``."""
        known = [f"{self.counts[s]} {s}" for s in reversed(STATUSES) if self.counts[s]]
        return ", ".join(known) or "no runs"


class Progress:
    """Follow runs over repeated looks; settled runs are not read again.

    Parameters
    ----------
    store
        The results folder.
    items
        The runs to follow.
    """

    def __init__(self, store: Store, items: Iterable[Item]) -> None:
        self.store = store
        self.items = {item.run_id: item for item in items}
        self._status: dict[str, str] = dict.fromkeys(self.items, "pending")
        self._failed: dict[str, str] = {}
        self._running: dict[str, Running] = {}
        self._left = itertools.cycle(list(self.items))
        self._places = Places(store.root)
        self._started: float | None = None
        self._work_before = 0.0

    def look(self, everything: bool = False) -> Snapshot:
        """Read the folders of the running runs and some others, and return the state of all runs.

        Parameters
        ----------
        everything
            Read the folders of all runs that are not settled.
        """
        self._places.refresh()
        unsettled = [run_id for run_id, status in self._status.items() if status not in SETTLED]
        if everything or len(unsettled) <= _GLANCE:
            chosen = unsettled
        else:
            open_runs = set(unsettled)
            some = [run_id for run_id in itertools.islice(self._left, _GLANCE) if run_id in open_runs]
            chosen = list(dict.fromkeys([*self._running, *some]))
        for run_id in chosen:
            self._read(self.items[run_id])
        snapshot = Snapshot(
            counts=Counter(self._status.values()),
            running=list(self._running.values()),
            failed=[(self.items[run_id], reason) for run_id, reason in self._failed.items()],
        )
        snapshot.seconds_left = self._seconds_left()
        snapshot.queue, snapshot.notes = self._places.queue(self.items), self._places.notes()
        return snapshot

    def status(self, run_id: str) -> str:
        """Return the status of one run at the latest look."""
        return self._status[run_id]

    def statuses(self) -> dict[str, str]:
        """Read all runs now and return their status by run id."""
        self.look(everything=True)
        return dict(self._status)

    def _read(self, item: Item) -> None:
        try:
            status, document = self.document(item.run_id)
        except StoreError as error:
            status, document = "failed", {"error_kind": "corrupted", "error": str(error)}
        self._status[item.run_id] = status
        self._running.pop(item.run_id, None)
        if status == "running":
            self._running[item.run_id] = _running(item, document)
        elif status == "failed":
            self._failed[item.run_id] = reason(document)

    def document(self, run_id: str) -> tuple[str, dict[str, Any]]:
        """Return the status of a run and its status document, as the next launcher will see them.

        These differ from the stored ones if the process or job of the run has ended without noting it, or if
        files of a finished run are missing or cut short.

        Raises
        ------
        StoreError
            The status document is damaged.
        """
        run, places = self.store.run(run_id), self._places
        places.refresh()
        document = run.read("status")
        status = status_of(document, f"run {run_id}")
        if status == "running" and claims.holder(run, places.sight.ended) is None:
            # the run ended after its status was read, or its process was killed and could not note that
            document = run.read("status")
            status = status_of(document, f"run {run_id}")
            status = "preempted" if status == "running" else status
        document = document or {}
        if status == "done":
            try:
                require_files(run, document)
            except StoreError as error:
                return "failed", {**document, "error_kind": "corrupted", "error": str(error)}
            if run_id in self.items and (left := beside.lacking(document, self.items[run_id].sets)):
                return self._evaluation(run, left)
        if status in SETTLED or status == "running":
            return status, document
        if run_id in places.sight.live:
            return "queued", document
        if (met := places.verdicts.get(run_id)) is not None:
            after = met.applied(document)
            return str(after["status"]), after
        return status, document

    def _evaluation(self, run: RunFolder, left: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the status of a finished run that is still to be evaluated, and how far that is."""
        if claims.holder(run, self._places.sight.ended) is None:
            return "queued" if run.run_id in self._places.sight.live else "pending", {}
        every = len(self.items[run.run_id].sets)
        done = every - len(left)
        where = {"epoch": done, "epochs": every, "step": done, "steps": every}
        return "running", {"stage": f"evaluation: {left[0].partition('.')[2]}", **where}

    def job(self, run_id: str) -> str:
        """Return the SLURM job of a run with its state, ``12_3, pending (Priority)``, or an empty string."""
        if (found := self._places.sight.live.get(run_id)) is None:
            return ""
        task, state = found
        return printable(f"{task.job}, {state.words()}")

    def _seconds_left(self) -> float | None:
        """Estimate the time left from the work done per second since the first look."""
        done = sum(item.weight for run_id, item in self.items.items() if self._status[run_id] in SETTLED)
        work = done + sum(running.share * running.item.weight for running in self._running.values())
        now = time.monotonic()
        if self._started is None:
            self._started, self._work_before = now, work
            return None
        spent, since = work - self._work_before, now - self._started
        left = sum(item.weight for item in self.items.values()) - work
        return left * since / spent if spent > 0 else None


def reason(document: Mapping[str, Any]) -> str:
    """Return why a run failed, such as ``oom: its job 7_3 ended as OUT_OF_MEMORY; the last words: …``."""
    kind, error = document.get("error_kind"), document.get("error")
    known = [str(part) for part in (kind, error) if part]
    return printable(": ".join(known) or "no reason was recorded")


def duration(seconds: float) -> str:
    """Format a duration in seconds as ``45 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _running(item: Item, document: dict[str, Any]) -> Running:
    """Read the progress of a run from its status document; values of a wrong type count as unknown."""

    def known(key: str) -> float | None:
        value = document.get(key)
        return float(value) if isinstance(value, int | float) and abs(value) < _LARGEST else None

    def number(key: str) -> float:
        return known(key) or 0.0

    stages = max(number("stages"), 1.0)
    # progress counts steps, since a run with max_steps ends before its epochs are over
    within = number("step") / number("steps") if number("steps") > 0 else 0.0
    return Running(
        item=item,
        stage=printable(str(document.get("stage") or "")),
        epoch=int(number("epoch")),
        epochs=int(number("epochs")),
        share=min(max((number("stage_index") + within) / stages, 0.0), 1.0),
        val_accuracy=known("val_accuracy"),
    )


def known_ids(store: Store) -> set[str]:
    """Return the ids of the runs that launched suites have; of the suites whose plans can be read."""
    with suppress(StoreError):
        return {item.run_id for item in items(store, None, None)}
    return set()


def items(store: Store, suite: str | None, scale: str | None) -> list[Item]:
    """Return the runs that were launched.

    Parameters
    ----------
    store
        The results folder.
    suite, scale
        Only the runs of this suite and scale; None means all.

    Raises
    ------
    StoreError
        No such run was launched, or the folder holds only published tables.
    """
    store.require_runs()
    plans = store.plans(suite)
    if scale is not None:
        plans = [plan for plan in plans if plan["scale"] == scale]
    if not plans:
        if scale is not None and (suite is None or suite in store.suites()):
            there = {plan["scale"] for plan in store.plans(suite)}
            raise not_launched(store.root, f"{suite or 'suite'} at scale", scale, sorted(there))
        raise not_launched(store.root, "suite", suite or "", store.suites())
    found: dict[str, Item] = {}
    for run in planned(plans):
        seed = run.labels.get("seed")
        seed = seed if isinstance(seed, int) else None
        found.setdefault(run.run_id, Item(run.run_id, printable(run.label), seed, sets=run.sets))
    return list(found.values())
