"""Many runs by few processes: their number, their order, and the effect of a failure, a death or Ctrl-C."""

from __future__ import annotations

import _thread
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import asdict, replace

import psutil
import pytest

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching.local_workers import LocalWorkers
from bench.launching.pool import run_inline, run_workers
from bench.launching.worker import walk
from bench.results import claims
from bench.results.claims import Process
from bench.results.files import StoreError
from bench.results.store import Store
from bench.runner.git_state import code
from bench.training.checkpoints import CHECKPOINT, PREVIOUS
from methods.core.errors import UserError
from tests.workers import ForkedWorkers

LONG = 100_000


def spec(method="toy_two_stage", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method}
    return parse_spec(nest({**chosen, "epochs": 2, "batch_size": 16, "lr": 0.05, **options}))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def statuses(store, specs):
    return [store.run(spec.run_id).status() for spec in specs]


def forked(store, specs, limit=2, **kwargs):
    return ForkedWorkers(store.root, specs, limit, **kwargs)


def walked(store, specs, stop=lambda: False):
    """The runs that were started, in order."""
    order = []
    walk(store, specs, Execution(), stop, lambda run_id: order.append(run_id) if run_id else None)
    return order


def hold(run, pid):
    """Let another process of this machine claim ``run``."""
    run.path.mkdir(parents=True)
    owner = replace(Process.current(), pid=pid, started=psutil.Process(pid).create_time())
    (run.path / claims.NAME).write_text(json.dumps({**asdict(owner), "token": "another"}))


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
    return found


def after(condition, act):
    """Do ``act`` in a thread once ``condition`` holds."""

    def wait_and_act():
        until(condition)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


# -- one list, in this process --------------------------------------------------------------


def test_runs_are_computed_in_the_order_of_the_list(store):
    specs = [spec(seed=seed) for seed in (3, 0, 2)]
    assert walked(store, specs) == [run.run_id for run in specs]
    assert statuses(store, specs) == ["done"] * 3


def test_a_failing_run_is_a_row_and_the_others_go_on(store):
    specs = [spec(seed=0), spec("toy_failing", how="nan"), spec("toy_failing"), spec(seed=1)]
    run_inline(store, specs, Execution())
    assert statuses(store, specs) == ["done", "failed", "failed", "done"]
    kinds = [store.run(run.run_id).read("status")["error_kind"] for run in specs[1:3]]
    assert kinds == ["nan", "exception"]


def test_what_is_settled_is_left_alone(store):
    specs = [spec(), spec("toy_failing"), spec(seed=1)]
    run_inline(store, specs[:2], Execution())
    store.run(specs[2].run_id).write("status", {"status": "cancelled"})
    before = [store.run(run.run_id).read("status") for run in specs]
    assert walked(store, specs) == []
    assert [store.run(run.run_id).read("status") for run in specs] == before


def test_what_another_process_is_at_is_left_to_it(store):
    specs = [spec(seed=seed) for seed in (0, 1)]
    hold(store.run(specs[0].run_id), os.getppid())
    assert walked(store, specs) == [specs[1].run_id]


def test_no_run_is_begun_once_told_to_stop(store):
    specs = [spec(seed=seed) for seed in (0, 1, 2)]
    assert walked(store, specs, stop=store.run(specs[0].run_id).is_done) == [specs[0].run_id]


def test_a_folder_that_cannot_be_trusted_is_set_aside_and_the_run_computed(store):
    run = spec()
    store.run(run.run_id).write("status", {"status": "no such status"})
    run_inline(store, [run], Execution())
    assert statuses(store, [run]) == ["done"]
    assert [path.name for path in (store.root / "corrupted").iterdir()] == [f"{run.run_id}-1"]


def test_no_claim_is_left_behind(store):
    specs = [spec(), spec("toy_failing")]
    run_inline(store, specs, Execution())
    assert not list(store.root.glob("runs/*/*claim*"))


# -- worker processes -----------------------------------------------------------------------


def test_many_runs_are_computed_by_few_processes(store):
    specs = [spec(seed=seed) for seed in range(10)]
    workers = forked(store, specs, limit=2)
    run_workers(store, specs, workers)
    assert statuses(store, specs) == ["done"] * 10
    assert (len(workers.started), workers.most_at_once, workers.closed) == (2, 2, True)
    pids = {store.run(run.run_id).read("status")["pid"] for run in specs}
    assert pids <= {worker.process.pid for worker in workers.started}
    assert all(store.run(run.run_id).read("status")["attempt"] == 1 for run in specs)


def test_there_are_no_more_processes_than_runs(store):
    workers = forked(store, [spec()], limit=5)
    run_workers(store, [spec()], workers)
    assert len(workers.started) == 1


def test_nothing_is_started_where_nothing_is_left(store):
    run_inline(store, [spec()], Execution())
    workers = forked(store, [spec()])
    run_workers(store, [spec()], workers)
    assert workers.started == [] and workers.closed


