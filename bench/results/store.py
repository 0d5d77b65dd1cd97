"""Read and write a results folder: run folders, the plans of suites, and the tables made from both.

    DIR/schema.json                marks a results folder and holds the version of its format
    DIR/runs/<run_id>/             one run; several suites may share it
    DIR/corrupted/<name>-<n>/      run folders and plans that were damaged, with the reason
    DIR/<suite>/plan-<scale>.json  the runs that a suite asks for
    DIR/<suite>/*.parquet          the tables of a suite
    DIR/<suite>/methods.json       names, colours and markers of methods in figures
    DIR/<suite>/criteria.json      the same of removal criteria

This module imports neither torch nor methods. Files are only read as data: none is executed or unpickled.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results import plans as planfile
from bench.results import styles
from bench.results.files import (
    StoreError,
    locked,
    not_launched,
    parse_json,
    read_bytes,
    read_json,
    write_json,
)
from bench.results.run_folder import RUN_ID, RunFolder
from bench.results.tables.columns import TABLES

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.tables.run_reader import Renewed

#: Version of the format of a results folder.
SCHEMA = 1
_MARK = "schema.json"
#: Entries that a folder may already hold when it becomes a results folder.
_HARMLESS = ("runs", "corrupted", "patches", "reference", "README.md")
#: A run id, or its first digits.
_FIRST_DIGITS = re.compile(r"[0-9a-f]{1,12}")


class Store:
    """Access a results folder.

    Parameters
    ----------
    root
        Path of the folder.
    create
        Make the folder if it is missing, and check that files can be written there.

    Raises
    ------
    StoreError
        The path is not a folder, a newer version wrote the folder, the folder holds other things than
        results, or it does not exist and ``create`` is false.
    """

    #: Whether the folder holds only tables, without the folders of their runs: see ``bench.publish``.
    published = False

    def __init__(self, root: str | Path, create: bool = False) -> None:
        self.root = Path(os.path.expanduser(root))
        exists = os.path.lexists(self.root)
        if exists and not os.path.isdir(self.root):
            raise StoreError(f"results folder {self.root}: is not a folder")
        if not create and not exists:
            raise StoreError(f"results folder {self.root}: does not exist")
        if (self.root / "runs").is_symlink():
            # writing would change files outside the results folder; the results folder itself may be a link
            raise StoreError(f"{self.root / 'runs'}: is a link")
        marked = self._check_schema(create)
        if create:
            self.require_runs()
            self._create(marked)

    @classmethod
    def publishing(cls, root: str | Path) -> Store:
        """Open a folder for tables without runs; make it if it is missing.

        Raises
        ------
        StoreError
            The folder holds runs or other things, or cannot be written.
        """
        root = Path(os.path.expanduser(root))
        try:
            root.mkdir(parents=True, exist_ok=True)
            if (mark := root / _MARK).exists():
                store = cls(root)
                if not store.published:
                    raise StoreError(f"{root}: is a results folder with runs; publish to another folder")
                return store
            if foreign := sorted(e.name for e in os.scandir(root) if e.name not in _HARMLESS[1:]):
                raise StoreError(f"{root}: not empty (it holds {foreign[0]!r})")
        except OSError as error:
            raise StoreError(f"cannot write {root}: {error.strerror or error}") from None
        write_json(mark, {"schema": SCHEMA, "published": True})
        return cls(root)

    # -- runs ----------------------------------------------------------------------------

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run; the folder need not exist.

        Parameters
        ----------
        run_id
            12 hexadecimal digits.

        Raises
        ------
        StoreError
            ``run_id`` does not have this form.
        """
        if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
            raise StoreError(f"{run_id!r} is not a run id (12 hexadecimal digits)")
        return RunFolder(self.root / "runs" / run_id)

    def full_id(self, written: str, others: Iterable[str] = ()) -> str:
        """Return the run id that somebody wrote whole or by its first digits.

        Parameters
        ----------
        written
            The id, or digits with which no other id begins.
        others
            Ids to choose from, beside those of runs that have a folder.

        Raises
        ------
        StoreError
            No id or several begin with ``written``.
        """
        if not isinstance(written, str) or not _FIRST_DIGITS.fullmatch(written):
            raise StoreError(f"{written!r} is not a run id (12 hexadecimal digits, or the first of them)")
        if RUN_ID.fullmatch(written):
            return written
        found = sorted(run_id for run_id in {*self.run_ids(), *others} if run_id.startswith(written))
        if len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(f"{self.root}: there is no run whose id begins with {written}")
        some = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise StoreError(f"{self.root}: the ids of {len(found)} runs begin with {written} ({some})")

    def run_ids(self) -> list[str]:
        """Return the sorted ids of the runs that have a folder."""
        entries = _entries(self.root / "runs")
        return sorted(e.name for e in entries if RUN_ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False))

    def check(self, run_id: str) -> str | None:
        """Return in one line what is wrong with the folder of a run; None if it is sound or missing."""
        return self.faults([run_id]).get(run_id)

    def faults(self, run_ids: Iterable[str]) -> dict[str, str]:
        """Return what is wrong with each damaged run folder, by run id, without sound and missing ones."""
        from bench.results.tables import batches

        return batches.faults([self.run(run_id) for run_id in run_ids])

    def mended(self, run_id: str) -> str | None:
        """Return what is wrong with the folder of a run, as ``check`` does, once what can be mended is.

        Evaluation sets with damaged files are forgotten, so that the run is sound and lacks them. Call it
        only if no other process works on the run.
        """
        from bench.results import integrity

        fault = self.check(run_id)
        if fault is not None and integrity.forget_damaged_sets(self.run(run_id)):
            return self.check(run_id)
        return fault

    def set_aside(self, run_id: str, reason: str) -> Path:
        """Move the folder of a run to ``corrupted/`` and add a ``reason.json``, so that the run starts anew.

        Returns
        -------
        Path
            The new place of the folder.
        """
        return self._set_aside(self.run(run_id).path, run_id, {"run_id": run_id, "reason": reason})

    # -- plans and tables ----------------------------------------------------------------

    def merge_plan(self, plan: Mapping[str, Any]) -> None:
        """Store a plan and keep the cells that only earlier launches of the same suite and scale asked for.

        A stored plan that cannot be read (a power cut may have emptied it) is moved to ``corrupted/``.
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
        """Return the stored plans of one suite, or of all if ``suite`` is None, sorted by suite and scale."""
        suites = self.suites() if suite is None else [suite]
        found = []
        for name in suites:
            names = [entry.name for entry in _entries(self._suite_folder(name)) if _is_plan(entry.name)]
            found += [self._plan(self.root / name / file) for file in sorted(names)]
        return found

    def suites(self) -> list[str]:
        """Return the sorted names of the suites that have a plan here."""
        folders = [entry for entry in _entries(self.root) if entry.is_dir(follow_symlinks=False)]
        named = [e for e in folders if planfile.NAME.fullmatch(e.name) and e.name not in planfile.RESERVED]
        return sorted(e.name for e in named if any(_is_plan(file.name) for file in _entries(Path(e.path))))

    def scales(self, suite: str) -> list[str]:
        """Return the sorted names of the scales for which a suite has a plan file, readable or not."""
        names = [entry.name for entry in _entries(self._suite_folder(suite)) if _is_plan(entry.name)]
        return sorted(name.removeprefix("plan-").removesuffix(".json") for name in names)

    def plan(self, suite: str, scale: str) -> dict[str, Any]:
        """Return the stored plan of a suite at one scale.

        Raises
        ------
        StoreError
            The suite was not launched at this scale, or its plan cannot be read.
        """
        if scale not in self.scales(suite):
            raise StoreError(f"{self.root}: suite {suite} was not launched at scale {scale}")
        return self._plan(self.root / suite / f"plan-{scale}.json")

    def references(self, suite: str, scale: str) -> dict[str, str]:
        """Map the ``config_id`` of each configuration of a suite to the ``config_id`` of its reference.

        Configurations without a reference are left out.
        """
        return planfile.references(self.plan(suite, scale))

    def commands(self, suite: str, scale: str) -> list[str]:
        """Return the command lines that asked for the runs of a suite, oldest first."""
        return planfile.commands(self.plan(suite, scale))

    def planned(self, suite: str) -> list[planfile.Planned]:
        """Return the runs that a suite asks for.

        Raises
        ------
        StoreError
            The suite was never launched in this results folder.
        """
        plans = self.plans(suite)
        if not plans:
            raise not_launched(self.root, "suite", suite, self.suites())
        return planfile.planned(plans)

    def tables(self, suite: str) -> dict[str, pd.DataFrame]:
        """Build the tables of a suite in memory from its plans and run folders, running runs included.

        Returns
        -------
        dict
            Data frames by name: ``runs`` (one row per run and scale, also for planned runs without a folder),
            ``metrics``, ``history``, ``layers``, ``criteria_pairs``, ``calibration``, ``selective`` and
            ``stages``. ``bench/columns.yaml`` defines every column.
        """
        from bench.results.tables import build

        return build.build(self.planned(suite), self.run)

    def update_tables(self, suite: str, renewed: Renewed | None = None, folder: str = "") -> dict[str, Path]:
        """Bring the stored tables of a suite and ``runs.csv`` up to date.

        Parameters
        ----------
        suite
            Name of a suite that has a plan here.
        renewed
            Read every run again and make its metrics again by this function (see ``run_reader.read_run``). By
            default the rows of runs whose files did not change are kept.
        folder
            Name of a folder within that of the suite, for tables beside the usual ones.

        Returns
        -------
        dict
            The paths of the files, by name of the table.

        Raises
        ------
        StoreError
            The folder holds only published tables, or the stored tables have results and all run folders
            are missing.
        """
        from bench.results.tables import parquet, update

        self.require_runs()
        where = self._suite_folder(suite)
        planned = self.planned(suite)
        if not any(self.run(run.run_id).path.is_dir() for run in planned) and self._has_results(suite):
            # for example a copy of a results folder that left out the run folders
            raise StoreError(
                f"{where}: its tables have results, but none of its run folders is here; the tables are kept"
            )
        place = where / folder
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {place}: {error.strerror or error}") from None
        update.update(place, planned, self.run, renewed)
        return parquet.paths(place)

    def read_tables(self, suite: str, names: Sequence[str] = TABLES) -> dict[str, pd.DataFrame]:
        """Read the tables that ``update_tables`` wrote last, only those in ``names``.

        ``selective`` is empty if the tables were written by an older version that did not have it.
        """
        from bench.results.tables import parquet

        return parquet.read(self._suite_folder(suite), names)

    def read_table(self, suite: str, scale: str, name: str) -> pd.DataFrame:
        """Read the rows of a table that are of the runs of one scale."""
        runs = self.read_tables(suite, ["runs"])["runs"]
        runs = runs[runs["scale"] == scale]
        if name == "runs":
            return runs
        found = self.read_tables(suite, [name])[name]
        return found[found["run_id"].isin(runs["run_id"])]

    def write_styles(
        self,
        suite: str,
        known: Mapping[str, Mapping[str, Any]],
        of: styles.StyleFile = styles.METHODS,
    ) -> Path:
        """Store the styles of methods or criteria: those in ``known``, and earlier ones of others.

        What comes from a package that is not installed here keeps its style.

        Parameters
        ----------
        suite
            Name of the suite whose folder gets the file.
        known
            The fields that ``read_styles`` lists, by name.
        of
            The file to write.

        Returns
        -------
        Path
            The path of the file.
        """
        self.require_runs()
        path = self._suite_folder(suite) / of.file
        before: Mapping[str, Mapping[str, Any]] = {}
        with contextlib.suppress(StoreError):  # there is no file yet, or it is damaged
            before = self.read_styles(suite, of)
        if (every := {**before, **known}) != before:
            write_json(path, every)
        return path

    def read_styles(self, suite: str, of: styles.StyleFile = styles.METHODS) -> dict[str, dict[str, Any]]:
        """Read the styles of methods or criteria, by name.

        They are label, hue, hue_dark, marker, dash, order, doc and version; of criteria also formula, latex,
        source and ranks_as.

        Raises
        ------
        StoreError
            The file does not exist or is not valid.
        """
        return of.read(self._suite_folder(suite))

    def _has_results(self, suite: str) -> bool:
        """Tell whether the stored table ``runs`` has a finished run."""
        with contextlib.suppress(StoreError):
            return bool((self.read_tables(suite, ["runs"])["runs"]["status"] == "done").any())
        return False

    # -- inside --------------------------------------------------------------------------

    def _check_schema(self, mending: bool) -> bool:
        """Tell whether the folder has the mark of a results folder that this version can read.

        With ``mending``, a damaged mark counts as missing if the folder holds runs: it is written anew.
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
        """Raise ``StoreError`` if the folder is a published one, since new runs would replace its tables."""
        if self.published:
            raise StoreError(f"{self.root}: holds only published tables; choose another --results")

    def _create(self, marked: bool) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            names = [entry.name for entry in os.scandir(self.root)]
            foreign = sorted(n for n in names if n not in _HARMLESS and not n.startswith("."))
            if not marked and foreign and "runs" not in names:
                raise StoreError(
                    f"{self.root}: not a results folder, and not empty (it holds {foreign[0]!r})"
                )
            (self.root / "runs").mkdir(exist_ok=True)
            # permissions do not tell whether a network mount can be written, or root can write: try it
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
        """Return the plan in ``path``; None if there is none. A damaged plan is moved to ``corrupted/``."""
        if not os.path.lexists(path):
            return None
        if path.is_file() and not path.is_symlink():
            read_bytes(path)  # raises if the disk fails, which does not mean that the plan is damaged
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
        """Make a new empty folder ``corrupted/<name>-<n>``."""
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
    """Return the content of the mark ``path``; an empty mapping if it is missing or is not a mapping."""
    data = read_bytes(path)
    mark = {} if data is None else parse_json(data, str(path))
    return mark if isinstance(mark, dict) else {}


def _schema(path: Path) -> int | None:
    """Return the format version in the mark ``path``; None if there is no file."""
    if read_bytes(path) is None:
        return None
    schema = _mark(path).get("schema")
    if type(schema) is not int or schema < 1:
        raise StoreError(f"{path}: not the mark of a results folder")
    return schema


def _is_plan(name: str) -> bool:
    return name.startswith("plan-") and name.endswith(".json")


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; an empty list if it does not exist."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from None
