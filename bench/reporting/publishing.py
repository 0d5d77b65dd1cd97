"""Publish suites: copy their tables, without run folders, so that they can be given to others."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.reporting import merging
from bench.results import styles
from bench.results.files import StoreError, parse_json, read_bytes, to_json, write_bytes, write_json
from bench.results.store import Store
from bench.results.tables import parquet

#: The option of a command line that names an absolute results folder.
_ABSOLUTE = re.compile(r" --results[ =](?:'/[^']*'|/\S*)")
_PATCH = re.compile(r"\+([0-9a-f]{8})$")


def publish(store: Store, suites: Sequence[str], target: Path, merge: bool = False) -> list[Path]:
    """Copy the tables of ``suites`` to the folder ``target``; long ones are rounded (see ``rounding``).

    Every suite is written beside its place before any is put there, so that an error changes nothing.

    Parameters
    ----------
    store
        Results folder.
    suites
        Names of suites that were collected.
    target
        Folder to write; other published suites in it are kept.
    merge
        Keep what is published of the suites, and add the runs that are not.

    Returns
    -------
    list
        Paths of the files.

    Raises
    ------
    StoreError
        If ``target`` holds something other than published tables, a table of a suite is missing, or what is
        published contradicts what is to be merged.
    """
    published = Store.publishing(target)
    fresh: dict[str, Path] = {}
    written, patches = [], set()
    try:
        for suite in suites:
            runs = store.read_tables(suite)["runs"]  # reads, and so checks, every table
            if (target / suite).is_symlink():
                raise StoreError(f"{target / suite}: is a link")
            fresh[suite] = target / f".{suite}.{secrets.token_hex(4)}"
            fresh[suite].mkdir()
            if merge and suite in published.suites():
                _merge(published, store, suite, fresh[suite])
            else:
                _copy(store, suite, fresh[suite])
            shas = runs["git_sha"].dropna().astype(str).unique()
            patches |= {found[1] for sha in shas if (found := _PATCH.search(sha))}
        for suite, folder in fresh.items():
            shutil.rmtree(target / suite, ignore_errors=True)
            folder.rename(target / suite)
            written += sorted((target / suite).iterdir())
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        for folder in fresh.values():
            shutil.rmtree(folder, ignore_errors=True)
    return [*written, *(path for digest in sorted(patches) for path in _patch(store.root, target, digest))]


def _copy(store: Store, suite: str, folder: Path) -> None:
    there = {name for name, path in parquet.paths(store.root / suite).items() if path.exists()}
    tables = merging.read(store, suite)
    merging.write(folder, {name: table for name, table in tables.items() if name in there})
    for name in _names(store, suite):
        if (data := read_bytes(store.root / suite / name)) is not None:
            write_bytes(folder / name, _portable(data) if name.startswith("plan-") else data)


def _merge(published: Store, store: Store, suite: str, folder: Path) -> None:
    """Write into ``folder`` what is published of a suite together with what ``store`` has of it."""
    plans, tables = merging.merged(published, store, suite)
    merging.write(folder, tables)
    for plan in plans:
        write_bytes(folder / f"plan-{plan['scale']}.json", _portable(to_json(plan, "plan").encode() + b"\n"))
    for of in styles.FILES:
        known: dict[str, dict[str, Any]] = {}
        for each in (published, store):
            if os.path.lexists(each.root / suite / of.file):  # earlier versions did not write all
                known |= each.read_styles(suite, of)
        write_json(folder / of.file, known)


def missing(published: Store, suite: str) -> dict[str, list[str]]:
    """Return the planned runs of a published suite that are not done, a line each, by scale."""
    found: dict[str, list[str]] = {}
    runs = published.read_tables(suite, ["runs"])["runs"]
    left = runs[runs["status"] != "done"]
    for (scale, label, status), rows in left.groupby(["scale", "config_label", "status"], sort=False):
        seeds = ", ".join(map(str, sorted(rows["seed"].dropna().astype(int))))
        found.setdefault(str(scale), []).append(f"{label}, seed {seeds}: {status}")
    return found


def _names(store: Store, suite: str) -> list[str]:
    """Return the names of the files beside the tables; an earlier version may have written only some."""
    plans = [f"plan-{scale}.json" for scale in store.scales(suite)]
    return [*plans, *(known.file for known in styles.FILES)]


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
