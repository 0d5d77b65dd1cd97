"""Named random streams: one generator a purpose, each derived from the run's seed and its name.

Methods that share a seed therefore share split, initial weights and data order whatever
else they draw, which is what makes comparisons paired.
"""

from __future__ import annotations

import hashlib

import torch

#: The purposes in use. ``split``, ``initialisation`` and ``posterior`` (initial means and scales that are
#: not the network's) are consumed while building.
NAMES = ("split", "initialisation", "posterior", "subspace", "order", "augmentation", "noise", "evaluation")


def derive(seed: int, name: str) -> int:
    """A 63-bit seed for the stream ``name`` of run seed ``seed``; stable over versions and machines."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """The random generators of one run, created on first use.

    ``streams["noise"]`` is a ``torch.Generator`` on ``device``. ``state_dict`` and
    ``load_state_dict`` carry every generator in use through a checkpoint.
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
        return torch.Generator(self.device).manual_seed(derive(self.seed, name))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of every generator in use, by name."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue every stream where ``state_dict`` left it."""
        for name, value in state.items():
            self[name].set_state(value.cpu())
