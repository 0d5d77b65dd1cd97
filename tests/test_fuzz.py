"""A results folder may come from anywhere: whatever lies in it, readers answer or refuse, in one line, and do
nothing else.

A sound folder with a finished, a stopped and a failed run, tables and records of jobs is damaged at random,
and then everything that reads such folders is asked.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest

import bench
from bench import cancel, logs, status
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching.pool import run_inline
from bench.launching.worker import walk
from bench.monitoring import cancelling, launch_files, slurm_commands, slurm_queue, slurm_records
from bench.monitoring.progress import Item, Progress
from bench.monitoring.slurm_commands import State
from bench.monitoring.slurm_records import Task
from bench.reporting.collecting import collect
from bench.results import claims, styles
from bench.results.files import StoreError
from bench.results.store import Store
from bench.training import checkpoints
from methods.core.errors import UserError
from tests import toys  # noqa: F401 (the toys are registered)
from tests.fuzzing import tries
from tests.run_folders import cell, plan

REFUSALS = (StoreError, UserError)
SUITE = "criteria_ablation"
#: What stands where something else is expected.
ODD = [
    *(None, True, 0, -1, 1e308, 2**63, 10**400, "", "x" * 20_000, "../../outside", "/etc/passwd", "a\nb"),
    *("\x1b[2J\x07", "\ud800", [], {}, [[]], {"": {"": ""}}, "nan", -0.0),
]
TEXT = [
    *(b"", b"{", b"null", b"[]", b"NaN", b'{"a": Infinity}', b'{"a": 1e999}', b"\xff\xfe", b"\x00" * 100),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'"\\ud800"', b'{"schema": 1' + b"0" * 5000 + b"}", b"PK\x03\x04"),
]


def spec(seed, method="toy_two_stage", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method, "seed": seed}
    return parse_spec(nest({**chosen, "epochs": 2, "batch_size": 16, "lr": 0.05, **options}))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The folder that is copied and damaged, with its three runs: done, stopped, failed."""
    root = tmp_path_factory.mktemp("sound") / "results"
    store = Store(root, create=True)
    done, stopped, failed = spec(0), spec(1), spec(2, "toy_failing")
    run_inline(store, [done, failed], Execution())
    asked = iter(range(5))
    walk(store, [stopped], Execution(checkpoint_seconds=0.0), lambda: next(asked, None) is None)
    cells = []
    for run in (done, stopped, failed):
        config = {"seed": run.seed, "method": {"name": run.method[0]}, "dataset": {"name": "toy_blobs"}}
        cells.append(cell(config, run_id=run.run_id, config_id=run.config_id))
    store.merge_plan(plan(cells))
    collect(store, SUITE)
    launch = launch_files.new(root)
    slurm_records.write(launch, [Task("7_0", 1, (done.run_id, stopped.run_id), launch)])
    launch_files.logs(launch).mkdir()
    task = slurm_records.read(root)[0][0]
    task.note.write_text(json.dumps({"pid": 1, "run_id": stopped.run_id, "begun": True, "ended": False}))
    task.log.write_text(f"run {stopped.run_id}\nfarewell\n")
    (store.run(stopped.run_id).path / claims.NAME).write_text(
        json.dumps({"host": "elsewhere", "pid": 7, "started": 1.0, "job": "7_0", "token": "t"})
    )
    return root, [done.run_id, stopped.run_id, failed.run_id]


