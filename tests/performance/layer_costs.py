"""What one SSVI layer costs: bytes of training state, a subspace update, a step against masked tensors.

    python tests/performance/layer_costs.py [--rounds 15] [--batch 32] [--threads 1]

A convolution of 512 x 512 x 3 x 3 (2.36 million weights) on 4 x 4 images at density 0.05, as in
the last block of ResNet-18. Competitors alternate within each round, so ratios survive a noisy
machine; figures are medians with the range over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _options import parsed
from torch import nn

from methods.base import Context, Method, Progress, Stage, Task
from methods.core import passes
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.layers.layer import VariationalLayer
from methods.ssvi import SSVI, SSVIOptions

SHAPE, SPATIAL, DENSITY = (512, 512, 3, 3), 4, 0.05
EXAMPLES = 50_000


class Body(nn.Module):
    """The layer under test, behind a small first convolution and before a pooling to ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 512, 1, bias=False)
        self.layer = nn.Conv2d(512, 512, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.first(x)).mean((2, 3))[:, :10]


def session(method: Method, every: int = 10**9) -> tuple[Context, Callable[[bool], None]]:
    """A context on ``Body`` and a function that takes one step, with or without a subspace update."""
    streams = Streams(0)
    task = Task((8, SPATIAL, SPATIAL), 10, EXAMPLES)
    torch.manual_seed(0)
    module = method.build(Body(), streams, task)
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    progress = Progress("train", 1, 10, 0, 10**6, EXAMPLES, streams["noise"])
    context = Context(module, optimiser, streams, task, progress, {}, lambda table, row: None)
    method.enter_stage(context, Stage("train", 10))
    batch = (torch.randn(ARGUMENTS.batch, 8, SPATIAL, SPATIAL), torch.randint(0, 10, (ARGUMENTS.batch,)))

    def step(update: bool) -> None:
        context.begin_step(batch, every if update else every + 1)
        method.before_step(context)
        with passes.dense_gradients(context.gradient_consumer):
            loss = method.loss(module, batch, progress)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        method.after_step(context)

    return context, step


def state_bytes(context: Context, layer: VariationalLayer) -> int:
    """Bytes of parameters, gradients, optimiser state and index of one layer."""
    tensors = list(layer.buffers())
    for parameter in layer.parameters():
        assert parameter.grad is not None
        tensors += [parameter, parameter.grad]
        tensors += [v for v in context.optimiser.state[parameter].values() if isinstance(v, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)


class Masked(nn.Module):
    """The layer as masked implementations have it: two dense contractions, KL by torch.distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 512, 1, bias=False)
        self.mean = nn.Parameter(0.01 * torch.randn(SHAPE))
        self.rho = nn.Parameter(torch.full(SHAPE, -5.0))
        self.register_buffer("mask", (torch.rand(SHAPE) < DENSITY).float())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.first(x)
        mean, std = self.mean * self.mask, F.softplus(self.rho) * self.mask
        m, v = F.conv2d(x, mean, padding=1), F.conv2d(x.square(), std.square(), padding=1)
        out = m + (v + 1e-8).sqrt() * torch.randn_like(m)
        active = self.mask.bool()
        q = torch.distributions.Normal(mean[active], std[active])
        p = torch.distributions.Normal(torch.zeros(()), torch.tensor(0.1))
        return out.mean((2, 3))[:, :10], torch.distributions.kl_divergence(q, p).sum()


def masked_step() -> Callable[[], None]:
    """A function that takes one step of ``Masked``."""
    torch.manual_seed(0)
    module = Masked()
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    x, y = torch.randn(ARGUMENTS.batch, 8, SPATIAL, SPATIAL), torch.randint(0, 10, (ARGUMENTS.batch,))

    def step() -> None:
        logits, kl = module(x)
        loss = F.cross_entropy(logits, y) + 0.05 / EXAMPLES * kl
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        for parameter in (module.mean, module.rho):
            parameter.data.mul_(module.mask)

    return step


def interleaved(competitors: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each competitor in each round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for round_number in range(rounds + 1):
        for name, run in competitors.items():
            started = time.perf_counter()
            run()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], first: str, second: str) -> str:
    """Median and range over rounds of the time of ``first`` over that of ``second``."""
    ratios = [a / b for a, b in zip(seconds[first], seconds[second], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Print the three comparisons."""
    torch.set_num_threads(ARGUMENTS.threads)
    sparse_context, sparse = session(SSVI(SSVIOptions(sparsity=1 - DENSITY, replace_every=100)), every=100)
    dense_context, dense = session(DenseVI())
    seconds = interleaved(
        {
            "ssvi, plain step": lambda: sparse(False),
            "ssvi, step with an update": lambda: sparse(True),
            "masked dense tensors": masked_step(),
            "dense_vi": lambda: dense(False),
        },
        ARGUMENTS.rounds,
    )
    sizes = [state_bytes(context, context.module.layer) for context in (sparse_context, dense_context)]
    print(f"batch {ARGUMENTS.batch}, {ARGUMENTS.threads} thread(s), {ARGUMENTS.rounds} rounds")
    for name, values in seconds.items():
        print(f"  {name:<28}{1000 * statistics.median(values):8.1f} ms")
    print(f"state bytes, ssvi / dense_vi / density: {sizes[0] / sizes[1] / DENSITY:.3f} (target 1.2 at most)")
    masked = ratio(seconds, "ssvi, plain step", "masked dense tensors")
    update = ratio(seconds, "ssvi, step with an update", "ssvi, plain step")
    print(f"step with an update / plain step: {update} (target 1.5 at most)")
    print(f"ssvi / masked dense tensors: {masked} (target 1 at most)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    ARGUMENTS = parsed(parser, rounds=1, batch=1)
    main()
