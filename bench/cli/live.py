"""Show the progress of runs: a table that is redrawn in a terminal, or plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.monitoring.progress import Item, Progress, Running, Snapshot, duration
from bench.results.files import printable

_REDRAW_SECONDS, _LINE_SECONDS = 0.5, 10.0
_MOST_ROWS, _MOST_FAILED = 16, 5


@contextmanager
def shown(progress: Progress, console: Console) -> Iterator[None]:
    """Show ``progress`` while the block runs, and once more at its end."""
    over = threading.Event()
    follow = _redraw if console.is_terminal else _print_lines
    thread = threading.Thread(target=follow, args=(progress, console, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _redraw(progress: Progress, console: Console, over: threading.Event) -> None:
    with Live(render(progress.look()), console=console, auto_refresh=False) as live:
        while not over.wait(_REDRAW_SECONDS):
            live.update(render(progress.look()), refresh=True)
        live.update(render(progress.look()), refresh=True)


def _print_lines(progress: Progress, console: Console, over: threading.Event) -> None:
    """Print each failure once, and a line at most every ten seconds when something has changed."""
    reported: set[str] = set()
    last, before, running = time.monotonic(), "", True
    while running:
        running = not over.wait(_REDRAW_SECONDS)
        snapshot = progress.look()
        for item, reason in snapshot.failed:
            if item.run_id not in reported:
                reported.add(item.run_id)
                say(console, f"failed: {named(item)}: {reason}")
        jobs = f"; jobs: {snapshot.queue}" if snapshot.queue else ""
        line = f"{snapshot.settled}/{snapshot.total} runs: {snapshot.counted()}{jobs}{_time_left(snapshot)}"
        if line != before and (not running or time.monotonic() - last >= _LINE_SECONDS):
            last, before = time.monotonic(), line
            say(console, line)


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print a plain line of any length, without wrapping."""
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True, style=style)


def render(snapshot: Snapshot) -> RenderableType:
    """Draw a snapshot: running and failed runs, progress, jobs and notes."""
    parts: list[RenderableType] = []
    if snapshot.running:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in ("running", "seed", "run", "stage", "epoch", "validation accuracy"):
            left = head in ("running", "run", "stage")
            table.add_column(head, justify="left" if left else "right", no_wrap=True)
        for running in snapshot.running[:_MOST_ROWS]:
            table.add_row(*(Text(part) for part in _row(running)))  # in a plain str, brackets would be markup
        parts.append(table)
        if len(snapshot.running) > _MOST_ROWS:
            parts.append(Text(f"… and {len(snapshot.running) - _MOST_ROWS} more", style="dim"))
    for item, reason in snapshot.failed[-_MOST_FAILED:]:
        parts.append(Text(f"failed: {named(item)}: {reason}", style="red", no_wrap=True, overflow="ellipsis"))
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(total=max(snapshot.total, 1), completed=snapshot.settled, width=30),
        Text(f"{snapshot.settled}/{snapshot.total} runs: {snapshot.counted()}{_time_left(snapshot)}"),
    )
    parts.append(line)
    if snapshot.queue:
        parts.append(Text(f"jobs: {snapshot.queue}", style="dim"))
    parts += [Text(note, style="yellow") for note in snapshot.notes[:_MOST_FAILED]]
    return Group(*parts)


def named(item: Item) -> str:
    """Return the name of a run, as ``ssvi criterion=snr seed=3 (0123456789ab)``."""
    seed = "" if item.seed is None else f" seed={item.seed}"
    return f"{item.label}{seed} ({item.run_id})"


def listed(item: Item, status: str, job: str) -> str:
    """Return a line of ``bench.status --runs``; the words that scripts read come first."""
    seed = "" if item.seed is None else f" seed={item.seed}"
    return f"{item.run_id}  {status:<9}  {item.label}{seed}{f'  (job {job})' if job else ''}"


def _row(running: Running) -> tuple[str, ...]:
    accuracy = "" if running.val_accuracy is None else f"{running.val_accuracy:.3f}"
    seed = "" if running.item.seed is None else str(running.item.seed)
    epoch = f"{running.epoch}/{running.epochs}" if running.epochs else "starting"
    return running.item.label, seed, running.item.run_id, running.stage, epoch, accuracy


def _time_left(snapshot: Snapshot) -> str:
    if snapshot.seconds_left is None or snapshot.settled == snapshot.total:
        return ""
    return f"; about {duration(snapshot.seconds_left)} left"
