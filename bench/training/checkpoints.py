"""Write and read the last two checkpoints of a run, each in one step and without executing anything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.results.files import replacing
from bench.training import safe_load

#: The last checkpoint, and the one before it, which is used if the last one is damaged.
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
#: Larger files are refused.
_MAX_BYTES = 2**36
#: Writing checkpoints may take at most 1/20 of a run's time.
_SHARE = 20


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` in one step: readers see either the whole new file or the old one.

    Parameters
    ----------
    path
        The file.
    state
        Tensors, numbers and strings, also in nested lists and dicts.

    Raises
    ------
    WriteError
        The file cannot be written.
    """
    with replacing(path) as file:
        torch.save(state, file)


def load(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read what ``save`` wrote, with tensors on ``device``; raises as ``safe_load.read`` does."""
    return safe_load.read(path, device, _MAX_BYTES)


class Checkpoints:
    """Write the checkpoints of a run, and tell when the next one is due.

    Parameters
    ----------
    folder
        Folder of the run.
    seconds
        Least time between two checkpoints. It is longer if writing one takes long.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._least = folder, seconds
        self._saved_at, self._took = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Tell whether it is time to write a checkpoint."""
        return time.monotonic() - self._saved_at >= max(self._least, _SHARE * self._took)

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint and keep the one before.

        If the process is killed meanwhile, ``stored`` still finds one.
        """
        began = time.monotonic()
        with replacing(self._folder / CHECKPOINT, keep=self._folder / PREVIOUS) as file:
            torch.save(state, file)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - began

    def stored(self, device: str, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the readable checkpoints, the last one first; remove damaged ones.

        Parameters
        ----------
        device
            Device of the tensors.
        say
            Called with one line for each damaged checkpoint.
        """
        names = [name for name in (CHECKPOINT, PREVIOUS) if (self._folder / name).exists()]
        for name in names:
            try:
                state = load(self._folder / name, device)
            except FileNotFoundError:  # another process finished the run and removed its checkpoints
                continue
            except safe_load.Damaged as error:
                instead = f"{PREVIOUS} is tried" if name != names[-1] else "the run starts anew"
                say(f"{name} cannot be read, {instead}: {error}")
                # otherwise it would replace the sound previous one when the next checkpoint is written
                (self._folder / name).unlink(missing_ok=True)
                continue
            yield state


def any_in(folder: Path) -> bool:
    """Tell whether a run has a checkpoint from which it can go on."""
    return any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS))


def remove(folder: Path) -> None:
    """Remove the checkpoints of a run."""
    for name in (CHECKPOINT, PREVIOUS):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
