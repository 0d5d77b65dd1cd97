"""Tables without runs, to give away: ``python -m bench.publish --suite baselines --to DIR``.

A published folder has the plans, tables and methods' looks of suites, and the patches that their runs'
commits name: a few MB where run folders are hundreds. The dashboard and ``bench.report`` read it as any
results folder. It has no run folders, so nothing is computed or collected there; publishing again replaces
the suites that are named.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench import cli
from bench.files import write_bytes
from bench.store import Store, StoreError

#: What a published folder takes along of a suite, besides its tables.
_DOCUMENTS = ("plan-*.json", "methods.json")
_PATCH = re.compile(r"\+([0-9a-f]{8})$")


def publish(store: Store, suites: Sequence[str], target: Path) -> list[Path]:
    """Copy what was collected of ``suites`` to ``target``; returns the files.

    Raises ``StoreError`` where ``target`` holds something else, or tables of a suite are missing.
    """
    Store.publishing(target)
    written = []
    for suite in suites:
        tables = store.read_tables(suite)  # which checks every one of them
        folder = target / suite
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        source = store.root / suite
        # a table that is empty because an earlier version wrote the others has no file
        files = [path for name in tables if (path := source / f"{name}.parquet").exists()]
        for path in [*files, *(p for d in _DOCUMENTS for p in source.glob(d))]:
            write_bytes(folder / path.name, path.read_bytes())
            written.append(folder / path.name)
        for sha in tables["runs"]["git_sha"].dropna().astype(str).unique():
            if found := _PATCH.search(sha):
                written += _patch(store.root, target, found[1])
    return written


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
    if source.is_symlink() or not source.is_file():
        return []
    (target / "patches").mkdir(exist_ok=True)
    copy = target / "patches" / source.name
    write_bytes(copy, source.read_bytes())
    return [copy]


if __name__ == "__main__":
    cli.entry(main)
