"""The throw-away cluster of the tests: what it can do, and that nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.slurm_cluster import CPUS, SCRIPTS, lives, running

pytestmark = pytest.mark.slurm


def until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_up_and_named_by_the_environment(cluster):
    assert os.environ["SLURM_CONF"] == str(cluster.configuration)
    assert f"CPUTot={CPUS} " in cluster.scontrol("show", "node", cluster.node)
    partitions = cluster.run("sinfo", "--noheader", "--format=%R").split()
    assert sorted(partitions) == ["high", "low", "main"]


def test_up_again_starts_nothing(cluster):
    daemons = cluster.daemons()
    assert f"SLURM_CONF={cluster.configuration}" in cluster.up()
    assert cluster.daemons() == daemons


def test_a_job_and_an_array_run(cluster, tmp_path):
    job = cluster.submit(f"srun sh -c 'echo $SLURM_JOB_ID > {tmp_path}/one'")
    array = cluster.submit(f"echo $SLURM_ARRAY_TASK_ID > {tmp_path}/$SLURM_ARRAY_TASK_ID", "--array=0-2%2")
    assert cluster.wait_for(job) == ("COMPLETED", "None", cluster.node)
    assert (tmp_path / "one").read_text().strip() == job
    for task in "012":
        assert cluster.wait_for(f"{array}_{task}").state == "COMPLETED"
        assert (tmp_path / task).read_text().strip() == task
    assert cluster.wait_for(cluster.submit("exit 3")).state == "FAILED"


def test_a_requeued_job_begins_again(cluster, tmp_path):
    log = tmp_path / "lives"
    line = f'echo life ${{SLURM_RESTART_COUNT:-0}} >> {log}; test -n "$SLURM_RESTART_COUNT" || sleep 60'
    job = cluster.submit(line)
    until(log.exists)
    cluster.scontrol("requeue", job)
    assert cluster.wait_for(job, ["PENDING"]).reason == "BeginTime"
    assert cluster.wait_for(job).state == "COMPLETED"
    assert log.read_text() == "life 0\nlife 1\n"


def test_a_job_of_high_takes_the_place_of_one_of_low(cluster, tmp_path):
    log = tmp_path / "lives"
    line = f'echo low >> {log}; test -n "$SLURM_RESTART_COUNT" || sleep 100'
    low = cluster.submit(line, "--partition=low", f"--cpus-per-task={CPUS}")
    until(log.exists)
    high = cluster.submit(f"echo high >> {log}", "--partition=high", f"--cpus-per-task={CPUS}")
    assert cluster.wait_for(high).state == "COMPLETED"
    assert cluster.wait_for(low).state == "COMPLETED"
    assert log.read_text() == "low\nhigh\nlow\n"


def test_jobs_go_on_while_the_controller_is_down(cluster, tmp_path):
    job = cluster.submit(f"touch {tmp_path}/begun; until test -e {tmp_path}/end; do sleep 0.1; done")
    until((tmp_path / "begun").exists)
    before = cluster.daemons()["slurmctld"]
    cluster.stop_controller()
    with pytest.raises(AssertionError, match="squeue"):
        cluster.squeue()
    cluster.start_controller()
    assert cluster.daemons()["slurmctld"] != before
    assert cluster.wait_for(job, ["RUNNING"]).node == cluster.node
    (tmp_path / "end").touch()
    assert cluster.wait_for(job).state == "COMPLETED"


@pytest.mark.parametrize("controller", ["up", "stopped"])
def test_down_leaves_no_process_and_no_folder(tmp_path, controller):
    with running() as own:
        line = f"trap '' TERM; (trap '' TERM; sleep 300) & echo $! $$ > {tmp_path}/pids; wait"
        own.submit(line)
        until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith("\n"))
        if controller == "stopped":
            own.stop_controller()
        pids = [*map(int, (tmp_path / "pids").read_text().split()), *own.daemons().values()]
        assert sum(map(lives, pids)) == (len(pids) if controller == "up" else len(pids) - 1)
    until(lambda: not any(map(lives, pids)), seconds=1)
    assert not own.folder.exists()
    own.down()  # of nothing


def test_accounting_remembers_the_end_of_a_job(accounted_cluster):
    job = accounted_cluster.submit("exit 3")
    accounted_cluster.wait_for(job)
    question = ("sacct", "-X", "-n", "-P", "--format=State,ExitCode", f"--jobs={job}")
    until(lambda: accounted_cluster.run(*question) == "FAILED|3:0")


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLURM_TEST_ACCOUNTING", "shim"), ("SLURM_TEST_CPUS", "0"), ("SLURM_TEST_CPUS", "two")],
)
def test_what_it_can_not_be_is_refused_in_a_line(tmp_path, name, value):
    environment = {**os.environ, name: value, "SLURM_TEST_DIR": str(tmp_path)}
    done = subprocess.run([SCRIPTS / "up.sh"], env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"slurm cluster: FAILED: {name} is '{value}', not ")
    assert done.stderr.count("\n") == 1 and not any(tmp_path.iterdir())
