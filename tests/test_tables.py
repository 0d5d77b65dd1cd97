"""The tables of a suite, against run folders written by hand; and the command that writes them."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import collect
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.reporting import collecting
from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.tables import arrow
from bench.results.tables.columns import TABLES, definitions, kinds
from bench.results.tables.metrics_reader import LISTS, VIEW, parse_results
from bench.results.tables.run_reader import LINES
from bench.runner.execute import execute
from tests.fuzzing import tries
from tests.run_folders import METRICS, SCALED, cell, config, identifier, plan, run_files, write_run

SUITE = "criteria_ablation"
#: The columns that others' scripts rely on.
PROMISED = """
    run_id config_id config_label suite scale status error method method_version dataset network sparsity
    density criterion addition seed epochs epochs_total train_examples test_examples test_set
    accuracy nll brier ece ece_null ece_marginal_l2
    params_total params_active train_flops train_flops_ratio inference_flops checkpoint_bytes
    compression_vs_dense_vi compression_vs_deterministic wall_seconds peak_memory_bytes concurrency device
    git_sha torch_version started_at
"""
DTYPES = {"string": "str", "name": "category", "integer": "Int64", "number": "float64", "boolean": "boolean"}
FIGURES = ["accuracy", "nll", "brier", "ece", "density", "train_flops", "wall_seconds", "train_flops_ratio"]


def results(root, *runs, suite=SUITE, **options):
    """A store whose plan asks for ``runs``: files to write, or a configuration of which nothing is stored."""
    store = Store(root, create=True)
    configurations = [run["spec"]["config"] if "spec" in run else run for run in runs]
    for run in runs:
        if "spec" in run and not store.run(run["spec"]["run_id"]).path.exists():
            write_run(root, run)
    store.merge_plan(plan([cell(configuration) for configuration in configurations], suite, **options))
    return store


def one_row(store, suite=SUITE):
    (row,) = store.tables(suite)["runs"].to_dict("records")
    return row


def assert_same(first, second):
    for name in TABLES:
        pd.testing.assert_frame_equal(first[name], second[name])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Runs in every state, one of them with fewer options than the others."""
    corrupted = run_files(config(5))
    corrupted["metrics"] = {"metrics": 3}
    nothing_yet = run_files(config(6), status="running")
    del nothing_yet["spec"], nothing_yet["provenance"]
    store = results(
        tmp_path_factory.mktemp("mixed"),
        run_files(config(0), stages=("search", "final"), accuracy=0.875),
        run_files(config(1, method="deterministic", dropout=0.5)),
        run_files(config(2), status="failed"),
        run_files(config(3), status="running") | {"metrics": run_files(config(3))["metrics"]},
        config(4),
        corrupted,
        config(6),
        run_files(config(7), status="preempted"),
    )
    for name, document in nothing_yet.items():
        if isinstance(document, dict):
            store.run(identifier(config(6))).write(name, document)
    return store


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that was really computed."""
    store = Store(tmp_path_factory.mktemp("trained"), create=True)
    chosen = {"dataset": "digits", "network": "mlp", "method": "ssvi", "epochs": 1, "seed": 0}
    spec = parse_spec(nest({**chosen, "replace_every": 10, "replace_until": 1.0}))
    assert execute(spec, store, Execution()) == "done"
    return store.run(spec.run_id)


@pytest.fixture(scope="module")
def tables(mixed):
    return mixed.tables(SUITE)


# -- types and columns -------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_their_types_are_those_defined(tables, name):
    frame = tables[name]
    defined = kinds(name)
    assert list(frame.columns[: len(defined)]) == list(defined)
    assert {column: str(frame[column].dtype) for column in defined} == {
        column: DTYPES[kind] for column, kind in defined.items()
    }
    assert len(frame) > 0


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_has_the_same_types(tmp_path, tables, name):
    empty = results(tmp_path, config()).tables(SUITE)[name]
    defined = list(kinds(name))
    assert list(empty.columns) == defined
    assert list(map(str, empty.dtypes)) == list(map(str, tables[name][defined].dtypes))


def test_every_promised_column_is_in_runs(tables):
    assert [column for column in PROMISED.split() if column not in tables["runs"]] == []


def test_other_columns_of_runs_are_resolved_keys(tables):
    others = [column for column in tables["runs"] if column not in kinds("runs")]
    assert all(column.startswith("config.") for column in others)
    row = tables["runs"].iloc[0]
    assert row["config.method.criterion"] == "snr"
    assert row["config.network.hidden"] == "[256, 256]"
    assert (row["config.training.lr"], row["config.seed"]) == (0.05, 0)


def test_a_key_that_a_run_lacks_is_empty_there(tables):
    runs = tables["runs"]
    assert runs["config.method.dropout"].dropna().to_dict() == {1: 0.5}
    assert math.isnan(runs["config.method.sparsity"][1])


def test_every_definition_says_what_it_must():
    for table, columns in definitions().items():
        for column, entry in columns.items():
            expected = {"unit", "definition", "source", "better"} | ({"type"} if "." not in table else set())
            assert set(entry) - {"margin"} == expected, (table, column)
            assert entry.get("margin", 1) > 0 and (table == "runs" or "margin" not in entry)
            assert entry["better"] in ("higher", "lower", None) and entry["definition"].endswith(".")


@pytest.mark.parametrize(
    ("packages", "shown"), [({"b": "2.0", "a": "1.1"}, "a 1.1, b 2.0"), ({}, None), (None, None)]
)
def test_other_packages_are_named_with_their_versions(tmp_path, packages, shown):
    files = run_files(config())
    files["provenance"]["packages"] = packages
    row = one_row(results(tmp_path, files))
    assert row["packages"] == shown if shown else pd.isna(row["packages"])


@pytest.mark.parametrize("missing", [None, "mean", "samples"])
@pytest.mark.parametrize("spaced", [False, True])  # plain lines are parsed by arrow, others by Python
def test_what_averaging_gains_is_the_mean_network_less_the_samples(tmp_path, missing, spaced):
    files = run_files(config())
    rows = files["metrics"]["metrics"]
    files["metrics"]["metrics"] = [row for row in rows if row["predictor"] != missing]
    if spaced:
        files["metrics"]["note"] = "é"
    row = one_row(results(tmp_path, files))
    for column, metric in (("posterior_gain_nll", "nll"), ("posterior_gain_ece", "ece")):
        if missing:
            assert math.isnan(row[column])
        else:
            of = {
                r["predictor"]: r["value"]
                for r in rows
                if (r["stage"], r["split"], r["metric"]) == (row["stage"], "test", metric)
            }
            assert row[column] == pytest.approx(of["mean"] - of["samples"]) and row[column] > 0


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, False], "boolean"),
        ([1, 2], "Int64"),
        ([1, 0.5], "float64"),
        ([1, "auto"], "str"),
        ([True, 1], "str"),
        ([None, None], "str"),
        ([2**70, 1], "str"),
        ([[1, 2], None], "str"),
    ],
)
def test_a_key_of_the_configuration_has_one_type(tmp_path, values, dtype):
    runs = []
    for seed, value in enumerate(values):
        configuration = config(seed)
        configuration["method"]["option"] = value
        runs.append(run_files(configuration))
    store = results(tmp_path, *runs)
    column = store.tables(SUITE)["runs"]["config.method.option"]
    assert str(column.dtype) == dtype
    texts = [v if v is None or dtype != "str" or isinstance(v, str) else json.dumps(v) for v in values]
    assert [None if pd.isna(v) else v for v in column] == texts


# -- what a row says ---------------------------------------------------------------------


def test_metrics_of_runs_are_last_stage_samples_test(tables):
    row, metrics = tables["runs"].iloc[0], tables["metrics"]
    wanted = {"run_id": row["run_id"], "stage": "final", "predictor": "samples", "split": "test"}
    for metric in ("accuracy", "nll", "brier", "ece", "ece_null", "ece_marginal_l2"):
        found = metrics
        for column, value in (wanted | {"metric": metric}).items():
            found = found[found[column] == value]
        assert found["value"].tolist() == [row[metric]]
    assert (row["accuracy"], row["stage"]) == (0.875, "final")


def test_metrics_of_shifted_data_are_not_shown_as_the_result(tmp_path):
    run = run_files(config(), accuracy=0.9)
    shifted = [
        row | {"shift": "blur", "severity": 3, "value": 0.1} for row in run["metrics"]["metrics"] if row["n"]
    ]
    run["metrics"]["metrics"] += shifted
    row = one_row(results(tmp_path, run))
    assert (row["accuracy"], row["nll"]) == (0.9, 0.02)


def test_folders_from_before_temperature_scaling_read_as_they_did(tmp_path):
    run = run_files(config())
    now = results(tmp_path / "now", run).tables(SUITE)
    for table in ("metrics", "calibration"):
        plain = [row for row in run["metrics"][table] if "+temperature" not in row["predictor"]]
        run["metrics"][table] = plain
    then = results(tmp_path / "then", run).tables(SUITE)
    pd.testing.assert_frame_equal(then["runs"], now["runs"])
    assert set(then["metrics"]["predictor"]) == {"mean", "samples"}


def before_uncertainty_of_errors():
    """A run as it was written when there was no table ``selective``, and no metric of errors."""
    run = run_files(config())
    del run["metrics"]["selective"]
    later = ("_right", "_wrong", "error_auroc", "aurc")
    kept = [row for row in run["metrics"]["metrics"] if not row["metric"].endswith(later)]
    run["metrics"]["metrics"] = kept
    return run


def test_folders_from_before_there_were_risk_coverage_curves_read_as_they_did(tmp_path):
    now = results(tmp_path / "now", run_files(config())).tables(SUITE)
    store = results(tmp_path / "then", before_uncertainty_of_errors())
    then = store.tables(SUITE)
    pd.testing.assert_frame_equal(then["runs"], now["runs"])
    assert then["runs"]["status"].tolist() == ["done"]
    assert then["selective"].empty and list(then["selective"]) == list(now["selective"])
    store.update_tables(SUITE)
    assert_same(store.read_tables(SUITE), then)


def test_tables_of_a_version_without_risk_coverage_curves_have_none(tmp_path):
    store = results(tmp_path, before_uncertainty_of_errors())
    path = store.update_tables(SUITE)["selective"]
    expected = store.read_tables(SUITE)
    path.unlink()
    assert_same(store.read_tables(SUITE), expected)
    alone = store.read_tables(SUITE, ["selective"])["selective"]
    pd.testing.assert_frame_equal(alone, expected["selective"])
    # the next one who collects writes it
    store.update_tables(SUITE)
    assert path.exists()
    assert_same(store.read_tables(SUITE), expected)


def test_what_could_not_be_scored_is_empty_in_the_table_of_metrics(tmp_path):
    """Of a run without a wrong prediction: NaN when it is written, null in the file."""
    run = run_files(config())
    for row in run["metrics"]["metrics"]:
        if row["metric"] in ("entropy_wrong", "error_auroc"):
            row["value"] = math.nan
    store = results(tmp_path, run_files(config()))
    store.run(identifier(config())).write("metrics", run["metrics"])
    store.update_tables(SUITE)
    found = store.read_tables(SUITE)["metrics"]
    assert set(found["metric"][found["value"].isna()]) == {"entropy_wrong", "error_auroc"}
    assert one_row(store)["status"] == "done"


def test_a_metric_that_was_not_taken_is_empty(tmp_path):
    run = run_files(config())
    kept = [row for row in run["metrics"]["metrics"] if row["metric"] != "ece"]
    run["metrics"]["metrics"] = kept
    row = one_row(results(tmp_path, run))
    assert math.isnan(row["ece"]) and row["status"] == "done"


def test_costs_and_ratios_are_those_of_the_run(tables):
    row = tables["runs"].iloc[0]
    assert row["train_flops_ratio"] == 0.25
    assert row["inference_flops_ratio"] == 0.1
    assert row["compression_vs_dense_vi"] == 7.0
    assert row["compression_vs_deterministic"] == 3.5
    assert (row["params_active"], row["peak_memory_bytes"], row["epochs_total"]) == (8889, 400_000_000, 8)
    assert (row["train_flops_rigl_ratio"], row["stored_nll_change"], row["energy_joules"]) == (
        0.12,
        0.0002,
        40.5,
    )
    assert row["threads"] == 1


def test_a_run_from_before_there_was_a_figure_has_none(tmp_path):
    added = {"train_flops_rigl_ratio", "stored_nll_change", "energy_joules", "peak_device_memory_bytes"}
    run = run_files(config())
    run["costs"] = {name: value for name, value in run["costs"].items() if name not in added}
    del run["provenance"]["threads"]
    row = one_row(results(tmp_path, run))
    assert row["status"] == "done" and row["train_flops"] == 2.5e11
    assert all(pd.isna(row[name]) for name in {*added, "threads"})


def test_a_method_without_the_option_has_no_sparsity_and_no_criterion(tables):
    row = tables["runs"].iloc[1]
    assert (row["method"], row["sparsity"]) == ("deterministic", 0.0)
    assert pd.isna(row["criterion"]) and pd.isna(row["addition"])


def test_every_planned_run_is_a_row_in_the_order_of_the_plan(tables):
    runs = tables["runs"]
    expected = ["done", "done", "failed", "running", "pending", "failed", "running", "preempted"]
    assert runs["status"].tolist() == expected
    assert runs["seed"].tolist() == list(range(8))
    assert runs["method"].tolist() == ["ssvi", "deterministic", *["ssvi"] * 6]


def test_only_what_is_done_has_figures(tables):
    runs = tables["runs"]
    unfinished = runs["status"] != "done"
    assert runs.loc[unfinished, FIGURES].isna().all(axis=None)
    assert runs.loc[~unfinished, FIGURES].notna().all(axis=None)
    assert set(tables["metrics"]["run_id"]) == set(runs.loc[~unfinished, "run_id"])
    for name in ("calibration", "selective", "stages"):
        assert set(tables[name]["run_id"]) == set(runs.loc[~unfinished, "run_id"])


def test_a_failed_run_says_why(tables):
    row = tables["runs"].iloc[2]
    assert (row["error_kind"], row["error"]) == ("nan", "loss is nan at step 7 of stage 'train'")


def test_a_corrupted_run_says_which_field(tables):
    row = tables["runs"].iloc[5]
    assert row["error_kind"] == "corrupted"
    assert row["error"] == "metrics.json: metrics: not a list of rows"
    assert (row["method"], row["criterion"], row["sparsity"], row["seed"]) == ("ssvi", "snr", 0.9, 5)
    assert not any((tables[name]["run_id"] == row["run_id"]).any() for name in TABLES if name != "runs")


def test_a_pending_run_has_what_the_plan_says(tables):
    row = tables["runs"].iloc[4]
    assert (row["method"], row["dataset"], row["criterion"], row["seed"]) == ("ssvi", "digits", "snr", 4)
    assert row["config_id"] == tables["runs"]["config_id"][0]
    assert pd.isna(row["config.method.name"]) and pd.isna(row["error"])


def test_a_cell_that_is_omitted_is_no_row(tmp_path):
    target = run_files(config())
    pointer = cell(config(criterion="snr_abs"), omitted="removes the same", alias_of=target["spec"]["run_id"])
    store = results(tmp_path, target)
    store.merge_plan(plan([pointer]))
    assert one_row(store)["run_id"] == target["spec"]["run_id"]


def test_a_running_run_has_a_history_already(tables):
    running = tables["runs"]["run_id"][3]
    assert (tables["history"]["run_id"] == running).sum() > 0


def test_an_error_is_one_line_of_bounded_length(tmp_path):
    run = run_files(config(), status="failed")
    run["status"]["error"] = "first\nsecond " + "x" * 5000
    error = one_row(results(tmp_path, run))["error"]
    assert error.startswith("first second x") and len(error) == 1000


def test_one_corrupted_run_leaves_the_others_as_they_are(tmp_path):
    sound = [run_files(config(seed)) for seed in (0, 1)]
    broken = run_files(config(2))
    broken["layers"][4]["slots"] = "many"
    alone = results(tmp_path / "alone", *sound).tables(SUITE)
    beside = results(tmp_path / "beside", sound[0], broken, sound[1]).tables(SUITE)
    assert beside["runs"]["status"].tolist() == ["done", "failed", "done"]
    for name in TABLES[1:]:
        pd.testing.assert_frame_equal(alone[name], beside[name])


# -- long tables -------------------------------------------------------------------------


def test_long_tables_hold_every_row_of_the_folder(tmp_path):
    run = run_files(config(), stages=("search", "final"))
    made = results(tmp_path, run).tables(SUITE)
    for name, expected in (*run.items(), *run["metrics"].items()):
        if isinstance(expected, list):
            frame = made[name].astype(object).where(made[name].notna(), None)
            assert set(frame.pop("run_id")) == {run["spec"]["run_id"]}
            assert frame.to_dict("records") == [{c: row[c] for c in frame.columns} for row in expected]


def test_an_unfinished_last_line_is_no_row_and_no_fault(tmp_path):
    store = results(tmp_path, run_files(config()))
    before = store.tables(SUITE)
    with (store.run(identifier(config())).path / "history.jsonl").open("a") as file:
        file.write('{"stage": "train", "epoch": 9, "val')
    assert_same(store.tables(SUITE), before)


def test_the_history_of_a_real_run_never_has_test_rows(trained):
    assert {row["split"] for row in trained.rows("history")} == {"train", "val"}


def test_a_hand_written_run_has_the_files_and_keys_of_a_real_one(trained):
    written = run_files(config())
    for name, content in written.items():
        if isinstance(content, list):
            assert {tuple(row) for row in trained.rows(name)} == {tuple(row) for row in content}, name
        else:
            # folders from before a run listed its files are read as well
            assert set(trained.read(name)) - {"files"} == set(content), name
    for name, content in written["metrics"].items():
        assert {tuple(row) for row in trained.read("metrics")[name]} == {tuple(row) for row in content}
    keys = {(row["split"], row["metric"]) for row in written["history"]}
    assert {(row["split"], row["metric"]) for row in trained.rows("history")} == keys
    for predictor in ("mean", "samples"):
        for name, metrics in ((predictor, METRICS), (f"{predictor}+temperature", SCALED)):
            mine = [row for row in trained.read("metrics")["metrics"] if row["predictor"] == name]
            assert {(row["split"], row["metric"]) for row in mine} == {
                (split, metric) for split in ("val", "test") for metric in metrics
            }
    assert Store(trained.path.parent.parent).check(trained.run_id) is None


# -- the quick way gives what the careful one gives --------------------------------------

letters = st.text('abz é"\\{[\n\x00\x1f\U0001f600', max_size=3)
figures = st.integers(-(2**70), 2**70) | st.integers(-3, 3) | st.floats()
odd = st.none() | st.booleans() | figures | letters | st.lists(st.integers(), max_size=1)
texts = st.none() | st.sampled_from(["train", "val", "2026-01-02", "2026-01-02T03:04:05Z", "1", "null", ""])
usual = {
    "stage": texts,
    "epoch": st.none() | st.integers(-3, 300) | st.sampled_from([2**63 - 1, -(2**63), 4.0]),
    "value": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
    "split": texts,
    "metric": texts,
}
usual_rows = st.fixed_dictionaries({}, optional=usual)
odd_rows = st.fixed_dictionaries({}, optional={**dict.fromkeys(usual, odd), "other": odd})
edits = st.tuples(st.integers(0), st.integers(0, 2), st.sampled_from([
    b"", b"\n", b"{", b"}", b",", b" ", b"\r", b"\x00", b'"', b"0", b"-", b"1e999", b"NaN", b"-Infinity",
    b'"value":1,', b'"other":NaN,', b'"other":1e999,', b'"other":01,', b"/**/", b"\\", b"\xff", b"true",
]))  # fmt: skip


def slowly(blobs):
    """What ``parse_lines`` gives when no line is taken for a plain one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "_is_plain", lambda _: False)
        return arrow.parse_lines(blobs, "history")


