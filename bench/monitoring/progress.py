"""Where the runs of a plan stand, read from their folders: what live views and ``bench.status`` show."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.monitoring.slurm_queue import Places
from bench.results import claims
from bench.results.files import StoreError, printable
from bench.results.plans import planned
from bench.results.run_folder import SETTLED, STATUSES, status_of
from bench.results.store import Store

#: Folders looked into at a time besides those that run: a glance stays cheap for thousands of runs.
_GLANCE = 400
#: No number that tells how far a run is; what is larger, or not finite, is none.
_LARGEST = 2**53


@dataclass(frozen=True)
class Item:
    """A run of a plan, and what it costs next to others (its epochs)."""

    run_id: str
    label: str
    seed: int | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Running:
    """A run in progress. share: how much of it is done, in [0, 1]."""

    item: Item
    stage: str
    epoch: int
    epochs: int
    share: float
    val_accuracy: float | None


@dataclass
class Snapshot:
    """All runs at one moment. failed: with the reason. seconds_left: None while nothing tells.

    queue: how many jobs of SLURM stand where, in words; notes: what else should be known.
    """

    counts: Counter[str] = field(default_factory=Counter)
    running: list[Running] = field(default_factory=list)
    failed: list[tuple[Item, str]] = field(default_factory=list)
    seconds_left: float | None = None
    queue: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many runs there are."""
        return self.counts.total()

    @property
    def settled(self) -> int:
        """How many need nothing more."""
        return sum(self.counts[status] for status in SETTLED)

    def counted(self) -> str:
        """``3 done, 1 running, 8 pending``."""
        known = [f"{self.counts[s]} {s}" for s in reversed(STATUSES) if self.counts[s]]
        return ", ".join(known) or "no runs"


class Progress:
    """Follows the runs of ``items`` from look to look; runs that are settled are not read again."""

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
        """Look at the running ones and some others, or at everything, and say where all stand."""
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
        """Where one run stood at the latest look."""
        return self._status[run_id]

    def statuses(self) -> dict[str, str]:
        """Where all stand, looked at now."""
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
        """Where a run stands, and its status document as whoever launches next will have it."""
        run, places = self.store.run(run_id), self._places
        places.refresh()
        document = run.read("status")
        status = status_of(document, f"run {run_id}")
        if status == "running" and claims.holder(run, places.sight.ended) is None:
            # it ended between the two looks, or its process was killed and could not say so
            document = run.read("status")
            status = status_of(document, f"run {run_id}")
            status = "preempted" if status == "running" else status
        document = document or {}
        if status in SETTLED or status == "running":
            return status, document
        if run_id in places.sight.live:
            return "queued", document
        if (met := places.verdicts.get(run_id)) is not None:
            after = met.applied(document)
            return str(after["status"]), after
        return status, document

    def job(self, run_id: str) -> str:
        """The job of SLURM that a run is in, and how that stands: ``12_3, pending (Priority)``."""
        if (found := self._places.sight.live.get(run_id)) is None:
            return ""
        task, state = found
        return printable(f"{task.job}, {state.words()}")

    def _seconds_left(self) -> float | None:
        """From the speed since the first look, in weights (steps) a second."""
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
    """Why a run failed: ``oom: its job 7_3 ended as OUT_OF_MEMORY; the last words: …``."""
    kind, error = document.get("error_kind"), document.get("error")
    known = [str(part) for part in (kind, error) if part]
    return printable(": ".join(known) or "for no reason that was noted")


def duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _running(item: Item, document: dict[str, Any]) -> Running:
    """Wrong types in a folder that something else wrote show as nothing known."""

    def known(key: str) -> float | None:
        value = document.get(key)
        return float(value) if isinstance(value, int | float) and abs(value) < _LARGEST else None

    def number(key: str) -> float:
        return known(key) or 0.0

    stages = max(number("stages"), 1.0)
    # steps, of which a run that is cut short has fewer than its epochs tell
    within = number("step") / number("steps") if number("steps") > 0 else 0.0
    return Running(
        item=item,
        stage=printable(str(document.get("stage") or "")),
        epoch=int(number("epoch")),
        epochs=int(number("epochs")),
        share=min(max((number("stage_index") + within) / stages, 0.0), 1.0),
        val_accuracy=known("val_accuracy"),
    )


def items(store: Store, suite: str | None, scale: str | None) -> list[Item]:
    """The runs that were launched, of one suite and scale or all; ``StoreError`` where there are none."""
    store.require_runs()
    plans = store.plans(suite)
    if scale is not None:
        plans = [plan for plan in plans if plan["scale"] == scale]
    if not plans:
        what = " ".join(part for part in ("suite", suite, scale and f"at scale {scale}") if part)
        there = ", ".join(store.suites()) or "none"
        raise StoreError(f"{store.root}: no {what} was launched; there are: {there}")
    found: dict[str, Item] = {}
    for run in planned(plans):
        seed = run.labels.get("seed")
        seed = seed if isinstance(seed, int) else None
        found.setdefault(run.run_id, Item(run.run_id, printable(run.label), seed))
    return list(found.values())
