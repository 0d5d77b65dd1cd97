"""Read results folders once, and keep the content in memory until their files change."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.styles import FILES, METHODS, StyleFile
from bench.results.tables.columns import definitions
from dashboard.plain import plain

#: Default folders: the reader's own results, else the reference results of the project.
_OWN, _REFERENCE = Path("results"), Path(__file__).resolve().parent.parent / "results" / "reference"
#: What the paper reports, beside the reference results.
REPORTED = _REFERENCE.parent / "paper_reported.csv"
#: The folder in which commands store results by default.
USUAL = (str(_OWN),)
#: Number of tables that are kept in memory, and of results that were computed from them.
_KEPT = 32
_KEPT_RESULTS = 128

Result = TypeVar("Result")


@dataclass(frozen=True)
class Part:
    """Identify a suite at one scale and all folders that have it; pages show these together."""

    suite: str
    scale: str
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the name in the filter and in the address of the page."""
        return f"{self.suite} · {self.scale}"


def folders() -> tuple[str, ...]:
    """Return the results folders of the command line, as they were given, or the default one.

    Raises
    ------
    StoreError
        The command line has an unknown option.
    """
    parser = argparse.ArgumentParser("streamlit run dashboard/app.py --", add_help=False, exit_on_error=False)
    parser.add_argument("--results", type=os.path.expanduser, metavar="DIR", action="append", default=[])
    try:
        found, others = parser.parse_known_args(sys.argv[1:])
    except argparse.ArgumentError as error:
        raise StoreError(f"{error}; valid: --results DIR") from None
    if others:
        raise StoreError(f"unrecognized arguments: {' '.join(others)}; valid: --results DIR")
    if found.results:
        return tuple(dict.fromkeys(found.results))
    own = _OWN / "runs"
    return (str(_OWN if own.is_dir() and any(own.iterdir()) else _REFERENCE),)


def shown(folder: str) -> str:
    """Return a folder's path, relative to where the dashboard was started if it lies below."""
    path = Path(folder).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder


def parts(where: Sequence[str]) -> tuple[list[Part], list[str]]:
    """Return every suite and scale in the folders ``where``, and one line for each thing not readable."""
    found: dict[tuple[str, str], list[str]] = {}
    faults: list[str] = []
    for folder in where:
        try:
            suites = Store(folder).suites()
        except StoreError as error:
            faults.append(str(error))
            continue
        launched = [(suite, scale) for suite in suites for scale in Store(folder).scales(suite)]
        for suite, scale in launched:
            try:
                _plan(folder, suite, scale, _plan_stamp(folder, suite, scale))
            except StoreError as error:
                faults.append(str(error))
            else:
                found.setdefault((suite, scale), []).append(folder)
    return [Part(suite, scale, tuple(there)) for (suite, scale), there in found.items()], faults


def table(part: Part, name: str) -> pd.DataFrame:
    """Return a table of ``part`` from all its folders. It is shared, so that callers must not change it.

    A run that several folders have appears once. The additional column ``results`` names the folder. If only
    some folders cannot be read, the page says so and goes on without them.

    Raises
    ------
    StoreError
        No folder has the table; the message says which command makes it.
    """
    found, faults = [], []
    for folder in part.folders:
        try:
            found.append(_of_folder(folder, part.suite, part.scale, name, _stamp(folder, part.suite, name)))
        except StoreError as error:
            faults.append(error)
    if not found:
        raise faults[0]
    for fault in faults:
        _tell(str(fault))
    if len(found) == 1:
        return found[0]
    return _joined(part, name, tuple(_stamp(folder, part.suite, name) for folder in part.folders))


def begin() -> None:
    """Start a new page; must be called first, so that each page reports an unreadable folder once."""
    st.session_state["told"] = set()


def _tell(fault: str) -> None:
    told = st.session_state.setdefault("told", set())
    if fault not in told:
        told.add(fault)
        st.warning(plain(f"left out: {fault}"), icon=":material/warning:")


def plan(part: Part) -> dict[str, Any]:
    """Return the plan of ``part`` in the first of its folders."""
    folder = part.folders[0]
    return _plan(folder, part.suite, part.scale, _plan_stamp(folder, part.suite, part.scale))


def commands(part: Part) -> dict[str, list[str]]:
    """Return, by folder, the command lines that asked for the runs of ``part``, oldest first."""
    return {folder: Store(folder).commands(part.suite, part.scale) for folder in part.folders}


def references(part: Part) -> dict[str, str]:
    """Return the ``config_id`` of each configuration's reference, by ``config_id``."""
    found: dict[str, str] = {}
    for folder in reversed(part.folders):
        stamp = _plan_stamp(folder, part.suite, part.scale)
        found |= _references(folder, part.suite, part.scale, stamp)
    return found


def styles(part: Part, of: StyleFile = METHODS) -> Mapping[str, Mapping[str, Any]]:
    """Return the styles of methods, or of criteria, in all folders, the first folder winning."""
    found: dict[str, Mapping[str, Any]] = {}
    for folder in reversed(part.folders):
        path = Path(folder) / part.suite / of.file
        found |= _styles(folder, part.suite, of.file, _file_stamp(path))
    return found