@pytest.fixture
def damaged(sound, tmp_path, monkeypatch):
    """A new copy of the sound folder each time it is called; SLURM says that all jobs have failed."""
    monkeypatch.setattr(slurm_commands, "states", lambda jobs: {job: State("FAILED") for job in jobs})
    monkeypatch.setattr(slurm_commands, "cancel", lambda jobs: list(jobs))
    monkeypatch.setattr(cancelling, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(cancelling, "_POLL_SECONDS", 0.0)
    root, _ = sound
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("{}")
    numbers = iter(range(10**6))

    def copy():
        place = tmp_path / f"copy-{next(numbers)}"
        for name in ("results", "results.jobs"):
            shutil.copytree(root.with_name(name), place / name)
        return place / "results"

    return copy


def readers(root, run_ids):
    """Return all readers of a results folder and its launch files, by name."""
    store = Store(root)
    yield "suites", store.suites
    yield "plans", store.plans
    yield "tables", lambda: store.tables(SUITE)
    yield "read_tables", lambda: store.read_tables(SUITE)
    for of in styles.FILES:
        yield of.file, lambda of=of: store.read_styles(SUITE, of)
    yield "faults", lambda: store.faults(run_ids)
    yield "status", lambda: status.main(["--results", str(root)])
    yield "progress", lambda: Progress(store, [Item(run_id, "x") for run_id in run_ids]).look(everything=True)
    yield "records", lambda: slurm_records.read(root)
    yield "verdicts", lambda: slurm_queue.verdicts(slurm_queue.look(root))
    for run_id in run_ids:
        run = store.run(run_id)
        for name in ("spec", "status", "metrics", "costs", "provenance"):
            yield name, lambda run=run, name=name: run.read(name)
        for name in ("history", "layers", "criteria_pairs"):
            yield name, lambda run=run, name=name: run.rows(name)
        yield "holder", lambda run=run: claims.holder(run)
        yield "load", lambda run_id=run_id: bench.load(run_id, root)
        yield "logs", lambda run_id=run_id: logs.main([run_id, "--results", str(root)])
        yield "logs_of", lambda run_id=run_id: slurm_records.logs_of(root, run_id)
        yield "checkpoint", lambda run=run: list(checkpoints.Checkpoints(run.path, 1.0).stored("cpu", print))
    # these write, in the folder and beside it
    yield "settle", lambda: slurm_queue.settle_all(store)
    yield "collect", lambda: collect(store, SUITE)
    yield "cancel", lambda: cancel.main([*run_ids, "--results", str(root)])
    yield "create", lambda: Store(root, create=True)
    yield "merge_plan", lambda: Store(root, create=True).merge_plan(store.plans()[0])


def require_one_line(name, error):
    if "\n" in str(error):
        raise AssertionError(f"{name}: {error!r} is more than a line")


def ask_all(root, run_ids):
    """Run every reader; their output must contain no control characters for a terminal."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            asked = list(readers(root, run_ids))
        except REFUSALS as error:
            require_one_line("Store", error)
            with contextlib.suppress(*REFUSALS):
                Store(root, create=True)
            return
        for name, reader in asked:
            try:
                reader()
            except REFUSALS as error:
                require_one_line(name, error)
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    shown = said.getvalue()
    assert not [c for c in set(shown) if ord(c) < 32 and c not in "\n\t"], repr(shown)[:500]


def pick(value, chance):
    """A random place within a JSON document: where it is, and its key."""
    here, key = None, None
    while isinstance(value, dict | list) and value and (here is None or chance.random() < 0.7):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        here, key = value, chance.choice(list(keys))
        value = value[key]
    return here, key


def damage(path, chance):
    """Change one file at random; what was done, in words."""
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl") and data and chance.random() < 0.6:
        lines = data.decode().splitlines()
        number = chance.randrange(len(lines))
        document = json.loads(lines[number])
        here, key = pick(document, chance)
        odd = chance.choice(ODD)
        if here is not None:
            here[key] = odd
            lines[number] = json.dumps(document)
            path.write_text("\n".join(lines) + "\n")
            return f"{path.name}: {key!r} is {repr(odd)[:40]}"
    way = chance.randrange(4)
    if way == 0:
        path.write_bytes(data[: chance.randrange(len(data) + 1)])
    elif way == 1 and data:
        at = chance.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
    elif way == 2:
        path.write_bytes(chance.choice(TEXT))
    else:
        path.write_bytes(data + chance.choice(TEXT))
    return f"{path.name}: way {way}"


def replace_entry(path, outside, chance):
    """Put something that is no file in the place of one."""
    path.unlink()
    way = chance.choice(["link", "broken link", "pipe", "folder", "zeros", "large"])
    if way == "link":
        path.symlink_to(outside / "file")
    elif way == "broken link":
        path.symlink_to(outside / "not there")
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "zeros":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(600 * 2**20)  # of which the file system stores nothing
    return f"{path.name}: {way}"


def fuzz(sound, damaged, tmp_path, seed, rounds):
    chance, (_, run_ids) = random.Random(seed), sound
    outside = tmp_path / "outside"
    for _ in range(rounds):
        root = damaged()
        files = sorted(path for path in root.parent.rglob("*") if path.is_file())
        told = []
        for path in chance.sample(files, chance.choice([1, 1, 2])):
            with contextlib.suppress(FileNotFoundError):
                told.append(
                    replace_entry(path, outside, chance) if chance.random() < 0.25 else damage(path, chance)
                )
        try:
            ask_all(root, run_ids)
        except AssertionError as error:
            raise AssertionError(f"{told}: {error}") from error
        assert [path.name for path in outside.iterdir()] == ["file"], told
        assert (outside / "file").read_text() == "{}", told
        shutil.rmtree(root.parent)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(4))
def test_whatever_lies_in_a_results_folder_readers_answer_or_refuse(sound, damaged, tmp_path, seed):
    fuzz(sound, damaged, tmp_path, seed, rounds=tries(8))


def test_a_sound_folder_is_answered(sound, damaged):
    root, run_ids = damaged(), sound[1]
    refused = []
    for name, reader in readers(root, run_ids):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reader()
        except REFUSALS:
            refused.append(name)
    assert refused == ["load", "load"], "only a finished run can be loaded"


@pytest.mark.parametrize(
    "name", ["../../outside", "a/b", "..", ".", "", "A", "0123456789AB", "0123456789a\n", 7]
)
def test_nothing_but_a_run_id_names_a_run(sound, name):
    with pytest.raises(StoreError, match="is not a run id"):
        Store(sound[0]).run(name)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(sound, damaged):
    root, (done, *_) = damaged(), sound[1]
    path = Store(root).run(done).path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**28))
    assert path.stat().st_size < 2**20
    with pytest.raises(StoreError, match=r"model\.pt: damaged"):
        bench.load(done, root)


def test_nothing_that_steers_a_terminal_is_printed(sound, damaged, capsys):
    root, run_ids = damaged(), sound[1]
    path = root / SUITE / "plan-demo.json"
    stored = json.loads(path.read_text())
    for planned in stored["cells"]:
        planned["label"] = "evil\x1b[2Jlabel"
    path.write_text(json.dumps(stored))
    failed = Store(root).run(run_ids[2])
    failed.write("status", {**failed.read("status"), "error": "evil\x1b]0;title\x07reason\r\nx"})
    assert status.main(["--results", str(root)]) == 1
    logs.main([run_ids[2], "--results", str(root)])
    said = capsys.readouterr().out
    assert "evil" in said and not {"\x1b", "\x07", "\r"} & set(said)


def test_locks_follow_no_link(sound, damaged, tmp_path):
    root = damaged()
    for lock in (root / SUITE / ".lock", root / ".submitting", root / SUITE / ".collecting"):
        lock.unlink(missing_ok=True)
        lock.symlink_to(tmp_path / "outside" / Path("made"))
    ask_all(root, sound[1])
    assert not (tmp_path / "outside" / "made").exists()
