"""Files, run folders and plans: what is written, and what reading makes of a folder that is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.results import files
from bench.results.files import StoreError
from bench.results.integrity import digests
from bench.results.plans import planned
from bench.results.run_folder import STATUSES, RunFolder
from bench.results.store import Store
from tests.fuzzing import tries
from tests.run_folders import cell, config, identifier, plan, run_files, write_run

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
plain_rows = st.lists(
    st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=4), max_size=5
)


def store_with(root, *configurations, suite="criteria_ablation", **options):
    """A store with a finished run for each configuration, and a plan that asks for them."""
    store = Store(root, create=True)
    for configuration in configurations:
        write_run(root, run_files(configuration, **options))
    store.merge_plan(plan([cell(configuration) for configuration in configurations], suite))
    return store


# -- files -------------------------------------------------------------------------------


@settings(max_examples=tries(50))
@given(json_values)
def test_json_comes_back_as_it_was_written(value):
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "a.json"
        files.write_json(path, value)
        assert files.read_json(path) == json.loads(json.dumps(value), parse_constant=lambda _: None)


def test_a_file_name_that_is_no_text_can_be_told_of(tmp_path):
    files.write_json(tmp_path / "a.json", {"error": os.fsdecode(b"no file \xff"), "emoji": "\U0001f600"})
    assert files.read_json(tmp_path / "a.json") == {"error": "no file ?", "emoji": "\U0001f600"}


def test_a_number_that_is_none_becomes_null(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": [float("nan"), (float("inf"), 1.5)]})
    assert (tmp_path / "a.json").read_text() == '{"x": [null, [null, 1.5]]}\n'


@pytest.mark.parametrize("obj", [{1, 2}, {"a": object()}, {("a", "b"): 1}])
def test_what_json_cannot_hold_leaves_no_file(tmp_path, obj):
    with pytest.raises(StoreError, match=r"a\.json"):
        files.write_json(tmp_path / "a.json", obj)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path, ended, seen = tmp_path / "a.json", threading.Event(), set()
    sizes = (10, 100_000)
    files.write_json(path, "x" * sizes[0])

    def write():
        for i in range(100):
            files.write_json(path, "x" * sizes[i % 2])
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        seen.add(len(files.read_json(path)))
    writer.join()
    assert seen <= set(sizes)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path, monkeypatch):
    files.write_json(tmp_path / "a.json", "old")

    def no_rename(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", no_rename)
    with pytest.raises(StoreError, match=r"a\.json: No space left on device"):
        files.write_json(tmp_path / "a.json", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert files.read_json(tmp_path / "a.json") == "old"


def test_a_process_that_dies_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, "old")
    dies = f"files.os.replace = lambda *_: os._exit(9); files.write_json(Path({str(path)!r}), 'new')"
    code = f"import os; from pathlib import Path; from bench.results import files; {dies}"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    assert files.read_json(path) == "old"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / "a.json").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="cannot read"):
        files.read_json(tmp_path / "a.json")
    files.write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "other").read_text() == "mine"
    assert files.read_json(tmp_path / "a.json") == 1


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(StoreError, match="not a regular file"):
        files.read_json(tmp_path / "a.json")


def test_a_file_that_no_run_would_write_is_not_read(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(StoreError, match="the limit is"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b'"\\ud800"', b"[" * 100_000, b"{} {}", b"1" * 5000],
    ids=["empty", "half", "nan", "infinity", "not utf-8", "half a pair", "deep", "two", "many digits"],
)
def test_what_is_not_standard_json_is_an_error_that_names_the_file(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(StoreError, match=r"a\.json: not JSON") as caught:
        files.read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"a\.json: no such file"):
        files.read_json(tmp_path / "a.json")


# -- tables of JSON lines ----------------------------------------------------------------


@settings(max_examples=tries(50))
@given(plain_rows, st.data())
def test_a_table_cut_anywhere_has_its_whole_lines(rows, data):
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(Path(root) / ("0" * 12))
        path = folder.path / "history.jsonl"
        folder.write_lines("history", "".join(json.dumps(row) + "\n" for row in rows).encode())
        stored = path.read_bytes()
        cut = data.draw(st.integers(0, len(stored)))
        path.write_bytes(stored[:cut])
        whole = stored[:cut].count(b"\n")
        assert folder.rows("history") == rows[:whole]
        assert folder.lines("history").count(b"\n") == whole


@pytest.mark.parametrize("line", [b"[1]", b"", b"{", b"null", b"\x00"])
def test_a_broken_line_is_named_by_its_number(tmp_path, line):
    folder = RunFolder(tmp_path)
    (tmp_path / "history.jsonl").write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(StoreError, match=r"history\.jsonl line 2"):
        folder.rows("history")


def test_a_run_that_has_no_folder_is_pending_and_empty(tmp_path):
    folder = RunFolder(tmp_path / "none")
    assert (folder.status(), folder.read("spec"), folder.rows("history")) == ("pending", None, [])
    assert not folder.path.exists()


@pytest.mark.parametrize("name", ["../status", "a/b", "", "Status", "a.b"])
def test_a_document_has_a_plain_name(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    for act in (folder.read, folder.rows, lambda n: folder.write(n, {})):
        with pytest.raises(StoreError, match="is not a name"):
            act(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("document", [{}, {"status": "finished"}, {"status": None}, {"status": ["done"]}])
def test_an_unknown_status_is_an_error(tmp_path, document):
    folder = RunFolder(tmp_path)
    folder.write("status", document)
    with pytest.raises(StoreError, match=r"status\.json: unknown status"):
        folder.status()


# -- the results folder ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ('{"schema": 2}', "newer version"),
        ("{}", "not the mark"),
        ('{"schema": true}', "not the mark"),
        ('{"schema": 0}', "not the mark"),
        ("[]", "not the mark"),
        ("{", "not JSON"),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_a_folder_of_another_version_is_left_alone(tmp_path, mark, words, create):
    (tmp_path / "schema.json").write_text(mark)
    with pytest.raises(StoreError, match=words):
        Store(tmp_path, create=create)
    assert [p.name for p in tmp_path.iterdir()] == ["schema.json"]


def test_a_results_folder_is_made_only_when_asked(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        Store(tmp_path / "results")
    assert not (tmp_path / "results").exists()
    Store(tmp_path / "results", create=True)
    assert Store(tmp_path / "results").run_ids() == []


def test_a_folder_with_something_else_does_not_become_a_results_folder(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        Store(tmp_path, create=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_results_folder(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(StoreError, match="is not a folder"):
        Store(tmp_path / "results")


@pytest.mark.parametrize("run_id", ["", "../../etc", "0" * 11, "G" * 12, "0" * 12 + "\n", None])
def test_only_a_run_id_names_a_run(tmp_path, run_id):
    with pytest.raises(StoreError, match="is not a run id"):
        Store(tmp_path, create=True).run(run_id)


def test_runs_are_real_folders_with_a_run_id(tmp_path):
    store = store_with(tmp_path, config())
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / ("a" * 12)).touch()
    (tmp_path / "runs" / ("b" * 12)).symlink_to(store.run(identifier(config())).path)
    assert store.run_ids() == [identifier(config())]


def test_a_run_behind_a_link_is_not_read(tmp_path):
    store = store_with(tmp_path, config())
    (tmp_path / "runs" / ("b" * 12)).symlink_to(store.run(identifier(config())).path)
    assert "is a link" in store.check("b" * 12)


def test_a_run_set_aside_starts_anew_and_says_why(tmp_path):
    store = store_with(tmp_path, config())
    run_id = identifier(config())
    first = store.set_aside(run_id, "half a metrics.json")
    assert store.run(run_id).status() == "pending"
    assert (first / "spec.json").exists()
    assert files.read_json(first / "reason.json")["reason"] == "half a metrics.json"
    write_run(tmp_path, run_files(config()))
    assert store.set_aside(run_id, "again") != first


def test_a_run_that_is_not_there_cannot_be_set_aside(tmp_path):
    store = Store(tmp_path, create=True)
    with pytest.raises(StoreError, match="No such file"):
        store.set_aside("0" * 12, "why not")
    assert list((tmp_path / "corrupted").iterdir()) == []


# -- plans -------------------------------------------------------------------------------


def test_a_plan_comes_back_as_it_was_stored(tmp_path):
    store = Store(tmp_path, create=True)
    asked = plan(
        [cell(config(seed)) for seed in range(2)] + [cell(config(9), omitted="equal", run_id="a" * 12)]
    )
    store.merge_plan(asked)
    assert store.plans("criteria_ablation") == [asked]
    assert store.suites() == ["criteria_ablation"]


def test_every_line_that_asked_for_a_plan_is_known(tmp_path):
    store = Store(tmp_path, create=True)
    lines = [f"python -m bench.grid --seeds {number}" for number in range(3)]
    for number in (0, 1, 0, 2):
        store.merge_plan({**plan([cell(config(number))]), "command": lines[number]})
    assert store.commands("criteria_ablation", "demo") == lines
    assert store.scales("criteria_ablation") == ["demo"]
    with pytest.raises(StoreError, match="was not launched at scale paper"):
        store.commands("criteria_ablation", "paper")
    path = tmp_path / "criteria_ablation" / "plan-demo.json"
    odd = {"commands": [None, 3, {}, "b"], "command": []}
    path.write_text(json.dumps({**json.loads(path.read_text()), **odd}))
    assert store.commands("criteria_ablation", "demo") == ["b"]


def test_a_later_plan_adds_to_the_earlier_and_its_cells_win(tmp_path):
    store = Store(tmp_path, create=True)
    store.merge_plan(plan([cell(config(0)), cell(config(1), recipe="released")]))
    store.merge_plan(plan([cell(config(1)), cell(config(2))]) | {"command": "the later line"})
    (stored,) = store.plans("criteria_ablation")
    assert [c["labels"]["seed"] for c in stored["cells"]] == [0, 1, 2]
    assert [c["recipe"] for c in stored["cells"]] == ["default"] * 3
    assert stored["command"] == "the later line"


def test_plans_merged_at_once_lose_no_cell(tmp_path):
    store = Store(tmp_path, create=True)
    threads = [
        threading.Thread(target=store.merge_plan, args=(plan([cell(config(seed))]),)) for seed in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (stored,) = store.plans()
    assert sorted(c["labels"]["seed"] for c in stored["cells"]) == list(range(20))


def test_a_cell_that_is_omitted_is_no_run():
    cells = [cell(config(0)), cell(config(1), omitted="the same as another", alias_of=identifier(config(0)))]
    assert [run.run_id for run in planned([plan(cells)])] == [identifier(config(0))]


def test_an_omitted_cell_needs_no_run_id(tmp_path):
    store = Store(tmp_path, create=True)
    pointer = cell(config(1), omitted="the same as another", alias_of=identifier(config(0)))
    del pointer["run_id"]
    for seed in (0, 2):
        store.merge_plan(plan([cell(config(seed)), pointer]))
    (stored,) = store.plans()
    assert sorted(c["labels"]["seed"] for c in stored["cells"]) == [0, 1, 2]


def test_a_run_is_planned_once_a_suite_and_scale():
    cells = [cell(config()), cell(config(), label="by another name")]
    plans = [plan(cells), plan(cells, scale="small"), plan(cells, suite="baselines")]
    found = [(run.suite, run.scale) for run in planned(plans)]
    assert found == [("criteria_ablation", "demo"), ("criteria_ablation", "small"), ("baselines", "demo")]


def test_seeds_that_were_launched_under_different_labels_have_the_later_one(tmp_path):
    store = Store(tmp_path, create=True)
    store.merge_plan(plan([cell(config(0), label="ssvi"), cell(config(0, epochs=9), label="other")]))
    store.merge_plan(plan([cell(config(1), label="ssvi lr=0.05")]))
    found = {run.labels["seed"]: run.label for run in planned(store.plans()) if run.label != "other"}
    assert found == {0: "ssvi lr=0.05", 1: "ssvi lr=0.05"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema 2; this version reads 1"),
        ({"schema": None}, "schema null"),
        ({"suite": "runs"}, "not a name for a suite"),
        ({"suite": "../up"}, "not a name for a suite"),
        ({"suite": 3}, "not a name for a suite"),
        ({"scale": "Demo"}, "not a name for a scale"),
        ({"scale": None}, "not a name for a scale"),
        ({"cells": {}}, "cells: expected a list"),
        ({"cells": [1]}, "cell 0: expected an object"),
        ({"cells": [cell(config()), cell(config(), run_id="x")]}, "cell 1: run_id"),
        ({"cells": [cell(config(), run_id=None)]}, "cell 0: run_id"),
        ({"cells": [cell(config(), config_id=7)]}, "cell 0: config_id"),
        ({"cells": [cell(config(), omitted="equal", alias_of="../..")]}, "cell 0: alias_of"),
        ({"cells": [cell(config(), label=None)]}, "cell 0: label"),
        ({"cells": [cell(config(), labels=[1])]}, "cell 0: labels"),
        ({"cells": [cell(config(), recipe={})]}, "cell 0: recipe"),
    ],
)
def test_a_wrong_plan_is_refused_and_not_stored(tmp_path, changes, words):
    store = Store(tmp_path, create=True)
    with pytest.raises(StoreError, match=words):
        store.merge_plan(plan([cell(config())]) | changes)
    assert store.suites() == []


def test_a_plan_lies_where_its_suite_and_scale_say(tmp_path):
    store = store_with(tmp_path, config())
    os.rename(tmp_path / "criteria_ablation", tmp_path / "baselines")
    with pytest.raises(StoreError, match="is the plan of suite criteria_ablation"):
        store.plans()


def test_a_suite_that_was_never_launched_is_named_with_those_that_were(tmp_path):
    store = store_with(tmp_path, config())
    with pytest.raises(StoreError, match=r"no suite ood was launched; there are: criteria_ablation"):
        store.tables("ood")


# -- a folder that is broken -------------------------------------------------------------

RUN = run_files(config(epochs=1), updates=1)
RUN_ID = RUN["spec"]["run_id"]
NAMES = [name + (".jsonl" if isinstance(content, list) else ".json") for name, content in RUN.items()]


def outcome(store):
    """Status, kind and reason of the one run, held to what every row promises."""
    reason = store.check(RUN_ID)
    tables = store.tables("criteria_ablation")
    (row,) = tables["runs"].to_dict("records")
    assert row["run_id"] == RUN_ID and row["status"] in STATUSES
    if reason is not None:
        assert reason and "\n" not in reason and str(store.root) not in reason
        assert (row["status"], row["error_kind"]) == ("failed", "corrupted") and row["error"]
        assert all(table.empty for name, table in tables.items() if name != "runs")
        return "failed", "corrupted", reason
    assert row["status"] == "done" or (row["accuracy"] != row["accuracy"] and tables["metrics"].empty)
    return row["status"], row["error_kind"], row["error"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A function that changes a file of a sound run, and gives the outcome that results."""
    root = tmp_path_factory.mktemp("broken")
    store = Store(root, create=True)
    store.merge_plan(plan([cell(config(epochs=1))]))
    write_run(root, RUN)
    folder = store.run(RUN_ID).path
    sound = {name: (folder / name).read_bytes() for name in NAMES}

    def changed(name, change):
        data = change(sound[name])
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)
        try:
            return outcome(store)
        finally:
            (folder / name).write_bytes(sound[name])

    return changed


