"""The report of a suite: the contents of its three forms; the page needs no other file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench import report
from bench.cli.entry import entry
from bench.reporting import contents
from bench.reporting.claims import removed_alike
from bench.results.names import in_words
from bench.results.store import Store
from bench.results.tables.columns import TABLES
from bench.results.tables.parquet import write_runs
from tests.dashboard_server import ROOT
from tests.latex import compile_fitting

REFERENCE = ROOT / "results" / "reference"
SUITE, SCALE = "baselines", "demo"


@pytest.fixture(scope="module")
def made():
    return contents.make(Store(REFERENCE), SUITE, SCALE)


def call(*arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        entry(lambda: report.main([str(argument) for argument in arguments]))
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_the_command_writes_all_three(tmp_path, capsys):
    asked = ["--suite", SUITE, "--scale", SCALE, "--results", REFERENCE, "--to", tmp_path / "a" / "b"]
    code, out, _ = call(*asked, capsys=capsys)
    assert code == 0 and out == f"{tmp_path / 'a' / 'b'}: report.md, report.tex, report.html\n"
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "report.md",
        "report.tex",
        "report.html",
    }
    # the suite's own score, as none was asked for
    assert "ranking by NLL" in (tmp_path / "a" / "b" / "report.md").read_text()


def test_every_configuration_is_in_every_form_with_its_interval(made):
    runs = Store(REFERENCE).read_tables(SUITE, ["runs"])["runs"]
    runs = runs[runs["scale"] == SCALE]
    markdown, latex, page = made.markdown(), made.latex(), made.page()
    methods = Store(REFERENCE).read_styles(SUITE)
    for label in runs["config_label"].unique():
        name = in_words(label, methods, {})
        assert f"| {name} |" in markdown and f"<td>{name}</td>" in page
        assert name.replace("%", r"\%").replace("·", r"$\cdot$") in latex
    best = next(line for line in latex.splitlines() if r"\textbf" in line)
    value = re.search(r"\\textbf{(\S+)}{\\scriptsize\\,\$\\pm\$\\,(\S+)}", best)
    assert value is not None and f"{value[1]} ± {value[2]}" in markdown


def test_the_page_has_the_figures_and_loads_nothing(made):
    page = made.page()
    assert page.count('<figure role="img" aria-label="') >= 10
    for title in ("Do probabilities mean what they say?", "How much of the subspace does an update replace?"):
        assert f"digits · mlp: {title}</h2>" in page
    outside = re.findall(
        r'(?:src|href)="(?!data:|#)[^"]*"', re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    )
    assert outside == []


def test_definitions_provenance_and_the_command_are_there(made):
    text = made.markdown()
    plan = next(plan for plan in Store(REFERENCE).plans(SUITE) if plan["scale"] == SCALE)
    assert plan["question"] in text and all(
        f"`{line}`" in text for line in Store(REFERENCE).commands(SUITE, SCALE)
    )
    assert "## Provenance" in text and "git_sha" in text and "## Definitions" in text
    assert "Expected calibration error of the top label" in text


def test_failed_runs_are_told_with_their_reason(tmp_path):
    results = Path(shutil.copytree(REFERENCE, tmp_path / "results"))
    import pyarrow.parquet as pq

    path = results / SUITE / "runs.parquet"
    table = pq.read_table(path)
    frame = table.to_pandas()
    frame["status"] = frame["status"].astype(object)
    frame["error"] = frame["error"].astype(object)
    frame.loc[0, ["status", "error"]] = ["failed", "<script>boom</script> | pipe"]
    import pyarrow as pa

    write_runs(results / SUITE, pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False))
    scale = str(frame["scale"].iloc[0])
    made = contents.make(Store(results), SUITE, scale)
    assert (
        "## Failed and missing runs" in made.markdown()
        and r"&lt;script\>boom&lt;/script\> \| pipe" in made.markdown()
    )
    assert "&lt;script&gt;boom&lt;/script&gt;" in made.page() and "<script>boom" not in made.page()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--suite", "nothing"], "no suite nothing was launched; there are: "),
        (["--suite", SUITE], "was launched at several scales; valid --scale: "),
        (
            ["--suite", SUITE, "--scale", "paper"],
            "at scale paper was launched; there are: demo, small",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    code, _, err = call(*arguments, "--results", REFERENCE, capsys=capsys)
    assert code == 2 and words in err and err.count("\n") == 1


def test_tables_that_are_missing_are_said_with_what_makes_them(tmp_path, capsys):
    results = Path(shutil.copytree(REFERENCE, tmp_path / "results"))
    (results / SUITE / f"{TABLES[0]}.parquet").unlink()
    code, _, err = call("--suite", SUITE, "--scale", SCALE, "--results", results, capsys=capsys)
    assert code == 2 and "no such file" in err


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["baselines", "criteria_ablation", "sparsity_sweep"])
def test_the_tables_compile_and_fit_the_text(suite, tmp_path):
    made = contents.make(Store(REFERENCE), suite, SCALE, ["nll", "brier"])
    compile_fitting(made.latex(), "booktabs,tabularx", tmp_path)


def test_each_score_that_is_asked_for_has_a_ranking(tmp_path, capsys):
    asked = ["--suite", SUITE, "--scale", SCALE, "--results", REFERENCE, "--to", tmp_path]
    assert call(*asked, "--score", "ece", "--score", "nll", capsys=capsys)[0] == 0
    text = (tmp_path / "report.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("## ") and "ranking" in line]
    assert heads == ["## digits · mlp: ranking by ECE", "## digits · mlp: ranking by NLL"]
    assert "difference of NLL" in text and "difference of ECE" in text
    code, _, err = call(*asked, "--score", "nl", capsys=capsys)
    assert code == 2 and "unknown score 'nl' (did you mean 'nll'?)" in err


def test_scores_are_those_of_the_predictor_that_is_asked_for(tmp_path, capsys):
    asked = ["--suite", SUITE, "--scale", SCALE, "--results", REFERENCE, "--to", tmp_path]
    tables = Store(REFERENCE).read_tables(SUITE, ["runs", "metrics"])
    metrics = tables["metrics"].query("predictor == 'mean' and metric == 'nll' and split == 'test'")
    dense = tables["runs"].query(f"scale == {SCALE!r} and method == 'dense_vi'")["run_id"]
    mean = metrics[metrics["run_id"].isin(dense)].drop_duplicates("run_id", keep="last")["value"].mean()
    for predictor, words in (("mean", "mean network"), ("samples", "averaged samples")):
        assert call(*asked, "--predictor", predictor, capsys=capsys)[0] == 0
        text = (tmp_path / "report.md").read_text()
        row = next(line for line in text.splitlines() if "| Dense VI " in line)
        assert f"Scores of the {words}, on the test set." in text
        # the mean of an ensemble's networks is no network
        left_out = "Left out, as they have no such scores: " in text
        assert left_out == (predictor == "mean")
        assert ("Ensemble" in text.partition("no such scores: ")[2].partition("\n")[0]) == left_out
        assert (f"| {mean:.3f} ± " in row) == (predictor == "mean")


def test_what_two_criteria_remove_alike_is_the_mean_over_runs_of_both():
    runs = pd.DataFrame(
        {
            "run_id": ["r0", "r1", "s0", "t0"],
            "config_id": ["a", "a", "b", "c"],
            "criterion": ["snr", "snr", "abs_mean", None],
        }
    )
    pairs = pd.DataFrame(
        [
            ("r0", "abs_mean", "snr", 0.5),
            ("r1", "snr", "abs_mean", 0.25),
            ("s0", "abs_mean", "snr", 0.75),
            ("s0", "abs_mean", "mean_exp", 0.0),  # another pair
            ("x0", "abs_mean", "snr", 0.0),  # a run of no configuration here
        ],
        columns=["run_id", "criterion_a", "criterion_b", "iou"],
    )
    references = {"a": "b", "c": "b", "b": "b"}
    assert removed_alike(runs, references, pairs) == {"a": pytest.approx(0.5)}
    assert removed_alike(runs, {"a": "c"}, pairs) == {}
    assert removed_alike(runs, references, pairs.iloc[3:]) == {}


def test_words_of_results_are_no_markup(tmp_path):
    results = Path(shutil.copytree(REFERENCE, tmp_path / "results"))
    path = results / SUITE / f"plan-{SCALE}.json"
    plan = json.loads(path.read_text())
    hostile = "![i](http://a.b/c.png) [l](javascript:x) <b>y</b> **z**"
    path.write_text(json.dumps({**plan, "question": hostile, "rank_by": "no such score"}))
    made = contents.make(Store(results), SUITE, SCALE)
    assert r"## \!\[i\](http://a.b/c.png) \[l\](javascript:x) &lt;b\>y&lt;/b\> \*\*z\*\*" in made.markdown()
    assert "<b>y</b>" not in made.page()
