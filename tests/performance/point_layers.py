"""A layer of values without width, as rigl has them: sparse kernels against torch, and what `auto` decides.

    python tests/performance/point_layers.py [--rounds 9] [--threads 1]

A training step (forward and backward pass) of one layer. Competitors alternate within each round;
figures are medians of torch's time over the kernel's, so above 1 the kernel is faster. They are what
the prices of points in ``methods/layers/execution.py`` come from.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from _options import parsed
from torch import nn

from methods.families.sparse import random_index
from methods.kernels.library import absent
from methods.layers import convert, costs, execution
from methods.layers.layer import variational_layers
from methods.layers.posterior import SparsePoint

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
#: Name, layer, input shape, batch.
LAYERS = (
    ("Linear 64→256", nn.Linear(64, 256), (64,), 64),
    ("Linear 256→256", nn.Linear(256, 256), (256,), 64),
    ("Linear 1024→1024", nn.Linear(1024, 1024), (1024,), 64),
    ("Conv 6→16, 5×5, 14×14", nn.Conv2d(6, 16, 5), (6, 14, 14), 128),
    ("Conv 16→16, 3×3, 32×32", nn.Conv2d(16, 16, 3, padding=1), (16, 32, 32), 64),
    ("Conv 64→64, 3×3, 16×16", nn.Conv2d(64, 64, 3, padding=1), (64, 16, 16), 32),
    ("Conv 128→128, 3×3, 8×8", nn.Conv2d(128, 128, 3, padding=1), (128, 8, 8), 64),
)


class Behind(nn.Module):
    """The layer under test behind a convolution or none, as the first convolution is never sparse."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1)  # never called: it stays as it is
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def module(layer: nn.Module, density: float, shape: tuple[int, ...], batch: int, how: str) -> nn.Module:
    """The layer with a random subspace, computed as ``how`` says."""
    generator = torch.Generator().manual_seed(0)
    found = Behind(copy.deepcopy(layer))
    costs.trace(found, shape)

    def point(name: str, weight: torch.Tensor) -> SparsePoint:
        index = random_index(weight.numel(), max(1, round(weight.numel() * density)), generator)
        return SparsePoint(weight.shape, index, weight.reshape(-1)[index])

    sparse = convert.to_variational(found, point, 0.0)
    costs.trace(sparse, shape)
    execution.choose(sparse, how, shape, batch)
    return sparse


def seconds(net: nn.Module, x: torch.Tensor, steps: int = 5) -> float:
    """Seconds a step, averaged over ``steps``."""
    began = time.perf_counter()
    for _ in range(steps):
        net.zero_grad(set_to_none=True)
        net(x).sum().backward()
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Print the table."""
    print("| layer | " + " | ".join(map(str, DENSITIES)) + " |")
    print("| --- |" + " --- |" * len(DENSITIES))
    for name, layer, shape, batch in (LAYERS[0], LAYERS[3]) if ARGUMENTS.smoke else LAYERS:
        cells = []
        x = torch.randn(batch, *shape, requires_grad=True)
        for density in DENSITIES:
            dense, sparse = (module(layer, density, shape, batch, how) for how in ("dense", "sparse"))
            auto = module(layer, density, shape, batch, "auto")
            for net in (dense, sparse):
                seconds(net, x, 2)
            ratios = [seconds(dense, x) / seconds(sparse, x) for _ in range(ARGUMENTS.rounds)]
            (chosen,) = (found.kernel is not None for found in variational_layers(auto))
            cells.append(f"{statistics.median(ratios):.2f}{'' if chosen else ' (torch)'}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("(torch): where `auto` takes torch")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    ARGUMENTS = parsed(parser, rounds=1)
    torch.set_num_threads(ARGUMENTS.threads)
    if (reason := absent()) is not None:
        raise SystemExit(reason)
    main()
