"""Pages of the dashboard without a browser: filters, links, and folders that are not as they should be."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from bench import figures, suites
from bench.figures.paper import claims
from bench.reporting import contents
from bench.results import styles
from bench.results.store import Store
from bench.results.tables.columns import TABLES
from dashboard import data
from dashboard.plain import plain
from tests.dashboard_server import ROOT

APP = str(ROOT / "dashboard" / "app.py")
REFERENCE = ROOT / "results" / "reference"
PAGES = sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("[a-z]*.py"))
SUITES = [f"{plan['suite']} · {plan['scale']}" for plan in Store(REFERENCE).plans()]


@pytest.fixture
def opened(monkeypatch):
    """Open a page over results folders, with what stands in the address; fails if anything was raised."""

    # AppTest puts the app in its place, and processes that a later test starts would run the app
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def opened(page="overview", *folders, **address):
        words = [word for folder in folders or [REFERENCE] for word in ("--results", str(folder))]
        monkeypatch.setattr(sys, "argv", ["app.py", *words])
        app = AppTest.from_file(APP, default_timeout=60)
        for key, value in address.items():
            app.query_params[key] = value
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


#: Whose tables are compared with what they were.
WATCHED = "criteria_ablation · demo"


@cache
def tables():
    """Those of ``WATCHED`` that the pages have in memory, and copies of them."""
    assert WATCHED in SUITES
    part = data.Part("criteria_ablation", "demo", (str(REFERENCE),))
    return [(partial(data.table, part, name), data.table(part, name).copy(deep=True)) for name in TABLES]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_every_suite_and_changes_no_table(opened, page, suite):
    watched = tables() if suite == WATCHED else []
    app = opened(page, suite=suite)
    for now, before in watched:
        assert now().equals(before)  # to the bit, and hundreds of times as fast as assert_frame_equal
    assert app.title and (page == "definitions" or app.selectbox(key="suite").value == suite)
    assert not app.error
    # people read names, commands take labels
    drawn = "".join(chart.proto.spec for chart in app.get("plotly_chart"))
    cells = " ".join(str(table.value.to_dict()) for table in app.dataframe)
    options = " ".join(str(box.options) for box in (*app.selectbox, *app.multiselect))
    assert not re.search(r"(sparsity|budget|criterion|recipe)=\w", f"{words(app)}{drawn}{cells}{options}")


def test_questions_lists_every_suite_launched_or_not(opened):
    text = words(opened("questions"))
    launched = {plan["suite"] for plan in Store(REFERENCE).plans()}
    for name, question in suites.questions().items():
        assert plain(question) in text
        assert (f"python -m bench.grid --suite {name}`" in text) == (name not in launched)
    assert len(suites.questions()) > len(launched)
    assert re.search(r"\d+ of \d+ runs done, 0 failed, \d+ minutes of runs", text.replace("\\", ""))
    assert "after Holm's correction" in text.replace("\\", "")


def test_calibration_shows_the_best_few_methods_and_offers_all(opened):
    app = opened("calibration", suite="baselines · demo")
    (methods,) = set(
        re.findall(r"· 6 of (\d+) methods, those of the best ECE ·", words(app).replace("\\", ""))
    )
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    panels = [note for note in figure["layout"]["annotations"] if "ECE" in note["text"]]
    errors = [float(re.search(r"ECE ([\d.]+)", note["text"])[1]) for note in panels]
    assert len(errors) == 6 and errors == sorted(errors) and figure["layout"]["height"] < 1500
    address = {"calibration-configurations-shown": "all methods"}
    app = opened("calibration", suite="baselines · demo", **address)
    assert f"· all {methods} methods ·" in words(app)
    tall = [json.loads(chart.proto.spec)["layout"]["height"] for chart in app.get("plotly_chart")]
    assert len(tall) == 3 and tall[1] < 60 * int(methods) + 200
    app = opened("uncertainty", suite="baselines · demo")
    assert f"· 6 of {methods} methods, those of the best NLL ·" in words(app).replace("\\", "")


def test_runs_are_ordered_and_filtered_and_begin_with_the_score_on_validation_data(opened):
    app = opened("runs", suite="criteria_ablation · demo", score="ECE")
    assert app.selectbox(key="runs_curve").value == "nll val"
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["layout"]["xaxis"]["title"]["text"] == "share of training"
    app.selectbox(key="runs_order").set_value("lowest NLL").run()
    values = app.dataframe[0].value["nll"].dropna().tolist()
    assert values == sorted(values) and len(values) > 100
    app = opened("runs", suite="criteria_ablation · demo", runs_order="latest", score="accuracy")
    days = app.dataframe[0].value["started_at"].tolist()
    assert days == sorted(days, reverse=True) and app.selectbox(key="runs_curve").value == "accuracy val"


def test_runs_are_filtered_by_their_status(opened, copy):
    def fail(table):
        status = table["status"].astype(object)
        status.iloc[:3] = "failed"
        return table.assign(status=status)

    changed_runs(copy, fail)
    app = opened("runs", copy, suite="criteria_ablation · demo", runs_status="failed")
    assert app.dataframe[0].value["status"].tolist() == ["failed"] * 3


def counting(monkeypatch, module, name):
    """Count the calls of a function of ``module``: a list with an entry for each."""
    calls, of = [], getattr(module, name)

    def counted(*arguments, **named):
        calls.append(arguments)
        return of(*arguments, **named)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_answers_are_computed_once_for_the_suites_that_are_unfolded(opened, copy, monkeypatch):
    for unused in ("architectures", "ood"):
        shutil.rmtree(copy / unused)
    calls = counting(monkeypatch, figures, "answers")
    app = opened("questions", copy, suite="baselines · demo")
    assert len(calls) == 1 and "after Holm's correction" in words(app).replace("\\", "")
    app.run()
    assert len(calls) == 1
    app.toggle(key="questions_all").set_value(True).run()
    launched = len(Store(copy).plans())
    assert not app.exception and len(calls) == launched > 5
    opened("questions", copy, suite="kl_schedule · demo")
    assert len(calls) == launched
    os.utime(copy / "kl_schedule" / "metrics.parquet")
    opened("questions", copy, suite="kl_schedule · demo")
    assert len(calls) == launched + 1


def test_claims_are_judged_once_until_results_change(opened, copy, monkeypatch):
    calls = counting(monkeypatch, claims, "examine")
    said = words(opened("claims", copy))
    assert len(calls) == 1 and words(opened("claims", copy)) == said and len(calls) == 1
    shutil.rmtree(copy / "criteria_ablation")
    assert words(opened("claims", copy)) != said and len(calls) == 2


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
    assert (
        len(table) == 1 and table["method"].iloc[0].startswith("SSVI") and table["sparsity %"].iloc[0] == 95
    )


@pytest.mark.parametrize("page", PAGES)
def test_values_in_the_address_that_are_none_are_told_and_ignored(opened, page):
    app = opened(
        page, suite="no such suite", method="<script>", sparsity="a", score="b", run="../../etc", data="x"
    )
    assert app.title
    told = [note.value.replace("\\", "") for note in app.info]
    for label, value in [
        ("Suite", "no such suite"),
        ("Methods", "<script>"),
        ("Sparsity", "a"),
        ("Score", "b"),
    ]:
        assert f"{label}: there is no {value} here." in told


def test_suite_and_score_are_in_the_address_also_where_they_are_the_default(opened):
    """Otherwise a copied address shows another view once a default changes."""
    app = opened("leaderboard")
    assert app.query_params["suite"] == app.selectbox(key="suite").value
    assert app.query_params["score"] == app.selectbox(key="score").value
    app.selectbox(key="score").select("ECE").run()
    assert app.query_params["score"] == "ECE"


def test_the_leaderboard_has_a_row_a_method_and_unfolds(opened):
    app = opened("leaderboard", suite="baselines · demo")
    table = app.dataframe[0].value
    assert len(table) == 15 and table["method"].is_unique
    # texts would be sorted as such: 1.2, 13.6, 2.0
    texts = {"method", "budget", "settings", "95 % interval", "verdict"}
    assert {head for head in table if not pd.api.types.is_numeric_dtype(table[head])} <= texts
    app.multiselect(key="leaderboard_unfold").select("ssvi").run()
    assert list(app.dataframe[0].value["method"]).count("↳ SSVI") == 4
    app = opened("leaderboard", suite="baselines · demo", leaderboard_rows="every configuration")
    assert len(app.dataframe[0].value) == 48
    app.toggle(key="leaderboard_sparse").set_value(True).run()
    sparse = app.dataframe[0].value
    assert len(sparse) == 41 and (sparse["sparsity %"] > 0).all()


def test_filters_and_address_never_disagree(opened):
    """An ensemble has no runs of the other budget: none are shown, rather than those of its own."""
    app = opened("leaderboard", suite="baselines · demo", method="Ensemble", budget="flops")
    assert app.multiselect(key="budget").value == ["flops"]
    assert not app.dataframe and "No finished run" in words(app)
    assert any(text.value.startswith("0 of ") for text in app.sidebar.caption)


def test_what_another_suite_does_not_have_is_told_and_left_out(opened):
    app = opened("leaderboard", suite="sparsity_sweep · demo", method="RigL", sparsity="0.99")
    app.selectbox(key="suite").select("criteria_ablation · demo").run()
    told = "\n".join(note.value.replace("\\", "") for note in app.info)
    assert "Methods: there is no RigL here." in told and "Sparsity: there is no 0.99 here." in told
    assert app.multiselect(key="method").value == []
    app.multiselect(key="method").select("ssvi").run()
    assert not app.info


def test_reset_withdraws_all_filters(opened):
    app = opened("leaderboard", suite="sparsity_sweep · demo", method="RigL", sparsity="0.99")
    few = len(app.dataframe[0].value)
    app.sidebar.button[0].click().run()
    assert len(app.dataframe[0].value) > few
    assert app.multiselect(key="method").value == app.multiselect(key="sparsity").value == []


@pytest.mark.parametrize(
    ("page", "key"), [("leaderboard", "leaderboard"), ("tradeoff", "tradeoff"), ("tradeoff", "small")]
)
def test_figures_and_tables_have_a_link_and_a_command_for_papers(opened, page, key):
    app = opened(page, suite="baselines · demo", method="SSVI", sparsity="0.95", budget="flops")
    app.session_state[f"{key}-paper"] = True
    app.run()
    assert not app.exception
    link, command = (code.value for code in app.code[:2])
    for part in ("suite=baselines+%C2%B7+demo", "score=NLL", "method=SSVI", "sparsity=0.95", "budget=flops"):
        assert part in link
    assert command == (
        "python -m bench.grid --suite baselines --scale demo --where "
        "method=ssvi,sparsity=0.95,budget=flops --seeds 0-4"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("snr_exp", "E exp(lambda |w|) / sd exp(lambda |w|). Keep the weights"),
        ("snr_exp", "From Li et al., ICLR 2024"),
        ("MC dropout", "MC dropout (mc_dropout)"),
        ("recipe", "recipe"),
        ("budget", "budget"),
    ],
)
def test_definitions_find_methods_criteria_and_settings(opened, asked, told):
    app = opened("definitions", suite=WATCHED, definitions_find=asked)
    assert told in words(app).replace("\\", "")


def test_costs_are_shown_where_they_are_counted_and_the_command_measures_the_rest(opened):
    app = opened("cost", suite=WATCHED)
    table = app.dataframe[0].value
    assert len(table) == 20 and (table["training FLOPs"] > 0).all()
    assert "Not measured, of 20 configurations" in words(app) and "bench.grid" in app.code[0].value


def test_criteria_have_the_looks_and_words_that_the_folder_gives_them(opened, copy):
    path = copy / "criteria_ablation" / "criteria.json"
    known = json.loads(path.read_text())
    known["snr"] |= {"label": "Signal *to* noise", "hue": "#123456", "order": 50, "source": "a book"}
    path.write_text(json.dumps(known))
    app = opened("criteria", copy, suite="criteria_ablation · demo")
    drawn = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    differences, settings, overlaps, in_time = drawn
    assert "Signal *to* noise" in settings["data"][0]["y"] + settings["layout"]["yaxis"].get("ticktext", [])
    assert "Signal *to* noise" in differences["layout"]["yaxis"]["ticktext"][-2:][0]
    assert overlaps["layout"]["yaxis"]["ticktext"][-1].startswith("Signal *to* noise")
    lines = {line.get("name"): line for line in in_time["data"]}
    assert lines["Signal *to* noise"]["line"] == {"color": "#123456", "dash": "dash", "width": 2}
    assert r"**Signal \*to\* noise** · " in words(app) and "Source: a book" in words(app)
    assert r"\mathrm{SNR}(w) = |\mu| / \sigma" in "".join(element.value for element in app.latex)


# -- folders that are not as they should be -----------------------------------------------------


def test_an_empty_folder_says_what_brings_something(opened, tmp_path):
    (tmp_path / "results").mkdir()
    app = opened("overview", tmp_path / "results")
    assert "Nothing to show yet" in words(app) and "bench.grid" in app.code[0].value


def test_a_folder_that_is_not_there_is_said(opened, tmp_path):
    assert "does not exist" in words(opened("overview", tmp_path / "nowhere"))


def test_an_argument_that_is_none_is_said(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["app.py", "--reslts", "x"])
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert not app.exception
    assert "unrecognized arguments: --reslts x; valid: --results DIR" in words(app).replace("\\", "")


#: The pages that show something of each table.
OF_TABLES = {
    "metrics": ("calibration", "uncertainty"),
    "calibration": ("calibration",),
    "selective": ("uncertainty",),
    "history": ("runs",),
    "layers": ("subspace",),
    "criteria_pairs": ("criteria",),
}


@pytest.fixture(scope="session")
def damaged(tmp_path_factory):
    """No runs can be read."""
    copy = Path(shutil.copytree(REFERENCE, tmp_path_factory.mktemp("damaged") / "results"))
    for suite in Store(copy).suites():
        (copy / suite / "runs.parquet").write_bytes(b"PAR1 not a table")
    return copy


@pytest.mark.parametrize("page", PAGES)
def test_damaged_runs_are_told_with_what_mends_them(opened, damaged, page):
    said = words(opened(page, damaged)).replace("\\", "")
    assert "runs.parquet: not a table" in said and "bench.collect" in said


@pytest.mark.parametrize(("table", "page"), [(t, page) for t, pages in OF_TABLES.items() for page in pages])
def test_a_damaged_table_is_named_where_it_is_shown_and_the_page_goes_on(opened, copy, table, page):
    for suite in Store(copy).suites():
        (copy / suite / f"{table}.parquet").write_bytes(b"PAR1 not a table")
    app = opened(page, copy, suite="criteria_ablation · demo")
    assert f"{table}.parquet: not a table" in words(app).replace("\\", "") and app.title


@pytest.mark.parametrize(("table", "page"), [("runs", "overview"), ("metrics", "calibration")])
def test_what_one_of_several_folders_lacks_is_said(opened, copy, table, page):
    for suite in Store(copy).suites():
        (copy / suite / f"{table}.parquet").write_bytes(b"PAR1 not a table")
    app = opened(page, REFERENCE, copy)
    assert any(f"{table}.parquet: not a table" in w.value.replace("\\", "") for w in app.warning)


def test_a_newer_schema_is_said(opened, copy):
    (copy / "schema.json").write_text(json.dumps({"schema": 99}))
    assert "newer version" in words(opened("overview", copy))


def test_one_broken_plan_hides_nothing_else(opened, copy):
    (copy / "baselines" / "plan-demo.json").write_text("{")
    app = opened("overview", copy)
    assert app.error and "plan" in app.error[0].value
    assert app.selectbox(key="suite").options == [suite for suite in SUITES if suite != "baselines · demo"]


def changed_runs(folder, change):
    """The runs of every suite of ``folder``, as ``change`` of a data frame makes them."""
    for suite in Store(folder).suites():
        path = folder / suite / "runs.parquet"
        table = pq.read_table(path)
        frame = table.to_pandas().astype({"status": object, "config_label": object, "config_id": object})
        pq.write_table(pa.Table.from_pandas(change(frame), schema=table.schema, preserve_index=False), path)


@pytest.fixture(scope="session")
def fruitless(tmp_path_factory):
    """Runs without any result."""
    copy = Path(shutil.copytree(REFERENCE, tmp_path_factory.mktemp("fruitless") / "results"))
    changed_runs(copy, lambda runs: runs.assign(status="failed", error="it broke"))
    return copy


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("runs", "definitions", "cost")])
def test_runs_without_any_result_are_no_blank_page(opened, fruitless, page):
    app = opened(page, fruitless)
    assert app.title and app.info


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """One reference is unfinished, a seed is not known, a figure is infinite, and nothing has a style."""
    copy = Path(shutil.copytree(REFERENCE, tmp_path_factory.mktemp("half") / "results"))

    def change(runs):
        first = runs["config_id"] == runs.loc[runs["method"] == "ssvi", "config_id"].iloc[0]
        runs.loc[first, "status"] = "failed"
        runs.loc[runs.index[-1], "seed"] = None
        runs.loc[runs.index[-2], ["nll", "step_time_ratio"]] = [float("inf"), 0.0]
        return runs

    changed_runs(copy, change)
    for suite in Store(copy).suites():
        for known in styles.FILES:
            (copy / suite / known.file).unlink()
    return copy


@pytest.mark.parametrize("page", PAGES)
def test_half_of_a_grid_is_shown_as_it_is(opened, half, page):
    for suite in ("criteria_ablation · demo", "baselines · demo"):
        assert opened(page, half, suite=suite, score="NLL").title


@pytest.fixture(scope="session")
def renamed(tmp_path_factory):
    """Two copies: in one every configuration has another id, as of a later version, in one another label."""
    folder = tmp_path_factory.mktemp("renamed")
    first, second = (Path(shutil.copytree(REFERENCE, folder / name)) for name in ("ids", "labels"))

    def rehashed(runs):
        mine = {one: hashlib.sha256(one.encode()).hexdigest()[:12] for one in {*runs.config_id, *runs.run_id}}
        return runs.assign(config_id=runs["config_id"].map(mine), run_id=runs["run_id"].map(mine))

    changed_runs(first, rehashed)
    changed_runs(second, lambda runs: runs.assign(config_label="as in " + runs["config_label"].astype(str)))
    return first, second


@pytest.mark.parametrize("page", PAGES)
def test_folders_that_call_configurations_otherwise_are_told_apart(opened, renamed, page):
    for other in renamed:
        app = opened(page, REFERENCE, other, suite="criteria_ablation · demo")
        assert app.title
    if page == "leaderboard":
        every = {"suite": "criteria_ablation · demo", "leaderboard_rows": "every configuration"}
        table = opened("leaderboard", REFERENCE, renamed[0], **every).dataframe[0].value
        told = table[["method", "sparsity %", "settings"]]
        assert not told.duplicated().any() and len(table) == 40 and (table["n"] == 10).all()


def test_several_folders_are_one(opened, copy):
    app = opened("overview", REFERENCE, copy)
    alone = opened("overview", REFERENCE)
    assert app.caption[0].value.split("data of")[0] == alone.caption[0].value.split("data of")[0]


def test_results_are_shown_as_they_are_and_not_as_markup(opened, copy):
    hostile = "<b onmouseover=alert(1)>x</b> [l](http://e.vil) $x$ **y** &lt;"
    for suite in Store(copy).suites():
        for path in (copy / suite).glob("plan-*.json"):
            plan = json.loads(path.read_text())
            path.write_text(json.dumps({**plan, "question": hostile}))
    title = opened("overview", copy).markdown[0].value
    assert title.replace("\\", "").replace("\u2060", "") == hostile
    assert "\\<b" in title and "\\[l\\]" in title and "://" not in title and "\\&lt" in title


# -- what is behind the pages ---------------------------------------------------------------------


def test_a_chosen_row_is_not_another_configuration_once_a_filter_is_changed(opened):
    app = opened("leaderboard", suite="baselines · demo")
    app.session_state[app.dataframe[0].key] = {"selection": {"rows": [11], "columns": [], "cells": []}}
    app.multiselect(key="method").select("rigl").run()
    assert not app.exception
    assert not any("Runs of" in title.value for title in app.subheader)


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


def with_sets(folder):
    """Write results on an unknown set and under a shift beside those that the runs of ``WATCHED`` have."""
    path = folder / "criteria_ablation" / "metrics.parquet"
    schema = pq.read_schema(path)
    known = pd.read_parquet(path)
    test = known[(known["split"].astype(str) == "test") & known["metric"].isin(["accuracy", "nll", "ece"])]
    unknown = (
        test[test["metric"] == "accuracy"].astype(object).assign(split="letters", metric="auroc_entropy")
    )
    shifted = [test.astype(object).assign(shift="fog", severity=level) for level in (1, 2)]
    rows = pd.concat([known.astype(object), unknown, *shifted])
    pq.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), path)


def test_unknown_and_shifted_inputs_are_shown_once_results_have_them(opened, copy):
    assert "No unknown inputs and no shifted test inputs" in words(opened("uncertainty", copy, suite=WATCHED))
    with_sets(copy)
    shown = words(opened("uncertainty", copy, suite=WATCHED))
    for title in (
        "Does uncertainty tell unknown inputs from test inputs?",
        "What happens to accuracy as the data shift?",
        "Does a temperature fitted on clean data still calibrate shifted data?",
    ):
        assert title in shown
    # there is no deterministic network in this suite
    assert "it is relative to the method deterministic" in shown
    report = contents.make(Store(copy), "criteria_ablation", "demo")
    titles = "\n".join(section.title for section in report.sections)
    assert "Does uncertainty tell unknown inputs from test inputs?" in titles
    assert "does averaging beat the mean network on unknown and shifted inputs?" in titles


def test_claims_have_the_sentences_and_verdicts_of_the_findings(opened):
    """Word for word, for the reference results."""
    page = (ROOT / "docs" / "findings.md").read_text()
    said = re.findall(
        r"^- \*\*(.*)\*\*$", page.partition("<!-- part: claims of the paper -->")[2], re.MULTILINE
    )
    app = opened("claims")
    shown = [
        text.replace("\\", "")
        for text in [*(s.value for s in app.subheader), *(m.value for m in app.markdown)]
    ]
    verdicts = [text.strip("*") for text in shown if text.startswith("**")]
    statements = [text for text in shown if any(line.startswith(text) for line in said)]
    assert [f"{s} {v[0].upper()}{v[1:]}." for s, v in zip(statements, verdicts, strict=True)] == said
    for line in re.findall(r"^  - (.*)$", page, re.MULTILINE):
        assert any(line in text for text in shown), line
