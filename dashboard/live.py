"""Show the progress of a grid while it runs, from its run folders, until all runs are settled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from bench.monitoring.progress import Item, Progress, Running, Snapshot, duration
from bench.results.files import StoreError, shell_path
from bench.results.names import in_words
from bench.results.run_folder import SETTLED
from bench.results.store import Store
from bench.results.styles import CRITERIA
from dashboard import data
from dashboard.data import Part
from dashboard.plain import plain

#: Seconds between two looks while runs are running, and while all wait.
_SECONDS, _WAITING_SECONDS = 3.0, 15.0
#: Greatest number of rows of running runs, and of failed ones.
_MOST_ROWS, _MOST_FAILED = 16, 5
_KEPT = 16


@dataclass(frozen=True)
class State:
    """Hold the present state of all runs of a suite at one scale.

    Parameters
    ----------
    counts
        Number of runs by status.
    running
        Runs in progress.
    failed
        Runs that failed since the tables were made, with the reason.
    ended
        Number of runs that settled since the tables were made.
    seconds_left
        Estimated time until all runs are settled; None while it cannot be estimated.
    notes
        Problems that a reader should know of, one line each.
    """

    counts: Counter[str]
    running: list[Running]
    failed: list[tuple[Item, str]]
    ended: int
    seconds_left: float | None
    notes: list[str]

    @property
    def total(self) -> int:
        """Return the number of runs."""
        return self.counts.total()

    @property
    def settled(self) -> int:
        """Return the number of runs that are done, failed or cancelled."""
        return sum(self.counts[status] for status in SETTLED)

    @property
    def words(self) -> str:
        """Return the state: ``3 of 12 runs settled: 3 done, 1 running, 8 pending; about 4 min left``."""
        order = ("done", "failed", "cancelled", "running", "preempted", "queued", "pending")
        counted = ", ".join(f"{self.counts[name]:,} {name}" for name in order if self.counts[name])
        left = f"; about {duration(self.seconds_left)} left" if self.running and self.seconds_left else ""
        left = "" if self.is_settled else left
        return f"{self.settled:,} of {self.total:,} runs settled: {counted}{left}"

    @property
    def is_settled(self) -> bool:
        """Return whether no run is left to do."""
        return self.settled == self.total

    @property
    def phase(self) -> str:
        """Return ``running``, ``waiting`` (for a job or a launch) or ``settled``."""
        return "settled" if self.is_settled else "running" if self.running else "waiting"


class Follower:
    """Follow the open runs of one results folder; all pages share it, and it looks every few seconds.

    Parameters
    ----------
    store
        The results folder.
    items
        The runs to follow.
    before
        Status of the folder's runs in the tables, by run id.
    """

    def __init__(self, store: Store, items: Iterable[Item], before: dict[str, str]) -> None:
        self._progress = Progress(store, items)
        self._known = before
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._looked_at = 0.0

    def look(self) -> tuple[Snapshot, dict[str, str]]:
        """Return the state of the followed runs, and the status of every run of the folder by run id."""
        with self._lock:
            if self._snapshot is None or time.monotonic() - self._looked_at > _SECONDS / 2:
                self._snapshot = self._progress.look(everything=self._snapshot is None)
                self._looked_at = time.monotonic()
            now = {run_id: self._progress.status(run_id) for run_id in self._progress.items}
            return self._snapshot, {**self._known, **now}


def panel(part: Part) -> None:
    """Show the progress of ``part`` until the tables have all its runs; show nothing if they have them."""
    state = look(part)
    if state is None or (state.is_settled and not state.ended):
        return
    # a grid that has just ended makes its tables in seconds
    every = _SECONDS if state.running or state.is_settled else _WAITING_SECONDS
    st.fragment(_followed, run_every=every)(part, state.phase, data.stamp(part))


def look(part: Part) -> State | None:
    """Return the state of all runs of ``part``; None if its folders hold only tables."""
    now: dict[str, str] = {}
    snapshots: list[Snapshot] = []
    notes: list[str] = []
    for folder in part.folders:
        try:
            follower = _follower(part, folder, data.stamp(part))
        except StoreError as error:
            notes.append(str(error))
            continue
        if follower is not None:
            snapshot, statuses = follower.look()
            snapshots.append(snapshot)
            # a run in several folders counts once, and is done if one of them has finished it
            now |= {run: status for run, status in statuses.items() if now.get(run) != "done"}
    if not snapshots:
        return None
    before = _statuses(part)
    left = [snapshot.seconds_left for snapshot in snapshots if snapshot.seconds_left is not None]
    queues = [f"jobs: {snapshot.queue}" for snapshot in snapshots if snapshot.queue]
    return State(
        counts=Counter(now.values()),
        running=[one for snapshot in snapshots for one in snapshot.running],
        failed=[
            one for snapshot in snapshots for one in snapshot.failed if before.get(one[0].run_id) != "failed"
        ],
        ended=sum(status in SETTLED and before.get(run) != status for run, status in now.items()),
        seconds_left=max(left, default=None),
        notes=[*notes, *queues, *(note for snapshot in snapshots for note in snapshot.notes)],
    )


def _followed(part: Part, phase: str, stamp: object) -> None:
    """Draw the part of the page that is refreshed; redraw the whole page once other parts must change."""
    state = look(part)
    if state is None or state.phase != phase or data.stamp(part) != stamp:
        st.rerun(scope="app")
    if state.is_settled:
        _ended(part, state)
        return
    st.subheader("How far is it?", anchor=False)
    work = state.settled + sum(one.share for one in state.running)
    st.progress(min(work / max(state.total, 1), 1.0), text=plain(state.words))
    if state.running:
        st.dataframe(
            _table(state.running[:_MOST_ROWS]),
            hide_index=True,
            placeholder="–",
            key="runs-live",
            column_config={
                "epoch": st.column_config.TextColumn(help="epochs done, of the epochs of this stage"),
                "done": st.column_config.ProgressColumn(format="%.0f%%", min_value=0, max_value=100),
                "validation accuracy (%)": st.column_config.NumberColumn(format="%.1f"),
            },
            alt="Runs in progress.",
        )
        if len(state.running) > _MOST_ROWS:
            st.caption(f"… and {len(state.running) - _MOST_ROWS} more")
    else:
        st.caption("Nothing runs at the moment. The command on the page Overview continues the open runs.")
    for item, reason in state.failed[-_MOST_FAILED:]:
        st.markdown(f":material/error: failed: {plain(f'{item.label}, seed {item.seed}: {reason}')}")
    for note in state.notes[:_MOST_FAILED]:
        st.caption(plain(note))
    if state.ended:
        _ended(part, state)
    st.caption(f"Updated at {time.strftime('%H:%M:%S')}, and again every few seconds.")


def _ended(part: Part, state: State) -> None:
    """Show the command that brings the tables up to date; otherwise a grid does so only when it ends."""
    if not _statuses(part):
        words = "These runs have no tables yet; a grid makes them when it ends. This command makes them now:"
    else:
        runs = "1 run has" if state.ended == 1 else f"{state.ended:,} runs have"
        words = f"{runs} ended since the tables were made. This command brings them up to date:"
    st.info(words, icon=":material/info:")
    lines = [
        f"python -m bench.collect --suite {part.suite} --results {shell_path(folder)}"
        for folder in part.folders
        if data.has_runs(folder)
    ]
    st.code("\n".join(lines), language="bash", wrap_lines=True)


def _table(running: list[Running]) -> pd.DataFrame:
    rows = [
        {
            "configuration": one.item.label,
            "seed": one.item.seed,
            "stage": one.stage,
            "epoch": f"{one.epoch} of {one.epochs}" if one.epochs else "starting",
            "done": 100 * one.share,
            "validation accuracy (%)": None if one.val_accuracy is None else 100 * one.val_accuracy,
            "run": one.item.run_id,
        }
        for one in running
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def _statuses(part: Part) -> dict[str, str]:
    """Return the status of the runs of ``part`` in its tables; empty if there are no tables."""
    try:
        runs = data.table(part, "runs")
    except StoreError:
        return {}
    return dict(zip(runs["run_id"].astype(str), runs["status"].astype(str), strict=True))


@st.cache_resource(max_entries=_KEPT, show_spinner=False)
def _follower(part: Part, folder: str, stamp: object) -> Follower | None:
    """Return the follower of the open runs of a folder; None if the folder holds only tables."""
    store = Store(folder)
    if store.published:
        return None
    before = _statuses(part)
    # a launch after the tables were made may have started finished runs again
    again = data.is_launched_since(part, folder)
    known, items = {}, []
    methods, criteria = data.styles(part), data.styles(part, CRITERIA)
    for run in store.planned(part.suite):
        if run.scale != part.scale:
            continue
        known[run.run_id] = before.get(run.run_id, "pending")
        if again or known[run.run_id] != "done":
            seed = run.labels.get("seed")
            name = in_words(run.label, methods, criteria)
            items.append(Item(run.run_id, name, seed if isinstance(seed, int) else None))
    return Follower(store, items, known)