def test_a_sound_run_is_done(broken):
    assert broken("spec.json", lambda data: data)[0] == "done"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [b"\x00\n", b"[]\n", b"7\n", b'{"a": \n', b"\xff\n"])
def test_a_file_of_something_else_is_a_corrupted_run(broken, name, data):
    status, kind, reason = broken(name, lambda _: data)
    assert (status, kind) == ("failed", "corrupted")
    assert name in reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("spec.json", "failed"),
        ("metrics.json", "failed"),
        ("status.json", "pending"),
        ("costs.json", "done"),
        ("provenance.json", "done"),
        ("history.jsonl", "done"),
    ],
)
def test_a_missing_file_counts_only_where_results_need_it(broken, name, expected):
    assert broken(name, lambda _: None)[0] == expected


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("spec.json", ("schema",), 2, "schema 2; this version reads 1"),
        ("spec.json", ("run_id",), "0" * 12, "it belongs to run"),
        ("spec.json", ("config_id",), "x", "config_id"),
        ("spec.json", ("config",), [], "config: expected an object"),
        ("spec.json", ("config", "method"), "ssvi", "config.method: expected an object"),
        ("spec.json", ("config", "method", "sparsity"), "0.9", "sparsity: expected number"),
        ("spec.json", ("config", "seed"), 0.5, "seed: expected integer"),
        ("spec.json", ("config", "precision"), "x" * 10_001, "longer than"),
        ("status.json", ("status",), "finished", "unknown status"),
        ("status.json", ("error",), 3, "error: expected string"),
        ("metrics.json", ("metrics",), {}, "not a list of rows"),
        ("metrics.json", ("metrics",), [{}], "there is no metric"),
        ("metrics.json", ("metrics",), [], "there is no metric"),
        ("metrics.json", ("metrics", 0), 1, "not a list of rows"),
        ("metrics.json", ("metrics", 0, "value"), "high", "value: expected number"),
        ("metrics.json", ("metrics", 0, "value"), True, "value: expected number"),
        ("metrics.json", ("calibration", 0, "count"), 1.5, "count: expected integer"),
        ("costs.json", ("params_total",), 2**63, "params_total: expected integer"),
        ("costs.json", ("dense_vi_bytes",), "many", "dense_vi_bytes: expected number"),
        ("provenance.json", ("concurrency",), "two", "concurrency: expected integer"),
    ],
)
def test_a_wrong_value_is_named_in_the_reason(broken, name, place, value, words):
    def change(data):
        document = json.loads(data)
        parent = document
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
        return json.dumps(document).encode()

    status, kind, reason = broken(name, change)
    assert (status, kind) == ("failed", "corrupted")
    assert words in reason and name in reason


