"""Records of jobs, their states in SLURM, and runs whose jobs ended, without a real SLURM."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching.prepare import ready
from bench.launching.slurm_profile import Profile
from bench.launching.slurm_submission import Submission
from bench.monitoring import launch_files, slurm_commands, slurm_queue, slurm_records
from bench.monitoring.progress import Item, Progress
from bench.monitoring.slurm_commands import Site, SlurmError, State
from bench.monitoring.slurm_queue import fate as fate_
from bench.monitoring.slurm_records import Task
from bench.results import claims
from bench.results.claims import Process
from bench.results.store import Store
from tests.run_folders import identifier

RUNS = [identifier("run", number) for number in range(6)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


@pytest.fixture
def slurm(monkeypatch):
    """Let SLURM report these states, by job; it has forgotten all other jobs."""
    found = {}
    monkeypatch.setattr(
        slurm_commands,
        "states",
        lambda jobs: {job: State(found.get(job, slurm_commands.GONE)) for job in jobs},
    )
    return found


def submitted(store, *parts, array=7, at=None, said=None):
    """Record an array whose jobs have ``parts`` of the runs; ``at`` is the run that each job computes."""
    launch = launch_files.new(store.root)
    tasks = [Task(f"{array}_{i}", i + 1, tuple(runs), launch) for i, runs in enumerate(parts)]
    slurm_records.write(launch, tasks)
    for task, run_id in zip(tasks, at or [], strict=False):
        told = {"pid": 1, "run_id": run_id, "begun": run_id is not None, "ended": False}
        task.note.write_text(json.dumps(told))
    launch_files.logs(launch).mkdir()
    for task in tasks:
        task.log.write_text(said or "farewell\n")
    return tasks


def working(store, run_id, job):
    """Leave the run as a process of ``job`` on another node would have left it a moment ago."""
    run = store.run(run_id)
    run.write("status", {**(run.read("status") or {}), "status": "running", "step": 5})
    owner = replace(Process.current(), host="elsewhere", job=job)
    (run.path / claims.NAME).write_text(json.dumps({**asdict(owner), "token": "another"}))
    return run


# -- records --------------------------------------------------------------------------------


def test_what_was_submitted_is_read_back(store):
    tasks = submitted(store, RUNS[:2], RUNS[2:])
    assert slurm_records.read(store.root) == (tasks, [])
    assert slurm_records.read(store.root)[0][0].launch == tasks[0].launch


def test_an_array_that_is_over_is_not_read_again_and_its_logs_are_found(store):
    (task,) = submitted(store, RUNS[:1], said=f"run {RUNS[0]}\n", at=[RUNS[0]])
    slurm_records.close(task.launch, "7")
    assert slurm_records.read(store.root) == ([], [])
    assert slurm_records.logs_of(store.root, RUNS[0]) == [task.log]
    assert slurm_records.logs_of(store.root, RUNS[1]) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": 2, "tasks": []}', '{"schema": 1}', '{"schema": 1, "tasks": [3]}']
    + [
        json.dumps({"schema": 1, "tasks": [{"job": "7_0", "number": 1, "runs": [RUNS[0]]} | wrong]})
        for wrong in (
            {"job": "7_0; rm -rf /"},
            {"job": "--all"},
            {"number": 1.5},
            {"number": -1},
            {"number": 10**30},
            {"runs": ["../../x"]},
            {"runs": None},
        )
    ],
)
def test_a_record_that_is_damaged_is_said_and_nothing_is_made_of_it(store, content):
    (task,) = submitted(store, RUNS[:1])
    (task.launch / "array-7.json").write_text(content)
    found, faults = slurm_records.read(store.root)
    assert found == [] and len(faults) == 1 and "array-7.json" in faults[0]


# -- where runs are -------------------------------------------------------------------------


def test_runs_are_in_jobs_that_wait_or_run(store, slurm):
    first, second = submitted(store, RUNS[:2], RUNS[2:4])
    slurm |= {"7_0": "RUNNING", "7_1": "PENDING"}
    sight = slurm_queue.look(store.root)
    assert {run_id: task for run_id, (task, _) in sight.live.items()} == dict.fromkeys(
        RUNS[:2], first
    ) | dict.fromkeys(RUNS[2:4], second)
    assert sight.over == [] and sight.queue(RUNS) == "1 pending, 1 running"
    assert sight.queue(RUNS[:2]) == "1 running"


@pytest.mark.parametrize(
    ("state", "log", "status", "kind"),
    [
        ("FAILED", "task 0: Killed", "preempted", "killed"),
        (
            "FAILED",
            "slurmstepd: error: Step 1.0 exceeded memory limit (9 > 5), being killed",
            "failed",
            "oom",
        ),
        ("OUT_OF_MEMORY", "", "failed", "oom"),
        ("NODE_FAIL", "", "preempted", "node_failure"),
        ("TIMEOUT", "", "preempted", "timeout"),
        ("PREEMPTED", "", "preempted", "preempted"),
        ("CANCELLED", "", "cancelled", None),
        ("GONE", "", "preempted", "killed"),
        ("COMPLETED", "", "preempted", "killed"),
    ],
)
def test_what_the_end_of_a_job_makes_of_the_run_that_it_was_at(store, slurm, state, log, status, kind):
    submitted(store, [RUNS[0]], at=[RUNS[0]], said=f"{log}\n")
    working(store, RUNS[0], "7_0")
    slurm["7_0"] = state
    seen = slurm_queue.verdicts(slurm_queue.look(store.root))[RUNS[0]]
    foreseen = Progress(store, [Item(RUNS[0], "run")]).document(RUNS[0])
    assert slurm_queue.settle(store, slurm_queue.look(store.root)) == []
    said = store.run(RUNS[0]).read("status")
    assert seen.job == "7_0"
    assert foreseen == (status, {key: value for key, value in said.items() if key != "updated_at"})
    assert (said["status"], said["error_kind"]) == (status, kind)
    assert "job 7_0" in said["error"] and said["step"] == 5


def test_the_second_death_of_a_run_is_its_failure(store, slurm):
    for array in (7, 8):
        submitted(store, [RUNS[0]], array=array, at=[RUNS[0]])
        working(store, RUNS[0], f"{array}_0")
        slurm_queue.settle(store, slurm_queue.look(store.root))
    said = store.run(RUNS[0]).read("status")
    assert (said["status"], said["error_kind"], said["deaths"]) == ("failed", "killed", 2)
    assert said["error"].startswith(
        "its job 8_0 is over, and SLURM no longer remembers it, after 1 earlier death; "
    )


def test_a_preemption_is_no_death_however_often(store, slurm):
    for array in range(7, 12):
        submitted(store, [RUNS[0]], array=array, at=[RUNS[0]])
        slurm[f"{array}_0"] = "PREEMPTED"
        working(store, RUNS[0], f"{array}_0")
        slurm_queue.settle(store, slurm_queue.look(store.root))
    assert store.run(RUNS[0]).status() == "preempted"


def test_an_end_is_looked_after_once(store, slurm):
    submitted(store, [RUNS[0]], RUNS[1:3], at=[RUNS[0]])
    working(store, RUNS[0], "7_0")
    slurm |= {"7_0": "FAILED", "7_1": "RUNNING"}
    for _ in range(3):
        slurm_queue.settle(store, slurm_queue.look(store.root))
    assert store.run(RUNS[0]).read("status")["deaths"] == 1


def test_runs_that_a_dead_job_had_not_come_to_are_missing_and_nothing_more(store, slurm):
    submitted(store, RUNS[:3], at=[RUNS[0]])
    working(store, RUNS[0], "7_0")
    slurm_queue.settle(store, slurm_queue.look(store.root))
    assert [store.run(run_id).status() for run_id in RUNS[:3]] == ["preempted", "pending", "pending"]
    assert slurm_queue.look(store.root).over == []


def test_a_cancelled_job_takes_all_its_runs_with_it_but_not_what_is_done(store, slurm):
    submitted(store, RUNS[:3], at=[RUNS[1]])
    store.run(RUNS[0]).write("status", {"status": "done"})
    working(store, RUNS[1], "7_0")
    slurm["7_0"] = "CANCELLED"
    slurm_queue.settle(store, slurm_queue.look(store.root))
    assert [store.run(run_id).status() for run_id in RUNS[:3]] == ["done", "cancelled", "cancelled"]


def test_a_run_that_is_in_another_job_by_now_is_left_alone(store, slurm):
    submitted(store, RUNS[:1], array=7, at=RUNS[:1])
    submitted(store, RUNS[:1], array=8, at=RUNS[:1])
    slurm["8_0"] = "RUNNING"
    working(store, RUNS[0], "8_0")
    assert slurm_queue.verdicts(slurm_queue.look(store.root)) == {}
    slurm_queue.settle(store, slurm_queue.look(store.root))
    assert store.run(RUNS[0]).status() == "running"


def test_a_job_that_ended_before_it_began_a_run_is_reported(store, slurm):
    dead, well = submitted(store, RUNS[:1], RUNS[1:2], at=[None, None])
    well.note.write_text(json.dumps({"run_id": None, "ended": True}))
    assert slurm_queue.settle(store, slurm_queue.look(store.root)) == [dead]
    assert store.run(RUNS[0]).status() == "pending"


def test_a_claim_of_a_job_that_ended_is_void_at_once(store, slurm):
    run = working(store, RUNS[0], "7_0")
    assert claims.holder(run) is not None and claims.acquire(run) is None
    assert claims.holder(run, {"7_0"}) is None and claims.acquire(run, {"7_0"}) is not None


def test_a_requeued_job_takes_its_own_earlier_claim_over(store, monkeypatch):
    run = working(store, RUNS[0], "7_0")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setattr(claims, "_own_job", None)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert claims.acquire(run) is None, "a process that merely runs within the job"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    claims.work_for_job()
    assert claims.acquire(run) is None, "another job"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    claims.work_for_job()
    claim = claims.acquire(run)
    assert claim is not None
    assert claims.acquire(run) is None, "a claim of this very process is no earlier one"


def test_last_words_are_the_last_line_that_says_something(store):
    (task,) = submitted(store, RUNS[:1], said="first\n\nlast\n\n")
    assert task.last_words() == f"last (log: {task.log})"
    task.log.unlink()
    assert task.last_words() == f"none (there is no {task.log})"
    task.log.touch()
    assert task.last_words() == f"none ({task.log} is empty)"


def test_a_job_of_a_version_with_other_modules_is_told_in_one_line(store):
    (task,) = submitted(
        store, RUNS[:1], said="Traceback\nModuleNotFoundError: No module named 'bench.slurm'\n"
    )
    assert slurm_queue.in_vain(task) == (
        "job 7_0 was submitted by another version of ssvi-bench with other module paths; "
        "the same command submits its runs anew"
    )


def test_a_job_that_came_to_nothing_is_told_with_what_to_look_at(store):
    (task,) = submitted(store, RUNS[:1], said="/var/spool/job: line 7: module: not found\n")
    assert slurm_queue.in_vain(task) == (
        "job 7_0 ended before it started a run: check setup and python in the profile, and whether nodes "
        f"see this folder; its last words: /var/spool/job: line 7: module: not found (log: {task.log})"
    )
    task.note.write_text(json.dumps({"fault": "cannot write x: No space left on device"}))
    assert slurm_queue.in_vain(task) == "job 7_0 could not go on: cannot write x: No space left on device"


def test_out_of_memory_is_known_by_what_is_printed_about_it():
    words = ["slurmstepd: error: Detected 1 oom_kill event in StepId=3.0.", "oom-kill event", "Out Of Memory"]
    assert {fate_("1", State("FAILED"), [line]).kind for line in words} == {"oom"}
    assert fate_("1", State("FAILED"), ["room-killer"]).kind == "killed"
    assert fate_("1", State("TIMEOUT"), words).kind == "timeout"


# -- paths that SLURM would change ----------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["50%j", "100%accurate", "%t%A%x%%", "with space", "it's", 'a"b', "back\\slash", "-x", "é", "a\nb"],
)
def test_a_batch_script_names_the_folder_whose_logs_are_read(name, tmp_path, monkeypatch):
    """SLURM replaces ``%j`` by the number of the job, and nothing else may be replaced."""
    command(tmp_path, "scontrol", "exit 0")
    command(tmp_path, "sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 7')
    command(tmp_path, "srun", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    store = Store(tmp_path / name, create=True)
    jobs = Submission(store.root, Profile(), Execution(), "s", "demo", lambda spec: 1.0)
    (task,) = jobs.submit(specs(1))
    script = (tmp_path / "script").read_text()
    (line,) = [line for line in script.splitlines() if line.startswith("#SBATCH --output=")]
    (output,) = shlex.split(line.partition("=")[2])
    assert "'" not in output and "\\" not in output
    assert output.count("%") == 1 and output.replace("%j", "7") == str(task.log)
    lines = script[: script.index("# command")].splitlines()
    assert all(line.startswith(("#", "export ")) for line in lines if line)
    assert slurm_records.read(store.root)[0] == [task]


# -- how runs become jobs -------------------------------------------------------------------


def specs(count, **options):
    chosen = {"dataset": "digits", "network": "mlp", "method": "dense_vi", **options}
    return [parse_spec(nest({**chosen, "seed": seed})) for seed in range(count)]


@pytest.fixture
def parts(store, monkeypatch):
    """Return a function that gives the number of runs in each job, for ``count`` runs of ``seconds`` each."""
    monkeypatch.setattr(slurm_commands, "site", lambda: Site(1001, False))

    def of(count, seconds, **profile):
        asked = Submission(store.root, Profile(**profile), Execution(), "s", "demo", lambda spec: seconds)
        found = asked.parts(specs(count))
        assert [spec.seed for part in found for spec in part] == list(range(count))
        return [len(part) for part in found]

    return of


def test_a_long_run_has_a_job_of_its_own(parts):
    assert parts(3, 3600.0) == [1, 1, 1]


def test_short_runs_share_a_job_for_some_minutes(parts):
    assert Counter(parts(100, 1.0)) == {60: 1, 40: 1}
    assert parts(100, 60.0, array_parallelism=2) == [10] * 10


def test_no_more_runs_than_fit_the_time_limit_well(parts):
    assert parts(10, 60.0, time="6:00", array_parallelism=1) == [2] * 5


def test_the_number_can_be_chosen(parts):
    assert parts(7, 1.0, runs_per_job=3) == [3, 3, 1]


# -- errors ---------------------------------------------------------------------------------


def test_without_slurm_it_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="there is no SLURM here: scontrol is not on PATH"):
        slurm_commands.site()


def command(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_srun_it_is_one_line_before_anything_is_submitted(monkeypatch, tmp_path):
    command(tmp_path, "sbatch", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    nothing, asked = SimpleNamespace(specs=[]), SimpleNamespace(profile=Profile())
    with pytest.raises(SlurmError, match=r"^srun, .*, is not on PATH$"):
        ready(nothing, asked)


def test_without_sacct_what_squeue_forgot_is_gone(monkeypatch, tmp_path):
    command(tmp_path, "scontrol", "echo 'AccountingStorageType   = accounting_storage/slurmdbd'")
    command(tmp_path, "squeue", "echo 'welcome to this site'; echo '5|RUNNING|None|n1'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_commands.states(["4", "5"]) == {"4": State("GONE"), "5": State("RUNNING", "", "n1")}


def test_a_refusal_is_said_in_slurms_words(monkeypatch, tmp_path):
    command(tmp_path, "sbatch", "echo 'sbatch: error: Invalid partition name specified' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        SlurmError,
        match=r"refuse such jobs: sbatch: Invalid partition .*: --partition=x\)$",
    ):
        slurm_commands.check({"partition": "x"})


def test_a_refusal_of_gpus_says_where_a_site_has_its_own_word(monkeypatch, tmp_path):
    words = "sbatch: error: Invalid generic resource (gres) specification"
    command(tmp_path, "sbatch", f"echo '{words}' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SlurmError, match=r"for other names of GPUs see slurm/example.yaml\)$"):
        slurm_commands.check({"gpus-per-node": "1"})


def test_a_controller_that_does_not_answer_has_refused_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm_commands, "_CHECK_SECONDS", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for script, words in (
        ("sleep 5", r"^sbatch: SLURM did not answer within 0 s: is its controller up"),
        (
            "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
            "^sbatch: Unable to contact slurm controller",
        ),
    ):
        command(tmp_path, "sbatch", script)
        with pytest.raises(slurm_commands.Unreachable, match=words):
            slurm_commands.check({})


def test_accounting_is_asked_for_what_squeue_forgot(monkeypatch, tmp_path):
    command(tmp_path, "scontrol", "echo 'AccountingStorageType   = accounting_storage/slurmdbd'")
    command(tmp_path, "squeue", "echo '5_0|RUNNING|None|n1'; echo '5_1|PENDING|Priority|'")
    command(tmp_path, "sacct", "printf '4|COMPLETED|n1\\n6|CANCELLED by 0|\\n7|RUNNING|n2\\n'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm_commands.states(["4", "5_0", "5_1", "6", "7", "8"]) == {
        "4": State("COMPLETED", "", "n1"),
        "5_0": State("RUNNING", "", "n1"),
        "5_1": State("PENDING", "Priority"),
        "6": State("CANCELLED"),
        "7": State("GONE"),  # accounting has not heard the end of it
        "8": State("GONE"),
    }


def test_members_of_an_array_that_never_began_have_one_row_together(monkeypatch, tmp_path):
    command(tmp_path, "scontrol", "echo 'AccountingStorageType   = accounting_storage/slurmdbd'")
    command(tmp_path, "squeue", "echo '5_0|COMPLETED|None|n1'; echo '5|CANCELLED|Resources|'")
    command(tmp_path, "sacct", "printf '6_0|COMPLETED|n1\\n6_[1-9]|CANCELLED by 0|\\n'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = {job: state.name for job, state in slurm_commands.states(["5_0", "5_3", "6_0", "6_3"]).items()}
    assert names == {"5_0": "COMPLETED", "5_3": "CANCELLED", "6_0": "COMPLETED", "6_3": "CANCELLED"}


def test_without_accounting_what_squeue_forgot_is_gone(monkeypatch, tmp_path):
    command(tmp_path, "scontrol", "echo 'AccountingStorageType   = accounting_storage/none'")
    command(tmp_path, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm_commands.states(["4"]) == {"4": State("GONE")}


def test_a_controller_that_does_not_answer_is_not_taken_for_the_end_of_jobs(monkeypatch, tmp_path):
    command(
        tmp_path, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SlurmError, match="Unable to contact slurm controller"):
        slurm_commands.states(["4"])
