"""A suite from Python: its cells as a data frame, and a call that computes them."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.execution import execution_of
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
from methods.core.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

EXECUTORS = ("local", "inline")


class SuitePlan:
    """What a suite asks for: nothing is computed before ``run`` is called."""

    def __init__(self, plan: Plan, command: str) -> None:
        self._plan, self._command = plan, command

    def __repr__(self) -> str:
        cells = self._plan.cells
        omitted = sum(cell.omitted is not None for cell in cells)
        return f"SuitePlan({self._plan.suite}, {self._plan.scale}: {len(cells) - omitted} runs to train)"

    @property
    def cells(self) -> pd.DataFrame:
        """A row a cell, in the order in which they are trained.

        ``run_id``, ``config_id``, ``label`` (what sets the configuration apart, in words); a column for each
        label (``method``, ``recipe``, ``dataset``, ``network``, ``sparsity``, ``criterion``, what the suite
        varies, ``seed``); ``omitted`` (why a cell is not trained itself) and ``alias_of`` (the run to look at
        then), null for cells that are; ``tuned``: whether its settings were chosen by a search.
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
        """Compute what is not done yet, as ``bench.grid`` does, and return the tables of these runs.

        A run that fails is a row of ``runs`` with its ``status`` and ``error``; it does not stop the others.
        An interrupt stops all; the same call goes on where they were.

        Parameters
        ----------
        results
            The results folder, made where it is missing.
        executor
            ``local``: worker processes of this machine; ``inline``: this process, one run after the other.
        workers
            Processes at once; by default as many as there are GPUs, or cores over ``threads``, and as fit
            into memory.
        device, threads, execution
            Of each run, as ``bench.train`` takes them.
        retry_failed
            Run again what failed.
        force
            Run everything again; what there is, is moved to ``corrupted/`` in the results folder.

        Returns
        -------
        dict of DataFrame
            As ``bench.tables``, the runs of this plan alone.

        Raises
        ------
        UserError
            Where data, a device or kernels are missing, or the machine measures time for another grid.
        """
        if executor not in EXECUTORS:
            raise unknown("executor", executor, EXECUTORS)
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
    """Plan a suite: resolve every run that it asks for.

    Parameters
    ----------
    suite
        Name of a suite (``python -m bench.list suites``), or path of its file (``./mine.yaml``).
    scale
        ``"demo"``, ``"small"`` or ``"paper"``.
    where
        Conditions that choose cells, such as ``"sparsity>=0.9,method=ssvi|static_vi"``; all must hold.
    seeds
        In place of the suite's: ``"0-4"``, a number or several.
    **settings
        In place of the suite's, by short or full keys. Such runs are other runs, with ids of their own.

    Returns
    -------
    SuitePlan
        ``cells``, a data frame; ``run()`` computes them.

    Raises
    ------
    UserError
        For an unknown suite, scale, column or setting, and where any cell could not be computed.

    Examples
    --------
    >>> import bench
    >>> plan = bench.plan("sparsity_sweep", where="method=ssvi|dense_vi, sparsity=0|0.9", seeds=[0, 1])
    >>> plan.cells.loc[plan.cells["omitted"].isna(), "method"].value_counts().to_dict()
    {'dense_vi': 2, 'ssvi': 2}
    """
    conditions = [where] if isinstance(where, str) else list(where)
    chosen = None if seeds is None else ",".join(map(str, [seeds] if isinstance(seeds, str | int) else seeds))
    found = suites.load(suite).expand(scale, overrides=settings, where=conditions, seeds=chosen)
    command = ["python", "-m", "bench.grid", "--suite", suite, "--scale", scale]
    command += [word for condition in conditions for word in ("--where", condition)]
    command += [] if chosen is None else ["--seeds", chosen]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={show(value)}")]
    return SuitePlan(found, shlex.join(command))


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Leave Ctrl-C as it was: a notebook lives on after an interrupt, where a command ends.

    Only the main thread may set handlers, and only there are they ever called.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