def test_a_failing_run_ends_no_worker(store):
    specs = [spec("toy_failing", seed=seed) for seed in range(4)] + [spec()]
    workers = forked(store, specs, limit=1)
    run_workers(store, specs, workers)
    assert statuses(store, specs) == ["failed"] * 4 + ["done"]
    assert len(workers.started) == 1


def test_results_are_those_of_one_process(store, tmp_path):
    specs = [spec("ssvi", sparsity=0.5, seed=seed) for seed in range(3)]
    inline = Store(tmp_path / "inline", create=True)
    run_inline(inline, specs, Execution())
    run_workers(store, specs, forked(store, specs))
    for run in specs:
        assert store.run(run.run_id).read("metrics") == inline.run(run.run_id).read("metrics")


# -- deaths ---------------------------------------------------------------------------------


def test_a_run_whose_worker_died_is_tried_once_more(store, tmp_path):
    fatal = spec("toy_dying", deaths=1, tally=str(tmp_path / "tally"))
    specs = [spec(seed=0), fatal, spec(seed=1)]
    workers = forked(store, specs, limit=1)
    run_workers(store, specs, workers)
    assert statuses(store, specs) == ["done"] * 3
    assert store.run(fatal.run_id).read("status")["attempt"] == 2
    assert len(workers.started) == 2


def test_a_run_that_kills_every_worker_is_a_failure_with_a_reason_and_the_others_go_on(store, tmp_path):
    fatal = spec("toy_dying", deaths=1000, tally=str(tmp_path / "tally"))
    specs = [fatal, *(spec(seed=seed) for seed in range(3))]
    workers = forked(store, specs, limit=2)
    run_workers(store, specs, workers)
    assert statuses(store, specs) == ["failed", "done", "done", "done"]
    status = store.run(fatal.run_id).read("status")
    reason = "its worker process died, after . earlier deaths?; the last words: farewell"
    assert re.fullmatch(reason, status["error"])
    assert status["error_kind"] == "killed"
    # twice, and once more where the other worker came by before the second death was seen
    assert (tmp_path / "tally").stat().st_size in (2, 3)
    assert workers.most_at_once == 2


def die_at_once(order):
    os._exit(1)


def test_workers_that_die_before_they_begin_are_not_started_for_ever(store):
    specs = [spec(seed=seed) for seed in range(10)]
    workers = forked(store, specs, task=die_at_once)
    with pytest.raises(UserError, match="workers die before they start a run: farewell"):
        run_workers(store, specs, workers)
    assert len(workers.started) < 10 and workers.closed
    assert store.run_ids() == []


def test_a_run_of_another_launcher_is_waited_for_and_taken_over_when_that_dies(store):
    other = subprocess.Popen(["sleep", "60"])
    try:
        specs = [spec(seed=0), spec(seed=1)]
        hold(store.run(specs[0].run_id), other.pid)
        after(store.run(specs[1].run_id).is_done, other.kill)
        run_workers(store, specs, forked(store, specs))
    finally:
        other.kill()
        other.wait()
    assert statuses(store, specs) == ["done", "done"]


# -- being stopped --------------------------------------------------------------------------


def interrupted(store, specs, workers, when, before=lambda: None):
    """Seconds until ``run_workers`` ended after Ctrl-C, which comes when ``when`` holds."""
    at = []

    def act():
        before()
        at.append(time.monotonic())
        _thread.interrupt_main()

    after(when, act)
    with pytest.raises(KeyboardInterrupt):
        run_workers(store, specs, workers)
    return time.monotonic() - at[0]


def in_mid_run(store, specs):
    paths = [store.run(run.run_id).path / CHECKPOINT for run in specs]
    return lambda: all(path.exists() for path in paths)


def test_ctrl_c_stops_workers_in_mid_run_within_two_seconds(store):
    specs = [spec(seed=seed, epochs=LONG) for seed in range(3)]
    workers = forked(store, specs, limit=2)
    assert interrupted(store, specs, workers, in_mid_run(store, specs[:2])) < 2
    assert statuses(store, specs) == ["preempted", "preempted", "pending"]
    assert not any(worker.lives() for worker in workers.started) and workers.closed
    assert not list(store.root.glob("runs/*/*claim*"))


def test_a_worker_that_does_not_hear_is_killed_and_its_run_is_preempted(store):
    run = spec(epochs=LONG)
    workers = forked(store, [run], limit=1)

    def freeze():
        os.kill(workers.started[0].process.pid, signal.SIGSTOP)

    assert interrupted(store, [run], workers, in_mid_run(store, [run]), before=freeze) < 2
    assert not workers.started[0].lives()
    assert statuses(store, [run]) == ["preempted"]
    assert claims.holder(store.run(run.run_id)) is None


def test_a_worker_ends_with_its_launcher(store):
    other = subprocess.Popen(["sleep", "60"])
    started = psutil.Process(other.pid).create_time()
    launcher = replace(Process.current(), pid=other.pid, started=started)
    run = spec(epochs=LONG)
    worker = forked(store, [run], launcher=launcher).start()
    try:
        until(in_mid_run(store, [run]))
        other.kill()
        other.wait()
        worker.process.join(2)
        assert not worker.lives() and worker.ended()
    finally:
        other.kill()
        other.wait()
        worker.kill()
    assert statuses(store, [run]) == ["preempted"]