def assert_quick_is_slow(blobs):
    quick, why = arrow.parse_lines(blobs, "history")
    slow, because = slowly(blobs)
    assert why == because
    assert quick.schema == slow.schema
    assert quick.to_pylist() == slow.to_pylist()


@settings(max_examples=tries(40))
@given(st.lists(st.lists(usual_rows, max_size=3), min_size=1, max_size=3))
def test_usual_lines_read_quickly_as_they_read_slowly(parts):
    blobs = {
        f"{i:012x}": b"".join(json.dumps(row).encode() + b"\n" for row in p) for i, p in enumerate(parts)
    }
    assert_quick_is_slow(blobs)


@settings(max_examples=tries(40))
@given(st.lists(odd_rows, max_size=3), st.booleans())
def test_odd_lines_read_quickly_as_they_read_slowly(part, ascii_only):
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() + b"\n" for row in part]
    assert_quick_is_slow({"0" * 12: b"".join(lines), "1" * 12: b'{"stage": "train", "value": 1}\n'})


@settings(max_examples=tries(60))
@given(st.lists(usual_rows, min_size=1, max_size=3), st.lists(edits, min_size=1, max_size=3))
def test_damaged_lines_read_quickly_as_they_read_slowly(part, changes):
    blob = b"".join(json.dumps(row).encode() + b"\n" for row in part)
    for at, length, data in changes:
        at %= len(blob) + 1
        blob = blob[:at] + data + blob[at + length :]
    assert_quick_is_slow({"0" * 12: blob[: blob.rfind(b"\n") + 1]})


