"""How far a grid is, as the dashboard tells it, and what it shows of a single run."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from bench.results import claims
from bench.results.files import StoreError
from bench.results.store import Store
from dashboard import live
from dashboard.data import Part
from tests.dashboard_server import ROOT
from tests.run_folders import cell, config, identifier, plan, run_files, write_run

SUITE = "criteria_ablation"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def launched(store, *states, collect=False):
    """Runs that stand like this, planned; ``collect``: with tables of before."""
    configurations = [config(seed=seed) for seed in range(len(states))]
    store.merge_plan(plan([cell(known) for known in configurations]))
    if collect:
        store.update_tables(SUITE)
    for known, status in zip(configurations, states, strict=True):
        if status == "pending":
            continue
        write_run(store.root, run_files(known, status=status))
        if status == "running":
            about = {
                "stage": "train",
                "stages": 1,
                "stage_index": 0,
                "step": 9,
                "steps": 36,
                "epoch": 1,
                "epochs": 4,
            }
            store.run(identifier(known)).write("status", {"status": status, "val_accuracy": 0.5, **about})
            assert claims.acquire(store.run(identifier(known))) is not None
    return Part(SUITE, "demo", (str(store.root),))


def test_every_run_is_counted_while_there_are_no_tables(store):
    state = live.look(launched(store, "done", "running", "pending"))
    assert (state.total, state.settled, state.ended) == (3, 1, 1)
    assert state.words == "1 of 3 runs settled: 1 done, 1 running, 1 pending"
    assert [(one.item.seed, one.epoch, one.share, one.val_accuracy) for one in state.running] == [
        (1, 1, 0.25, 0.5)
    ]


def test_what_ended_since_the_tables_were_made_is_told(store):
    state = live.look(launched(store, "done", "failed", "running", collect=True))
    assert state.ended == 2 and [item.seed for item, _ in state.failed] == [1]
    part = launched(store, *["pending"] * 3)
    store.update_tables(SUITE)
    state = live.look(part)
    assert state.ended == 0 and state.failed == [] and state.counts == {"done": 1, "failed": 1, "running": 1}


def test_a_run_of_two_folders_counts_once_and_is_done_where_one_has_finished_it(store, tmp_path):
    first = launched(store, "done", "pending")
    other = Store(tmp_path / "other", create=True)
    launched(other, "pending", "pending")
    for folders in ((*first.folders, str(other.root)), (str(other.root), *first.folders)):
        assert live.look(Part(SUITE, "demo", folders)).counts == {"done": 1, "pending": 1}


def test_published_tables_have_nothing_to_follow(store, tmp_path):
    launched(store, "done")
    (store.root / "schema.json").write_text(json.dumps({"schema": 1, "published": True}))
    assert live.look(Part(SUITE, "demo", (str(store.root),))) is None


def test_time_is_told_in_its_unit():
    assert [live.duration(seconds) for seconds in (45, 600, 9000)] == ["45 s", "10 min", "2.5 h"]


# -- the page ------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    def opened(store, **address):
        monkeypatch.setattr("sys.argv", ["app.py", "--results", str(store.root)])
        app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=60)
        for key, value in address.items():
            app.query_params[key] = value
        app.run().switch_page("views/runs.py").run()
        assert not app.exception
        return app

    return opened


def said(app):
    kinds = (app.title, app.subheader, app.caption, app.markdown, app.info, app.error, app.warning)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def test_a_grid_without_tables_can_be_watched(store, opened):
    launched(store, "done", "running", "pending")
    app = opened(store)
    assert "How far is it?" in said(app) and "These runs have no tables yet" in said(app)
    table = app.dataframe[0].value
    assert table["epoch"].tolist() == ["1 of 4"] and table["validation accuracy (%)"].tolist() == [50.0]
    assert app.code[0].value == f"python -m bench.collect --suite {SUITE} --results {store.root}"


def test_nothing_is_followed_once_all_is_in_the_tables(store, opened):
    launched(store, "done", "failed")
    store.update_tables(SUITE)
    app = opened(store)
    assert "How far is it?" not in said(app) and "ended since" not in said(app)
    assert app.dataframe[0].value["status"].tolist() == ["failed", "done"]


def test_a_run_is_opened_by_its_address_with_its_reason_and_log_as_they_are(store, opened):
    launched(store, "failed", "done")
    store.update_tables(SUITE)
    run_id = identifier(config(seed=0))
    store.run(run_id).log("<b>bold</b> **x**\n\x1b[2Jlast words")
    app = opened(store, run=run_id)
    reason = store.run(run_id).read("status")["error"]
    assert any(code.value == reason for code in app.code)
    app.session_state["run-log"] = True
    app.run()
    (log,) = [code.value for code in app.code if "last words" in code.value]
    assert "<b>bold</b> **x**" in log and "\x1b" not in log


def test_runs_are_compared_by_what_differs(store, opened):
    launched(store, "done", "done")
    store.update_tables(SUITE)
    app = opened(store, run=" ".join(identifier(config(seed=seed)) for seed in (0, 1)))
    assert "In what do they differ?" in said(app)
    figures, settings = app.dataframe[1].value, app.dataframe[2].value
    assert figures["seed"].tolist() == [0, 1] and settings["setting"].tolist() == ["seed"]


def test_ids_that_are_none_or_elsewhere_are_said(store, opened):
    launched(store, "done")
    store.update_tables(SUITE)
    assert "not the id of a run" in said(opened(store, run="../../etc"))
    assert "has no run 0123456789ab" in said(opened(store, run="0123456789ab"))


# -- the end of a log ------------------------------------------------------------------------------


def test_the_tail_of_a_log_is_its_last_lines_without_what_steers_a_terminal(store, tmp_path):
    run = store.run(identifier("run", 1))
    assert run.tail(5) == []
    for number in range(9):
        run.log(f"line {number}\n\n\x1b[2Jmore {number}")
    assert [line[-6:] for line in run.tail(3)] == ["more 7", "line 8", "more 8"]
    assert run.tail(1) == ["\ufffd[2Jmore 8"]


def test_no_link_is_followed_for_a_tail(store, tmp_path):
    run = store.run(identifier("run", 1))
    run.made()
    (tmp_path / "secret").write_text("secret\n")
    (run.path / "run.log").symlink_to(tmp_path / "secret")
    assert run.tail(5) == []
    linked = store.run(identifier("run", 2))
    linked.path.symlink_to(run.path)
    with pytest.raises(StoreError, match="is a link"):
        linked.tail(5)
