"""A results folder from elsewhere: whatever is in it, readers succeed or say in a line what is wrong.

Files of a sound folder and of what lies beside it (``DIR.jobs``) are changed at random, then everything that
reads such folders does so. Nothing outside of them may change, nothing may steer the terminal.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import bench
from bench import cancel, collect, logs, status
from bench.cli import summary
from bench.cli.entry import entry
from bench.cli.live import render
from bench.experiment.execution import Execution
from bench.launching.worker import walk
from bench.monitoring import cancelling, launch_files, retries, slurm_commands, slurm_queue, slurm_records
from bench.monitoring.progress import Item, Progress
from bench.monitoring.slurm_commands import SlurmError, State
from bench.monitoring.slurm_records import Task
from bench.planning import estimate
from bench.planning.suite import load
from bench.reporting import collecting
from bench.results import claims, styles
from bench.results.claims import Process
from bench.results.files import StoreError, WriteError, read_json
from bench.results.store import Store
from bench.results.tables import parquet
from bench.runner import provenance
from bench.runner.attempt import Status
from bench.runner.execute import execute
from bench.training import checkpoints, safe_load
from methods.core.errors import UserError
from tests import toys  # noqa: F401 (the toys are registered)
from tests.fuzzing import TIMES, tries

ALLOWED = (StoreError, UserError, SlurmError)
SUITE = """
question: What does a hostile folder do?
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, epochs: 2, batch_size: 30, lr: 0.05, samples: 2}
    grids:
      - {recipe: default, method: toy_two_stage}
      - {recipe: default, method: toy_failing, seeds: 0}
      - recipe: default
        method: ssvi
        seeds: 0
        set: {dataset: digits, network: mlp, network.hidden: [8, 8], epochs: 1, sparsity: 0.8}