@pytest.mark.parametrize(
    "line",
    [
        b'{"value": 1, "value": 2}',
        b'{"other": 1, "other": 2}',
        b'{"other": NaN}',
        b'{"other": 1e999}',
        b'{"value": 1e999}',
        b'{"value": 1e-400}',
        b'{"epoch": 9223372036854775808}',
        b'{"value": 123456789012345678901234567890}',
        b'{"value": -0}',
        b'{"stage": "' + b"x" * (arrow.LONGEST + 1) + b'"}',
        b'{"other": "' + b"x" * (arrow.LONGEST + 1) + b'"}',
        b'{"stage": "' + b"x" * 2_000_000 + b'"}',
        b'{"stage": "a\tb"}',
        b'{"stage": "a\x7fb"}',
        b'{"value": 1} ',
        b'{"value": 1},',
        b'{"value": 1}\x00',
        b'{"value": 1,}',
        b'{"value": 1}}',
        b"{}",
        b"{'value': 1}",
    ],
    ids=lambda line: repr(line[:24]),
)
def test_a_line_of_note_reads_quickly_as_it_reads_slowly(line):
    assert_quick_is_slow({"0" * 12: b'{"stage": "train", "value": 0.5}\n' + line + b"\n"})


def assert_results_quick_are_slow(blobs):
    blobs = {run_id: blob if isinstance(blob, tuple) else (blob,) for run_id, blob in blobs.items()}
    quick = parse_results(blobs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.results.tables.metrics_reader.parse_lists", lambda *_: None)
        slow = parse_results(blobs)
    assert (quick.views, quick.broken) == (slow.views, slow.broken)
    for name in LISTS:
        assert quick.tables[name].schema == slow.tables[name].schema
        assert quick.tables[name].to_pylist() == slow.tables[name].to_pylist()


metric_rows = st.fixed_dictionaries(
    {
        "stage": texts,
        "metric": texts | st.sampled_from(VIEW),
        "predictor": st.sampled_from(["samples", "mean", None]),
    },
    optional={
        "split": st.sampled_from(["test", "val"]),
        "shift": texts,
        "severity": st.none() | st.integers(0, 5),
        "value": usual["value"],
        "n": usual["epoch"],
        "other": odd,
    },
)
calibration_rows = st.fixed_dictionaries({}, optional={"stage": texts, "bin": odd, "lower": usual["value"]})
selective_rows = st.fixed_dictionaries({}, optional={"split": texts, "coverage": odd, "risk": usual["value"]})


@settings(max_examples=tries(60))
@given(
    st.lists(
        st.fixed_dictionaries(
            {"metrics": st.none() | st.lists(metric_rows, max_size=4)},
            optional={
                "calibration": st.none() | st.lists(calibration_rows, max_size=3),
                "selective": st.none() | st.lists(selective_rows, max_size=3),
                "more": odd,
            },
        ),
        min_size=1,
        max_size=3,
    )
)
def test_results_read_quickly_as_they_read_slowly(documents):
    assert_results_quick_are_slow(
        {f"{i:012x}": json.dumps(document).encode() + b"\n" for i, document in enumerate(documents)}
    )


@settings(max_examples=tries(60))
@given(st.lists(edits, min_size=1, max_size=3))
def test_damaged_results_read_quickly_as_they_read_slowly(changes):
    results = run_files(config(), stages=("search", "final"))["metrics"]
    results = {name: rows[:3] + rows[-3:] for name, rows in results.items()}
    blob = json.dumps(results).encode() + b"\n"
    for at, length, data in changes:
        at %= len(blob) + 1
        blob = blob[:at] + data + blob[at + length :]
    assert_results_quick_are_slow({"0" * 12: blob})


@pytest.mark.parametrize("end", [b"\n", b""], ids=["quickly", "slowly"])
def test_what_averaging_gains_is_the_mean_network_minus_the_samples(end):
    rows = [
        {"stage": "train", "predictor": predictor, "split": split, "metric": metric, "value": value}
        for predictor, split, metric, value in [
            ("samples", "test", "nll", 0.5),
            ("mean", "test", "nll", 0.75),
            ("samples", "test", "ece", 0.25),
            ("mean", "test", "ece", 0.125),
            ("mean", "val", "nll", 9.0),
        ]
    ]
    view = parse_results({"0" * 12: [json.dumps({"metrics": rows}).encode() + end]}).views["0" * 12]
    assert (view["nll"], view["posterior_gain_nll"], view["posterior_gain_ece"]) == (0.5, 0.25, -0.125)


def test_results_of_a_run_are_quick_to_read():
    blob = json.dumps(run_files(config())["metrics"]).encode() + b"\n"
    assert arrow.parse_lists({"0" * 12: [blob]}, LISTS) is not None


def test_lines_of_a_run_are_quick_to_read():
    """That comparing the two ways is not comparing the slow one with itself."""
    for name in LINES:
        blob = b"".join(json.dumps(row).encode() + b"\n" for row in run_files(config())[name])
        assert arrow._is_plain(blob) and arrow._parse_plain({"0" * 12: blob}, name).num_rows == blob.count(
            b"\n"
        )


# -- a pure function of folders ----------------------------------------------------------


def test_the_same_folders_give_the_same_tables(mixed, tables):
    assert_same(Store(mixed.root).tables(SUITE), tables)


def test_place_order_and_times_of_the_folders_do_not_matter(mixed, tmp_path):
    """A copy, its runs made in another order and at another time, has the same tables to the byte."""
    shutil.copytree(mixed.root / SUITE, tmp_path / SUITE)
    for run_id in reversed(mixed.run_ids()):
        folder = tmp_path / "runs" / run_id
        shutil.copytree(mixed.root / "runs" / run_id, folder, copy_function=shutil.copyfile)
    first, second = (
        {
            name: path.read_bytes()
            for name, path in store.update_tables(SUITE, lambda run, found: found).items()
        }
        for store in (mixed, Store(tmp_path))
    )
    assert first == second


def test_many_runs_are_read_in_batches_without_a_trace(tmp_path, monkeypatch):
    store = results(tmp_path, *(run_files(config(seed), updates=1) for seed in range(5)))
    together = store.tables(SUITE)
    monkeypatch.setattr("bench.results.tables.batches.SIZE", 2)
    assert_same(store.tables(SUITE), together)


def test_two_suites_share_a_run(tmp_path):
    run = run_files(config())
    results(tmp_path, run)
    store = results(tmp_path, run, config(1), suite="baselines")
    first, second = store.tables(SUITE), store.tables("baselines")
    assert second["runs"]["status"].tolist() == ["done", "pending"]
    mine = [first["runs"].iloc[0], second["runs"].iloc[0]]
    assert [row["suite"] for row in mine] == [SUITE, "baselines"]
    pd.testing.assert_series_equal(*(row.drop("suite") for row in mine))
    pd.testing.assert_frame_equal(first["metrics"], second["metrics"])


def test_a_run_of_two_scales_is_two_rows_and_its_metrics_stand_once(tmp_path):
    results(tmp_path, run_files(config()))
    store = results(tmp_path, run_files(config()), scale="small")
    made = store.tables(SUITE)
    assert made["runs"]["scale"].tolist() == ["demo", "small"]
    assert not made["metrics"].drop(columns=["value", "n"]).duplicated().any()


# -- on disk -----------------------------------------------------------------------------


def test_tables_come_back_from_parquet_as_they_were(mixed, tables):
    mixed.update_tables(SUITE)
    assert_same(mixed.read_tables(SUITE), tables)


def test_tables_without_rows_come_back_from_parquet(tmp_path):
    store = results(tmp_path, config())
    store.update_tables(SUITE)
    assert_same(store.read_tables(SUITE), store.tables(SUITE))


def test_runs_come_back_from_csv(mixed, tables):
    paths = mixed.update_tables(SUITE)
    dtypes = dict(tables["runs"].dtypes)
    # the kind of failure "nan" is a word
    read = pd.read_csv(paths["runs.csv"], dtype=dtypes, keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(read, tables["runs"])


def test_names_are_stored_as_dictionaries(mixed):
    schema = pq.read_schema(mixed.update_tables(SUITE)["metrics"])
    assert {n: str(schema.field(n).type) for n in ("metric", "value", "n")} == {
        "metric": "dictionary<values=string, indices=int32, ordered=0>",
        "value": "double",
        "n": "int64",
    }


@pytest.mark.parametrize("name", TABLES)
def test_a_broken_or_missing_table_is_an_error_that_says_what_to_do(tmp_path, name):
    store = results(tmp_path, run_files(config()))
    path = store.update_tables(SUITE)[name]
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"PAR1"):
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=rf"{name}\.parquet: not a table; python -m bench.collect"):
            store.read_tables(SUITE)
    path.unlink()
    with pytest.raises(StoreError, match=r"no such file; python -m bench.collect"):
        store.read_tables(SUITE)


