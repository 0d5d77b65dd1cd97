"""Provide named random streams: one generator for each purpose, seeded by the run's seed and its name.

Methods that share a seed therefore share the data split, the initial weights and the order of the
data, whatever else they draw. This makes comparisons between methods paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch

from methods.core.global_generators import NumpyGenerator, PythonGenerator

#: Purposes whose numbers are always drawn on the CPU, so that a seed gives the same examples, weights,
#: subspace, order and crops on every device. ``split``, ``initialisation`` and ``posterior`` (initial means
#: and scales that do not come from the network) are used only while the run is built.
ON_HOST = ("split", "initialisation", "posterior", "subspace", "order", "augmentation")
#: Purposes that need many numbers in every step. They are drawn on the device of the run, so a seed gives
#: other numbers on another device. ``extra`` is the noise of passes beside the training pass; ``global`` is
#: torch's default generator.
ON_DEVICE = ("noise", "extra", "evaluation", "global")
#: Global generators of other packages, which code of networks, data sets and methods may use.
OF_PACKAGES: dict[str, type[NumpyGenerator] | type[PythonGenerator]] = {
    "numpy": NumpyGenerator,
    "random": PythonGenerator,
}
NAMES = (*ON_HOST, *ON_DEVICE)


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed for the stream ``name`` of run seed ``seed``; the same on all machines."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """Random generators of one run, created at first use.

    ``streams["noise"]`` is a ``torch.Generator`` on ``device``, ``streams["order"]`` one on the CPU
    (see ``ON_HOST`` and ``ON_DEVICE``).

    Parameters
    ----------
    seed
        Seed of the run.
    device
        Device of the run.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}
        self._of_packages: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            self._generators[name] = self.fresh(name)
        return self._generators[name]

    def fresh(self, name: str) -> torch.Generator:
        """Create a new generator at the start of stream ``name``; the run's own does not advance."""
        device = "cpu" if name.partition("/")[0] in ON_HOST else self.device
        return torch.Generator(device).manual_seed(derive(self.seed, name))

    def take_global(self) -> None:
        """Make the process's global generators streams of the run, and seed them.

        Torch's default generator of the device becomes the stream ``global``: modules such as ``nn.Dropout``
        draw from it and cannot be given another one. Those of numpy and Python become ``numpy`` and
        ``random``. Call it within ``global_generators.restored``.
        """
        generator = torch.default_generator
        if self.device.type == "cuda":
            index = self.device.index
            generator = torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
        self._generators["global"] = generator.manual_seed(derive(self.seed, "global"))
        for name, kind in OF_PACKAGES.items():
            kind().manual_seed(derive(self.seed, name))
        self._of_packages = tuple(OF_PACKAGES)

    def state_dict(self, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
        """Return the states of the generators ``names`` by name; of all generators in use by default."""
        if names is None:
            names = (*self._generators, *self._of_packages)
        return {name: self._generator(name).get_state() for name in names}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Set every generator to the state that ``state_dict`` returned."""
        for name, value in state.items():
            self._generator(name).set_state(value.cpu())

    def _generator(self, name: str) -> torch.Generator | NumpyGenerator | PythonGenerator:
        return OF_PACKAGES[name]() if name in OF_PACKAGES else self[name]
