"""Train, compare and report sparse Bayesian neural networks. From Python:

``bench.train``       train one method; a finished run is returned without training
``bench.plan``        plan the runs of a suite, and compute them
``bench.tables``      read results as data frames with defined columns
``bench.load``        load the trained model of a run
``bench.figures``     draw charts from these data frames
``bench.statistics``  compute means, intervals, paired differences and ranks

Importing this package loads none of these: each name is loaded on first use.

Words that code and documentation use in one meaning:

cell           a combination of a suite's axes and a seed: a run, or an alias of one
run            one training with its evaluation; its id hashes the whole resolved configuration
configuration  a run without its seed; ``config_id`` is the key by which seeds are collapsed
suite          a YAML file that asks a question: axes, settings and seeds, at three scales
recipe         settings that belong together, such as ``default`` and ``released``
reference      the configuration that another one is compared with
claim          a file by which one process says that it computes a run
sealed         of a finished run: the size and digest of each of its files are recorded
predictor      how a trained model predicts: ``mean`` or ``samples``, each also with ``+temperature``
budget         how long a method may train: in epochs, or in training FLOPs of dense VI
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import figures, statistics
    from bench.api.plan import SuitePlan, plan
    from bench.api.tables import tables
    from bench.api.train import Run, RunFailed, train
    from bench.training.trained_model import Model

__all__ = ["Run", "RunFailed", "SuitePlan", "figures", "load", "plan", "statistics", "tables", "train"]

#: Exported names and the modules that define them; ``_PACKAGES`` are exported as they are.
_HOMES = {
    "Run": "bench.api.train",
    "RunFailed": "bench.api.train",
    "SuitePlan": "bench.api.plan",
    "plan": "bench.api.plan",
    "tables": "bench.api.tables",
    "train": "bench.api.train",
}
_PACKAGES = ("figures", "statistics")

# A thread that waits by spinning keeps its core from the threads that it waits for: on shared cores, a step
# of two threads took ten times as long. The variable must be set before torch is loaded.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return import_module(f"bench.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(run_id: str, results: str | Path = "results", device: str = "cpu") -> Model:
    """Load the stored model of a finished run, without its data set and without executing stored code.

    Parameters
    ----------
    run_id
        12 hexadecimal digits, or the first of them if no other run has them: ``Run.id``, or the column
        ``run_id`` of tables.
    results
        The results folder.
    device
        A device of torch, such as ``cpu`` or ``cuda:0``; ``auto`` takes a GPU if there is one.

    Returns
    -------
    Model
        ``predict(inputs)`` returns class probabilities (N, C) averaged over posterior samples;
        ``mean(inputs)`` returns those of the mean network. Inputs are raw, as the data set stores them
        (images: uint8, shape (N, C, H, W)): arrays, tensors, or data frames of numbers. Printing the model
        says what it is.

    Raises
    ------
    StoreError
        If there is no such run, it is not done, or one of its files is damaged.
    UserError
        If its method or network is unknown here or has another version.

    Examples
    --------
    >>> import bench, torch
    >>> run = bench.train("ssvi", sparsity=0.9, epochs=2)
    >>> model = bench.load(run.id)
    >>> model.predict(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([3, 10])
    """
    from bench.training.trained_model import load_model  # imported here because it loads torch

    return load_model(run_id, results, device)
