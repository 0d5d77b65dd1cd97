"""Seed the global random generators of torch, numpy and Python, and restore them.

Code of networks, data sets and methods may draw from them without being given a generator. Wherever such code
is called, they are seeded from the run's seed, so that a seed fixes everything, and the caller's states
are restored afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand


@contextmanager
def restored(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore after the block the state that all global generators have now, on the CPU and on ``device``."""
    device = torch.device(device)
    python, bits, state = random.getstate(), mtrand.get_bit_generator(), np.random.get_state(legacy=False)
    mtrand.set_bit_generator(np.random.MT19937())  # another kind, which a caller may use, can't be seeded
    try:
        with torch.random.fork_rng([] if device.type == "cpu" else [device]):
            yield
    finally:
        random.setstate(python)
        mtrand.set_bit_generator(bits)
        np.random.set_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all global generators, that of torch on the CPU only, and restore them after the block."""
    with restored():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed accelerators
        yield


class PythonGenerator:
    """The generator of the module ``random``; its state is a tensor of float64, which holds it exactly."""

    def manual_seed(self, seed: int) -> None:
        """Seed the generator."""
        random.seed(seed)

    def get_state(self) -> torch.Tensor:
        """Return the state: version, 625 words, and the normal variate kept for the next call or inf."""
        version, words, kept = random.getstate()
        return torch.tensor([version, *words, np.inf if kept is None else kept], dtype=torch.float64)

    def set_state(self, state: torch.Tensor) -> None:
        """Set the state that ``get_state`` returned."""
        version, *words, kept = state.tolist()
        random.setstate((int(version), tuple(map(int, words)), None if np.isinf(kept) else kept))


class NumpyGenerator:
    """The generator of the functions of ``numpy.random``; its state is a tensor of float64."""

    def manual_seed(self, seed: int) -> None:
        """Seed the generator."""
        np.random.seed(seed % 2**32)

    def get_state(self) -> torch.Tensor:
        """Return the state: 624 words, the position among them, and the normal variate kept or 0."""
        held: Any = np.random.get_state(legacy=False)
        words = [*held["state"]["key"], held["state"]["pos"], held["has_gauss"], held["gauss"]]
        return torch.tensor([float(word) for word in words], dtype=torch.float64)

    def set_state(self, state: torch.Tensor) -> None:
        """Set the state that ``get_state`` returned."""
        *words, position, has_kept, kept = state.tolist()
        np.random.set_state(("MT19937", np.array(words, dtype=np.uint32), int(position), int(has_kept), kept))
