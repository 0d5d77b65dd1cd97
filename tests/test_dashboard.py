"""Pages of the dashboard without a browser: filters, links, and folders that are not as they should be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench.columns import TABLES
from bench.store import Store
from tests.dashboard_server import ROOT

APP = str(ROOT / "dashboard" / "app.py")
REFERENCE = ROOT / "results" / "reference"
PAGES = sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("[a-z]*.py"))
SUITES = [f"{plan['suite']} · {plan['scale']}" for plan in Store(REFERENCE).plans()]


@pytest.fixture
def opened(monkeypatch):
    """Open a page over results folders, with what stands in the address; fails if anything was raised."""

    def opened(page="overview", *folders, **address):
        words = [word for folder in folders or [REFERENCE] for word in ("--results", str(folder))]
        monkeypatch.setattr(sys, "argv", ["app.py", *words])
        app = AppTest.from_file(APP, default_timeout=60)
        for key, value in address.items():
            app.query_params[key] = value
        app.run()
        if page != "overview":
            app.switch_page(f"views/{page}.py").run()
        assert not app.exception, app.exception[0].value
        return app

    return opened


def words(app):
    """All text of a page."""
    kinds = (app.title, app.subheader, app.caption, app.markdown, app.info, app.error, app.warning)
    return "\n".join(element.value for kind in kinds for element in kind)


@pytest.fixture
def copy(tmp_path):
    """A copy of the reference results to do harm to."""
    return Path(shutil.copytree(REFERENCE, tmp_path / "results"))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_every_suite(opened, page, suite):
    app = opened(page, suite=suite)
    assert app.title and (page == "definitions" or app.selectbox(key="suite").value == suite)
    assert not app.error and not app.warning


def test_a_filter_leaves_what_was_chosen_on_every_page(opened):
    app = opened("leaderboard", suite="baselines · demo")
    everything = len(app.dataframe[0].value)
    app.multiselect(key="method").select("rigl").run()
    assert not app.exception
    few = app.dataframe[0].value
    assert 0 < len(few) < everything and set(few["method"]) == {"RigL"}
    app.switch_page("views/tradeoff.py").run()
    assert app.multiselect(key="method").value == ["rigl"]


def test_an_address_opens_the_view_that_it_names(opened):
    app = opened("leaderboard", suite="sparsity_sweep · demo", method="SSVI", sparsity="0.95", score="NLL")
    assert app.selectbox(key="suite").value == "sparsity_sweep · demo"
    table = app.dataframe[0].value
    assert len(table) == 1 and table["configuration"].iloc[0].startswith("ssvi sparsity=0.95")


@pytest.mark.parametrize("page", PAGES)
def test_values_in_the_address_that_are_none_are_ignored(opened, page):
    app = opened(
        page, suite="no such suite", method="<script>", sparsity="a", score="b", run="../../etc", data="x"
    )
    assert app.title


# -- folders that are not as they should be -----------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_folder_says_what_brings_something(opened, tmp_path, page):
    (tmp_path / "results").mkdir()
    app = opened("overview", tmp_path / "results")
    assert "Nothing to show yet" in words(app) and "bench.grid" in app.code[0].value


def test_a_folder_that_is_not_there_is_said(opened, tmp_path):
    assert "does not exist" in words(opened("overview", tmp_path / "nowhere"))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_table_is_named_with_what_mends_it_and_the_page_goes_on(opened, copy, page, table):
    for suite in Store(copy).suites():
        (copy / suite / f"{table}.parquet").write_bytes(b"PAR1 not a table")
    app = opened(page, copy)
    said = words(app)
    if table == "runs":
        assert "runs" in said and "not a table" in said.replace("\\", "")
    else:
        assert app.title


def test_a_newer_schema_is_said(opened, copy):
    (copy / "schema.json").write_text(json.dumps({"schema": 99}))
    assert "newer version" in words(opened("overview", copy))


def test_one_broken_suite_does_not_hide_the_others(opened, copy):
    (copy / "baselines" / "plan-demo.json").write_text("{")
    app = opened("overview", copy)
    assert app.error and "plan" in app.error[0].value
    assert not any(option.startswith("baselines") for option in app.selectbox(key="suite").options)


@pytest.mark.parametrize("page", PAGES)
def test_runs_without_any_result_are_no_blank_page(opened, copy, page):
    for suite in Store(copy).suites():
        path = copy / suite / "runs.parquet"
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        at = table.schema.get_field_index("status")
        status = pa.array(["failed"] * table.num_rows, table.schema.field("status").type)
        pq.write_table(table.set_column(at, table.schema.field("status"), status), path)
    app = opened(page, copy)
    assert app.title and words(app)


def test_several_folders_are_one(opened, copy):
    app = opened("overview", REFERENCE, copy)
    alone = opened("overview", REFERENCE)
    assert app.caption[0].value.split("data of")[0] == alone.caption[0].value.split("data of")[0]


def test_results_are_shown_as_they_are_and_not_as_markup(opened, copy):
    hostile = "<b onmouseover=alert(1)>x</b> [l](http://e.vil) $x$ **y**"
    for suite in Store(copy).suites():
        for path in (copy / suite).glob("plan-*.json"):
            plan = json.loads(path.read_text())
            path.write_text(json.dumps({**plan, "question": hostile}))
    app = opened("overview", copy)
    assert app.title[0].value.replace("\\", "") == hostile
    assert "\\<b" in app.title[0].value and "\\[l\\]" in app.title[0].value


# -- what the process loads ----------------------------------------------------------------------


def test_the_pages_load_neither_torch_nor_methods():
    code = f"""
import sys
sys.argv = ["app.py", "--results", {str(REFERENCE)!r}]
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({APP!r}, default_timeout=60).run()
for page in {PAGES!r}:
    app.switch_page(f"views/{{page}}.py").run()
    assert not app.exception, page
print(sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "methods", "submitit")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def test_tables_are_not_changed_by_looking(opened):
    before = Store(REFERENCE).read_tables("baselines", ["runs"])["runs"]
    for page in PAGES:
        opened(page, suite="baselines · demo")
    pd.testing.assert_frame_equal(Store(REFERENCE).read_tables("baselines", ["runs"])["runs"], before)
