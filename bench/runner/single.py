"""Prepare one run for this process: its specification, its results folder, and the claim to compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.experiment import beside, preflight
from bench.experiment.execution import stopped_otherwise
from bench.experiment.settings import Training, flatten, nest, open_sections
from bench.experiment.spec import RunSpec, parse_spec
from bench.results import claims
from bench.results.beside import lacking, retried
from bench.results.store import Store
from methods.core.errors import UserError

#: Settings of a run that names no others.
USUAL = {"dataset": "digits", "network": "mlp", "method": "ssvi", "seed": 0}


def specify(settings: Mapping[str, Any], mode: str, where: str) -> RunSpec:
    """Return the specification of a run, checked.

    Parameters
    ----------
    settings
        Values by short or dotted keys; those of ``USUAL`` fill in what is missing.
    mode
        The ``mode`` of its ``Execution``.
    where
        Origin of the settings, for error messages.

    Raises
    ------
    UserError
        If a key or value is not valid, or data, network, method and mode do not fit together.
    """
    nested = nest({**USUAL, **settings}, where)
    spec = preflight.with_last_batch(parse_spec(nested, where), flatten(nested))
    preflight.check(spec)
    preflight.check_execution([spec], mode)
    return spec


def origins(spec: RunSpec, settings: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return from where each setting of ``spec`` is, by full key; all other settings have their defaults.

    ``specify`` returned ``spec`` for the other arguments.
    """
    usual = open_sections(USUAL).keys() - open_sections(settings, where).keys()
    given = flatten(nest({**USUAL, **settings}, where))
    chosen = spec.training.last_batch != Training().last_batch and "training.last_batch" not in given
    found = preflight.LAST_BATCH_ORIGIN if chosen else {}
    return {key: where for key in given if key not in usual} | found


def store_for(spec: RunSpec, results: str | Path) -> Store:
    """Return the results folder, made if it is missing; raise ``UserError`` if the data of ``spec`` are.

    What is suspicious in the data is said on stderr.
    """
    if (reason := preflight.missing_data([spec])) is not None:
        raise UserError(reason)
    preflight.tell_of_data([spec])
    return Store(results, create=True)


def claim(
    spec: RunSpec, store: Store, mode: str, force: bool, tell: Callable[[str], None]
) -> claims.Claim | None:
    """Claim the right to compute a run; a corrupted folder is moved to ``corrupted/`` first.

    Parameters
    ----------
    spec
        The run.
    store
        The results folder.
    mode
        The ``mode`` of its ``Execution``.
    force
        Whether to move any earlier folder of the run to ``corrupted/``, so that the run is computed again.
    tell
        Called with one line for each thing that the user should know.

    Returns
    -------
    Claim or None
        The claim, to be held by ``claims.held`` while the run is computed; None if the run is done, on all
        sets on which it is to be evaluated. Sets on which its evaluation failed are tried again.

    Raises
    ------
    UserError
        If another process computes the run, or an evaluation set is missing on this machine.
    """
    folder = store.run(spec.run_id)
    if (other := claims.holder(folder)) is not None:
        raise UserError(f"run {spec.run_id}: process {other.pid} on {other.host} computes it already")
    if folder.path.exists() and (fault := store.mended(spec.run_id)) is not None:
        tell(f"run {spec.run_id} was moved to {store.set_aside(spec.run_id, fault)}: {fault}")
    elif force and folder.path.exists():
        store.set_aside(spec.run_id, "run again by --force")
    sets = list(beside.wanted(spec))
    if folder.is_done() and not (sets := lacking(retried(folder), sets)):
        return None
    if (reason := beside.missing([(spec, sets)])) is not None:
        raise UserError(reason)
    found = claims.acquire(folder)
    if found is None:
        raise UserError(f"run {spec.run_id}: another process computes it already")
    if stopped_otherwise(folder, mode):
        tell(f"{spec.run_id} was stopped under another --execution: if it can't be continued, it starts anew")
    return found