def kept(name: str, over: Sequence[Part], make: Callable[[], Result], *also: object) -> Result:
    """Return what ``make`` returns; it is called again only once a file of the suites has changed.

    Parameters
    ----------
    name
        Name of the result.
    over
        The suites from which it is computed.
    make
        Computes it. Callers share the result, and must not change it.
    *also
        What else it depends on.
    """
    contents = tuple(
        (path.name, _file_stamp(path))
        for part in over
        for folder in part.folders
        for path in sorted((Path(folder) / part.suite).glob("*.*"))
    )
    found: Result = _result(name, tuple(over), also, contents, make)
    return found


def stamp(part: Part) -> tuple[object, ...]:
    """Return a value that changes when the tables of ``part`` are made anew or it is launched again."""
    names = f"plan-{part.scale}.json", "runs.parquet"
    return tuple(_file_stamp(Path(folder) / part.suite / name) for folder in part.folders for name in names)


def is_launched_since(part: Part, folder: str) -> bool:
    """Tell whether ``part`` was launched in a folder after its tables there were made, or has none there."""
    where = Path(folder) / part.suite
    return _file_stamp(where / f"plan-{part.scale}.json")[0] > _file_stamp(where / "runs.parquet")[0]


def is_new(part: Part) -> bool:
    """Tell whether ``part`` was launched and has no tables yet."""
    made = any((Path(folder) / part.suite / "runs.parquet").exists() for folder in part.folders)
    return not made and any(map(has_runs, part.folders))


def has_runs(folder: str) -> bool:
    """Tell whether a folder can hold runs; published folders hold only tables."""
    return not Store(folder).published


def column(name: str, of: str = "runs") -> Mapping[str, Any]:
    """Return the entry of a column in ``bench/columns.yaml``; ``of`` is its table."""
    return definitions()[of][name]


# -- kept in memory until the stamps of the files change -----------------------------------------


@st.cache_resource(max_entries=_KEPT, show_spinner="Reading results …")
def _of_folder(folder: str, suite: str, scale: str, name: str, stamp: object) -> pd.DataFrame:
    store = Store(folder)
    frame = store.read_tables(suite, [name])[name]
    if name == "runs":
        frame = frame[frame["scale"] == scale]
    else:
        runs = _of_folder(folder, suite, scale, "runs", _stamp(folder, suite, "runs"))
        # most suites were launched at one scale, and comparing is cheaper than copying
        mine = frame["run_id"].isin(runs["run_id"])
        frame = frame if mine.all() else frame[mine]
    return frame.assign(results=pd.Categorical([folder] * len(frame)))


@st.cache_resource(max_entries=_KEPT, show_spinner="Reading results …")
def _joined(part: Part, name: str, stamps: tuple[object, ...]) -> pd.DataFrame:
    runs, frames = {}, []
    for folder in part.folders:
        with contextlib.suppress(StoreError):  # ``table`` reports them to the reader
            stamp = _stamp(folder, part.suite, "runs")
            runs[folder] = _of_folder(folder, part.suite, part.scale, "runs", stamp)
    owners: dict[str, str] = {}
    for is_done in (True, False):  # a folder in which the run is finished comes first
        for folder, frame in runs.items():
            for run_id in frame["run_id"][(frame["status"] == "done") == is_done]:
                owners.setdefault(run_id, folder)
    for folder in runs:
        with contextlib.suppress(StoreError):
            frame = _of_folder(folder, part.suite, part.scale, name, _stamp(folder, part.suite, name))
            frames.append(frame[frame["run_id"].astype(str).map(owners) == folder])
    joined = pd.concat(frames, ignore_index=True)
    return _with_one_label_each(joined) if name == "runs" else joined


def _with_one_label_each(runs: pd.DataFrame) -> pd.DataFrame:
    """Give each configuration one label, since folders may use different labels for one, or one for several.

    The first label counts; if several configurations share it, the start of the id is added.
    """
    first = runs.drop_duplicates("config_id").set_index("config_id")["config_label"].astype(str)
    shared = first.duplicated(keep=False)
    first[shared] = first[shared] + " (" + first.index[shared].str.slice(0, 4) + ")"
    return runs.assign(config_label=runs["config_id"].map(first))


@st.cache_resource(max_entries=_KEPT_RESULTS, show_spinner="Computing …")
def _result(
    name: str, over: tuple[Part, ...], also: object, contents: object, _make: Callable[[], object]
) -> Any:
    return _make()


@st.cache_resource(max_entries=_KEPT, show_spinner=False)
def _plan(folder: str, suite: str, scale: str, stamp: object) -> dict[str, Any]:
    return Store(folder).plan(suite, scale)


@st.cache_resource(max_entries=_KEPT, show_spinner=False)
def _references(folder: str, suite: str, scale: str, stamp: object) -> dict[str, str]:
    return Store(folder).references(suite, scale)


@st.cache_resource(max_entries=_KEPT, show_spinner=False)
def _styles(folder: str, suite: str, file: str, stamp: object) -> Mapping[str, Mapping[str, Any]]:
    (of,) = (known for known in FILES if known.file == file)
    try:
        return Store(folder).read_styles(suite, of)
    except StoreError:
        return {}


def _stamp(folder: str, suite: str, name: str) -> tuple[object, ...]:
    """Return a value that changes when a table does, or the table ``runs``, which tells the scale of runs."""
    where = Path(folder) / suite
    return _file_stamp(where / f"{name}.parquet"), _file_stamp(where / "runs.parquet")


def _plan_stamp(folder: str, suite: str, scale: str) -> tuple[int, int, int]:
    return _file_stamp(Path(folder) / suite / f"plan-{scale}.json")


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.lstat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino
