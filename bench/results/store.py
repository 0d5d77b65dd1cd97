"""The results folder: run folders, the plans of suites, and the tables made from both.

    DIR/schema.json                marks a results folder and says which version wrote it
    DIR/runs/<run_id>/             one run, whichever suites ask for it
    DIR/corrupted/<name>-<n>/      run folders and plans that could not be trusted, with the reason
    DIR/<suite>/plan-<scale>.json  what a suite asks for
    DIR/<suite>/*.parquet          its tables
    DIR/<suite>/methods.json       how views show methods

Nothing here imports torch or a method, and nothing that is read is executed or unpickled.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results import method_styles
from bench.results import plans as planfile
from bench.results.files import StoreError, locked, parse_json, read_bytes, read_json, write_json
from bench.results.run_folder import RUN_ID, RunFolder
from bench.results.tables.columns import TABLES

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
_MARK = "schema.json"
#: What may lie in a folder that is to become a results folder.
_HARMLESS = ("runs", "corrupted", "patches", "reference", "README.md")


class Store:
    """A results folder.

    create: make it where it is missing, and check that it can be written. Raises
    ``StoreError`` when it is no folder, was written by a newer version, holds something
    else, or (without ``create``) does not exist.
    """

    #: Whether it holds tables alone, of runs that are elsewhere: see ``bench.publish``.
    published = False

    def __init__(self, root: str | Path, create: bool = False) -> None:
        self.root = Path(root)
        exists = os.path.lexists(self.root)
        if exists and not os.path.isdir(self.root):
            raise StoreError(f"results folder {self.root}: is not a folder")
        if not create and not exists:
            raise StoreError(f"results folder {self.root}: does not exist")
        if (self.root / "runs").is_symlink():
            # what lies elsewhere would be changed; the results folder itself may be a link
            raise StoreError(f"{self.root / 'runs'}: is a link")
        marked = self._check_schema(create)
        if create:
            self.require_runs()
            self._create(marked)

    @classmethod
    def publishing(cls, root: str | Path) -> Store:
        """A folder for tables without runs; made where it is missing.

        Raises ``StoreError`` where it holds runs, or something else, or can't be written.
        """
        root = Path(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            if (mark := root / _MARK).exists():
                store = cls(root)
                if not store.published:
                    raise StoreError(f"{root}: is a results folder with runs; publish to another one")
                return store
            if foreign := sorted(e.name for e in os.scandir(root) if e.name not in _HARMLESS[1:]):
                raise StoreError(f"{root}: not empty (it holds {foreign[0]!r})")
        except OSError as error:
            raise StoreError(f"cannot write {root}: {error.strerror or error}") from None
        write_json(mark, {"schema": SCHEMA, "published": True})
        return cls(root)

    # -- runs ----------------------------------------------------------------------------

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run, which need not exist."""
        if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
            raise StoreError(f"{run_id!r} is no run id (12 hexadecimal digits)")
        return RunFolder(self.root / "runs" / run_id)

    def run_ids(self) -> list[str]:
        """The runs that have a folder, in the order of their ids."""
        entries = _entries(self.root / "runs")
        return sorted(e.name for e in entries if RUN_ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False))

    def check(self, run_id: str) -> str | None:
        """Why the folder of a run can't be trusted, in one line; None when it can, or is not there."""
        return self.faults([run_id]).get(run_id)

    def faults(self, run_ids: Iterable[str]) -> dict[str, str]:
        """What ``check`` says of several runs, by their ids; nothing of those that can be trusted."""
        from bench.results.tables import batches

        return batches.faults([self.run(run_id) for run_id in run_ids])

    def set_aside(self, run_id: str, reason: str) -> Path:
        """Move the folder of a run to ``corrupted/``, beside a ``reason.json``, so that the run starts anew.

        Returns where it lies now.
        """
        return self._set_aside(self.run(run_id).path, run_id, {"run_id": run_id, "reason": reason})

    # -- plans and tables ----------------------------------------------------------------

    def merge_plan(self, plan: Mapping[str, Any]) -> None:
        """Store a plan, with the cells that earlier launches of its suite and scale have and it has not.

        One that is there and is none (a power cut emptied it) is moved to ``corrupted/``.
        """
        new = planfile.check_plan(dict(plan), "plan")
        folder = self._suite_folder(new["suite"])
        path = folder / f"plan-{new['scale']}.json"
        try:
            folder.mkdir(exist_ok=True)
            with locked(folder / ".lock"):
                write_json(path, planfile.merge(self._earlier(path), new))
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None

    def plans(self, suite: str | None = None) -> list[dict[str, Any]]:
        """The stored plans, of one suite or all, in the order of suite and scale."""
        suites = self.suites() if suite is None else [suite]
        found = []
        for name in suites:
            names = [entry.name for entry in _entries(self._suite_folder(name)) if _is_plan(entry.name)]
            found += [self._plan(self.root / name / file) for file in sorted(names)]
        return found

    def suites(self) -> list[str]:
        """The suites that have a plan here, by name."""
        folders = [entry for entry in _entries(self.root) if entry.is_dir(follow_symlinks=False)]
        named = [e for e in folders if planfile.NAME.fullmatch(e.name) and e.name not in planfile.RESERVED]
        return sorted(e.name for e in named if any(_is_plan(file.name) for file in _entries(Path(e.path))))

    def scales(self, suite: str) -> list[str]:
        """The scales at which a suite has a plan here, by name; a plan may be broken all the same."""
        names = [entry.name for entry in _entries(self._suite_folder(suite)) if _is_plan(entry.name)]
        return sorted(name.removeprefix("plan-").removesuffix(".json") for name in names)

    def plan(self, suite: str, scale: str) -> dict[str, Any]:
        """The stored plan of a suite at one scale; ``StoreError`` where there is none that can be read."""
        if scale not in self.scales(suite):
            raise StoreError(f"{self.root}: suite {suite} was not launched at scale {scale}")
        return self._plan(self.root / suite / f"plan-{scale}.json")

    def references(self, suite: str, scale: str) -> dict[str, str]:
        """What each configuration of a suite is compared with, by ``config_id``; those that have one."""
        return planfile.references(self.plan(suite, scale))

    def commands(self, suite: str, scale: str) -> list[str]:
        """The lines that asked for the runs of a suite, oldest first."""
        return planfile.commands(self.plan(suite, scale))

    def planned(self, suite: str) -> list[planfile.Planned]:
        """The runs that a suite asks for; ``StoreError`` where it was never launched."""
        plans = self.plans(suite)
        if not plans:
            there = ", ".join(self.suites()) or "none"
            raise StoreError(f"no plan of suite {suite!r} in {self.root}; there are: {there}")
        return planfile.planned(plans)

    def tables(self, suite: str) -> dict[str, pd.DataFrame]:
        """The tables of a suite, made anew from its plans and the run folders; live runs are in them.

        ``runs`` (a row a run and scale, planned runs without a folder included), ``metrics``,
        ``history``, ``layers``, ``criteria_pairs``, ``calibration``, ``selective``, ``stages``:
        ``bench/columns.yaml`` defines every column.
        """
        from bench.results.tables import build

        return build.build(self.planned(suite), self.run)

    def update_tables(self, suite: str, recompute: bool = False) -> dict[str, Path]:
        """Bring the files of a suite's tables, and ``runs.csv``, up to date; returns their paths by name.

        What runs contributed is taken over where their files are as they were; recompute: from nothing.
        """
        from bench.results.tables import parquet, update

        self.require_runs()
        where = self._suite_folder(suite)
        planned = self.planned(suite)
        if not any(self.run(run.run_id).path.is_dir() for run in planned) and self._has_results(suite):
            # a copy without its run folders, say
            raise StoreError(f"{where}: its tables have results, and none of its runs is here: they are kept")
        update.update(where, planned, self.run, recompute)
        return parquet.paths(where)

    def read_tables(self, suite: str, names: Sequence[str] = TABLES) -> dict[str, pd.DataFrame]:
        """The tables that ``update_tables`` wrote last; names: of them only these.

        ``selective`` is empty where a version that did not have it wrote the others.
        """
        from bench.results.tables import parquet

        return parquet.read(self._suite_folder(suite), names)

    def write_styles(self, suite: str, known: Mapping[str, Mapping[str, Any]]) -> Path:
        """Write how views show methods, by name: ``known``, and those that were known before.

        A method of a package that is not installed here keeps its style. Returns the file's path.
        """
        self.require_runs()
        path = self._suite_folder(suite) / method_styles.FILE
        before: Mapping[str, Mapping[str, Any]] = {}
        with contextlib.suppress(StoreError):  # none yet, or one that is of no use
            before = self.read_styles(suite)
        if (every := {**before, **known}) != before:
            write_json(path, every)
        return path

    def read_styles(self, suite: str) -> dict[str, dict[str, Any]]:
        """How views show methods: label, hue, hue_dark, marker, dash, order, doc and version, by name.

        ``StoreError`` where ``write_styles`` wrote none, or what is there is not valid.
        """
        return method_styles.read(self._suite_folder(suite))

    def _has_results(self, suite: str) -> bool:
        with contextlib.suppress(StoreError):
            return bool((self.read_tables(suite, ["runs"])["runs"]["status"] == "done").any())
        return False

    # -- inside --------------------------------------------------------------------------

    def _check_schema(self, mending: bool) -> bool:
        """Whether the folder is marked as one that this version reads.

        mending: whether a mark that was cut off is none, where there are runs.
        """
        path = self.root / _MARK
        try:
            schema = _schema(path)
        except StoreError:
            if mending and (self.root / "runs").is_dir():
                return False
            raise
        if schema is None:
            return False
        self.published = _mark(path).get("published") is True
        if schema > SCHEMA:
            newer = f"schema {schema}, written by a newer version; this one reads {SCHEMA}"
            raise StoreError(f"results folder {self.root}: {newer}")
        return True

    def require_runs(self) -> None:
        """Raise ``StoreError`` for a published folder: what is computed there would end its tables."""
        if self.published:
            raise StoreError(f"{self.root}: holds published tables alone; choose another --results")

    def _create(self, marked: bool) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            names = [entry.name for entry in os.scandir(self.root)]
            foreign = sorted(n for n in names if n not in _HARMLESS and not n.startswith("."))
            if not marked and foreign and "runs" not in names:
                raise StoreError(f"{self.root}: no results folder, and not empty (it holds {foreign[0]!r})")
            (self.root / "runs").mkdir(exist_ok=True)
            # permissions don't tell (network mounts, root): try
            probe = self.root / "runs" / f".probe-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(f"results folder {self.root}: cannot be written: {reason}") from None
        if not marked:
            write_json(self.root / _MARK, {"schema": SCHEMA})

    def _suite_folder(self, suite: str) -> Path:
        folder = self.root / planfile.check_suite(suite)
        if folder.is_symlink():
            raise StoreError(f"{folder}: is a link")
        return folder

    def _plan(self, path: Path) -> dict[str, Any]:
        plan = planfile.check_plan(read_json(path), str(path))
        if (plan["suite"], f"plan-{plan['scale']}.json") != (path.parent.name, path.name):
            raise StoreError(f"{path}: is the plan of suite {plan['suite']} at scale {plan['scale']}")
        return plan

    def _earlier(self, path: Path) -> dict[str, Any] | None:
        """The plan that ``path`` holds; None where there is none, or what is there is moved away."""
        if not os.path.lexists(path):
            return None
        if path.is_file() and not path.is_symlink():
            read_bytes(path)  # a disk that fails says nothing about the plan
        try:
            return self._plan(path)
        except StoreError as error:
            if planfile.is_newer(path):
                raise
            reason = str(error).replace(f"{self.root}/", "")
            self._set_aside(path, f"{path.parent.name}-{path.stem}", {"reason": reason})
            return None

    def _set_aside(self, path: Path, name: str, reason: Mapping[str, str]) -> Path:
        try:
            target = self._next_corrupted(name)
            try:
                is_folder = path.is_dir() and not path.is_symlink()
                os.rename(path, target if is_folder else target / "entry")
            except OSError:
                target.rmdir()
                raise
        except OSError as error:
            raise StoreError(f"cannot set {path} aside: {error.strerror or error}") from None
        write_json(target / "reason.json", reason)
        return target

    def _next_corrupted(self, name: str) -> Path:
        """A new empty folder ``corrupted/<name>-<n>``."""
        shelf = self.root / "corrupted"
        if shelf.is_symlink():
            raise StoreError(f"{shelf}: is a link")
        shelf.mkdir(exist_ok=True)
        n = 1
        while True:
            with contextlib.suppress(FileExistsError):
                (target := shelf / f"{name}-{n}").mkdir()
                return target
            n += 1


def _mark(path: Path) -> dict[str, Any]:
    """What the mark ``path`` says; nothing where there is none, or none that can be."""
    data = read_bytes(path)
    mark = {} if data is None else parse_json(data, str(path))
    return mark if isinstance(mark, dict) else {}


def _schema(path: Path) -> int | None:
    """The version that the mark ``path`` tells, None where there is none."""
    if read_bytes(path) is None:
        return None
    schema = _mark(path).get("schema")
    if type(schema) is not int or schema < 1:
        raise StoreError(f"{path}: not the mark of a results folder")
    return schema


def _is_plan(name: str) -> bool:
    return name.startswith("plan-") and name.endswith(".json")


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, none where it does not exist."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from None
