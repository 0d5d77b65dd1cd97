"""Evaluate a finished run, from its stored model, on the sets beside its test part that it lacks.

A run that has just been trained is evaluated in the same way. Each set is added as soon as it is finished:
its files are written first, then the status that names them. So the run is valid and complete without the
set, or with it, whenever this process ends.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.data.fingerprint import fingerprint
from bench.evaluation.beside import Beside
from bench.evaluation.evaluate import Diverged
from bench.experiment.beside import shifting, unknown_inputs, wanted
from bench.experiment.budget import planned_stages
from bench.experiment.execution import Execution
from bench.experiment.problem import load
from bench.experiment.spec import RunSpec
from bench.results import beside, integrity, run_folder
from bench.results.files import StoreError, WriteError, write_bytes, write_json
from bench.results.run_folder import RunFolder
from bench.runner.attempt import Gone, Over, OwnFolder, Watch
from bench.training import packed_model
from methods.core.errors import UserError


class Stopped(Exception):
    """The evaluation was asked to stop; sets that are finished were added."""


def evaluate(spec: RunSpec, folder: OwnFolder, execution: Execution, stop: Callable[[], object]) -> str:
    """Evaluate a finished run on the sets that it lacks.

    A set that can't be evaluated is noted in the status of the run with the reason, and the others go on.

    Parameters
    ----------
    spec
        The run and its sets.
    folder
        Its folder.
    execution
        How to compute.
    stop
        Returns the reason to stop, or something false; it is asked before each batch.

    Returns
    -------
    str
        ``done``, ``preempted`` if it was stopped, or ``cancelled`` if ``bench.cancel`` asked for that.

    Raises
    ------
    WriteError
        If the folder can't be written, or was deleted.
    """
    keys = beside.lacking(folder.read("status") or {}, wanted(spec))
    if not keys:
        return "done"
    watch = Watch(folder, stop)
    try:
        scorer = None
        for key in keys:
            try:
                scorer = scorer or _scorer(spec, folder, execution, partial(_look, watch))
                rows, arrays = _scored(spec, scorer, key)
            except (Gone, Over, Stopped, WriteError):
                raise
            except Exception as error:  # it concerns this set, or all of them, but not the trained run
                told = isinstance(error, Diverged | StoreError | UserError)
                reason = str(error) if told else f"{type(error).__name__}: {error}"
                more = "" if told else f"\n{traceback.format_exc()}"
                folder.require_there()
                folder.log(f"evaluation on {key} failed: {' '.join(reason.split())}{more}")
                beside.note_failure(folder, key, reason)
            else:
                _add(folder, key, {**rows, **_how(key, execution)}, arrays)
    except Stopped as stopped:
        if str(stopped) != run_folder.CANCELLED:
            return "preempted"
        beside.note_cancelled(folder, keys)
        return "cancelled"
    return "done"


def _look(watch: Watch) -> None:
    if reason := watch():
        raise Stopped(reason)


def _scorer(spec: RunSpec, folder: RunFolder, execution: Execution, look: Callable[[], None]) -> Beside:
    """Return the evaluation of the stored model, on the data that the run was trained on."""
    problem, module = packed_model.read(folder.path, spec, execution)
    data = load(spec, execution.device)
    told = (folder.read("costs") or {}).get("test_set")
    if told is not None and told != fingerprint(data.test):
        raise UserError(
            f"data set {spec.dataset[0]}: its test part is not the one that run {spec.run_id} was scored on"
        )
    # inputs are standardised as the stored model was trained
    splits = replace(data, mean=problem.splits.mean, std=problem.splits.std)
    stage = planned_stages(problem.method, problem.budget)[-1]
    return Beside(replace(problem, splits=splits), module, stage, look)


def _scored(spec: RunSpec, scorer: Beside, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    kind, name = beside.parted(key)
    if kind == beside.OOD:
        return scorer.unknown(name, unknown_inputs(spec, name))
    return scorer.shift(name, shifting(spec, name)), {}


def _how(key: str, execution: Execution) -> dict[str, Any]:
    """Return what the document of a set says of its origin."""
    how = {"device": execution.device, "threads": execution.threads, "mode": execution.mode}
    return {"set": key, "evaluated_at": run_folder.timestamp(), **how, "torch_version": torch.__version__}


def _add(folder: OwnFolder, key: str, document: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Add the results of a set to a run: its files, and then their digests to the status of the run."""
    folder.require_there()
    names = [beside.document(key)]
    if arrays:
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_bytes(folder.path / beside.scores(key), content.getvalue())
        names.append(beside.scores(key))
    write_json(folder.path / beside.document(key), document)
    added = {name: list(integrity.digest(folder, name)) for name in names}
    status = folder.read("status") or {}
    # runs of versions that sealed nothing are sealed now
    files = status.get("files") or {name: list(found) for name, found in integrity.digests(folder).items()}
    folder.require_there()
    if status.get("status") == "done":
        now = run_folder.timestamp()
        folder.write("status", {**status, "files": {**files, **added}, "updated_at": now})
