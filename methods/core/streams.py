"""Named random streams: one generator a purpose, each derived from the run's seed and its name.

Methods that share a seed therefore share split, initial weights and data order whatever
else they draw, which is what makes comparisons paired.
"""

from __future__ import annotations

import hashlib

import torch

#: Purposes whose numbers are drawn on the CPU whatever the device of the run, so that a seed means the same
#: examples, weights, subspace, order and crops on every device. ``split``, ``initialisation`` and
#: ``posterior`` (initial means and scales that are not the network's) are consumed while building.
ON_HOST = ("split", "initialisation", "posterior", "subspace", "order", "augmentation")
#: Purposes that need many numbers in every step: drawn on the device, where a seed has numbers of its own.
#: ``extra`` is the noise of passes beside the training pass; ``global`` is torch's own stream.
ON_DEVICE = ("noise", "extra", "evaluation", "global")
NAMES = (*ON_HOST, *ON_DEVICE)


def derive(seed: int, name: str) -> int:
    """A 63-bit seed for the stream ``name`` of run seed ``seed``; stable over versions and machines."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """The random generators of one run, created on first use.

    ``streams["noise"]`` is a ``torch.Generator`` on ``device``, ``streams["order"]`` one on the
    CPU. ``state_dict`` and ``load_state_dict`` carry every generator in use through a checkpoint.
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
        """A new generator at the start of stream ``name``; the run's own one is not advanced."""
        device = "cpu" if name.partition("/")[0] in ON_HOST else self.device
        return torch.Generator(device).manual_seed(derive(self.seed, name))

    def take_global(self) -> None:
        """Make torch's own stream of the device the run's stream ``global``.

        Dropout and the like in modules of others draw from it, and know no generator.
        """
        generator = torch.default_generator
        if self.device.type == "cuda":
            index = self.device.index
            generator = torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
        self._generators["global"] = generator.manual_seed(derive(self.seed, "global"))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of every generator in use, by name."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue every stream where ``state_dict`` left it."""
        for name, value in state.items():
            self[name].set_state(value.cpu())
