"""Published tables grow run by run: what is published stays, and what contradicts it is refused."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bench import publish
from bench.cli.entry import entry
from bench.experiment.execution import Execution
from bench.launching.pool import run_inline
from bench.planning.suite import load
from bench.reporting import collecting, publishing
from bench.results.files import StoreError
from bench.results.store import Store
from tests import toys  # noqa: F401 (the toys are registered)

SUITE = """
question: What is left of a published suite?
reference: {method: toy_two_stage}
scales:
  demo:
    seeds: 0-2
    base: {dataset: toy_blobs, network: toy_network, epochs: 2, batch_size: 30, lr: 0.05, samples: 2}
    grids:
      - {recipe: default, method: [toy_two_stage, dense_vi]}
"""
COMMAND = "python -m bench.grid --suite given"


def computed(tmp_path, name, text=SUITE, suite="given", planned=(), **asked):
    """Compute the cells that ``asked`` selects, plan also those of ``planned``, and collect."""
    (path := tmp_path / f"{suite}.yaml").write_text(text)
    store = Store(tmp_path / name, create=True)
    if planned is not None:
        store.merge_plan(load(str(path)).expand("demo").to_dict(COMMAND))
    plan = load(str(path)).expand("demo", **asked)
    store.merge_plan(plan.to_dict(COMMAND))
    run_inline(store, plan.specs, Execution())
    collecting.collect(store, suite)
    return store


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(store, target, words):
    """Merging says ``words`` in one line, and changes nothing."""
    before = contents(target)
    with pytest.raises(StoreError, match=words) as caught:
        publishing.publish(store, store.suites(), target, merge=True)
    assert "\n" not in str(caught.value)
    assert contents(target) == before and not list(target.glob(".given*"))


def changed(path, change):
    """Replace a stored table by what ``change`` makes of it."""
    pq.write_table(change(pq.read_table(path)), path)


def test_runs_that_finished_since_are_added_and_all_others_stay(tmp_path):
    target = tmp_path / "published"
    store = computed(tmp_path, "results", seeds="0")
    publishing.publish(store, ["given"], target)
    before = Store(target).read_tables("given")
    assert set(before["runs"]["status"]) == {"done", "pending"}
    store = computed(tmp_path, "results")
    publishing.publish(store, ["given"], target, merge=True)
    runs = Store(target).read_tables("given")["runs"]
    assert len(runs) == 6 and (runs["status"] == "done").all()
    publishing.publish(store, ["given"], tmp_path / "whole")
    whole, merged = (Store(folder).read_tables("given") for folder in (tmp_path / "whole", target))
    for name, table in merged.items():
        rows = [
            each.astype(str).sort_values(list(each)).reset_index(drop=True) for each in (table, whole[name])
        ]
        pd.testing.assert_frame_equal(*rows)
    assert Store(target).plans() == store.plans()
    again = contents(target)
    publishing.publish(store, ["given"], target, merge=True)
    assert contents(target) == again


def test_runs_of_another_folder_join_those_that_are_published(tmp_path):
    """As computed on another machine, which knows nothing of the first one's runs or of another scale."""
    target = tmp_path / "published"
    first = computed(tmp_path, "first", planned=None, where=["method=dense_vi"], seeds="0-1")
    other = computed(tmp_path, "other", planned=None, where=["method=toy_two_stage"], seeds="1-2")
    small = {**first.plan("given", "demo"), "scale": "small"}
    first.merge_plan(small)
    collecting.collect(first, "given")
    publishing.publish(first, ["given"], target)
    publishing.publish(other, ["given"], target, merge=True)
    runs = Store(target).read_tables("given")["runs"]
    found = runs.groupby(["scale", "method"])["seed"].apply(list).to_dict()
    assert found == {
        ("demo", "dense_vi"): [0, 1], ("demo", "toy_two_stage"): [1, 2], ("small", "dense_vi"): [0, 1],
    }  # fmt: skip
    metrics = Store(target).read_tables("given")["metrics"]
    assert set(metrics["run_id"]) == set(runs["run_id"])
    assert not metrics.duplicated().any()
    assert set(Store(target).read_styles("given")) >= {"dense_vi", "toy_two_stage"}
    # in the other order, and a folder that is behind takes nothing away
    publishing.publish(first, ["given"], target, merge=True)
    assert len(Store(target).read_tables("given")["runs"]) == 6


def test_planned_runs_that_are_not_done_are_told(tmp_path, capsys):
    store = computed(tmp_path, "results", where=["method=dense_vi"], seeds="0-1")
    asked = ["--suite", "given", "--to", str(tmp_path / "published"), "--results", str(store.root), "--merge"]
    with pytest.raises(SystemExit) as caught:
        entry(lambda: publish.main(asked))
    assert caught.value.code == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "given, scale demo: planned and not done:",
        "  toy_two_stage, seed 0, 1, 2: pending",
        "  dense_vi, seed 2: pending",
    ]


