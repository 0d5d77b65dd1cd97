"""One run from Python: train it, or take it as it is where it is done already."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.api.execution import execution_of
from bench.api.tables import described
from bench.experiment.execution import on_this_machine
from bench.experiment.notation import show
from bench.experiment.spec import RunSpec
from bench.reporting.collecting import criterion_styles, method_styles
from bench.results import claims
from bench.results.plans import Planned
from bench.results.store import Store
from bench.results.tables import build
from bench.results.tables.metrics_reader import VIEW
from bench.runner import single
from bench.runner.execute import execute

if TYPE_CHECKING:
    import pandas as pd

    from bench.training.trained_model import Model

#: Suite and scale of runs that no suite has asked for.
_SINGLE = "single"


class RunFailed(RuntimeError):
    """A run that ended without results.

    ``run_id``; ``status``: ``failed``, ``preempted`` or ``cancelled``; ``reason``: why, in a line.
    """

    def __init__(self, run_id: str, status: str, reason: str) -> None:
        super().__init__(f"run {run_id} {status}: {reason}")
        self.run_id, self.status, self.reason = run_id, status, reason


class Run:
    """A finished run.

    Attributes
    ----------
    id : str
        Hash of what the run is, 12 hexadecimal digits; ``bench.load`` and every command take it.
    folder : Path
        All that is known of the run.
    """

    def __init__(self, spec: RunSpec, store: Store, label: str) -> None:
        self.id, self._store = spec.run_id, store
        self.folder: Path = store.run(spec.run_id).path
        self._planned = Planned(spec.run_id, _SINGLE, _SINGLE, spec.config_id, label, None, {})

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={value:.4g}" for name, value in self.metrics.items())
        return f"Run({self.id}: {scores})"

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of this run alone, as ``bench.tables`` has those of a suite.

        Those of several runs can be put together: ``pandas.concat(run.tables["runs"] for run in runs)``.
        Its ``config_label`` is the method with the settings that ``bench.train`` was given.
        """
        frames = build.build([self._planned], self._store.run)
        return described(frames, method_styles(), criterion_styles(), {})

    @property
    def metrics(self) -> dict[str, float]:
        """Scores on the test part, averaged over posterior samples, after the last stage.

        ``accuracy``, ``nll``, ``brier``, ``ece``, ``ece_null`` and ``ece_marginal_l2``, as in the table
        ``runs``; NaN where there is none. ``tables["metrics"]`` has those of every stage, predictor and
        split.
        """
        row = self.tables["runs"].iloc[0]
        return {name: float(row[name]) for name in VIEW}

    @property
    def history(self) -> pd.DataFrame:
        """Training curves: a row an epoch and metric, of training and validation data."""
        return self.tables["history"]

    @cached_property
    def costs(self) -> dict[str, Any]:
        """What it took: counted FLOPs and parameters, measured seconds, bytes and memory (docs/costs.md)."""
        return dict(self._store.run(self.id).read("costs") or {})

    @cached_property
    def model(self) -> Model:
        """The trained model, to predict with: what ``bench.load`` gives."""
        from bench.training.trained_model import load_model

        return load_model(self.id, self._store.root, "cpu")


def train(
    method: str = "ssvi",
    *,
    dataset: str = "digits",
    network: str = "mlp",
    seed: int = 0,
    results: str | Path = "results",
    device: str = "auto",
    threads: int = 1,
    execution: str = "auto",
    force: bool = False,
    **settings: Any,
) -> Run:
    """Train a method on a data set in this process, score it, and store both, as ``bench.run`` does.

    A run that is done is not repeated, and one that was stopped goes on from its checkpoint: the same call
    gives the same run.

    Parameters
    ----------
    method, dataset, network
        Names, as ``python -m bench.list`` has them.
    seed
        Of every random stream.
    results
        The results folder, made where it is missing.
    device
        ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: cuda where there is one.
    threads
        Threads that torch may take while it trains.
    execution
        Sparse layers by sparse kernels (``sparse``), densely (``dense``), or by what is faster (``auto``).
    force
        Run again what is done; what there was is moved to ``corrupted/`` in the results folder.
    **settings
        What ``--set`` takes: options of the method, network and data set, and of training and evaluation, by
        short keys (``sparsity=0.95``), by section (``training={"lr": 0.1}``) or by full keys
        (``**{"training.lr": 0.1}``).

    Returns
    -------
    Run
        Its ``id``, ``metrics``, ``model``, ``history``, ``costs``, ``tables`` and ``folder``.

    Raises
    ------
    UserError
        For an unknown name, setting or value, missing data, or while another process computes the run.
    RunFailed
        Where training fails (a loss that is not finite, no memory left) or is cancelled.

    Examples
    --------
    >>> import bench
    >>> run = bench.train("ssvi", sparsity=0.9, epochs=2)
    >>> run.metrics["accuracy"] > 0.5
    True
    >>> bench.train("ssvi", sparsity=0.9, epochs=2).id == run.id  # done: nothing is trained again
    True
    """
    how = on_this_machine(execution_of(device, threads, execution))
    chosen = {"method": method, "dataset": dataset, "network": network, "seed": seed, **settings}
    spec = single.specify(chosen, how.mode, "bench.train")
    store = single.store_for(spec, results)
    claim = single.claim(spec, store, how.mode, force, lambda line: print(line, file=sys.stderr))
    if claim is not None:
        before = torch.get_num_threads()
        try:
            with claims.held(claim):
                outcome = execute(spec, store, how)
        finally:
            torch.set_num_threads(before)
        if outcome != "done":
            told = store.run(spec.run_id).read("status") or {}
            raise RunFailed(spec.run_id, outcome, str(told.get("error")))
    label = " ".join([method, *(f"{key}={show(value)}" for key, value in settings.items())])
    return Run(spec, store, label)
