"""Faults from outside a run: a full disk, another process on the same run, cancelling and stopping."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching.worker import walk
from bench.monitoring.progress import Item, Progress
from bench.results import files
from bench.results.files import WriteError
from bench.results.integrity import digests, is_sealed, seal
from bench.results.run_folder import CANCEL
from bench.results.store import Store
from bench.runner.attempt import LOST
from bench.runner.execute import execute
from bench.training import checkpoints
from tests.test_training import EVERY_EPOCH, SELDOM, results, spec
from tests.workers import compute, context

SSVI = {"method": "ssvi", "sparsity": 0.5, "replace_every": 3}


def after(n, then=lambda: True):
    """A ``stop`` that gives ``then()`` before minibatch ``n``, counted from 0, and nothing before."""
    asked = iter(range(n))
    return lambda: then() if next(asked, None) is None else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of ``SSVI``."""
    store = Store(tmp_path_factory.mktemp("whole"), create=True)
    assert execute(spec(**SSVI), store, SELDOM) == "done"
    return store


def sound(store, run, undisturbed, but=()):
    """Require that the run is done, with the results of the undisturbed one, and its folder is intact.

    but: how the names of files may end that a process which is held up has not put in place.
    """
    folder = store.run(run.run_id)
    assert folder.status() == "done" and is_sealed(folder)
    assert store.check(run.run_id) is None
    assert results(store, run) == results(undisturbed, run)
    names = {path.name for path in folder.path.iterdir()}
    names = [name for name in names if not name.endswith(tuple(but))]
    assert not [name for name in names if name.startswith((".", "checkpoint", "cancel"))]