"""
#: What may take the place of any value of a document.
VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, -(10**400), 0.5, -0.0, 1e308, 1e-320),
    *("1e400", "-1e400", "NaN", "Infinity", "", "a", [], {}, [1], [[]], {"a": 1}, {"": None}, "1_0"),
    *(
        "../../outside",
        "/etc/passwd",
        "a\nb",
        "\x1b[2J\x1b]0;owned\x07",
        "\x9b31m",
        "[red]markup[/red]",
        "\0",
    ),
    *("\u202eabc", "\ud800", "x" * 20_000, "x" * 1_000_000, "deep list", "deep object", "rather deep"),
    *("done", "running", "failed", "pending", "cancelled"),
)
#: At each place one in so many of them is tried; no document has fewer places.
TURNS = 5
#: Of those, what is not written as it stands.
RAW = {
    "1e400": "1e400",
    "-1e400": "-1e400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "rather deep": "[" * 800 + "]" * 800,
}
NAMES = ("\x1b[2J", "a\nb", "..a", "\udcff", "[red]", "é" * 100)


# -- the sound folder, and its changes ----------------------------------------------------------


class Sound:
    """A results folder with runs of all kinds, in a folder of its own beside what must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (suite := folder / "hostile.yaml").write_text(SUITE)
        self.plan = load(str(suite)).expand("demo")
        self.specs = {spec.method[0] + str(spec.seed): spec for spec in self.plan.specs}
        self.store = Store(folder / "results", create=True)
        self.store.merge_plan(self.plan.to_dict("python -m bench.grid"))
        self._compute()
        self._submit()
        collecting.collect(self.store, "hostile")
        (folder / "outside" / "folder").mkdir(parents=True)
        for name in ("secret.json", "folder/array-1.json", "folder/status.json"):
            (folder / "outside" / name).write_text("{}")

    def _compute(self) -> None:
        asked = iter([False] * 5 + [True] * 100)
        for name, spec in self.specs.items():
            stop = (lambda: next(asked)) if name == "toy_two_stage1" else (lambda: False)
            execute(spec, self.store, Execution(checkpoint_seconds=0), stop)
        found = {name: self.store.run(spec.run_id).status() for name, spec in self.specs.items()}
        assert sorted(found.values()) == ["done", "done", "failed", "preempted"]
        elsewhere = replace(Process.current(), host="elsewhere")
        claim = {**asdict(elsewhere), "token": "another"}
        (self.run("toy_two_stage1").path / claims.NAME).write_text(json.dumps(claim))
        self.run("toy_two_stage1").log("it was stopped")
        said = self.run("toy_two_stage1").read("status")
        self.run("toy_two_stage1").write("status", {**said, "status": "running"})
        self.run("toy_failing0").ask_cancel()
        (self.store.root / "patches").mkdir(exist_ok=True)
        (self.store.root / "patches" / "01234567.diff").write_text("a\n")

    def _submit(self) -> None:
        for array in (7, 8):
            launch = launch_files.new(self.store.root)
            tasks = [
                Task(f"{array}_{n}", n + 1, (spec.run_id,), launch)
                for n, spec in enumerate(self.specs.values())
            ]
            slurm_records.write(launch, tasks)
            launch_files.logs(launch).mkdir()
            for task in tasks:
                said = {"pid": 1, "run_id": task.runs[0], "begun": True, "ended": False, "fault": None}
                task.note.write_text(json.dumps(said))
                task.log.write_text(f"run {task.runs[0]}\nfarewell\n")
        slurm_records.close(launch, "8")

    def run(self, name: str):
        return self.store.run(self.specs[name].run_id)

    def copy(self, folder: Path) -> Store:
        for name in ("results", "results.jobs", "outside"):
            shutil.copytree(self.folder / name, folder / name, symlinks=True)
        found = Store(folder / "results")
        # a claim of another machine lasts for a while only, and some tests take longer
        (found.run(self.specs["toy_two_stage1"].run_id).path / claims.NAME).touch()
        return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return Sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """SLURM has forgotten all jobs, and no command waits for runs that never end."""
    monkeypatch.setattr(
        slurm_commands, "states", lambda wanted: {job: State(slurm_commands.GONE) for job in wanted}
    )
    monkeypatch.setattr(slurm_commands, "cancel", lambda wanted: list(wanted))
    monkeypatch.setattr(cancelling, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(cancelling, "_POLL_SECONDS", 0.0)


def entries(folder: Path) -> list[Path]:
    """All files and folders that may be changed, in order."""
    found = [path for name in ("results", "results.jobs") for path in (folder / name).rglob("*")]
    # what was changed already may be a link or a device
    return sorted(p for p in found if stat.S_ISDIR(p.lstat().st_mode) or stat.S_ISREG(p.lstat().st_mode))


def entries_of(folder: Path) -> list[Path]:
    """The files right in a folder."""
    return [path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode)]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def change(folder: Path, chance: random.Random) -> str:
    """Change one thing; says what."""
    path = chance.choice(entries(folder))
    kinds = [take_place] if path.is_dir() else [take_place, damage, damage]
    if path.suffix in (".json", ".jsonl"):
        kinds += [other_value] * 6
    elif path.suffix == ".parquet":
        kinds += [other_table] * 4
    elif path.suffix == ".pt":
        kinds += [other_tensors] * 4
    kind = chance.choice([*kinds, other_name])
    words = kind(path, chance)
    if chance.random() < 0.7:
        seal_again(path)
    return f"{path.relative_to(folder)}: {words}"


