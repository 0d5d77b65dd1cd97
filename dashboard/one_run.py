"""Show everything about one run: scores, settings, log and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import SCORES, Look, axes, interval, settings
from bench.results.files import StoreError, shell_path
from bench.results.run_folder import RunFolder
from bench.results.store import Store
from dashboard import data
from dashboard.plain import plain

#: Number of lines of a log that are shown.
_LOG_LINES = 50
#: Columns about the provenance of a run, for runs whose folder is not here.
_ORIGIN = ("git_sha", "torch_version", "device", "execution", "threads", "concurrency", "started_at")
_COSTS = ("wall_seconds", "train_flops_ratio", "compression_vs_dense_vi")


def details(run: pd.Series, look: Look) -> None:
    """Show a row of the table ``runs``; ``look`` names its configuration."""
    st.subheader(plain(f"{look.configuration(run['config_label'])}, seed {run['seed']}"), anchor=False)
    st.caption(plain(f"run {run['run_id']} · {run['status']} · {run['results']}"))
    if isinstance(run["error"], str):
        kind = run["error_kind"] if isinstance(run["error_kind"], str) else "failed"
        st.markdown(f"Failed: **{plain(kind)}**" if run["status"] == "failed" else plain(kind))
        st.code(run["error"], language=None, wrap_lines=True)
    if run["status"] == "done":
        _figures(run)
    folder = _folder(run)
    with st.expander("All settings", key="run-settings", on_change="rerun") as opened:
        if opened.open:
            st.dataframe(settings(run), hide_index=True, key="run-settings-table")
    with st.expander("Where it came from", key="run-origin", on_change="rerun") as opened:
        if opened.open:
            _origin(run, folder)
    with st.expander("The end of its log", key="run-log", on_change="rerun") as opened:
        if opened.open:
            _log(run, folder)


def _figures(run: pd.Series) -> None:
    columns = [*SCORES, *_COSTS]
    with st.container(horizontal=True):
        for name in columns:
            axis = axes()[name]
            if pd.notna(run[name]):
                text = interval(float(run[name]), float("nan"), axis.digits, axis.factor)
                unit = axis.unit if axis.unit in ("%", "s") else ""
                st.metric(axis.name, plain(f"{text} {unit}".strip()), help=axis.definition, width=150)


def _folder(run: pd.Series) -> RunFolder | None:
    """Return the folder of a run; None if it is not here, as with published tables."""
    try:
        folder = Store(str(run["results"])).run(str(run["run_id"]))
    except StoreError:
        return None
    return folder if folder.path.is_dir() else None


def _origin(run: pd.Series, folder: RunFolder | None) -> None:
    document: Mapping[str, Any] | None = None
    if folder is not None:
        try:
            document = folder.read("provenance")
        except StoreError as error:
            st.warning(plain(error), icon=":material/warning:")
    if document is None:
        st.caption("The run's file provenance.json is not here; these values are from the tables.")
        document = {name: run[name] for name in _ORIGIN}
    rows = [(name, _text(value)) for name, value in document.items()]
    st.dataframe(
        pd.DataFrame(rows, columns=["what", "value"]),
        hide_index=True,
        key="run-origin-table",
        alt="Provenance of the run.",
    )
    if "+" in str(document.get("git_sha") or ""):
        st.caption(
            "A `+` after the commit: files differed from it. " + str(data.column("git_sha")["definition"])
        )


def _log(run: pd.Series, folder: RunFolder | None) -> None:
    if folder is None:
        st.info(
            "The folder of this run is not here: either these are published tables, or it was moved.",
            icon=":material/info:",
        )
        return
    try:
        lines = folder.tail(_LOG_LINES)
    except StoreError as error:
        st.warning(plain(error), icon=":material/warning:")
        return
    if lines:
        st.code("\n".join(lines), language=None, wrap_lines=True, height=min(420, 60 + 24 * len(lines)))
    else:
        st.caption("The run has written nothing to its log.")
    st.caption("This command shows what the processes that computed it printed:")
    st.code(f"python -m bench.logs {run['run_id']} --results {shell_path(run['results'])}", language="bash")


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "–"
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
