"""What becomes of a run whose worker process died: tried again, or failed, with a name and a reason."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping
from typing import Any

from bench.results import claims, run_folder
from bench.results.files import StoreError
from bench.results.store import Store

#: How often a run is tried again after deaths of a kind; what is not here is not.
RETRIES = {"killed": 1, "node_failure": 1, "timeout": 1}
#: Ends that are nobody's failure: the run goes on, however often.
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

    kind: as ``error_kind`` of ``bench/columns.yaml``, or ``cancelled``. what: ``its worker process died``;
    words: the last ones. deaths: how often that happened, this time included; None: once more than the
    status says. job: of SLURM, whose end counts once. over: jobs of SLURM that have ended. A run that
    another process is at, or that is settled, is left alone.
    """
    run = store.run(run_id)
    claim = claims.acquire(run, over)
    if claim is None:
        return
    try:
        if run.is_settled():
            return
        after = judged(document(store, run_id), kind, what, words, deaths, job)
        run.write("status", {**after, "updated_at": run_folder.now()})
    finally:
        claim.release()


def judged(
    before: Mapping[str, Any], kind: str, what: str, words: str, deaths: int | None, job: str | None
) -> dict[str, Any]:
    """The status document of a run after its process was gone; arguments as of ``blame``."""
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
    """The status of a run after that many deaths, the last of which was of ``kind``."""
    return "preempted" if kind in HARMLESS or deaths <= RETRIES.get(kind, 0) else "failed"


def document(store: Store, run_id: str) -> dict[str, Any]:
    """What the status of a run says; nothing where it says nothing or can't be read."""
    with contextlib.suppress(StoreError):
        return store.run(run_id).read("status") or {}
    return {}