def damage(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    how = chance.choice(["empty", "cut", "bits", "bytes", "twice"])
    if how == "empty":
        data.clear()
    elif how == "cut":
        del data[chance.randint(0, len(data)) :]
    elif how == "twice":
        data += bytes(data)
    for _ in range(chance.randint(1, 8) if how in ("bits", "bytes") and data else 0):
        at = chance.randrange(len(data))
        data[at] = data[at] ^ (1 << chance.randrange(8)) if how == "bits" else chance.randrange(256)
    path.write_bytes(data)
    return how


def take_place(path: Path, chance: random.Random) -> str:
    top = next(parent for parent in path.parents if (parent / "outside").is_dir())
    outside = top / "outside"
    is_folder = path.is_dir()
    remove(path)
    how = chance.choice(["nothing", "file", "pipe", "folder", "device", "zero", *LINKS])
    if how == "file":
        path.write_bytes(b"something")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        (path / "inside").mkdir(parents=True)
    elif how == "device":
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:
            path.symlink_to("/dev/zero")
    elif how == "zero":
        path.symlink_to("/dev/zero")
    elif how != "nothing":
        path.symlink_to(outside / how if how != "itself" else path, target_is_directory=is_folder)
    return f"replaced by {how}"


LINKS = ("secret.json", "folder", "missing", "itself")


def as_written(document: object) -> str:
    """Its JSON, ``RAW`` as it is."""
    written = json.dumps(document)
    for name, raw in RAW.items():
        written = written.replace(f'"{name}"', raw)
    return written


def other_value(path: Path, chance: random.Random) -> str:
    text = path.read_text()
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    at = chance.randrange(len(lines))
    document = {"": json.loads(lines[at])}
    place: list[tuple[object, object]] = []

    def visit(node: object) -> None:
        for key in (
            list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        ):
            place.append((node, key))
            visit(node[key])

    visit(document)
    node, key = chance.choice(place)
    value = chance.choice(VALUES)
    if isinstance(node, dict) and chance.random() < 0.15:
        node[value if isinstance(value, str) else str(value)[:50]] = node.pop(key)
        document.setdefault("", {})
    else:
        node[key] = value
    lines[at] = as_written(document[""])
    path.write_text("\n".join(lines) + "\n")
    return f"{key!r} is {str(value)[:40]!r}"


def other_table(path: Path, chance: random.Random) -> str:
    table = pq.read_table(path)
    if not table.column_names:  # such a one already
        return "nothing"
    how = chance.choice(["columns", "types", "order", "empty", "rows", "nested", "texts"])
    name = chance.choice(table.column_names)
    at = table.column_names.index(name)
    if how == "columns":
        table = table.drop_columns([name])
    elif how == "types":
        table = table.set_column(at, name, pa.nulls(len(table), pa.binary()))
    elif how == "order":
        table = table.select(table.column_names[::-1])
    elif how == "empty":
        table = pa.table({})
    elif how == "rows":
        table = pa.table({name: pa.nulls(5_000_000, pa.int64())})
    elif how == "nested":
        table = table.append_column("config.x", pa.array([[{"a": [None]}]] * len(table)))
    else:
        table = table.append_column("config.\x1b[2J", pa.array(["\x1b[2J\n"] * len(table)))
    pq.write_table(table, path)
    return how


class Executed:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def other_tensors(path: Path, chance: random.Random) -> str:
    try:
        content = torch.load(path, weights_only=True)
    except Exception:  # whatever an earlier change made of it
        content = None
    if not isinstance(content, dict) or not content:
        return damage(path, chance)
    tensors = (torch.zeros(0), torch.zeros(3, 2, dtype=torch.uint8), torch.ones(1).expand(2, 10))
    plain = (None, -1, 10**400, float("inf"), "x", [], {})
    odd = [*plain, *tensors, torch.zeros(0, 10**6), Executed(path.parent / "executed")]
    node, key, value = content, chance.choice(list(content)), chance.choice(odd)
    while isinstance(node[key], dict) and node[key] and chance.random() < 0.8:
        node = node[key]
        key = chance.choice(list(node))
    if chance.random() < 0.2:
        del node[key]
    else:
        node[key] = value
    torch.save(content if chance.random() < 0.95 else [content], path)
    return f"{key!r} is {type(value).__name__}"


def other_name(path: Path, chance: random.Random) -> str:
    """A file beside it has an absurd name."""
    name = chance.choice(NAMES)
    other = path.with_name(chance.choice([path.stem + name + path.suffix, name]))
    if path.is_dir():
        other.mkdir()
        for file in entries_of(path):
            shutil.copyfile(file, other / file.name)
    else:
        shutil.copyfile(path, other)
    return f"and {other.name!r}"


def seal_again(path: Path) -> None:
    """Make the status of a finished run list the changed file as it is now, as an attacker could."""
    with contextlib.suppress(StoreError, LookupError, ValueError, TypeError, AttributeError, OSError):
        document = path.with_name("status.json")
        if not stat.S_ISREG(path.lstat().st_mode):
            return
        said = read_json(document)
        if path.name in said["files"]:
            data = path.read_bytes()
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            said["files"][path.name] = [len(data), digest]
            document.write_text(json.dumps(said))


# -- everything that reads ----------------------------------------------------------------------


def command(main, *arguments) -> None:
    """As a process does it, errors included; what the command returns does not matter here."""
    with contextlib.suppress(SystemExit):
        entry(lambda: main([str(argument) for argument in arguments]))


def readers(root: Path, sound: Sound):
    """Each reader by name: a call that may raise what is ``ALLOWED``."""
    run_ids = [spec.run_id for spec in sound.plan.specs]

    def store() -> Store:
        return Store(root)

    def each(read):
        """``read`` of every run, each by itself."""

        def every() -> None:
            for run_id in run_ids:
                with contextlib.suppress(*ALLOWED):
                    read(store().run(run_id))

        return every

    def pieces(run) -> None:
        for name in ("spec", "status", "metrics", "costs", "provenance"):
            with contextlib.suppress(StoreError):
                run.read(name)
        for name in ("history", "layers", "criteria_pairs"):
            with contextlib.suppress(StoreError):
                run.rows(name)
        run.status(), run.is_settled(), run.is_cancel_asked()

    def load_both(run) -> None:
        for name in ("model.pt", "inputs.pt", checkpoints.CHECKPOINT, checkpoints.PREVIOUS):
            with contextlib.suppress(FileNotFoundError, safe_load.Damaged, StoreError):
                checkpoints.load(run.path / name)

    def claim(run) -> None:
        claims.holder(run)
        if (found := claims.acquire(run)) is not None:
            found.beat()
            found.release()

    def picture() -> None:
        items = [Item(run_id, "label", 0) for run_id in run_ids]
        progress = Progress(store(), items)
        for _ in range(2):
            Console(width=240).print(render(progress.look(everything=True)))

    def records_of() -> None:
        tasks, _ = slurm_records.read(root)
        for task in tasks:
            task.read_note(), task.last_words()
        for run_id in run_ids:
            slurm_records.logs_of(root, run_id)

    yield "store", store
    yield "plans", lambda: store().plans()
    yield "planned", lambda: store().planned("hostile")
    yield "tables", lambda: store().tables("hostile")
    yield "read_tables", lambda: store().read_tables("hostile")
    for of in styles.FILES:
        yield of.file, lambda of=of: store().read_styles("hostile", of)
    yield "faults", lambda: store().faults(run_ids)
    yield "pieces", each(pieces)
    yield "archives", each(load_both)
    yield "bench.load", each(lambda run: bench.load(run.run_id, root))
    yield "earlier", each(provenance.earlier)
    yield "deaths", each(lambda run: retries.document(store(), run.run_id))
    yield "progress", picture
    yield "status", lambda: command(status.main, "--results", root)
    yield "estimate", lambda: estimate.estimate(sound.plan, store())
    yield "records", records_of
    yield "places", lambda: slurm_queue.Places(root).refresh()
    for run_id in run_ids:
        yield "logs", lambda run_id=run_id: command(logs.main, run_id, "--results", root)
    # what follows writes
    yield "collect", lambda: command(collect.main, "--suite", "hostile", "--results", root)
    yield "collect again", lambda: command(collect.main, "--suite", "hostile", "--results", root)
    yield "tables written", lambda: store().read_tables("hostile")
    yield "claim", each(claim)
    yield "settle", lambda: slurm_queue.settle_all(store())
    yield "cancel", lambda: command(cancel.main, "--suite", "hostile", "--results", root)
    yield "create", lambda: Store(root, create=True)
    yield "merge", lambda: Store(root, create=True).merge_plan(sound.plan.to_dict("again"))


def go_on(root: Path, sound: Sound) -> None:
    """As a worker does it: what is left of the run that was stopped, and of the one that failed."""
    left = [sound.specs[name] for name in ("toy_two_stage1", "toy_failing0")]
    for run in (Store(root).run(spec.run_id) for spec in left):
        (run.path / claims.NAME).unlink(missing_ok=True)
    walk(Store(root), left, Execution(), lambda: False)


def picture_of(folder: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        seen = path.lstat()
        found[str(path)] = seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ino
    return found


def attempt(sound: Sound, folder: Path, seed: int, longest: float = 20.0, changes: int = 1) -> None:
    chance = random.Random(seed)
    sound.copy(folder)
    root = folder / "results"
    words = []
    for _ in range(changes):
        with contextlib.suppress(OSError, ValueError):  # what was changed before may be a link, or no JSON
            words.append(change(folder, chance))
    before, around = picture_of(folder / "outside"), sorted(folder.iterdir())
    every = list(readers(root, sound))
    if chance.random() < 0.3:
        every.append(("go on", lambda: go_on(root, sound)))
    for name, read in every:
        where = f"seed {seed}, {'; '.join(words)}, {name}"
        printed, began = io.StringIO(), time.monotonic()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                read()
            except ALLOWED:
                pass
            except OSError as error:
                if name != "go on" or isinstance(error, WriteError):
                    raise AssertionError(where) from error
            except Exception as error:
                raise AssertionError(where) from error
        assert time.monotonic() - began < longest, where
        odd = {c for c in printed.getvalue() if not c.isprintable() and c != "\n"}
        assert not odd, f"{where}: prints {odd}"
        assert picture_of(folder / "outside") == before, where
    assert set(folder.iterdir()) <= {*around, folder / "results.jobs"}, words
    assert not list(folder.rglob("executed")), words


def test_the_sound_folder_is_read(sound, tmp_path):
    """So that what follows is about the changes."""
    store = sound.copy(tmp_path)
    read = dict(readers(store.root, sound))
    for name in (
        "plans",
        "tables",
        "read_tables",
        "methods.json",
        "criteria.json",
        "estimate",
        "records",
        "progress",
    ):
        read[name]()
    assert store.faults(store.run_ids()) == {}
    bench.load(sound.specs["ssvi0"].run_id, store.root)
    assert set(store.tables("hostile")["runs"]["status"]) == {"done", "failed", "running"}


@pytest.mark.fuzz
def test_a_folder_with_changes_is_read_or_refused(sound, tmp_path):
    """Eight at a time, as there are far more files; the slow test has one at a time, too."""
    for seed in range(tries(10)):
        attempt(sound, tmp_path / str(seed), seed, changes=8)


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(10))
def test_any_folder_is_read_or_refused(sound, tmp_path, part):
    for seed in range(1000 * (part + 1), 1000 * (part + 1) + tries(8)):
        attempt(sound, folder := tmp_path / str(seed), seed, changes=1 + seed % 3)
        shutil.rmtree(folder)


def leaves(node: object, place: tuple = ()):
    """The places of all values in a document, of lists those of the first two."""
    for key in (
        list(node) if isinstance(node, dict) else range(min(len(node), 2)) if isinstance(node, list) else ()
    ):
        yield (*place, key)
        yield from leaves(node[key], (*place, key))


def exchanged(text: str, place: tuple, value: object) -> str:
    """A document with another value at a place."""
    node = document = json.loads(text)
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return as_written(document)


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["spec", "status", "costs", "provenance", "claim"])
@pytest.mark.parametrize("run", ["ssvi0", "toy_two_stage1"])
def test_any_value_of_a_document_can_be_any_other(sound, store, run, name):
    """In CI every place and every value has its turn, by ``make fuzz`` each value at each place."""
    folder = store.run(sound.specs[run].run_id)
    if not (path := folder.path / f"{name}.json").exists():
        pytest.skip("such a run has none")
    left = SimpleNamespace(specs=[replace(sound.specs["ssvi0"], seed=7)])
    read = (
        lambda: store.check(folder.run_id),
        lambda: bench.load(folder.run_id, store.root),
        lambda: Status(folder),
        lambda: provenance.earlier(folder),
        lambda: claims.holder(folder),
        lambda: render(Progress(store, [Item(folder.run_id, "label")]).look()),
        lambda: estimate.estimate(left, store),
        lambda: command(logs.main, folder.run_id, "--results", store.root),
    )
    text = path.read_text()
    step = 1 if TIMES > 1 else TURNS
    for turn, place in enumerate(leaves(json.loads(text))):
        for value in VALUES[turn % step :: step]:
            path.write_text(exchanged(text, place, value))
            seal_again(path)
            for number, each in enumerate(read):
                try:
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        each()
                except ALLOWED:
                    pass
                except Exception as error:
                    raise AssertionError(f"{place}: {str(value)[:40]!r}, reader {number}") from error