def test_the_row_of_a_corrupted_run_tells_the_reason_and_is_all_there_is(tmp_path):
    files_of_run = run_files(config())
    files_of_run["history"].append({"value": "low"})
    store = Store(tmp_path, create=True)
    store.merge_plan(plan([cell(config())]))
    write_run(tmp_path, files_of_run)
    tables = store.tables("criteria_ablation")
    (row,) = tables["runs"].to_dict("records")
    assert (row["status"], row["error_kind"]) == ("failed", "corrupted")
    assert row["error"] == store.check(row["run_id"]) == "history.jsonl: value: expected number, got 'low'"
    assert all(table.empty for name, table in tables.items() if name != "runs")


@settings(max_examples=tries(10))
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=60))
def test_random_bytes_are_a_row(broken, name, data):
    broken(name, lambda _: data)


@settings(max_examples=tries(10))
@given(name=st.sampled_from(NAMES), share=st.floats(0, 1))
def test_a_truncated_file_is_a_row(broken, name, share):
    status, *_ = broken(name, lambda data: data[: int(share * len(data))])
    assert status == "done" or name.endswith(".json")


@settings(max_examples=tries(15))
@given(
    name=st.sampled_from(NAMES), start=st.floats(0, 1), length=st.integers(0, 20), data=st.binary(max_size=8)
)
def test_a_file_with_other_bytes_in_it_is_a_row(broken, name, start, length, data):
    def change(sound):
        at = int(start * len(sound))
        return sound[:at] + data + sound[at + length :]

    broken(name, change)


