"""Name the files in which a finished run holds its results on evaluation sets beside its test part.

A set has a key: ``ood.svhn`` for inputs of no class, ``shift.fog`` for a shift at all severities. Its rows of
the long tables are in ``<key>.json``, in the layout of ``metrics.json``; scores of single inputs of no class
are in ``<key>.npz``. A file counts once the status of the run names it with its digest. Files are only added,
one set after the other, so that a run stays valid whenever the process that evaluates it ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bench.results.files import StoreError
from bench.results.run_folder import CANCELLED, RunFolder

#: The kinds of sets, with which their keys begin: inputs of no class, and shifted test inputs.
OOD, SHIFT = "ood", "shift"
#: What a set may be called.
NAME = re.compile(r"[a-z0-9_]{1,60}")
#: Field of a status with the sets that could not be evaluated: the reason by key.
FAILED = "failed_sets"
_FILE = re.compile(rf"((?:{OOD}|{SHIFT})\.{NAME.pattern})\.(json|npz)")


def key_of(kind: str, name: str) -> str:
    """Return the key of the set ``name`` of ``kind``, one of ``OOD`` and ``SHIFT``."""
    return f"{kind}.{name}"


def parted(key: str) -> tuple[str, str]:
    """Return kind and name of the set that ``key`` stands for."""
    kind, _, name = key.partition(".")
    return kind, name


def document(key: str) -> str:
    """Return the name of the file with the rows of a set."""
    return f"{key}.json"


def scores(key: str) -> str:
    """Return the name of the file with the scores of each input of a set."""
    return f"{key}.npz"


def is_of_set(file: str) -> bool:
    """Tell whether a file of this name belongs to an evaluation set."""
    return _FILE.fullmatch(file) is not None


def key_of_file(file: str) -> str:
    """Return the key of the set that a file belongs to."""
    return file.rpartition(".")[0]


def documents(files: Iterable[str]) -> list[str]:
    """Return those of ``files`` that hold the rows of a set, sorted."""
    return sorted(name for name in files if is_of_set(name) and name.endswith(".json"))


def evaluated(status: Mapping[str, Any]) -> list[str]:
    """Return the keys of the sets on which a run was evaluated, from its document ``status``, sorted."""
    files = status.get("files")
    return [name.removesuffix(".json") for name in documents(files if isinstance(files, dict) else ())]


def failed(status: Mapping[str, Any]) -> dict[str, str]:
    """Return why sets could not be evaluated, by key, from the document ``status`` of a run."""
    found = status.get(FAILED)
    return {str(key): str(why) for key, why in found.items()} if isinstance(found, dict) else {}


def finished(run: RunFolder) -> dict[str, Any] | None:
    """Return the document ``status`` of a run that is done; None for another one, or if it can't be read."""
    try:
        status = run.read("status") or {}
    except StoreError:
        return None
    return status if status.get("status") == "done" else None


def note_failure(run: RunFolder, key: str, reason: str) -> None:
    """Note in the status of a finished run that it could not be evaluated on a set, and why, in one line."""
    status = run.read("status") or {}
    if status.get("status") == "done":
        run.write("status", {**status, FAILED: {**failed(status), key: " ".join(reason.split())}})


def note_cancelled(run: RunFolder, wanted: Iterable[str]) -> None:
    """Note in the status of a finished run that its evaluation on the rest of ``wanted`` was cancelled."""
    for key in lacking(finished(run) or {}, wanted):
        note_failure(run, key, CANCELLED)


def retried(run: RunFolder, cancelled_only: bool = False) -> dict[str, Any]:
    """Forget which sets a finished run could not be evaluated on, and return its document ``status``.

    Parameters
    ----------
    run
        The run.
    cancelled_only
        Whether to forget only those whose evaluation was cancelled.
    """
    status = run.read("status") or {}
    before = failed(status)
    after = {key: why for key, why in before.items() if cancelled_only and why != CANCELLED}
    if after != before:
        status = {**status, FAILED: after}
        run.write("status", status)
    return status


def unevaluated(run: RunFolder, wanted: Iterable[str]) -> dict[str, str]:
    """Return why a finished run was not evaluated on some of the sets ``wanted``, by key."""
    if (status := finished(run)) is None:
        return {}
    known, reasons = evaluated(status), failed(status)
    return {key: reasons.get(key, "its process ended") for key in wanted if key not in known}


def lacking(status: Mapping[str, Any], wanted: Iterable[str]) -> list[str]:
    """Return the keys among ``wanted`` that are neither evaluated nor failed, in their order."""
    known = {*evaluated(status), *failed(status)}
    return [key for key in wanted if key not in known]
