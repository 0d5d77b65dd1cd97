"""Provide named random streams: one generator for each purpose, seeded by the run's seed and its name.

Methods that share a seed therefore share the data split, the initial weights and the order of the
data, whatever else they draw. This makes comparisons between methods paired.
"""

from __future__ import annotations

import hashlib

import torch

#: Purposes whose numbers are always drawn on the CPU, so that a seed gives the same examples, weights,
#: subspace, order and crops on every device. ``split``, ``initialisation`` and ``posterior`` (initial means
#: and scales that do not come from the network) are used only while the run is built.
ON_HOST = ("split", "initialisation", "posterior", "subspace", "order", "augmentation")
#: Purposes that need many numbers in every step. They are drawn on the device of the run, so a seed gives
#: other numbers on another device. ``extra`` is the noise of passes beside the training pass; ``global`` is
#: torch's default generator.
ON_DEVICE = ("noise", "extra", "evaluation", "global")
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

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            self._generators[name] = self.fresh(name)
        return self._generators[name]

    def fresh(self, name: str) -> torch.Generator:
        """Create a new generator at the start of stream ``name``; the run's own does not advance."""
        device = "cpu" if name.partition("/")[0] in ON_HOST else self.device
        return torch.Generator(device).manual_seed(derive(self.seed, name))

    def take_global(self) -> None:
        """Make torch's default generator of the device the run's stream ``global``, and seed it.

        Modules such as ``nn.Dropout`` draw from the default generator and cannot be given another one.
        """
        generator = torch.default_generator
        if self.device.type == "cuda":
            index = self.device.index
            generator = torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
        self._generators["global"] = generator.manual_seed(derive(self.seed, "global"))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the state of every generator in use, by name."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Set every generator to the state that ``state_dict`` returned."""
        for name, value in state.items():
            self[name].set_state(value.cpu())