@settings(max_examples=tries(20))
@given(name=st.sampled_from(NAMES), value=json_values, data=st.data())
def test_a_document_with_another_value_in_it_is_a_row(broken, name, value, data):
    def replaced(part):
        """``part`` with ``value`` in place of something in it."""
        inner = isinstance(part, (dict, list)) and part and data.draw(st.integers(0, 3))
        if not inner:
            return value
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
        copy = part.copy()
        copy[key] = replaced(part[key])
        return copy

    def change(sound):
        if name.endswith(".jsonl"):
            lines = sound.splitlines()
            i = data.draw(st.integers(0, len(lines) - 1))
            lines[i] = json.dumps(replaced(json.loads(lines[i]))).encode()
            return b"\n".join(lines) + b"\n"
        return json.dumps(replaced(json.loads(sound))).encode()

    broken(name, change)


@settings(max_examples=tries(30))
@given(which=st.sampled_from(["schema.json", "plan"]), change=st.binary(max_size=30) | json_values)
def test_a_broken_plan_or_mark_is_an_error_of_the_store(which, change):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        Store(root, create=True).merge_plan(plan([cell(config())]))
        path = root / ("criteria_ablation/plan-demo.json" if which == "plan" else which)
        if which == "plan" and isinstance(change, dict):
            stored = json.loads(path.read_text())
            stored["cells"][0] |= change
            change = stored
        path.write_bytes(change if isinstance(change, bytes) else json.dumps(change).encode())
        try:
            rows = len(Store(root).tables("criteria_ablation")["runs"])
        except StoreError as error:
            rows, reason = None, str(error)
        assert rows in (0, 1) or "json" in reason or "newer" in reason