@pytest.mark.parametrize("config", [None, 1, "a", [1], True])
def test_a_configuration_that_is_none_is_no_model(sound, store, config):
    run = store.run(sound.specs["ssvi0"].run_id)
    run.write("spec", {**run.read("spec"), "config": config})
    with pytest.raises(StoreError, match="no configuration"):
        bench.load(run.run_id, store.root)


# -- what was found -----------------------------------------------------------------------------


@pytest.fixture
def store(sound, tmp_path):
    return sound.copy(tmp_path)


@pytest.fixture
def outside(store):
    return store.root.parent / "outside"


@pytest.mark.parametrize("name", [".lock", ".collecting"])
def test_a_lock_that_is_a_link_is_refused_and_not_followed(sound, store, outside, name):
    (lock := store.root / "hostile" / name).unlink(missing_ok=True)
    lock.symlink_to(outside / "made")
    with pytest.raises(StoreError, match=f"cannot lock .*{name}"):
        store.merge_plan(sound.plan.to_dict("again"))
        store.update_tables("hostile")
    assert not (outside / "made").exists()


@pytest.mark.parametrize("number", [10**400, "1e400", "-1e400", 1e308, "12", None, []])
def test_numbers_of_a_running_run_that_are_none_show_as_nothing(sound, store, number):
    run = store.run(sound.specs["toy_two_stage1"].run_id)
    keys = ("epoch", "epochs", "step", "steps", "stages", "stage_index", "val_accuracy", "deaths")
    text = json.dumps({"status": "running", **dict.fromkeys(keys, number)})
    (run.path / "status.json").write_text(text.replace('"1e400"', "1e400").replace('"-1e400"', "-1e400"))
    (running,) = Progress(store, [Item(run.run_id, "label")]).look().running
    assert (running.epoch, running.epochs, running.share, running.val_accuracy) == (0, 0, 0.0, None)


