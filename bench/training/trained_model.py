"""Load a stored model to predict with; ``bench.load`` returns it."""

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
from bench.experiment.problem import Problem
from bench.experiment.spec import RunSpec, parse_spec
from bench.results.files import StoreError
from bench.results.store import Store
from bench.training import packed_model
from methods.base import Predictor
from methods.core import global_generators, torch_flags
from methods.core.errors import UserError


class Model:
    """Predict with a trained network as its run did.

    Parameters
    ----------
    problem
        The settings, method and input statistics of the run.
    module
        The trained network. It takes standardised inputs, which ``mean`` and ``predict`` make from raw ones.
        The attribute ``module`` is this network in evaluation mode.
    """

    def __init__(self, problem: Problem, module: nn.Module) -> None:
        self._problem, self.module = problem, module.eval()

    @property
    def spec(self) -> RunSpec:
        """Return the settings of the run, with all defaults filled in."""
        return self._problem.spec

    def mean(self, inputs: ArrayLike | torch.Tensor) -> torch.Tensor:
        """Compute class probabilities of the mean network.

        Parameters
        ----------
        inputs
            Raw inputs (N, ...) with the type and shape of the stored data set: uint8 (N, C, H, W) for images.

        Returns
        -------
        Tensor
            Shape (N, C), float32.

        Raises
        ------
        UserError
            Inputs have another type or shape, or the method has no mean network.
        """
        mean = self._problem.method.mean(self.module)
        if mean is None:
            raise UserError(f"method {self._problem.method.name} has no mean network; use predict")
        return self._averaged([mean], inputs)

    def predict(self, inputs: ArrayLike | torch.Tensor, samples: int | None = None) -> torch.Tensor:
        """Compute class probabilities averaged over posterior samples.

        With the default number of samples, on test inputs and on the same kind of device, these are the
        probabilities in the run's ``predictions.npz``.

        Parameters
        ----------
        inputs
            Raw inputs, as for ``mean``.
        samples
            Number of posterior samples; by default those that scored the run.

        Returns
        -------
        Tensor
            Shape (N, C), float32.

        Raises
        ------
        UserError
            Inputs have another type or shape, or ``samples`` is not positive.
        """
        if samples is not None and samples < 1:
            raise UserError(f"samples: {samples!r} is not a positive whole number")
        stage = self._problem.method.stages(self._problem.budget)[-1]
        return self._averaged(fixed_draws(self._problem, self.module, stage, samples), inputs)

    def _averaged(self, predictors: Iterable[Predictor], inputs: ArrayLike | torch.Tensor) -> torch.Tensor:
        split = self._raw(inputs)
        problem = self._problem
        with torch_flags.arithmetic(self.spec.precision), global_generators.restored(problem.device):
            found = [log_probabilities(problem, self.module, predict, split) for predict in predictors]
        return torch.from_numpy(np.exp(metrics.log_mean_exp(np.stack(found))).astype(np.float32))

    def _raw(self, inputs: ArrayLike | torch.Tensor) -> Split:
        """Check raw inputs and move them to the device of the model."""
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
    """Load the model of a finished run; see ``bench.load``."""
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
    # compute in the same mode as the run did, if this machine can
    mode = (folder.read("provenance") or {}).get("mode", "dense")
    how = Execution(device=resolve_device(device), mode="dense" if mode == "dense" else "auto")
    with torch_flags.arithmetic(spec.precision), global_generators.restored(how.device):
        return Model(*packed_model.read(folder.path, spec, how))
