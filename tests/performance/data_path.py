"""Images a second of one epoch: our batches against torchvision's transforms image by image in a DataLoader.

    python tests/performance/data_path.py [--rounds 3] [--batch 128] [--workers 2] [--datasets cifar10]

Both crop, mirror and standardise the same training part. Ours with one thread and with all; the
DataLoader keeps its workers from epoch to epoch. Competitors alternate within each round, so ratios
survive a noisy machine; figures are medians with the range over rounds. Where the files of a set are
missing, random images of its shape take their place, which cost the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from _options import parsed
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from bench.cli.arguments import positive
from bench.data import validation
from bench.data.base import DATASETS, Split, Splits
from bench.experiment.problem import Problem, make_problem, problem_of
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from methods.base import Task
from methods.core.errors import UserError
from methods.core.streams import Streams

SHAPES = {"cifar10": (3, 32, 32), "fashion_mnist": (1, 28, 28)}
EXAMPLES = 45_000
#: With ``--smoke``.
FEW = 200


def made(name: str, batch: int, examples: int | None) -> Problem:
    """The problem of ``name``, random images where its files are missing; of ``examples``, or of all."""
    chosen = {"dataset": name, "network": "mlp", "method": "dense_vi", "batch_size": batch}
    spec = parse_spec(nest(chosen))
    started = time.perf_counter()
    try:
        problem = make_problem(spec)
    except UserError as error:
        print(f"{name}: random images ({error})")
        count = examples or EXAMPLES
        images = torch.randint(0, 256, (count, *SHAPES[name]), dtype=torch.uint8)
        part = Split(images, torch.randint(0, 10, (count,)))
        dataset = DATASETS.get(name)()
        mean, std = dataset.statistics(part) or (torch.zeros(()), torch.ones(()))
        splits = Splits(part, part, part, 10, mean, std)
        return problem_of(spec, splits, Task(SHAPES[name], 10, count))
    seconds = time.perf_counter() - started
    print(f"{name}: read, verified, split and checked in {seconds:.1f} s, once a process")
    checked, warned = checks(problem)
    print(f"  checks: {checked / seconds:.2%} of it; rows that parts share: {warned:.1f} s, once a launch")
    train = Split(problem.splits.train.inputs[:examples], problem.splits.train.labels[:examples])
    return replace(problem, splits=replace(problem.splits, train=train))


def checks(problem: Problem) -> tuple[float, float]:
    """Seconds that the checks of the data take, and those that looking for shared rows takes."""
    name, splits, started = problem.spec.dataset[0], problem.splits, time.perf_counter()
    validation.checked(name, splits)
    validation.standardising(name, splits)
    validation.require_prepared(name, problem.dataset, splits)
    checked = time.perf_counter()
    validation.warnings(name, splits)
    return checked - started, time.perf_counter() - checked


class Transformed(torch.utils.data.Dataset):
    """The training part of ``problem`` as torchvision's data sets give it: a PIL image, then transforms."""

    def __init__(self, problem: Problem) -> None:
        train, scale = problem.splits.train, 255.0
        self.images, self.labels = train.inputs.permute(0, 2, 3, 1).squeeze(3).numpy(), train.labels.tolist()
        dataset: Any = problem.dataset
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(train.inputs.shape[-1], padding=dataset.padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(
                    (problem.splits.mean.flatten() / scale).tolist(),
                    (problem.splits.std.flatten() / scale).tolist(),
                ),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), self.labels[row]


def rate(threads: int, batches: Callable[[], Iterable[Any]]) -> float:
    """Images a second of one epoch of ``batches``."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    count = sum(len(labels) for _, labels in batches())
    return count / (time.perf_counter() - started)


def compare(name: str, rounds: int, batch: int, workers: int, examples: int | None) -> None:
    """Print the rates on one data set, and their ratios."""
    problem, streams = made(name, batch, examples), Streams(0)
    loader = DataLoader(
        Transformed(problem), batch, shuffle=True, num_workers=workers, persistent_workers=True
    )
    cores = len(os.sched_getaffinity(0))
    competitors: dict[str, tuple[int, Callable[[], Iterable[Any]]]] = {
        "ours, 1 thread": (1, lambda: problem.training_batches(streams)),
        f"ours, {cores} threads": (cores, lambda: problem.training_batches(streams)),
        f"DataLoader, {workers} workers": (1, lambda: loader),
    }
    found: dict[str, list[float]] = {label: [] for label in competitors}
    for round_number in range(rounds + 1):  # the first warms up
        for label, (threads, batches) in competitors.items():
            value = rate(threads, batches)
            if round_number:
                found[label].append(value)
    *ours, theirs = found
    for label, values in found.items():
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"  {label:<24}{statistics.median(values):10,.0f} images/s {spread}")
    for label in ours:
        ratios = [a / b for a, b in zip(found[label], found[theirs], strict=True)]
        print(
            f"  {label} / {theirs}: {statistics.median(ratios):.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f}; target 10 at least)"
        )


def main() -> None:
    """Compare on each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--datasets", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments = parsed(parser, rounds=1, batch=32, workers=1)
    for name in arguments.datasets:
        compare(name, arguments.rounds, arguments.batch, arguments.workers, FEW if arguments.smoke else None)


if __name__ == "__main__":
    main()