def test_a_run_that_was_evaluated_on_more_sets_since_is_published_anew(tmp_path):
    target = tmp_path / "published"
    store = computed(tmp_path, "results")
    publishing.publish(store, ["given"], target)
    whole = Store(target).read_tables("given")["metrics"]
    fewer = target / "given" / "metrics.parquet"
    changed(fewer, lambda t: t.filter(pc.not_equal(t["metric"].cast("string"), "ece")))
    publishing.publish(store, ["given"], target, merge=True)
    merged = Store(target).read_tables("given")["metrics"]
    assert len(merged) == len(whole) and merged["metric"].eq("ece").sum() == whole["metric"].eq("ece").sum()
    # the other way round nothing is lost
    changed(store.root / "given" / "metrics.parquet", lambda t: t.slice(0, 10))
    publishing.publish(store, ["given"], target, merge=True)
    assert len(Store(target).read_tables("given")["metrics"]) == len(whole)


def test_other_results_of_a_run_are_refused(tmp_path):
    target = tmp_path / "published"
    store = computed(tmp_path, "results", seeds="0")
    publishing.publish(store, ["given"], target)

    def other(table):
        return table.set_column(table.column_names.index("value"), "value", pc.add(table["value"], 1e-9))

    changed(store.root / "given" / "metrics.parquet", other)
    refused(store, target, "run [0-9a-f]{12} is published with other results .*publishing without --merge")


def test_other_settings_under_a_label_are_refused(tmp_path):
    target = tmp_path / "published"
    publishing.publish(computed(tmp_path, "results", seeds="0"), ["given"], target)
    other = computed(tmp_path, "other", SUITE.replace("lr: 0.05", "lr: 0.06"), seeds="1")
    refused(
        other, target, "'toy_two_stage' is published with other settings, or another version of its method"
    )


def test_another_reference_is_refused(tmp_path):
    target = tmp_path / "published"
    publishing.publish(computed(tmp_path, "results", seeds="0"), ["given"], target)
    text = SUITE.replace("reference: {method: toy_two_stage}", "reference: {method: dense_vi}")
    other = computed(tmp_path, "other", text, seeds="1")
    refused(other, target, 'is published with the reference {"method": "toy_two_stage"}')


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("torch_version", "1.0", "the version of torch of finished runs is 1.0, that of the published ones"),
        ("device", "cuda:0", "the kind of device of finished runs is cuda, that of the published ones cpu"),
    ],
)
def test_runs_of_other_arithmetic_are_refused(tmp_path, column, value, words):
    target = tmp_path / "published"
    publishing.publish(computed(tmp_path, "results", seeds="0"), ["given"], target)
    other = computed(tmp_path, "other", seeds="1")

    def renamed(table):
        values = pa.array([value] * len(table), table.schema.field(column).type)
        return table.set_column(table.column_names.index(column), column, values)

    changed(other.root / "given" / "runs.parquet", renamed)
    refused(other, target, words)


def test_one_suite_that_is_refused_leaves_all_as_they_were(tmp_path):
    target = tmp_path / "published"
    for suite in ("alpha", "given"):
        publishing.publish(computed(tmp_path, f"r-{suite}", suite=suite, seeds="0"), [suite], target)
    store = computed(tmp_path, "both", suite="alpha")
    text = SUITE.replace("lr: 0.05", "lr: 0.06")
    (tmp_path / "both" / "given").mkdir()
    store = computed(tmp_path, "both", text, suite="given", seeds="0")
    assert store.suites() == ["alpha", "given"]
    refused(store, target, "given, scale demo: 'toy_two_stage'")


def test_tables_that_lack_a_planned_run_are_not_merged(tmp_path):
    target = tmp_path / "published"
    store = computed(tmp_path, "results", planned=None, seeds="0")
    publishing.publish(store, ["given"], target)
    later = load(str(tmp_path / "given.yaml")).expand("demo", seeds="7")
    store.merge_plan(later.to_dict(COMMAND))
    refused(store, target, "of the plan is in no table; python -m bench.collect --suite given")


def test_settings_keep_their_values_whatever_the_type_of_their_column(tmp_path):
    """A column has the type that all its values share, so that other runs may have given it another one."""
    target = tmp_path / "published"
    wide = SUITE.replace("method: [toy_two_stage, dense_vi]", "method: dense_vi, max_steps: [null, 3]")
    wide = wide.replace("{method: toy_two_stage}", "{method: dense_vi}")
    nothing = computed(tmp_path, "first", wide, planned=None, where=["max_steps=null"], seeds="0")
    publishing.publish(nothing, ["given"], target)
    three = computed(tmp_path, "other", wide, planned=None, where=["max_steps=3"], seeds="0")
    publishing.publish(three, ["given"], target, merge=True)
    steps = Store(target).read_tables("given")["runs"]["config.training.max_steps"]
    assert steps.isna().tolist() == [True, False] and steps.iloc[1] == 3
    cells = json.loads((target / "given" / "plan-demo.json").read_text())["cells"]
    assert len(cells) == 2
