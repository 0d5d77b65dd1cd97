"""bench.cancel and bench.logs on this machine: ending runs, and showing the state of one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from bench import cancel, logs
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching.pool import run_inline
from bench.launching.worker import walk
from bench.monitoring import cancelling, launch_files, slurm_commands, slurm_records
from bench.monitoring.slurm_commands import State
from bench.monitoring.slurm_records import Task
from bench.results import claims
from bench.results.claims import Process
from bench.results.files import StoreError
from bench.results.store import Store
from tests import toys  # noqa: F401 (the toys are registered)
from tests.run_folders import cell, config, identifier, plan

LONG = 100_000


def spec(**options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": "toy_two_stage"}
    return parse_spec(nest({**chosen, "epochs": 2, "batch_size": 16, "lr": 0.05, **options}))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def planned(store, *run_ids):
    store.merge_plan(plan([cell(config(), run_id=run_id) for run_id in run_ids]))


def command(store, *arguments):
    return cancel.main([*arguments, "--results", str(store.root)])


def test_a_run_at_work_stops_at_its_next_step_and_goes_on_another_time(store):
    run = spec(epochs=LONG)
    planned(store, run.run_id)
    worker = threading.Thread(target=walk, args=(store, [run], Execution(), lambda: False), daemon=True)
    worker.start()
    deadline = time.monotonic() + 30
    while store.run(run.run_id).status() != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert command(store, run.run_id) == 0
    worker.join(10)
    folder = store.run(run.run_id)
    assert folder.status() == "cancelled" and not folder.is_cancel_asked()
    assert folder.read("status")["error"] == "cancelled by bench.cancel"
    assert not list(folder.path.glob("*claim*"))


def test_what_has_not_begun_is_not_begun(store, capsys):
    run = spec()
    planned(store, run.run_id)
    assert command(store, "--suite", "criteria_ablation") == 0
    assert capsys.readouterr().out == "1 run cancelled, 0 had ended before\n"
    run_inline(store, [run], Execution())
    assert store.run(run.run_id).status() == "cancelled"


def test_what_is_done_stays_done(store, capsys):
    run = spec()
    planned(store, run.run_id)
    run_inline(store, [run], Execution())
    assert command(store, run.run_id) == 0
    assert capsys.readouterr().out == "0 runs cancelled, 1 had ended before\n"
    assert store.run(run.run_id).is_done() and not store.run(run.run_id).is_cancel_asked()


def test_a_process_that_does_not_hear_is_named(store, capsys, monkeypatch):
    monkeypatch.setattr(cancelling, "_PATIENCE_SECONDS", 0.3)
    run_id = identifier("run", 1)
    planned(store, run_id)
    folder = store.run(run_id)
    folder.write("status", {"status": "running"})
    owner = replace(Process.current(), host="elsewhere", pid=77)
    (folder.path / claims.NAME).write_text(json.dumps({**asdict(owner), "token": "another"}))
    assert command(store, run_id) == 0
    assert f"{run_id}: process 77 on elsewhere has not stopped yet" in capsys.readouterr().out
    assert folder.is_cancel_asked()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["0123456789ab"], "no launched suite has a run 0123456789ab"),
        (["../../etc"], "is not a run id"),
        (["--suite", "none"], "no suite none was launched; there are: "),
    ],
)
def test_what_is_not_there_is_one_line(store, arguments, reason):
    planned(store, identifier("run", 1))
    with pytest.raises(StoreError, match=reason):
        command(store, *arguments)
    assert store.run_ids() == []


@pytest.mark.parametrize("arguments", [[], ["0123456789ab", "--suite", "s"]])
def test_either_runs_or_a_suite_are_named(store, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command(store, *arguments)
    assert caught.value.code == 2 and "either ids of runs or --suite" in capsys.readouterr().err


# -- logs -----------------------------------------------------------------------------------


def show(store, run_id, *more):
    return logs.main([run_id, "--results", str(store.root), *more])


def test_what_is_known_of_a_failed_run_is_shown(store, capsys):
    run = parse_spec(nest({"dataset": "toy_blobs", "network": "toy_network", "method": "toy_failing"}))
    run_inline(store, [run], Execution())
    assert show(store, run.run_id) == 0
    said = capsys.readouterr().out
    assert "status: failed\nerror_kind: exception\nerror: " in said
    assert f"{store.run(run.run_id).path / 'run.log'}:" in said and "Traceback" in said


def test_logs_of_processes_that_had_the_run_are_shown_without_what_steers_a_terminal(store, capsys):
    run_id, other = identifier("run", 1), identifier("run", 2)
    store.run(run_id).write("status", {"status": "preempted", "error": "\x1b[2Jx"})
    for number, whose in enumerate((run_id, other)):
        launch = launch_files.new(store.root)
        launch_files.logs(launch).mkdir()
        (launch_files.logs(launch) / f"{number}_0_log.out").write_text(
            f"12:00 run {whose}\n\x1b]0;evil\x07words {number}\n"
        )
    assert show(store, run_id) == 0
    said = capsys.readouterr().out
    assert "words 0" in said and "words 1" not in said and "\x1b" not in said and "\x07" not in said


def test_no_link_in_a_results_folder_is_followed(store, tmp_path, capsys):
    run_id = identifier("run", 1)
    (tmp_path / "secret").write_text("secret\n")
    store.run(run_id).write("status", {"status": "failed"})
    (store.run(run_id).path / "run.log").symlink_to(tmp_path / "secret")
    assert show(store, run_id) == 0
    assert "secret\n" not in capsys.readouterr().out


def test_a_run_that_is_not_there_is_one_line(store):
    with pytest.raises(StoreError, match="no suite that was launched has a run 0123456789ab"):
        show(store, "0123456789ab")


def test_follow_ends_with_the_run(store):
    run_id = identifier("run", 1)
    folder = store.run(run_id)
    folder.write("status", {"status": "running"})
    following = [sys.executable, "-m", "bench.logs", run_id, "--results", str(store.root), "--follow"]
    with subprocess.Popen(following, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == f"run ({run_id})\n"
        assert process.stdout.readline() == "status: preempted\n", "no process has claimed it"
        folder.log("a line of the run")
        time.sleep(1.5)
        folder.write("status", {"status": "done"})
        said = process.communicate(timeout=20)[0]
    assert "a line of the run\n" in said and said.endswith("status: done\n")


def test_a_run_that_waits_or_whose_job_died_is_told_as_bench_status_tells_it(store, capsys, monkeypatch):
    waits, died = (identifier(config(seed=seed)) for seed in (0, 1))
    store.merge_plan(plan([cell(config(seed=seed)) for seed in (0, 1)]))
    launch = launch_files.new(store.root)
    tasks = [Task(f"7_{n}", n + 1, (run_id,), launch) for n, run_id in enumerate((waits, died))]
    slurm_records.write(launch, tasks)
    tasks[1].note.write_text(json.dumps({"run_id": died, "begun": True, "ended": False}))
    store.run(died).write("status", {"status": "running", "step": 3})
    found = {"7_0": State("PENDING", "Priority"), "7_1": State("OUT_OF_MEMORY", nodes="n3")}
    monkeypatch.setattr(slurm_commands, "states", lambda wanted: {job: found[job] for job in wanted})
    assert show(store, waits) == 0
    assert f" seed=0 ({waits})\nstatus: queued\njob: 7_0, pending (Priority)\n" in capsys.readouterr().out
    assert show(store, died) == 0
    said = capsys.readouterr().out
    assert "status: failed\nerror_kind: oom\nerror: its job 7_1 ended as OUT_OF_MEMORY on n3; " in said
