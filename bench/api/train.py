"""Train one run from Python, or return it without training if it is done."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.execution import execution_of, plain
from bench.api.tables import described
from bench.experiment.beside import wanted
from bench.experiment.execution import on_this_machine
from bench.experiment.notation import show
from bench.experiment.spec import RunSpec
from bench.reporting.collecting import criterion_styles, method_styles
from bench.results import claims
from bench.results.beside import unevaluated
from bench.results.plans import Planned
from bench.results.store import Store
from bench.results.tables import build
from bench.results.tables.metrics_reader import VIEW
from bench.runner import single
from bench.runner.execute import execute

if TYPE_CHECKING:
    import pandas as pd

    from bench.training.trained_model import Model

#: Suite and scale in the tables of a run that belongs to no suite.
_SINGLE = "single"


class RunFailed(RuntimeError):
    """A run ended without results.

    Parameters
    ----------
    run_id
        Id of the run.
    status
        ``failed``, ``preempted`` or ``cancelled``.
    reason
        Why, in one line.
    """

    def __init__(self, run_id: str, status: str, reason: str) -> None:
        super().__init__(f"run {run_id} {status}: {reason}")
        self.run_id, self.status, self.reason = run_id, status, reason


class Run:
    """A finished run.

    Attributes
    ----------
    id : str
        Hash of the run's settings, 12 hexadecimal digits; ``bench.load`` and the commands take it.
    folder : Path
        Folder with all files of the run.
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
        """The tables of this run, in the form of ``bench.tables``.

        Tables of several runs can be joined: ``pandas.concat(run.tables["runs"] for run in runs)``.
        ``config_label`` is the method with the settings that ``bench.train`` was given.
        """
        frames = build.build([self._planned], self._store.run)
        return described(frames, method_styles(), criterion_styles(), {})

    @property
    def metrics(self) -> dict[str, float]:
        """Scores on the test split after the last stage, with predictions averaged over posterior samples.

        The keys are ``accuracy``, ``nll``, ``brier``, ``ece``, ``ece_null`` and ``ece_marginal_l2``, as in
        the table ``runs``; a missing value is NaN. ``tables["metrics"]`` has the scores of every stage,
        predictor and split.
        """
        row = self.tables["runs"].iloc[0]
        return {name: float(row[name]) for name in VIEW}

    @property
    def history(self) -> pd.DataFrame:
        """Training curves: one row per epoch, split (training or validation) and metric."""
        return self.tables["history"]

    @cached_property
    def costs(self) -> dict[str, Any]:
        """Costs: counted FLOPs and parameters, measured seconds, bytes and memory (see docs/costs.md)."""
        return dict(self._store.run(self.id).read("costs") or {})

    @cached_property
    def model(self) -> Model:
        """The trained model on the CPU, as ``bench.load`` returns it."""
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
    """Train a method in this process, score it, and store model and scores, as ``bench.run`` does.

    The same call gives the same run: a finished run is not repeated, and a stopped run goes on from its
    checkpoint.

    Parameters
    ----------
    method, dataset, network
        Names, as ``python -m bench.list`` shows them.
    seed
        Seed of all random streams of the run.
    results
        The results folder; made if it is missing.
    device
        ``cpu``, ``cuda``, ``cuda:N``, or ``auto``, which takes a GPU if there is one.
    threads
        Threads of torch during training, at least 1.
    execution
        How sparse layers are computed: ``sparse`` (by sparse kernels), ``dense``, or ``auto`` (the faster).
    force
        Compute a finished run again; its old results are moved to ``corrupted/`` in the results folder.
    **settings
        Settings as for ``--set``, of the method, network, data set, training and evaluation: by short keys
        (``sparsity=0.95``), by section (``training={"lr": 0.1}``), or by full keys
        (``**{"training.lr": 0.1}``).

    Returns
    -------
    Run
        The finished run, with its ``id``, ``metrics``, ``model``, ``history``, ``costs``, ``tables`` and
        ``folder``.

    Raises
    ------
    UserError
        If a name, setting or value is not valid, data are missing, or another process computes the run.
    RunFailed
        If training fails (such as by a loss that is not finite, or lack of memory) or is cancelled.

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
    chosen = plain(chosen)
    spec = single.specify(chosen, how.mode, "bench.train")
    store = single.store_for(spec, results)
    claim = single.claim(spec, store, how.mode, force, lambda line: print(line, file=sys.stderr))
    if claim is not None:
        with claims.held(claim):
            outcome = execute(spec, store, how)
        if outcome != "done":
            told = store.run(spec.run_id).read("status") or {}
            raise RunFailed(spec.run_id, outcome, str(told.get("error")))
    for key, reason in unevaluated(store.run(spec.run_id), wanted(spec)).items():
        print(f"run {spec.run_id}: not evaluated on {key}: {reason}", file=sys.stderr)
    label = " ".join([method, *(f"{key}={show(value)}" for key, value in settings.items())])
    return Run(spec, store, label)
