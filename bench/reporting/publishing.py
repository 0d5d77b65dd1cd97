"""Publish suites: copy their tables, without run folders, so that they can be given to others."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.results import styles
from bench.results.files import StoreError, parse_json, read_bytes, to_json, write_bytes
from bench.results.store import Store
from bench.results.tables.columns import TABLES

#: The option of a command line that names an absolute results folder.
_ABSOLUTE = re.compile(r" --results[ =](?:'/[^']*'|/\S*)")
_PATCH = re.compile(r"\+([0-9a-f]{8})$")


def publish(store: Store, suites: Sequence[str], target: Path) -> list[Path]:
    """Copy the tables of ``suites`` to the folder ``target``.

    Parameters
    ----------
    store
        Results folder.
    suites
        Names of suites that were collected.
    target
        Folder to write; other published suites in it are kept.

    Returns
    -------
    list
        Paths of the files.

    Raises
    ------
    StoreError
        If ``target`` holds something other than published tables, or a table of a suite is missing.
    """
    Store.publishing(target)
    written = []
    for suite in suites:
        runs = store.read_tables(suite)["runs"]  # reads, and so checks, every table
        folder = target / suite
        if folder.is_symlink():
            raise StoreError(f"{folder}: is a link")
        fresh = target / f".{suite}.{secrets.token_hex(4)}"
        try:
            fresh.mkdir()
            for name in _names(store, suite):
                if (data := read_bytes(store.root / suite / name)) is not None:
                    write_bytes(fresh / name, _portable(data) if name.startswith("plan-") else data)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        written += sorted(folder.iterdir())
        for sha in runs["git_sha"].dropna().astype(str).unique():
            if found := _PATCH.search(sha):
                written += _patch(store.root, target, found[1])
    return written


def _names(store: Store, suite: str) -> list[str]:
    """Return the names of the files to publish; an earlier version may have written only some of them."""
    plans = [f"plan-{scale}.json" for scale in store.scales(suite)]
    return [*(f"{name}.parquet" for name in TABLES), *plans, *(known.file for known in styles.FILES)]


def _portable(plan: bytes) -> bytes:
    """Return a plan whose commands do not name a results folder of the machine that computed it.

    A relative folder stays. Without an absolute one, a command computes into the default folder.
    """
    document = parse_json(plan, "plan")
    commands = [_ABSOLUTE.sub("", command) for command in document.get("commands", [])]
    changed = {**document, "command": _ABSOLUTE.sub("", document["command"])}
    changed |= {"commands": commands} if "commands" in document else {}
    return plan if changed == document else to_json(changed, "plan").encode() + b"\n"


def _patch(root: Path, target: Path, digest: str) -> list[Path]:
    """Copy the patch that a commit's name refers to; return no path if the results folder has lost it."""
    source = root / "patches" / f"{digest}.diff"
    if (data := read_bytes(source)) is None:
        return []
    (target / "patches").mkdir(exist_ok=True)
    copy = target / "patches" / source.name
    write_bytes(copy, data)
    return [copy]