# -- what a finished run says it wrote -----------------------------------------------------


@pytest.fixture
def sealed(tmp_path):
    """The store and the folder of a finished run whose status lists its files."""
    store = store_with(tmp_path, config())
    run = store.run(identifier(config()))
    (run.path / "model.pt").write_bytes(b"weights")
    run.write("status", run.read("status") | {"files": digests(run)})
    return store, run


def test_a_run_as_it_wrote_itself_is_sound(sealed):
    store, run = sealed
    (run.path / "notes about it.txt").write_text("of a reader")
    assert store.check(run.run_id) is None
    assert store.tables("criteria_ablation")["runs"]["status"].tolist() == ["done"]


@pytest.mark.parametrize(
    "name", ["spec.json", "metrics.json", "costs.json", "provenance.json", "history.jsonl"]
)
def test_other_bytes_than_a_run_wrote_are_a_corrupted_run(sealed, name):
    """Though they are valid: a digit less in a figure, a line less in a table."""
    store, run = sealed
    path = run.path / name
    data = path.read_bytes()
    path.write_bytes(data[: data.rstrip().rfind(b"\n") + 1] if name.endswith("l") else data + b" ")
    assert store.check(run.run_id) == f"{name}: not the bytes that the run wrote"
    row = store.tables("criteria_ablation")["runs"].iloc[0]
    assert (row["status"], row["error_kind"], row["error"]) == (
        "failed",
        "corrupted",
        f"{name}: not the bytes that the run wrote",
    )
    path.unlink()
    assert name in store.check(run.run_id)


