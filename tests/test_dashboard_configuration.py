"""A configuration opens beside the page: what it shows, and the command that computes it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from bench.planning.filters import parse_where, select
from bench.results.store import Store
from dashboard import choose, data
from dashboard.data import Part
from tests.dashboard_server import ROOT

REFERENCE = ROOT / "results" / "reference"
SUITES = Store(REFERENCE).suites()


@pytest.fixture
def opened(monkeypatch):
    """Open the page Trade-off with these words in its address."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "argv", ["app.py", "--results", str(REFERENCE)])

    def opened(**address):
        app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=60)
        for key, value in address.items():
            app.query_params[key] = value
        app.switch_page("views/tradeoff.py").run()
        assert not app.exception, app.exception[0].value
        return app

    return opened


def labelled(suite, label):
    runs = data.table(Part(suite, "demo", (str(REFERENCE),)), "runs")
    return runs[runs["config_label"] == label]


def test_an_address_opens_a_configuration_with_its_runs_and_what_sets_it_apart(opened):
    mine = labelled("baselines", "rigl budget=epochs budget_cap=10 sparsity=0.95")
    app = opened(suite="baselines · demo", configuration=mine["config_id"].iloc[0])
    found = {tuple(map(str, table.value.columns)): table.value for table in app.dataframe}
    (rows,) = (table for heads, table in found.items() if heads[:2] == ("seed", "status"))
    assert sorted(rows["seed"]) == sorted(mine["seed"])
    apart = found["setting", "this", "reference"].set_index("setting")
    assert apart.loc["method.name"].tolist() == ["rigl", "ssvi"] and "seed" not in apart.index
    said = "\n".join(each.value for each in (*app.caption, *app.markdown)).replace("\\", "")
    assert f"{len(mine)} of {len(mine)} runs done" in said and "SSVI · 95 % · equal epochs" in said
    assert re.search(r"accuracy \*\*\d\d\.\d\d ± ", said)
    assert any("method=rigl,sparsity=0.95,budget=epochs" in each.value for each in app.code)


def test_an_id_that_the_suite_does_not_have_is_told(opened):
    app = opened(suite="baselines · demo", configuration="0" * 12)
    assert any("baselines · demo has none of this id" in m.value.replace("\\", "") for m in app.markdown)


@pytest.mark.parametrize("suite", SUITES)
def test_the_command_of_a_configuration_selects_its_cells_and_no_other(suite):
    part = Part(suite, "demo", (str(REFERENCE),))
    plan = json.loads((REFERENCE / suite / "plan-demo.json").read_text())
    cells = [cell for cell in plan["cells"] if cell["alias_of"] is None]
    for config_id, mine in data.table(part, "runs").groupby("config_id", observed=True):
        _, where = choose._where(SimpleNamespace(part=part, runs=mine))
        conditions = parse_where(shlex.split(where))
        hits = select([cell["labels"] for cell in cells], conditions)
        assert {c["config_id"] for c, hit in zip(cells, hits, strict=True) if hit} == {config_id}
