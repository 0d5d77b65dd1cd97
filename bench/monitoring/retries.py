"""Decide whether a run whose worker process died is tried again or has failed, and note the reason."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping
from typing import Any

from bench.results import claims, run_folder
from bench.results.files import StoreError
from bench.results.store import Store

#: How often a run is tried again after its process died, by kind of death; after other kinds it is not.
RETRIES = {"killed": 1, "node_failure": 1, "timeout": 1}
#: Kinds after which a run always goes on, however often they happen.
HARMLESS = ("preempted",)


def blame(
    store: Store,
    run_id: str,
    kind: str,
    what: str,
    words: str,
    deaths: int | None = None,
    job: str | None = None,
    over: Container[str] = (),
) -> None:
    """Note in a run's status that its process is gone.

    A run that is settled, or that another process works on, is left alone.

    Parameters
    ----------
    store
        The results folder.
    run_id
        Id of the run.
    kind
        A value of ``error_kind`` in ``bench/columns.yaml``, or ``cancelled``.
    what
        What happened, for readers: ``its worker process died``.
    words
        The last line that the process printed.
    deaths
        How often the run's process died, this time included; None means once more than the status says.
    job
        SLURM job of the process; its end is counted only once.
    over
        SLURM jobs that have ended; their claims are void.
    """
    run = store.run(run_id)
    claim = claims.acquire(run, over)
    if claim is None:
        return
    try:
        if run.is_settled():
            return
        after = judged(document(store, run_id), kind, what, words, deaths, job)
        run.write("status", {**after, "updated_at": run_folder.timestamp()})
    finally:
        claim.release()


def judged(
    before: Mapping[str, Any], kind: str, what: str, words: str, deaths: int | None, job: str | None
) -> dict[str, Any]:
    """Return the status document of a run after the death of its process.

    ``before`` is the document so far; the other arguments are those of ``blame``.
    """
    if kind == "cancelled":
        return {**before, "status": "cancelled", "error": what, "error_kind": None}
    counted = before.get("deaths")
    earlier = counted if type(counted) is int and counted > 0 else 0
    counts = kind not in HARMLESS and (job is None or before.get("died_in") != job)
    deaths = deaths or earlier + counts
    again = f", after {deaths - 1} earlier death{'s' * (deaths > 2)}" if deaths > 1 else ""
    said = {"error": f"{what}{again}; the last words: {words}", "error_kind": kind}
    return {**before, "status": status_after(kind, deaths), **said, "deaths": deaths, "died_in": job}


def status_after(kind: str, deaths: int) -> str:
    """Return ``preempted`` (the run goes on) or ``failed`` after ``deaths`` deaths, the last of ``kind``."""
    return "preempted" if kind in HARMLESS or deaths <= RETRIES.get(kind, 0) else "failed"


def document(store: Store, run_id: str) -> dict[str, Any]:
    """Return the status document of a run; an empty dict if it is missing or cannot be read."""
    with contextlib.suppress(StoreError):
        return store.run(run_id).read("status") or {}
    return {}