@pytest.mark.parametrize("attempts", ["x", [], 1.5, 10**400, True])
def test_a_count_of_attempts_that_is_none_does_not_end_the_worker(sound, store, attempts):
    run = store.run(sound.specs["toy_failing0"].run_id)
    run.forget_cancel()
    run.write("status", {**run.read("status"), "status": "queued", "attempt": attempts})
    walk(store, [sound.specs["toy_failing0"]], Execution(), lambda: False)
    assert run.read("status")["status"] == "failed" and run.read("status")["attempt"] == 1


@pytest.mark.parametrize("seconds", [10**400, "1e400", -1, 0, "x", [1]])
def test_an_estimate_leaves_out_times_that_are_none(sound, store, seconds):
    run = store.run(sound.specs["ssvi0"].run_id)
    costs = run.read("costs")
    text = json.dumps({**costs, "wall_seconds": seconds}).replace('"1e400"', "1e400")
    (run.path / "costs.json").write_text(text)
    # the run itself is done, which would leave nothing to estimate
    more = replace(sound.specs["ssvi0"], seed=7)
    found = estimate.estimate(SimpleNamespace(specs=[more]), store)
    assert found.runs == 1 and all(0 < hours < 1 for hours in found.hours.values())
    assert not any("finished runs" in line for line in found.basis)


