"""Tables that are brought up to date: they equal those made from nothing, whatever changed meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.tables import parquet, update
from bench.results.tables.batches import LONG
from bench.results.tables.columns import TABLES
from tests.fuzzing import tries
from tests.run_folders import cell, config, identifier, plan, run_files, write_run

SUITE = "criteria_ablation"
EVERY = [config(seed, method, epochs=1) for seed in range(4) for method in ("ssvi", "dense_vi")]


def small(configuration, **options):
    return run_files(configuration, updates=1, **options)


def grid(root, configurations=EVERY, planned=None):
    """A store with a finished run for each of ``configurations``, and a plan that asks for ``planned``."""
    store = Store(root, create=True)
    for configuration in configurations:
        write_run(root, small(configuration))
    store.merge_plan(plan([cell(configuration) for configuration in planned or configurations]))
    return store


def assert_same(first, second, name):
    """The frames are equal to the bit, categories included; what differs is told by the slow comparison."""
    sorts = [[c.cat.categories for _, c in f.select_dtypes("category").items()] for f in (first, second)]
    if not (first.equals(second) and all(a.identical(b) for a, b in zip(*sorts, strict=True))):
        pd.testing.assert_frame_equal(first, second, obj=name)
        raise AssertionError(f"{name}: not equal to the bit")


def assert_as_from_nothing(store, folder):
    """The tables on disk are those that a folder without any gets."""
    shutil.copytree(store.root / SUITE, folder / SUITE)
    for name in (update.FILE, *(path.name for path in parquet.paths(folder).values())):
        (folder / SUITE / name).unlink(missing_ok=True)
    update.update(folder / SUITE, store.planned(SUITE), store.run)
    mine, anew = (parquet.read(where / SUITE) for where in (store.root, folder))
    live = store.tables(SUITE)
    for name in TABLES:
        assert_same(mine[name], anew[name], name)
        assert_same(mine[name], live[name], name)
        first, second = (pq.read_schema(where / SUITE / f"{name}.parquet") for where in (store.root, folder))
        assert first.equals(second)
    first, second = ((where / SUITE / "runs.csv").read_bytes() for where in (store.root, folder))
    assert first == second


@pytest.fixture
def reads(monkeypatch):
    """The ids of the runs whose folders are read, in order."""
    found = []
    read = update.read

    def recorded(folders, renewed=None):
        found.extend(folder.run_id for folder in folders)
        return read(folders, renewed)

    monkeypatch.setattr(update, "read", recorded)
    return found


def made(store):
    """What a collect writes, as it lies on disk."""
    paths = [*parquet.paths(store.root / SUITE).values(), store.root / SUITE / update.FILE]
    return {path.name: parquet.stamp(path) for path in paths}


# -- equal to what is made from nothing --------------------------------------------------------


def change(root, store, what, number, share):
    """One thing that may happen to a results folder."""
    configuration = EVERY[number % len(EVERY)]
    folder = store.run(identifier(configuration)).path
    if what == "run":
        shutil.rmtree(folder, ignore_errors=True)
        status = ("done", "running", "failed", "preempted")[number % 4]
        write_run(root, small(configuration, status=status, accuracy=round(share, 2)))
    elif what == "remove":
        shutil.rmtree(folder, ignore_errors=True)
    elif what == "damage" and folder.exists():
        path = sorted(folder.iterdir())[number % len(list(folder.iterdir()))]
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))] + b"{" * (number % 2))
    elif what == "same size" and (folder / "history.jsonl").exists():
        with (folder / "history.jsonl").open("r+b") as file:
            file.write(b"[")
    elif what == "plan":
        asked = [EVERY[(number + i) % len(EVERY)] for i in range(int(share * len(EVERY)) + 1)]
        label = ("one", "another")[number % 2]
        cells = [cell(wanted, label=f"{wanted['method']['name']} {label}") for wanted in asked]
        store.merge_plan(plan(cells, scale=("demo", "small")[number % 2]))
    elif what == "order":
        path = root / SUITE / "plan-demo.json"
        stored = json.loads(path.read_text())
        stored["cells"] = stored["cells"][number % 3 :][::-1] or stored["cells"]
        path.write_text(json.dumps(stored))
    elif what in ("tables", "no table"):
        paths = [*parquet.paths(root / SUITE).values(), root / SUITE / update.FILE]
        path = paths[number % len(paths)]
        if what == "tables" and path.exists():
            data = path.read_bytes()
            path.write_bytes(data[: int(share * len(data))])
        else:
            path.unlink(missing_ok=True)


HAPPENS = st.tuples(
    st.sampled_from(
        ["run", "run", "remove", "damage", "damage", "same size", "plan", "order", "tables", "no table"]
    ),
    st.integers(0, 40),
    st.floats(0, 1),
)


@settings(max_examples=tries(4))
@given(st.lists(st.lists(HAPPENS, max_size=3), min_size=1, max_size=4))
def test_whatever_happens_the_tables_are_those_made_from_nothing(rounds):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "SIZE", 3)
        root = Path(folder) / "results"
        store = grid(root, EVERY[:5], EVERY[:6])
        store.update_tables(SUITE)
        for number, changes in enumerate(rounds):
            for what in changes:
                change(root, store, *what)
            store.update_tables(SUITE)
            assert_as_from_nothing(store, Path(folder) / str(number))


def test_a_run_behind_a_link_is_read_anew(tmp_path):
    store = grid(tmp_path / "results", EVERY[:3])
    store.update_tables(SUITE)
    path = store.run(identifier(EVERY[1])).path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    store.update_tables(SUITE)
    assert store.read_tables(SUITE)["runs"]["status"].tolist() == ["done", "failed", "done"]
    assert_as_from_nothing(store, tmp_path / "anew")


# -- at the cost of what changed ---------------------------------------------------------------


def test_only_the_runs_that_changed_are_read(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(update, "SIZE", 3)
    store = grid(tmp_path)
    store.update_tables(SUITE)
    assert len(reads) == len(EVERY)
    changed = [identifier(EVERY[1]), identifier(EVERY[6])]
    for run_id in changed:
        status = store.run(run_id).read("status")
        store.run(run_id).write("status", status | {"val_accuracy": 0.5})
    reads.clear()
    store.update_tables(SUITE)
    assert reads == changed
    reads.clear()
    before = made(store)
    store.update_tables(SUITE)
    assert (reads, made(store)) == ([], before)
    store.update_tables(SUITE, as_it_is)
    assert len(reads) == len(EVERY)


def test_runs_of_a_longer_plan_are_added_to_those_that_are_known(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(update, "SIZE", 3)
    store = grid(tmp_path, EVERY[:5])
    store.update_tables(SUITE)
    reads.clear()
    store.merge_plan(plan([cell(configuration) for configuration in EVERY[:7]]))
    write_run(tmp_path, small(EVERY[5]))
    store.update_tables(SUITE)
    assert reads == [identifier(EVERY[5]), identifier(EVERY[6])]
    assert store.read_tables(SUITE)["runs"]["status"].tolist() == ["done"] * 6 + ["pending"]


def test_runs_that_are_asked_for_no_more_leave_no_trace(tmp_path, reads, monkeypatch):
    """Not even in the names that a column may have."""
    monkeypatch.setattr(update, "SIZE", 3)
    store = grid(tmp_path / "results")
    store.update_tables(SUITE)
    path = store.root / SUITE / "plan-demo.json"
    stored = json.loads(path.read_text())
    stored["cells"] = stored["cells"][1:]
    path.write_text(json.dumps(stored))
    reads.clear()
    store.update_tables(SUITE)
    assert reads == []
    assert identifier(EVERY[0]) not in store.read_tables(SUITE)["history"]["run_id"].cat.categories
    assert_as_from_nothing(store, tmp_path / "anew")


def test_other_labels_leave_the_long_tables_alone(tmp_path, reads):
    store = grid(tmp_path)
    store.update_tables(SUITE)
    reads.clear()
    before = made(store)
    store.merge_plan(plan([cell(configuration, label="another") for configuration in EVERY]))
    store.update_tables(SUITE)
    after = made(store)
    assert reads == []
    assert {name for name in after if after[name] == before[name]} == {f"{name}.parquet" for name in LONG}
    assert set(store.read_tables(SUITE)["runs"]["config_label"]) == {"another"}


def test_a_run_that_changed_a_moment_ago_is_looked_at_again(tmp_path, reads, monkeypatch):
    """A file system tells times in ticks: what changes within one would not show."""
    store = grid(tmp_path)
    monkeypatch.setattr(update, "_TICK", 3_600 * 10**9)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for _ in range(2):
        store.update_tables(SUITE)
    assert len(reads) == 2 * len(EVERY)


def test_whether_a_run_changed_a_moment_ago_is_told_by_the_clock_of_the_file_system(
    tmp_path, reads, monkeypatch
):
    store = grid(tmp_path)
    monkeypatch.setattr(update, "_TICK", 3_600 * 10**9)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    ahead = time.time_ns() + 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: ahead)
    for _ in range(2):
        store.update_tables(SUITE)
    assert len(reads) == 2 * len(EVERY)


# -- what is damaged is made anew --------------------------------------------------------------


@pytest.mark.parametrize("name", [*(f"{name}.parquet" for name in TABLES), "runs.csv", update.FILE])
def test_what_is_damaged_beside_the_runs_is_written_anew(tmp_path, name):
    store = grid(tmp_path / "results", EVERY[:2])
    store.update_tables(SUITE)
    path = store.root / SUITE / name
    data = path.read_bytes()
    (tmp_path / "target").write_bytes(data)
    middle = len(data) // 2
    for damaged in (None, data[:middle], b"", data[:middle] + b"#" + data[middle + 1 :], "a link"):
        path.unlink()
        if damaged == "a link":
            path.symlink_to(tmp_path / "target")
        elif damaged is not None:
            path.write_bytes(damaged)
        store.update_tables(SUITE)
        assert not path.is_symlink()
        # what was collected tells the times of other files
        assert name == update.FILE or path.read_bytes() == data
    assert_as_from_nothing(store, tmp_path / "anew")


def test_a_table_that_the_disk_changed_without_a_trace_is_found_when_it_is_read(tmp_path, monkeypatch):
    store = grid(tmp_path / "results", EVERY[:4])
    stamp = parquet.stamp
    for place in range(60, 500, 80):
        if not store.run(identifier(EVERY[0])).path.exists():
            write_run(store.root, small(EVERY[0]))
        path = store.update_tables(SUITE)["layers"]
        data, stamps = path.read_bytes(), {path: stamp(path)}
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        shutil.rmtree(store.run(identifier(EVERY[0])).path)
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "stamp", lambda found, s=stamps: s.pop(found, None) or stamp(found))
            store.update_tables(SUITE)
        assert_as_from_nothing(store, tmp_path / f"anew{place}")


def test_other_code_reads_anew(tmp_path, reads, monkeypatch):
    store = grid(tmp_path)
    store.update_tables(SUITE)
    reads.clear()
    monkeypatch.setattr(update, "_DECIDING", ("tables/arrow",))
    store.update_tables(SUITE)
    assert len(reads) == len(EVERY)


@pytest.mark.parametrize("value", ["{}", "[1]", "null", "7", "{"])
def test_facts_that_are_none_are_not_believed(tmp_path, value, reads):
    store = grid(tmp_path, EVERY[:2])
    store.update_tables(SUITE)
    path = tmp_path / SUITE / update.FILE
    kept = pq.read_table(path)
    place = kept.schema.get_field_index(".config")
    other = kept.set_column(place, kept.schema.field(place), [["{}", value]])
    pq.write_table(other, path)
    reads.clear()
    store.merge_plan(plan([cell(EVERY[0], label="another")]))
    store.update_tables(SUITE)
    assert len(reads) == (0 if value == "{}" else 2)


# -- several at once, and those that are ended -------------------------------------------------


def test_a_collect_that_fails_leaves_the_tables_as_they_were(tmp_path, monkeypatch):
    store = grid(tmp_path)
    store.update_tables(SUITE)
    before = made(store)
    shutil.rmtree(store.run(identifier(EVERY[0])).path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StoreError, match=r"cannot write .*parquet: No space left on device"):
        store.update_tables(SUITE)
    assert made(store) == before
    assert not list((tmp_path / SUITE).glob(".*.tmp"))


def test_what_was_abandoned_is_removed(tmp_path):
    store = grid(tmp_path, EVERY[:1])
    old, new = (tmp_path / SUITE / f".runs.parquet.{number}-00.tmp" for number in (1, 2))
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    store.update_tables(SUITE)
    assert (old.exists(), new.exists()) == (False, True)


def as_it_is(folder, document):
    """Keep the metrics of every run, and read all runs again for it."""
    return document


def _collect_often(root, times):
    for _ in range(times):
        Store(root).update_tables(SUITE, as_it_is)


def test_several_collects_at_once_do_no_harm(tmp_path):
    store = grid(tmp_path / "results")
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_collect_often, args=(store.root, 5)) for _ in range(2)]
    for process in others:
        process.start()
    number = 0
    while any(process.is_alive() for process in others):
        shutil.rmtree(store.run(identifier(EVERY[number % 4])).path, ignore_errors=True)
        write_run(store.root, small(EVERY[number % 4], accuracy=0.5 + 0.001 * number))
        store.update_tables(SUITE)
        assert len(store.read_tables(SUITE)["runs"]) == len(EVERY)
        number += 1
    assert [process.exitcode for process in others] == [0, 0]
    store.update_tables(SUITE)
    assert_as_from_nothing(store, tmp_path / "anew")


@pytest.mark.slow
def test_a_collect_that_is_killed_leaves_tables_that_can_be_read(tmp_path):
    store = grid(tmp_path / "results")
    store.update_tables(SUITE)
    code = "import sys; from bench.results.store import Store\nprint(flush=True)\n"
    code += "while 1: Store(sys.argv[1]).update_tables(sys.argv[2], lambda run, found: found)"
    for number in range(12):
        line = [sys.executable, "-c", code, str(store.root), SUITE]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.2 + 0.011 * number)
            process.send_signal(signal.SIGKILL)
        assert len(store.read_tables(SUITE)["runs"]) == len(EVERY)
    store.update_tables(SUITE)
    assert_as_from_nothing(store, tmp_path / "anew")
