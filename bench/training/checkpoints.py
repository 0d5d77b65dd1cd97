"""Checkpoints of a run: the last two, each written in one step, and read without executing anything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.results.files import replacing
from bench.training import safe_load

#: The last one, and the one before, which stands in where the last one is damaged.
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
#: A larger file is refused.
_MAX_BYTES = 2**36
#: Writing takes at most one part in so many of the time.
_SHARE = 20


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, nested) so that readers see all of it or the old one.

    Raises ``WriteError`` where it can't be written.
    """
    with replacing(path) as file:
        torch.save(state, file)


def load(path: Path, device: str = "cpu") -> dict[str, Any]:
    """What ``save`` wrote, its tensors on ``device``. Raises as ``archive.read``."""
    return safe_load.read(path, device, _MAX_BYTES)


class Checkpoints:
    """The checkpoints in a run's folder, and when the next one is due.

    seconds: least time between two. Where writing takes long they are rarer.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._least = folder, seconds
        self._saved_at, self._took = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() - self._saved_at >= max(self._least, _SHARE * self._took)

    def save(self, state: dict[str, Any]) -> None:
        """Write one, and keep the one before.

        A process that is killed in between leaves one that ``stored`` finds.
        """
        began = time.monotonic()
        with replacing(self._folder / CHECKPOINT, keep=self._folder / PREVIOUS) as file:
            torch.save(state, file)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - began

    def stored(self, device: str, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Those that can be read, the last one first; of others ``say`` is told, and they are removed."""
        names = [name for name in (CHECKPOINT, PREVIOUS) if (self._folder / name).exists()]
        for name in names:
            try:
                state = load(self._folder / name, device)
            except FileNotFoundError:  # another process had its end of the run
                continue
            except safe_load.Damaged as error:
                instead = f"{PREVIOUS} is tried" if name != names[-1] else "the run starts anew"
                say(f"{name} cannot be read, {instead}: {error}")
                # it would take the place of a sound one when the next is written
                (self._folder / name).unlink(missing_ok=True)
                continue
            yield state


def any_in(folder: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS))


def remove(folder: Path) -> None:
    """Remove the checkpoints of a run."""
    for name in (CHECKPOINT, PREVIOUS):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