def test_a_claim_that_is_a_link_is_not_touched_through(sound, store, outside):
    run = store.run(sound.specs["toy_failing0"].run_id)
    claim = claims.acquire(run)
    claim.path.unlink()
    claim.path.symlink_to(outside / "secret.json")
    before = picture_of(outside)
    claim.beat()
    assert picture_of(outside) == before


def test_a_run_folder_that_is_a_link_is_not_claimed(sound, store, outside):
    run = store.run("0" * 12)
    run.path.symlink_to(outside / "folder")
    before = picture_of(outside)
    with pytest.raises(StoreError, match="is a link"):
        claims.acquire(run)
    assert picture_of(outside) == before


def test_a_claim_that_is_a_folder_is_void(sound, store):
    run = store.run(sound.specs["toy_failing0"].run_id)
    (run.path / claims.NAME / "inside").mkdir(parents=True)
    assert claims.holder(run) is None
    claim = claims.acquire(run)
    claim.release()
    assert not list(run.path.glob("*claim*")) + list(run.path.glob(".*claim*"))


@pytest.mark.parametrize("name", ["runs", "corrupted"])
def test_what_is_moved_or_computed_stays_in_the_results_folder(sound, store, outside, name):
    run_id = sound.specs["toy_failing0"].run_id
    shutil.rmtree(store.root / name, ignore_errors=True)
    (store.root / name).symlink_to(outside / "folder")
    before = picture_of(outside)
    with pytest.raises(StoreError, match=f"{name}: is a link"):
        Store(store.root).set_aside(run_id, "for a test")
    assert picture_of(outside) == before