def test_a_table_that_the_run_did_not_write_is_none_of_its_own(sealed):
    store, run = sealed
    listed = run.read("status")
    del listed["files"]["layers.jsonl"]
    run.write("status", listed)
    assert store.check(run.run_id) == "layers.jsonl: the run wrote no such file"


def test_of_several_runs_only_the_broken_are_told_of(tmp_path):
    store = store_with(tmp_path, *(config(seed) for seed in range(4)))
    wrong = {1: ("history.jsonl", b"[]\n"), 2: ("status.json", b"{")}
    for seed, (name, data) in wrong.items():
        (store.run(identifier(config(seed))).path / name).write_bytes(data)
    found = store.faults([*store.run_ids(), "0" * 12])
    assert found == {run_id: store.check(run_id) for run_id in (identifier(config(seed)) for seed in wrong)}
    assert all(found.values())


def test_the_size_of_what_is_in_no_table_is_checked_when_a_run_is(sealed):
    store, run = sealed
    (run.path / "model.pt").write_bytes(b"weight")
    assert store.check(run.run_id) == "model.pt: 6 bytes; the run wrote 7"
    assert store.tables("criteria_ablation")["runs"]["status"].tolist() == ["done"]
    (run.path / "model.pt").unlink()
    assert store.check(run.run_id) == "model.pt: missing, although the run wrote it"