def test_a_worker_leaves_ctrl_c_to_its_launcher(store):
    run = spec(epochs=50)
    workers = forked(store, [run], limit=1)
    after(in_mid_run(store, [run]), lambda: os.kill(workers.started[0].process.pid, signal.SIGINT))
    run_workers(store, [run], workers)
    assert statuses(store, [run]) == ["done"]
    assert len(workers.started) == 1


# -- damage that a power cut may leave ------------------------------------------------------


def preempted(store, run):
    """A run that was stopped after a checkpoint; its folder."""
    path = store.run(run.run_id).path
    walk(store, [run], Execution(checkpoint_seconds=0.0), (path / CHECKPOINT).exists)
    assert statuses(store, [run]) == ["preempted"]
    return path


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_run_whose_checkpoints_are_lost_or_damaged_starts_anew(store, tmp_path, damage):
    run, whole = spec(epochs=4), Store(tmp_path / "whole", create=True)
    run_inline(whole, [run], Execution())
    folder = preempted(store, run)
    for name in (CHECKPOINT, PREVIOUS):
        if damage is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(damage)
    run_inline(store, [run], Execution())
    assert statuses(store, [run]) == ["done"]
    assert store.run(run.run_id).read("metrics") == whole.run(run.run_id).read("metrics")
    rows = [len(where.run(run.run_id).rows("history")) for where in (store, whole)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("lost", [b"", None])
def test_rows_that_others_lost_are_in_the_checkpoint(store, tmp_path, lost):
    run, whole = spec(epochs=4), Store(tmp_path / "whole", create=True)
    run_inline(whole, [run], Execution())
    path = preempted(store, run) / "history.jsonl"
    if lost is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(lost)
    run_inline(store, [run], Execution())
    assert statuses(store, [run]) == ["done"]
    rows = [len(where.run(run.run_id).rows("history")) for where in (store, whole)]
    assert rows[0] == rows[1]


# -- workers of bench.launching.local_workers --------------------------------------------------------


def digits(**options):
    return parse_spec(nest({"dataset": "digits", "network": "mlp", "method": "ssvi", **options}))


def launched(store):
    return sorted(store.root.with_name("results.jobs").glob("*"))


@pytest.mark.slow
def test_local_workers_leave_nothing_beside_the_results_when_all_went_well(store):
    specs = [digits(epochs=1, seed=seed) for seed in (0, 1)] + [digits(epochs=1, lr=1e30)]
    run_workers(store, specs, LocalWorkers(store.root, specs, Execution("local", concurrency=1)))
    assert statuses(store, specs) == ["done", "done", "failed"]
    assert not store.root.with_name("results.jobs").exists()
    ours = code()
    patches = ["patches"] if ours is not None and ours.patch else []  # of code that is being changed
    assert sorted(path.name for path in store.root.iterdir()) == [*patches, "runs", "schema.json"]
    provenance = store.run(specs[0].run_id).read("provenance")
    assert (provenance["executor"], provenance["concurrency"], provenance["threads"]) == ("local", 1, 1)


@pytest.mark.slow
def test_the_log_of_a_local_worker_that_died_is_kept_and_its_run_done_by_the_next(store):
    run = digits(epochs=25)
    workers = LocalWorkers(store.root, [run], Execution("local", checkpoint_seconds=0.0))
    after(in_mid_run(store, [run]), lambda: os.kill(claims.holder(store.run(run.run_id)).pid, signal.SIGKILL))
    run_workers(store, [run], workers)
    assert statuses(store, [run]) == ["done"]
    assert store.run(run.run_id).read("status")["attempt"] == 2
    assert len(list(launched(store)[0].glob("submitit/*.out"))) == 2


def test_a_file_in_the_way_of_the_launch_folder_is_one_line(store):
    store.root.with_name("results.jobs").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*results\.jobs/.*: Not a directory"):
        LocalWorkers(store.root, [spec()], Execution("local"))


# -- folders that go ------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "results"])
def test_a_launch_whose_folder_is_deleted_says_so_and_leaves_nothing(store, what):
    run = spec(epochs=LONG)
    folder = store.run(run.run_id).path
    after(in_mid_run(store, [run]), lambda: shutil.rmtree(folder if what == "run" else store.root))
    with pytest.raises(StoreError, match="was deleted or moved while the run was computed"):
        run_workers(store, [run], forked(store, [run], limit=1))
    assert not folder.exists() and store.root.exists() == (what == "run")


def test_a_results_folder_that_is_gone_before_a_worker_starts_is_one_line(store):
    workers = forked(store, [spec()], limit=1)
    shutil.rmtree(store.root)
    with pytest.raises(StoreError, match=r"results folder \S+: does not exist"):
        run_workers(store, [spec()], workers)
    assert not store.root.exists()