# -- a disk that is full -------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A file system of 600 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk, left):
    """Fill ``disk`` up to ``left`` bytes."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - left)


@pytest.mark.parametrize("left", [0, 4096, 16384, 32768])
@pytest.mark.parametrize(("full_at", "how"), [(2, EVERY_EPOCH), (13, EVERY_EPOCH), (23, SELDOM)])
def test_a_full_disk_is_no_fault_of_the_run_which_goes_on_later(left, full_at, how, disk, whole):
    """Before the first checkpoint, after it, and when the results are written."""
    run, store = spec(**SSVI), Store(disk / "results", create=True)
    folder = store.run(run.run_id)
    with pytest.raises(WriteError, match=r"^cannot write \S+: No space left on device$") as caught:
        execute(run, store, how, after(full_at, lambda: fill(disk, left) or full_at == 13))
    assert "\n" not in str(caught.value)
    assert folder.status() in ("running", "preempted")
    for path in folder.path.iterdir():
        assert not path.name.startswith(".")
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".pt":
            checkpoints.load(path)
    (disk / "filler").unlink()
    assert execute(run, store, how) == "done"
    sound(store, run, whole)


FILES = ("checkpoint.pt", "model.pt", "predictions.npz", "history.jsonl", "costs.json")
OTHERS = (errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES)


@pytest.mark.parametrize(
    ("name", "number"), [*((n, errno.ENOSPC) for n in FILES), *(("checkpoint.pt", n) for n in OTHERS)]
)
def test_whatever_keeps_a_file_from_being_written_keeps_the_run_from_failing(
    name, number, tmp_path, monkeypatch, whole
):
    run, store, replace = spec(**SSVI), Store(tmp_path, create=True), os.replace

    def refused(source, target):
        if os.fspath(target).endswith(name):
            raise OSError(number, os.strerror(number))
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(WriteError, match=f"{name}: {os.strerror(number)}"):
        patch.setattr(files.os, "replace", refused)
        execute(run, store, EVERY_EPOCH)
    status = store.run(run.run_id).read("status")
    assert (status["status"], status["error_kind"]) == ("preempted", "preempted")
    assert name in status["error"]
    assert execute(run, store, EVERY_EPOCH) == "done"
    assert store.run(run.run_id).read("status")["error"] is None
    sound(store, run, whole)


# -- a folder that is deleted or moved -----------------------------------------------------------


def moved(path):
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize("take_away", [shutil.rmtree, moved])
@pytest.mark.parametrize("what", ["run", "results", "spec"])
@pytest.mark.parametrize(("at", "how"), [(2, EVERY_EPOCH), (13, EVERY_EPOCH), (23, SELDOM)])
def test_a_run_whose_folder_goes_stops_and_does_not_make_it_again(take_away, what, at, how, tmp_path, whole):
    run, store = spec(**SSVI), Store(tmp_path / "results", create=True)
    folder = store.run(run.run_id)

    def go():
        if what == "spec":
            (folder.path / "spec.json").unlink()
        else:
            take_away(store.root if what == "results" else folder.path)

    with pytest.raises(WriteError, match=rf"^run {run.run_id}: \S+ was deleted or moved while .* computed$"):
        execute(run, store, how, after(at, go))
    assert store.root.exists() == (what != "results")
    assert folder.path.exists() == (what == "spec")
    store = Store(store.root, create=True)
    assert Progress(store, [Item(run.run_id, "a run")]).statuses()[run.run_id] in ("pending", "preempted")
    assert execute(run, store, how) == "done"
    sound(store, run, whole)


@pytest.mark.parametrize("name", ["spec.json", "metrics.json", "model.pt"])
def test_a_finished_run_that_lost_a_file_has_failed_wherever_one_asks(name, tmp_path):
    run, store = spec(**SSVI), Store(tmp_path, create=True)
    assert execute(run, store, SELDOM) == "done"
    (store.run(run.run_id).path / name).unlink()
    (failed,) = Progress(store, [Item(run.run_id, "a run")]).look().failed
    assert failed[1].startswith("corrupted: ") and name in failed[1]
    assert name in store.check(run.run_id)


# -- two processes at one run --------------------------------------------------------------------


def computing(run, root, how, hold=None):
    process = context.Process(target=compute, args=(run.to_dict(), str(root), how, hold))
    process.start()
    return process


def ended(process):
    process.join()
    assert process.exitcode == 0


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def held(process):
    return not process.is_alive() or psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def interleaved(run, root, undisturbed, hold):
    """One process is paused while another finishes the run; then the first continues."""
    store = Store(root, create=True)
    first = computing(run, root, EVERY_EPOCH, hold)
    until(lambda: held(first))
    assert first.is_alive()
    ended(computing(run, root, EVERY_EPOCH))
    sound(store, run, undisturbed, but=[".tmp"])
    os.kill(first.pid, signal.SIGCONT)
    ended(first)
    sound(store, run, undisturbed)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 4, 6, 8, 11])
def test_a_run_that_two_processes_are_at_is_the_undisturbed_one(number, when, tmp_path, whole):
    interleaved(spec(**SSVI), tmp_path, whole, (number, when))


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 6, 9, 20])
def test_so_is_a_real_run(number, tmp_path):
    run = parse_spec(nest({"dataset": "digits", "network": "mlp", "method": "ssvi", "epochs": 12}))
    undisturbed = Store(tmp_path / "whole", create=True)
    assert execute(run, undisturbed, Execution()) == "done"
    interleaved(run, tmp_path / "two", undisturbed, (number, "before"))


@pytest.mark.parametrize("number", [4, 7, 12])
def test_so_is_one_whose_second_process_dies_once_another_has_come_by(number, tmp_path, whole):
    """Two processes train at once; the one that dies may be the last that wrote something."""
    run, store = spec(**SSVI), Store(tmp_path, create=True)
    dying = computing(run, tmp_path, EVERY_EPOCH, (number, "after"))
    other = computing(run, tmp_path, EVERY_EPOCH)
    until(lambda: held(dying))
    dying.kill()
    dying.join()
    ended(other)
    walk(store, [run], EVERY_EPOCH, lambda: False)
    sound(store, run, whole, but=[".tmp"])


def test_a_run_that_another_process_has_finished_is_left_as_it_is(tmp_path, whole):
    run, store = spec(**SSVI), Store(tmp_path, create=True)
    folder, written = store.run(run.run_id), []

    def finished():
        if written:
            return
        assert execute(run, store, SELDOM) == "done"
        written.append({path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()})

    assert execute(run, store, SELDOM, after(8, finished)) == "done"
    assert {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()} == written[0]
    sound(store, run, whole)


def test_a_file_that_was_exchanged_before_the_status_was_there_is_seen(tmp_path):
    folder = Store(tmp_path, create=True).run("0" * 12)
    folder.write("metrics", {"mine": 1})
    others = iter([b"half", b""])

    def done(found):
        folder.write("status", {"status": "done", "files": found})
        if (other := next(others, None)) is not None:
            folder.write_lines("history", other)

    seal(folder, lambda: folder.write_lines("history", b"whole\n"), done)
    assert folder.lines("history") == b"whole\n"
    assert is_sealed(folder)
    assert folder.read("status")["files"] == {name: list(digest) for name, digest in digests(folder).items()}
    assert set(digests(folder)) == {"metrics.json", "history.jsonl"}


# -- being told to stop --------------------------------------------------------------------------


def test_a_run_that_is_stopped_says_why_and_where(tmp_path):
    run, store = spec(**SSVI), Store(tmp_path, create=True)
    assert execute(run, store, SELDOM, after(8, lambda: "SIGTERM")) == "preempted"
    status = store.run(run.run_id).read("status")
    assert (status["error"], status["error_kind"]) == ("SIGTERM", "preempted")
    assert (status["epoch"], status["step"], status["steps"], status["stage"]) == (1, 8, 24, "train")
    seen = []
    assert (
        execute(run, store, SELDOM, after(3, lambda: seen.append(store.run(run.run_id).read("status"))))
        == "done"
    )
    assert [(s["status"], s["error"], s["error_kind"]) for s in seen[:1]] == [("running", None, None)]


def test_a_run_whose_claim_was_lost_writes_nothing_any_more(tmp_path):
    run, store, left = spec(**SSVI), Store(tmp_path, create=True), []

    def lost():
        left.append({path.name: path.stat().st_mtime_ns for path in store.run(run.run_id).path.iterdir()})
        return LOST

    assert execute(run, store, SELDOM, after(8, lost)) == "preempted"
    assert {p.name: p.stat().st_mtime_ns for p in store.run(run.run_id).path.iterdir()} == left[0]


@pytest.mark.parametrize("end", ["SIGTERM", RuntimeError("out of luck"), MemoryError(), KeyboardInterrupt()])
def test_whatever_ends_a_process_whose_run_another_one_has_finished_leaves_it_finished(tmp_path, whole, end):
    run, store = spec(**SSVI), Store(tmp_path, create=True)

    def finished_elsewhere():
        assert execute(run, store, SELDOM) == "done"
        if isinstance(end, BaseException):
            raise end
        return end

    if isinstance(end, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            execute(run, store, SELDOM, after(5, finished_elsewhere))
    else:
        assert execute(run, store, SELDOM, after(5, finished_elsewhere)) == "done"
    sound(store, run, whole)


def test_a_run_is_cancelled_by_a_file_and_goes_on_when_it_is_asked_for(tmp_path, whole):
    run, store = spec(**SSVI), Store(tmp_path, create=True)
    folder = store.run(run.run_id)
    assert (
        execute(run, store, SELDOM, after(5, lambda: folder.ask_cancel() or time.sleep(0.6))) == "cancelled"
    )
    assert (folder.read("status")["status"], folder.read("status")["error"]) == (
        "cancelled",
        "cancelled by bench.cancel",
    )
    assert not (folder.path / CANCEL).exists() and (folder.path / "checkpoint.pt").exists()
    folder.ask_cancel()
    assert execute(run, store, SELDOM) == "cancelled"  # before it has begun again
    assert execute(run, store, SELDOM) == "done"
    sound(store, run, whole)


def test_what_a_killed_writer_left_goes_in_the_end_once_it_is_old(tmp_path):
    run, store = spec(**SSVI), Store(tmp_path, create=True)
    assert execute(run, store, SELDOM, after(1)) == "preempted"
    folder = store.run(run.run_id).path
    for name, age in ((".checkpoint.pt.1-ab.tmp", 4000), (".checkpoint.pt.2-ab.tmp", 10), (".hidden", 4000)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    assert execute(run, store, SELDOM) == "done"
    assert {path.name for path in folder.glob(".*")} == {".checkpoint.pt.2-ab.tmp", ".hidden"}