@pytest.mark.parametrize(
    "files",
    [
        [],
        3,
        {"history.jsonl": 3},
        {"history.jsonl": [True, "0"]},
        {"history.jsonl": [1]},
        {"../spec.json": [1, "0"]},
    ],
)
def test_a_list_of_files_that_is_none_is_a_corrupted_run(sealed, files):
    store, run = sealed
    run.write("status", run.read("status") | {"files": files})
    assert store.check(run.run_id).startswith("status.json: files")


def test_a_run_that_goes_on_is_not_held_to_what_it_wrote(sealed):
    store, run = sealed
    run.write("status", run.read("status") | {"status": "running"})
    (run.path / "history.jsonl").write_bytes(b"")
    assert store.check(run.run_id) is None


# -- what a power cut leaves ---------------------------------------------------------------


@pytest.mark.parametrize("mark", [b"", b"{", b"[]", b'{"schema": "1"}', b"\x00" * 12])
def test_a_mark_that_was_cut_off_is_written_anew_where_there_are_runs(tmp_path, mark):
    store_with(tmp_path, config())
    (tmp_path / "schema.json").write_bytes(mark)
    with pytest.raises(StoreError, match=r"schema\.json"):
        Store(tmp_path)
    assert Store(tmp_path, create=True).run_ids() == [identifier(config())]
    assert files.read_json(tmp_path / "schema.json") == {"schema": 1}


def test_a_broken_mark_of_something_else_is_left(tmp_path):
    (tmp_path / "schema.json").write_bytes(b"{")
    with pytest.raises(StoreError, match="not JSON"):
        Store(tmp_path, create=True)
    assert (tmp_path / "schema.json").read_bytes() == b"{"


def test_a_newer_mark_is_never_written_anew(tmp_path):
    store_with(tmp_path, config())
    (tmp_path / "schema.json").write_text('{"schema": 2}')
    with pytest.raises(StoreError, match="newer version"):
        Store(tmp_path, create=True)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schema": 1}', "a link", "a folder"])
def test_a_plan_that_cannot_be_read_makes_way_for_the_next(tmp_path, data):
    store = store_with(tmp_path, config())
    path = tmp_path / "criteria_ablation" / "plan-demo.json"
    path.unlink()
    if data == "a link":
        path.symlink_to(tmp_path / "elsewhere")
    elif data == "a folder":
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(StoreError, match=r"plan-demo\.json"):
        store.tables("criteria_ablation")
    store.merge_plan(plan([cell(config(1))]))
    (stored,) = store.plans()
    assert [c["labels"]["seed"] for c in stored["cells"]] == [1]
    aside = tmp_path / "corrupted" / "criteria_ablation-plan-demo-1"
    assert "plan-demo.json" in files.read_json(aside / "reason.json")["reason"]
    assert len(list(aside.iterdir())) == (1 if data == "a folder" else 2)


def test_a_newer_plan_is_not_moved(tmp_path):
    store = store_with(tmp_path, config())
    path = tmp_path / "criteria_ablation" / "plan-demo.json"
    path.write_text('{"schema": 2}')
    with pytest.raises(StoreError, match="schema 2; this version reads 1"):
        store.merge_plan(plan([cell(config(1))]))
    assert path.read_text() == '{"schema": 2}'


def test_patches_are_no_suite(tmp_path):
    (tmp_path / "patches").mkdir()
    store = Store(tmp_path, create=True)
    with pytest.raises(StoreError, match="is not a name for a suite"):
        store.merge_plan(plan([cell(config())], suite="patches"))
