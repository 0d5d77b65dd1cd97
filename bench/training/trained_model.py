"""Load a stored model to predict with; ``bench.load`` returns it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from bench.results.files import StoreError, write_bytes
from bench.results.store import Store
from bench.results.tables.metrics_reader import shown_scores
from bench.training import exported_model, packed_model
from methods.base import Predictor
from methods.core import global_generators, torch_flags
from methods.core.errors import UserError, unknown
from methods.layers import execution
from methods.layers.layer import sparse_layers

if TYPE_CHECKING:
    import pandas as pd


class Model:
    """Predict with a trained network as its run did.

    Parameters
    ----------
    problem
        The settings, method and input statistics of the run.
    module
        The trained network. It takes standardised inputs, which ``mean`` and ``predict`` make from raw ones.
        The attribute ``module`` is this network in evaluation mode.
    metrics
        Its scores on the test part, by name.
    """

    def __init__(self, problem: Problem, module: nn.Module, metrics: Mapping[str, float] = {}) -> None:
        self._problem, self.module, self._metrics = problem, module.eval(), metrics

    def __repr__(self) -> str:
        spec, counts = self.spec, self._problem.method.counts(self.module)
        names = f"{spec.method[0]} on {spec.dataset[0]} with network {spec.network[0]}"
        share = f", sparsity {1 - counts.density:.4g}" if counts.kernel else ""
        weights = f"{counts.active:,} of {counts.kernel:,} kernel weights active{share}"
        lines = [f"Model {names}: run {spec.run_id}, seed {spec.seed}", weights]
        if self._metrics:
            scores = ", ".join(f"{name} {value:.4g}" for name, value in self._metrics.items())
            lines.append(f"test part, averaged over samples: {scores}")
        return "\n  ".join(lines)

    @property
    def spec(self) -> RunSpec:
        """Return the settings of the run, with all defaults filled in."""
        return self._problem.spec

    def active(self) -> dict[str, torch.Tensor]:
        """Return which weights of each sparse layer are active, boolean, of the weight's shape, by layer.

        ``bench.statistics.subspace_overlap`` compares two models by it.
        """
        return {
            name: posterior.scatter(torch.ones_like(posterior.index)).bool()
            for name, _, posterior in sparse_layers(self.module)
        }

    def mean(self, inputs: ArrayLike | torch.Tensor | pd.DataFrame) -> torch.Tensor:
        """Compute class probabilities of the mean network.

        Parameters
        ----------
        inputs
            Raw inputs (N, ...) with the shape of the stored data set: uint8 (N, C, H, W) for images. Numbers
            of another type are converted if the stored type has them: float64 to float32, or whole numbers.
            A data frame has one row for each input and the columns in the order of the data set.

        Returns
        -------
        Tensor
            Shape (N, C), float32.

        Raises
        ------
        UserError
            Inputs have another type or shape, or the method has no mean network.
        """
        return self._averaged([self._mean(self.module)], inputs)

    def predict(
        self, inputs: ArrayLike | torch.Tensor | pd.DataFrame, samples: int | None = None
    ) -> torch.Tensor:
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
        return self._averaged(self._draws(self.module, samples), inputs)

    def program(self, samples: int | None = None, mean: bool = False) -> torch.export.ExportedProgram:
        """Return the model as a program of ``torch.export``: raw inputs (N, ...) to probabilities (N, C).

        It gives what ``predict`` or ``mean`` gives, and takes inputs of the stored type, of any number N.
        Layers are computed densely; each posterior sample adds its weights to the program.

        Parameters
        ----------
        samples
            Number of posterior samples that the program averages; by default those that scored the run.
        mean
            Whether to write the mean network instead.

        Raises
        ------
        UserError
            ``samples`` is not valid, the method has no mean network, or the network can't be written as one
            graph.
        """
        problem, module = self._problem, copy.deepcopy(self.module)
        execution.choose(module, "dense", problem.task.input_shape, problem.spec.training.batch_size)
        with torch_flags.arithmetic(self.spec.precision), global_generators.restored(problem.device):
            predictors = [self._mean(module)] if mean else list(self._draws(module, samples))
            graph = exported_model.Graph(problem, module, predictors)
            return exported_model.program_of(graph, problem.splits.train.inputs)

    def export(self, path: str | Path, samples: int | None = None, mean: bool = False) -> None:
        """Write the model to a file that needs nothing of this package.

        Parameters
        ----------
        path
            ``.onnx``: an ONNX model with the input ``inputs`` and the output ``probabilities``; needs the
            extra ``onnx``. ``.pt2``: what ``torch.export.load`` reads.
        samples, mean
            As in ``program``.

        Raises
        ------
        UserError
            The path ends otherwise, a package is missing, or ``program`` raises it.
        WriteError
            The file can't be written.
        """
        path = Path(path)
        if path.suffix not in (formats := {".onnx": exported_model.to_onnx, ".pt2": exported_model.to_pt2}):
            raise unknown("format", path.suffix, formats, "export")
        write_bytes(path, formats[path.suffix](self.program(samples, mean)))

    def _mean(self, module: nn.Module) -> Predictor:
        mean = self._problem.method.mean(module)
        if mean is None:
            raise UserError(f"method {self._problem.method.name} has no mean network; use predict")
        return mean

    def _draws(self, module: nn.Module, samples: int | None) -> Iterable[Predictor]:
        if samples is not None and samples < 1:
            raise UserError(f"samples: {samples!r} is not a positive whole number")
        stage = self._problem.method.stages(self._problem.budget)[-1]
        return fixed_draws(self._problem, module, stage, samples)

    def _averaged(
        self, predictors: Iterable[Predictor], inputs: ArrayLike | torch.Tensor | pd.DataFrame
    ) -> torch.Tensor:
        split = self._raw(inputs)
        problem = self._problem
        with torch_flags.arithmetic(self.spec.precision), global_generators.restored(problem.device):
            found = [log_probabilities(problem, self.module, predict, split) for predict in predictors]
        return torch.from_numpy(np.exp(metrics.log_mean_exp(np.stack(found))).astype(np.float32))

    def _raw(self, inputs: ArrayLike | torch.Tensor | pd.DataFrame) -> Split:
        """Check raw inputs and move them to the device of the model."""
        like = self._problem.splits.train.inputs
        expected = f"inputs: expected {_name(like)} ({', '.join(['N', *map(str, like.shape[1:])])})"
        if hasattr(inputs, "columns"):
            inputs = _array(inputs, like, expected)
        try:
            given = torch.as_tensor(inputs)
        except (RuntimeError, TypeError, ValueError):
            kind = getattr(inputs, "dtype", None)
            raise UserError(f"{expected}, got {kind or type(inputs).__name__}") from None
        numbers = _converted(given, like.dtype)
        if given.dim() == 0 or not len(given) or given.shape[1:] != like.shape[1:] or numbers is None:
            whole = not (given.is_floating_point() or given.is_complex())
            why = f", with numbers that {_name(like)} does not have" if numbers is None and whole else ""
            raise UserError(f"{expected}, got {_name(given)} {tuple(given.shape)}{why}")
        return Split(numbers.to(like.device), torch.zeros(len(given), dtype=torch.long, device=like.device))


def _array(frame: Any, like: torch.Tensor, expected: str) -> np.ndarray:
    """Return the numbers of a data frame; raise ``UserError`` if a column has none or there are others."""
    if like.dim() != 2:
        raise UserError(f"{expected}, got a data frame, which has two dimensions")
    if len(frame.columns) != like.shape[1]:
        raise UserError(f"{expected}, got a data frame with {len(frame.columns)} columns")
    for place, name in enumerate(frame.columns):
        if getattr(kind := frame.dtypes.iloc[place], "kind", "O") not in "fiub":
            raise UserError(f"{expected}, but column {name!r} of the data frame has type {kind}")
    return np.array(frame.to_numpy(dtype=np.float64, na_value=np.nan))  # a copy that may be written to


def _converted(given: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """Convert numbers to ``dtype``; None if it does not have them. Floating point may be rounded.

    Whole numbers in floating point are not taken for integers: pixels may have been divided by 255.
    """
    if given.dtype == dtype:
        return given
    if given.is_complex() or (given.is_floating_point() and not dtype.is_floating_point):
        return None
    converted = given.to(dtype)
    if dtype.is_floating_point:
        return converted if torch.equal(converted.isfinite(), given.isfinite()) else None
    return converted if torch.equal(converted.to(given.dtype), given) else None


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_model(run_id: str, results: str | Path, device: str) -> Model:
    """Load the model of a finished run; see ``bench.load``."""
    store = Store(results)
    folder = store.run(run_id := store.full_id(run_id))
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
        return Model(*packed_model.read(folder.path, spec, how), shown_scores(folder.read("metrics")))
