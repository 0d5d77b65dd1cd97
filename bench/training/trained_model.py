"""A stored model to predict with: what ``bench.load`` returns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from bench.data.base import Split
from bench.evaluation import metrics
from bench.evaluation.evaluate import fixed_draws, log_probabilities
from bench.experiment.execution import Execution, resolve_device
from bench.experiment.problem import Problem, set_arithmetic
from bench.experiment.spec import RunSpec, parse_spec
from bench.results.files import StoreError
from bench.results.store import Store
from bench.training import packed_model
from methods.base import Predictor
from methods.core.errors import UserError


class Model:
    """A trained network and how the run predicts with it.

    spec: the run, resolved to the last option. module: the network, in evaluation mode; it
    takes standardised inputs, which ``mean`` and ``predict`` make from raw ones.
    """

    def __init__(self, problem: Problem, module: nn.Module) -> None:
        self._problem, self.module = problem, module.eval()

    @property
    def spec(self) -> RunSpec:
        """The configuration of the run."""
        return self._problem.spec

    def mean(self, inputs: ArrayLike | torch.Tensor) -> torch.Tensor:
        """Class probabilities (N, C) of the mean network, float32.

        inputs: (N, ...), raw, in the type and shape in which the data set is stored (uint8 images
        N, C, H, W). Raises ``UserError`` for others, and where the method has no mean network.
        """
        mean = self._problem.method.mean(self.module)
        if mean is None:
            raise UserError(f"method {self._problem.method.name} has no mean network; use predict")
        return self._averaged([mean], inputs)

    def predict(self, inputs: ArrayLike | torch.Tensor, samples: int | None = None) -> torch.Tensor:
        """Class probabilities (N, C) averaged over posterior samples, float32; inputs as for ``mean``.

        By default over the S samples that scored the run: for its test images, on a device of the kind
        that it ran on, these are the probabilities in its ``predictions.npz``. ``samples`` takes another
        number of them.
        """
        if samples is not None and samples < 1:
            raise UserError(f"samples: {samples!r} is not a positive whole number")
        stage = self._problem.method.stages(self._problem.budget)[-1]
        return self._averaged(fixed_draws(self._problem, self.module, stage, samples), inputs)

    def _averaged(self, predictors: Iterable[Predictor], inputs: ArrayLike | torch.Tensor) -> torch.Tensor:
        split = self._raw(inputs)
        found = [log_probabilities(self._problem, self.module, predict, split) for predict in predictors]
        return torch.from_numpy(np.exp(metrics.log_mean_exp(np.stack(found))).astype(np.float32))

    def _raw(self, inputs: ArrayLike | torch.Tensor) -> Split:
        like = self._problem.splits.train.inputs
        expected = f"{_name(like)} ({', '.join(['N', *map(str, like.shape[1:])])})"
        try:
            given = torch.as_tensor(inputs)
        except (RuntimeError, TypeError, ValueError):
            raise UserError(f"inputs: expected {expected}, got {type(inputs).__name__}") from None
        if (
            given.dtype != like.dtype
            or given.dim() == 0
            or not len(given)
            or given.shape[1:] != like.shape[1:]
        ):
            raise UserError(f"inputs: expected {expected}, got {_name(given)} {tuple(given.shape)}")
        return Split(given.to(like.device), torch.zeros(len(given), dtype=torch.long, device=like.device))


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_model(run_id: str, results: str | Path, device: str) -> Model:
    """See ``bench.load``."""
    folder = Store(results).run(run_id)
    if (status := folder.status()) != "done":
        known = "there is no such run" if status == "pending" else f"it is {status}, not done"
        raise StoreError(f"run {run_id} in {results}: {known}")
    document = folder.read("spec") or {}
    config = document.get("config")
    if not isinstance(config, dict):
        raise StoreError(f"{folder.path}/spec.json: no configuration")
    spec = parse_spec(config, f"run {run_id}")
    if spec.run_id != run_id:
        raise StoreError(f"{folder.path}/spec.json: it describes run {spec.run_id}")
    set_arithmetic(spec)
    # as the run was computed, where that can be
    mode = (folder.read("provenance") or {}).get("mode", "dense")
    how = Execution(device=resolve_device(device), mode="dense" if mode == "dense" else "auto")
    return Model(*packed_model.read(folder.path, spec, how))
