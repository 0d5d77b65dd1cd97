"""One run in this process: what it is, and the right to compute it. Done runs are not repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.experiment import preflight
from bench.experiment.execution import stopped_otherwise
from bench.experiment.settings import nest
from bench.experiment.spec import RunSpec, parse_spec
from bench.results import claims
from bench.results.store import Store
from methods.core.errors import UserError

#: What is trained unless settings say otherwise.
USUAL = {"dataset": "digits", "network": "mlp", "method": "ssvi", "seed": 0}


def specify(settings: Mapping[str, Any], mode: str, where: str) -> RunSpec:
    """The run of ``settings``, with those of ``USUAL`` that they leave out.

    settings: values by short or dotted keys. mode: as of ``Execution``. where: stands in error messages.
    Raises ``UserError`` for an unknown key or value, and where data, network, method and mode do not fit.
    """
    spec = parse_spec(nest({**USUAL, **settings}, where), where)
    preflight.check(spec)
    preflight.check_execution([spec], mode)
    return spec


def store_for(spec: RunSpec, results: str | Path) -> Store:
    """The results folder, made where it is missing; ``UserError`` where the data of ``spec`` are missing."""
    if (reason := preflight.missing_data([spec])) is not None:
        raise UserError(reason)
    return Store(results, create=True)


def claim(
    spec: RunSpec, store: Store, mode: str, force: bool, tell: Callable[[str], None]
) -> claims.Claim | None:
    """The right to compute ``spec`` in ``store``, to be held (``claims.held``) while it is; None: it is done.

    A folder that can't be trusted is moved to ``corrupted/`` first, and with ``force`` any that is there.
    tell: is given a line for what a person should know. Raises ``UserError`` while another process computes
    the run.
    """
    folder = store.run(spec.run_id)
    if (other := claims.holder(folder)) is not None:
        raise UserError(f"run {spec.run_id}: process {other.pid} on {other.host} is at it")
    if folder.path.exists() and (fault := store.check(spec.run_id)) is not None:
        tell(f"what there was of {spec.run_id} is in {store.set_aside(spec.run_id, fault)} now: {fault}")
    elif force and folder.path.exists():
        store.set_aside(spec.run_id, "run again by --force")
    if folder.is_done():
        return None
    found = claims.acquire(folder)
    if found is None:
        raise UserError(f"run {spec.run_id}: another process is at it")
    if stopped_otherwise(folder, mode):
        tell(f"{spec.run_id} was stopped under another --execution: what can't be continued starts anew")
    return found