def test_a_launch_that_is_a_link_is_none(sound, store, outside):
    (launch,) = {path.parent for path in store.root.with_name("results.jobs").glob("*/array-*.json")}
    shutil.move(launch, outside / "launch")
    launch.symlink_to(outside / "launch")
    before = picture_of(outside)
    assert slurm_records.read(store.root) == ([], [])
    slurm_queue.settle_all(store)
    slurm_records.tidy_over(store.root)
    assert picture_of(outside) == before


def test_names_and_labels_that_would_steer_the_terminal(sound, store, capsys):
    plan = json.loads((store.root / "hostile" / "plan-demo.json").read_text())
    for cell in plan["cells"]:
        cell["label"] = "\x1b[2Jlabel\x07"
    (store.root / "hostile" / "plan-demo.json").write_text(json.dumps(plan))
    document = store.run(sound.specs["ssvi0"].run_id).path / "provenance.json"
    document.write_text(json.dumps({**json.loads(document.read_text()), "git_sha": "\x1b[3J"}))
    seal_again(document)
    launch = store.root.with_name("results.jobs") / "\x1b[4J\nlaunch"
    launch.mkdir()
    (launch / "array-9.json").write_text("{")
    (run := store.run(sound.specs["toy_two_stage1"].run_id)).write("status", {"status": "running"})
    claim = {**asdict(replace(Process.current(), host="\x1b[5J")), "token": "another"}
    (run.path / claims.NAME).write_text(json.dumps(claim))
    command(collect.main, "--suite", "hostile", "--results", store.root)
    command(status.main, "--results", store.root)
    command(cancel.main, run.run_id, "--results", store.root)
    runs = store.read_tables("hostile", ["runs"])["runs"]
    summary.print_summary(Console(width=240), runs, [])
    (store.root / "hostile" / "plan-\x1b[6J.json").write_text("{")
    command(status.main, "--results", store.root)
    printed = "".join(capsys.readouterr())
    for number in range(2, 7):
        assert f"[{number}J" in printed
    assert {c for c in printed if not c.isprintable()} == {"\n"}


# -- what is small in a file, and large in memory -----------------------------------------------


