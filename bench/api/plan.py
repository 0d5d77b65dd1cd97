"""Plan a suite from Python: its cells as a data frame, and a call that computes them."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.execution import execution_of, plain
from bench.api.tables import only, tables
from bench.cli import arguments as cli
from bench.experiment.notation import show
from bench.launching.asked import Asked
from bench.launching.compute import compute
from bench.launching.prepare import ready
from bench.planning import suite as suites
from bench.planning.plan import Plan
from bench.reporting.collecting import collect
from bench.results.store import Store
from bench.results.words import counted
from methods.core.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

EXECUTORS = ("local", "inline")


class SuitePlan:
    """The planned runs of a suite; nothing is computed before ``run`` is called."""

    def __init__(self, plan: Plan, command: str) -> None:
        self._plan, self._command = plan, command

    def __repr__(self) -> str:
        cells = self._plan.cells
        omitted = sum(cell.omitted is not None for cell in cells)
        runs = counted(len(cells) - omitted, "run")
        return f"SuitePlan({self._plan.suite}, {self._plan.scale}: {runs} to train)"

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell, in the order of training.

        Columns:

        - ``run_id``, ``config_id``, and ``label``: what tells the configuration from others, in words;
        - one column per label: ``method``, ``recipe``, ``dataset``, ``network``, ``sparsity``, ``criterion``,
          the settings that the suite varies, ``seed``;
        - ``omitted``: why the cell is not trained, and ``alias_of``: id of the run to look at instead; null
          for cells that are trained;
        - ``tuned``: whether a search chose its settings.
        """
        import pandas as pd

        rows = [
            {
                "run_id": cell.run_id,
                "config_id": cell.spec.config_id,
                "label": cell.label,
                **cell.labels,
                "omitted": cell.omitted,
                "alias_of": cell.alias_of,
                "tuned": cell.tuned,
            }
            for cell in self._plan.cells
        ]
        return pd.DataFrame(rows)

    def run(
        self,
        results: str | Path = "results",
        *,
        executor: str = "local",
        workers: int | None = None,
        device: str = "auto",
        threads: int = 1,
        execution: str = "auto",
        retry_failed: bool = False,
        force: bool = False,
    ) -> dict[str, pd.DataFrame]:
        """Compute the runs that are not done yet, as ``bench.grid`` does, and return the tables of this plan.

        A failed run does not stop the others; its row in ``runs`` has its ``status`` and ``error``. An
        interrupt stops all runs, and the same call continues them.

        Parameters
        ----------
        results
            The results folder; made if it is missing.
        executor
            ``local``: worker processes on this machine; ``inline``: this process, one run after the other.
        workers
            Number of worker processes. The default is one per GPU in use, else usable cores divided by
            ``threads``; fewer if memory is short.
        device, threads, execution
            As for ``bench.train``, for each run.
        retry_failed
            Compute failed runs again.
        force
            Compute all runs again; old results are moved to ``corrupted/`` in the results folder.

        Returns
        -------
        dict of DataFrame
            As ``bench.tables`` returns, with the runs of this plan only.

        Raises
        ------
        UserError
            If data, a device or kernels are missing, or a suite that measures time is on this machine at the
            same time as another grid.
        """
        if executor not in EXECUTORS:
            raise unknown("executor", executor, EXECUTORS)
        if executor == "inline" and workers not in (None, 1):
            raise UserError(f"workers: {workers!r}: inline computes one run at a time; valid: 1")
        plan = self._plan
        if plan.one_at_a_time and workers not in (None, 1):
            raise UserError(
                f"workers: suite {plan.suite} measures time, so its runs come one at a time; valid: 1"
            )
        if plan.one_at_a_time:
            workers = 1
        how = execution_of(device, threads, execution, executor)
        asked = ready(plan, Asked(how, workers, retry_failed, force))
        store = Store(results, create=True)
        with _keeping_signals():
            compute(plan, store, asked, self._command, cli.console())
        collect(store, plan.suite)
        frames = tables(plan.suite, results, plan.scale)
        return only(frames, [spec.run_id for spec in plan.specs])


def plan(
    suite: str,
    scale: str = "demo",
    *,
    where: str | Iterable[str] = (),
    seeds: str | int | Iterable[int] | None = None,
    **settings: Any,
) -> SuitePlan:
    """Plan a suite: resolve and check every run that it asks for.

    Parameters
    ----------
    suite
        Name of a suite (``python -m bench.list suites`` lists them), or path of its file (``./mine.yaml``).
    scale
        ``"demo"``, ``"small"``, ``"reduced"`` or ``"paper"``, as the suite has it.
    where
        Conditions that select cells, such as ``"sparsity>=0.9,method=ssvi|static_vi"``; all must hold.
    seeds
        Seeds that replace those of the suite: ``"0-4"``, one number, or several.
    **settings
        Settings that replace those of the suite, by short or full keys; the runs then have other ids.

    Returns
    -------
    SuitePlan
        ``cells`` is a data frame; ``run()`` computes the cells.

    Raises
    ------
    UserError
        If the suite, scale, a column or a setting is unknown, or a cell cannot be computed.

    Examples
    --------
    >>> import bench
    >>> plan = bench.plan("sparsity_sweep", where="method=ssvi|dense_vi, sparsity=0|0.9", seeds=[0, 1])
    >>> plan.cells.loc[plan.cells["omitted"].isna(), "method"].value_counts().to_dict()
    {'dense_vi': 2, 'ssvi': 2}
    """
    conditions = [where] if isinstance(where, str) else list(where)
    chosen, settings = _seeds(seeds), plain(settings)
    found = suites.load(suite).expand(scale, overrides=settings, where=conditions, seeds=chosen)
    command = ["python", "-m", "bench.grid", "--suite", suite, "--scale", scale]
    command += [word for condition in conditions for word in ("--where", condition)]
    command += [] if chosen is None else ["--seeds", chosen]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={show(value)}")]
    return SuitePlan(found, shlex.join(command))


def _seeds(seeds: str | int | Iterable[int] | None) -> str | None:
    """Return seeds as the command takes them; None for the suite's own."""
    if seeds is None or isinstance(seeds, str):
        return seeds
    listed = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    if not listed:
        raise UserError("seeds: none are given; valid: such as 0, [0, 1] or '0-4'")
    return ",".join(map(str, listed))


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Restore the handler of Ctrl-C after the block, because a notebook lives on after an interrupt."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if main and before is not None:  # None: a handler that was not set from Python
            signal.signal(signal.SIGINT, before)
