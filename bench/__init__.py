"""How methods are compared. From Python:

``bench.train``       train one method, or take the run as it is where it is done
``bench.plan``        the cells of a suite, and a call that computes them
``bench.tables``      results as data frames whose columns are defined
``bench.load``        the model that a run has trained
``bench.figures``     charts of these data frames
``bench.statistics``  means, intervals, paired differences, ranks

Importing this package loads none of it: each name is loaded when it is first asked for.
"""

from __future__ import annotations

import os
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

#: The modules of what is exported; packages are modules themselves.
_HOMES = {
    "Run": "bench.api.train",
    "RunFailed": "bench.api.train",
    "SuitePlan": "bench.api.plan",
    "plan": "bench.api.plan",
    "tables": "bench.api.tables",
    "train": "bench.api.train",
}
_PACKAGES = ("figures", "statistics")

# Threads that wait for others by spinning take the cores that those need: where cores are shared, a step of
# two threads took ten times as long. It must be said before torch is loaded.
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
    """Load the model that a finished run has stored. Needs no data set; nothing in the folder is executed.

    Parameters
    ----------
    run_id
        12 hexadecimal digits: ``Run.id``, or the column ``run_id`` of tables.
    results
        The results folder.
    device
        As torch names it; ``auto``: cuda where there is one.

    Returns
    -------
    Model
        ``predict(inputs)``: class probabilities (N, C), averaged over posterior samples; ``mean(inputs)``: of
        the mean network. Inputs are raw, as the data set stores them (uint8 images N, C, H, W).

    Raises
    ------
    StoreError
        Where there is no such run, it is not done, or a file of it is damaged.
    UserError
        Where its method or network is unknown here, or at another version.

    Examples
    --------
    >>> import bench, torch
    >>> run = bench.train("ssvi", sparsity=0.9, epochs=2)
    >>> model = bench.load(run.id)
    >>> model.predict(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([3, 10])
    """
    from bench.training.trained_model import load_model  # here, so that importing this package needs no torch

    return load_model(run_id, results, device)