def test_what_an_error_says_to_do_mends_a_broken_table(tmp_path):
    store = results(tmp_path, run_files(config()))
    collecting.collect(store, SUITE)["history"].write_bytes(b"broken")
    with pytest.raises(StoreError) as caught:
        store.read_tables(SUITE)
    arguments = re.search(r"python -m bench\.collect (.*) writes it anew", str(caught.value))[1]
    assert collect.main(arguments.split()) == 0
    assert_same(store.read_tables(SUITE), store.tables(SUITE))


def test_a_table_of_another_version_is_refused(tmp_path):
    store = results(tmp_path, config())
    path = store.update_tables(SUITE)["calibration"]
    store.tables(SUITE)["calibration"].rename(columns={"bin": "bucket"}).to_parquet(path)
    with pytest.raises(StoreError, match="columns of another version"):
        store.read_tables(SUITE)


# -- the command -------------------------------------------------------------------------


def command(*arguments):
    line = [sys.executable, "-m", "bench.collect", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=100)


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_the_command_writes_the_tables_and_the_methods(tmp_path):
    store = results(tmp_path, run_files(config()))
    done = command("--suite", SUITE, "--results", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert_same(store.read_tables(SUITE), store.tables(SUITE))
    methods = json.loads((tmp_path / SUITE / "methods.json").read_text())
    assert {"label", "hue", "marker", "order", "doc", "version"} <= set(methods["ssvi"])
    assert {"runs.parquet", "runs.csv", "methods.json"} <= set(done.stdout.replace(",", "").split())


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing folder", "does not exist"),
        ("unknown suite", f"there are: {SUITE}"),
        ("newer schema", "newer version"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, case, words):
    root = tmp_path / "results"
    if case != "missing folder":
        results(root, run_files(config()))
    if case == "newer schema":
        (root / "schema.json").write_text('{"schema": 99}')
    done = command("--suite", "ood" if case == "unknown suite" else SUITE, "--results", root)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and words in line


def test_tables_are_made_anew_only_when_something_changed_or_it_is_asked(tmp_path):
    store = results(tmp_path, run_files(config()))
    lines = ["--suite", SUITE, "--results", str(tmp_path)]

    def collected(*more):
        time.sleep(0.01)  # so that a file written anew has another time
        assert collect.main([*lines, *more]) == 0
        return stamps(tmp_path / SUITE)

    first = collected()
    assert collected() == first
    second = collected("--recompute")
    assert all(second[name] > first[name] for name in first)
    folder = store.run(identifier(config()))
    folder.write_lines("history", folder.lines("history") + b'{"stage": "train", "epoch": 5}\n')
    third = collected()
    assert all(third[name] > second[name] for name in second)
    (tmp_path / SUITE / "layers.parquet").unlink()
    assert set(collected()) == set(first)


def test_all_suites_are_collected_by_one_word(tmp_path, capsys):
    results(tmp_path, run_files(config()))
    results(tmp_path, config(1), suite="baselines")
    assert collect.main(["--suite", "all", "--results", str(tmp_path)]) == 0
    assert [line.split(":")[0].rpartition("/")[2] for line in capsys.readouterr().out.splitlines()] == [
        "baselines",
        SUITE,
    ]


def test_a_folder_without_a_suite_has_nothing_to_collect(tmp_path):
    Store(tmp_path, create=True)
    with pytest.raises(StoreError, match="no suite was launched"):
        collect.main(["--suite", "all", "--results", str(tmp_path)])


# -- measured ratios ------------------------------------------------------------------------


def measured(method, seconds, threads=1, concurrency=1, training=(), **options):
    configuration = config(method=method, **options)
    configuration["training"] |= dict(training)
    files = run_files(configuration)
    files["costs"] |= {"seconds_per_step": seconds, "peak_memory_bytes": int(1e9 * seconds)}
    files["provenance"] |= {"threads": threads, "concurrency": concurrency}
    return files


def test_time_and_memory_are_compared_with_dense_vi(tmp_path):
    runs = [
        measured("dense_vi", 0.4),
        measured("ssvi", 0.1, sparsity=0.9),
        measured("ssvi", 0.2, sparsity=0.5),
    ]
    table = results(tmp_path, *runs).tables(SUITE)["runs"]
    assert table["step_time_ratio"].tolist() == pytest.approx([1, 0.25, 0.5])
    assert table["peak_memory_ratio"].tolist() == pytest.approx([1, 0.25, 0.5])


@pytest.mark.parametrize("other", [{"threads": 2}, {"concurrency": 2}])
def test_figures_of_other_circumstances_are_not_compared(other, tmp_path):
    runs = [measured("dense_vi", 0.4), measured("ssvi", 0.1, sparsity=0.9, **other)]
    table = results(tmp_path, *runs).tables(SUITE)["runs"]
    assert table["step_time_ratio"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("training", "compared"), [({"lr": 0.3, "weight_decay": 0.1}, True), ({"batch_size": 32}, False)]
)
def test_settings_that_cost_no_time_may_differ(training, compared, tmp_path):
    """As where each method's learning rate was searched."""
    runs = [measured("dense_vi", 0.4), measured("ssvi", 0.1, sparsity=0.9, training=training)]
    table = results(tmp_path, *runs).tables(SUITE)["runs"]
    assert table["step_time_ratio"].notna().tolist() == [True, compared]


def test_without_a_dense_vi_run_there_is_nothing_to_compare_with(tmp_path):
    table = results(tmp_path, measured("ssvi", 0.1, sparsity=0.9)).tables(SUITE)["runs"]
    assert table[["step_time_ratio", "peak_memory_ratio"]].isna().all(axis=None)