def rows_of(table: str, count: int, **texts: str) -> pa.Table:
    """``count`` rows of a table that are all alike: each column takes a few bytes of a file."""
    columns = {}
    for field in parquet.schema_of(table):
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name in texts:
            column = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([texts[field.name]]))
            columns[field.name] = column if pa.types.is_dictionary(field.type) else column.cast(plain)
        else:
            columns[field.name] = pa.nulls(count, field.type)
    return pa.table(columns, parquet.schema_of(table))


def bombs(root: Path, run: Path, stopped: Path) -> None:
    """Lay them where sound files were."""
    suite = root / "hostile"
    one = rows_of("history", 2**20)
    with pq.ParquetWriter(suite / "history.parquet", one.schema) as sink:
        for _ in range(16):
            sink.write_table(one)
    shutil.copyfile(suite / "history.parquet", suite / ".collected.parquet")
    pq.write_table(rows_of("runs", 2**16, error="x" * 10_000), suite / "runs.parquet")
    with (
        zipfile.ZipFile(run / "model.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
        new.open("a/data/0", "w") as part,
    ):
        for _ in range(50):
            part.write(bytes(2**24))
    (run / "spec.json").write_bytes(b"[" + b"[]," * 2**25 + b"[]]")
    (stopped / "history.jsonl").write_bytes(b"{}\n" * 2**24)
    for name, others in (
        ("model.pt", ("inputs.pt", checkpoints.CHECKPOINT)),
        ("spec.json", ("provenance.json", "claim.json")),
    ):
        for other in others:
            shutil.copyfile(run / name, run / other)
    for name in ("layers.jsonl", "run.log", "metrics.json", checkpoints.PREVIOUS, "cancel.json"):
        (run / name).write_bytes(b"")
        os.truncate(run / name, 600 * 2**20)
    (launch,) = {path.parent for path in root.with_name("results.jobs").glob("*/array-*.json")}
    looks = [suite / of.file for of in styles.FILES]
    for path in [*launch.glob("*.json"), *launch.glob("submitit/*.out"), *looks]:
        path.write_bytes(b"")
        os.truncate(path, 600 * 2**20)


CHILD = """
import sys
import tests.test_hostile as hostile
hostile.read_all(*sys.argv[1:])
"""


def read_all(root: str, run_id: str, stopped: str, megabytes: str) -> None:
    """What the child process does that may not take more than so much memory beyond what it has by then."""
    import resource

    slurm_commands.states = lambda wanted: {job: State(slurm_commands.GONE) for job in wanted}
    store = Store(root)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + int(megabytes) * 2**20,) * 2)
    run = store.run(run_id)
    # in these words: what runs out of memory on the way is refused too, in others
    refused(lambda: store.read_tables("hostile", ["history"]), "values in")
    refused(lambda: store.read_tables("hostile", ["runs"]), "bytes of text")
    assert "rows; the limit is" in (store.check(stopped) or "")
    for of in styles.FILES:
        refused(lambda of=of: store.read_styles("hostile", of))
    assert store.check(run_id) is not None
    for name in ("model.pt", "inputs.pt", checkpoints.CHECKPOINT, checkpoints.PREVIOUS):
        refused(lambda name=name: checkpoints.load(run.path / name))
    refused(lambda: bench.load(run_id, store.root))
    refused(lambda: run.read("spec"))
    claims.holder(run)
    provenance.earlier(run)
    assert slurm_records.read(store.root)[1]
    command(logs.main, run_id, "--results", root)
    command(status.main, "--results", root)
    command(collect.main, "--suite", "hostile", "--results", root)
    assert len(store.read_tables("hostile")["runs"]) == 4


def refused(read, words: str | None = None) -> None:
    with pytest.raises((StoreError, safe_load.Damaged), match=words):
        read()


@pytest.mark.slow
def test_what_is_large_in_memory_is_refused_before_it_is_there(sound, store):
    run_id, stopped = (sound.specs[name].run_id for name in ("ssvi0", "toy_two_stage1"))
    bombs(store.root, store.run(run_id).path, store.run(stopped).path)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, store.root, run_id, stopped, "700"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
