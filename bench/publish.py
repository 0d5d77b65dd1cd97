"""Tables without runs, to give away: ``python -m bench.publish --suite baselines --to DIR``.

A published folder has the plans, tables and methods' looks of suites, and the patches that their runs'
commits name: a few MB where run folders are hundreds. The dashboard and ``bench.report`` read it as any
results folder. It has no run folders, so nothing is computed or collected there; publishing again replaces
the suites that are named.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench import cli
from bench.columns import TABLES
from bench.files import read_bytes, write_bytes
from bench.store import Store, StoreError

_PATCH = re.compile(r"\+([0-9a-f]{8})$")


def publish(store: Store, suites: Sequence[str], target: Path) -> list[Path]:
    """Copy what was collected of ``suites`` to ``target``; returns the files.

    Raises ``StoreError`` where ``target`` holds something else, or tables of a suite are missing.
    """
    Store.publishing(target)
    written = []
    for suite in suites:
        runs = store.read_tables(suite)["runs"]  # which checks every one of them
        folder = target / suite
        if folder.is_symlink():
            raise StoreError(f"{folder}: is a link")
        fresh = target / f".{suite}.{secrets.token_hex(4)}"
        try:
            fresh.mkdir()
            for name in _names(store, suite):
                if (data := read_bytes(store.root / suite / name)) is not None:
                    write_bytes(fresh / name, data)
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
    """The files of a suite that are published; a table that an earlier version did not write is not there."""
    plans = [f"plan-{scale}.json" for scale in store.scales(suite)]
    return [*(f"{name}.parquet" for name in TABLES), *plans, "methods.json"]


def main(argv: list[str] | None = None) -> int:
    """Publish, and say how much it is."""
    parser = cli.parser("bench.publish", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was collected, or all of them: all")
    parser.add_argument("--to", required=True, metavar="DIR", help="the folder to publish to")
    cli.add_results(parser)
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    suites = store.suites() if arguments.suite == "all" else [arguments.suite]
    if not suites:
        raise StoreError(f"no suite was launched in {store.root}")
    if unknown := set(suites) - set(store.suites()):
        there = ", ".join(store.suites()) or "none"
        raise StoreError(f"{store.root}: no suite {unknown.pop()} was launched; there are: {there}")
    target = Path(arguments.to)
    if target.resolve() == store.root.resolve():
        raise StoreError(f"--to {target}: is the results folder itself")
    written = publish(store, suites, target)
    size = sum(path.stat().st_size for path in written) / 2**20
    print(f"{target}: {', '.join(suites)}: {len(written)} files, {size:.1f} MB")
    return 0


def _patch(root: Path, target: Path, digest: str) -> list[Path]:
    """The patch that a commit's name refers to; none where the folder has lost it."""
    source = root / "patches" / f"{digest}.diff"
    if (data := read_bytes(source)) is None:
        return []
    (target / "patches").mkdir(exist_ok=True)
    copy = target / "patches" / source.name
    write_bytes(copy, data)
    return [copy]


if __name__ == "__main__":
    cli.entry(main)
