"""Grids on a real SLURM: whatever happens to jobs, the final tables are those of an undisturbed grid.

The runs last long enough to be disturbed since their method, SSVI for the rest, waits in each step of a job:
that takes as long on any machine, and leaves its cores to other tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bench.monitoring import slurm_commands
from bench.results import beside, claims
from bench.results.store import Store
from tests.packages import install
from tests.slurm_cluster import CPUS, OVER

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

#: Two runs of some seconds each, which are checkpointed every second.
SUITE = """
question: Does what befalls jobs leave the results as they are?
scales:
  demo:
    seeds: 0-1
    base: {dataset: digits, network: mlp, epochs: EPOCHS, batch_size: 64, samples: 1, lr: 0.003}
    grids:
      - {recipe: default, method: patient, sparsity: 0.9}
"""
EPOCHS = 40
#: The method, and the package that it comes in.
PATIENT = '''
import os, time
from methods.ssvi import SSVI

class Patient(SSVI):
    """SSVI that waits in each step of a job, and where it draws weights."""

    name = "patient"

    def after_step(self, context):
        super().after_step(context)
        if "SLURM_JOB_ID" in os.environ:
            time.sleep(float(os.environ.get("PATIENCE", 0.02)))

    def draws(self, module, number, generator):
        for draw in super().draws(module, number, generator):
            if "SLURM_JOB_ID" in os.environ:
                time.sleep(float(os.environ.get("PATIENCE_AT_DRAWS", 0)))
            yield draw
'''
PACKAGE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "patient"
version = "1"
[project.entry-points."ssvi_bench.methods"]
patient = "patient:Patient"
[tool.setuptools]
py-modules = ["patient"]
"""
#: Columns of ``runs`` that are measured, or tell how and when.
MEASURED = (
    *("wall_seconds", "train_seconds", "evaluation_seconds", "overhead_seconds", "images_per_second"),
    *("seconds_per_step", "energy_joules", "peak_memory_bytes", "concurrency", "started_at", "execution"),
    *("step_time_ratio", "peak_memory_ratio", "error", "error_kind", "git_sha"),
)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder of packages that has the method."""
    source, site = tmp_path_factory.mktemp("patient"), tmp_path_factory.mktemp("site-packages")
    (source / "patient.py").write_text(PATIENT)
    (source / "pyproject.toml").write_text(PACKAGE)
    install(source, site)
    return site


@pytest.fixture(autouse=True)
def installed(site, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.fixture(scope="session")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "disturbed.yaml"
    path.write_text(SUITE.replace("EPOCHS", str(EPOCHS)))
    return path


@pytest.fixture(scope="session")
def undisturbed(suite, site, tmp_path_factory):
    """The tables of the suite, computed in one process without any trouble."""
    results = tmp_path_factory.mktemp("undisturbed") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        done = bench("grid", "--suite", suite, "--executor", "inline", "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    return tables(results)


@pytest.fixture
def results(tmp_path):
    """A results folder; its jobs are cancelled at the end."""
    yield tmp_path / "results"
    for record in tmp_path.glob("results.jobs/*/*-*.json"):
        if record.name.startswith(("array-", "over-")):
            subprocess.run(["scancel", record.stem.split("-")[1]], check=False)


def command(name, *arguments):
    return [sys.executable, "-m", f"bench.{name}", *map(str, arguments)]


def bench(name, *arguments, timeout=200):
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=timeout)


def launch(suite, results, *more, slurm=""):
    """Return the arguments of a grid on SLURM with one run a job; ``slurm`` are keys of the profile."""
    keys = {
        "runs_per_job": 1,
        "memory": "1500M",
        **dict(part.split("=") for part in slurm.split(",") if part),
    }
    profile = ",".join(f"slurm.{key}={value}" for key, value in keys.items())
    how = ["--executor", "slurm", "--set", profile, "--checkpoint-seconds", 1]
    return ["--suite", suite, "--results", results, *how, *more]


def detached(suite, results, *more, slurm=""):
    done = bench("grid", *launch(suite, results, "--detach", *more, slurm=slurm))
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed(suite, results, *more, slurm=""):
    """Launch again, wait for the end, and return the tables."""
    done = bench("grid", *launch(suite, results, *more, slurm=slurm))
    assert done.returncode == 0, done.stdout + done.stderr
    return tables(results)


def tables(results, suite="disturbed"):
    found = Store(results).read_tables(suite)
    runs = found["runs"].drop(columns=[column for column in MEASURED if column in found["runs"]])
    history = found["history"][found["history"]["metric"] != "seconds"]
    keys = ["run_id", "stage", "epoch", "split", "metric"]
    return {
        "runs": runs.sort_values("run_id").reset_index(drop=True),
        "history": history.astype({key: str for key in keys if key != "epoch"})
        .sort_values(keys)
        .reset_index(drop=True),
        **{
            name: found[name].reset_index(drop=True)
            for name in ("metrics", "layers", "criteria_pairs", "stages")
        },
    }


def same(found, expected):
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, check_categorical=False)


def statuses(results):
    """Return the counts of ``bench.status``, and its exit status."""
    done = bench("status", "--results", results)
    return done.stdout + done.stderr, done.returncode


def until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)
    return found


def folders(results):
    return [Store(results).run(run_id) for run_id in Store(results).run_ids()] if results.exists() else []


def at_work(results, count=2):
    """The folders of runs that have a checkpoint, once there are ``count``."""

    def found():
        ready = [run for run in folders(results) if (run.path / "checkpoint.pt").exists()]
        return ready if len(ready) >= count else None

    return until(found)


def job_of(run):
    return json.loads((run.path / claims.NAME).read_text())["job"]


def pid_of(run):
    return claims.holder(run).pid


def evaluated(run):
    """The sets beside the test part that a run has been evaluated on."""
    return beside.evaluated(run.read("status") or {})


def kinds(results):
    return {(run.read("status") or {}).get("error_kind") for run in folders(results)}


@pytest.mark.timeout(600)
def test_a_grid_on_slurm_has_the_rows_of_one_on_this_machine(cluster, tmp_path):
    """Of worker processes, and of one process, value for value; for one seed of each configuration."""
    found = {}
    for executor in ("slurm", "local", "inline"):
        results = tmp_path / executor
        asked = ["--suite", "criteria_ablation", "--seeds", "0", "--set", "epochs=6", "--executor", executor]
        done = bench("grid", *asked, "--results", results, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        found[executor] = tables(results, "criteria_ablation")
    assert len(found["slurm"]["runs"]) > 15
    same(found["slurm"], found["inline"])
    same(found["local"], found["inline"])


def test_a_job_that_is_requeued_goes_on(cluster, suite, results, undisturbed):
    detached(suite, results)
    run = at_work(results)[0]
    subprocess.run(["scontrol", "requeue", job_of(run)], check=True)
    until(lambda: run.status() == "preempted")
    assert "told to end" in run.read("status")["error"]
    same(completed(suite, results), undisturbed)
    assert run.read("status")["attempt"] == 2
    assert run.read("provenance")["slurm"]["restarts"] == 1
    assert not results.with_name("results.jobs").exists(), "a launch in which all went well leaves nothing"


def test_a_job_of_higher_priority_pushes_runs_aside(cluster, suite, results, undisturbed):
    detached(suite, results, slurm="partition=low")
    runs = at_work(results)
    every = ["sbatch", "--parsable", "--partition=high", f"--cpus-per-task={CPUS}", "--mem=100"]
    pushing = subprocess.run(
        [*every, "--output=/dev/null", "--wrap", "sleep 5"], capture_output=True, text=True
    )
    until(lambda: all(run.status() in ("preempted", "done") for run in runs))
    assert "preempted" in {run.status() for run in runs}
    assert pushing.returncode == 0, pushing.stderr
    same(completed(suite, results, slurm="partition=low"), undisturbed)


def test_a_job_at_its_time_limit_puts_itself_back_into_the_queue(cluster, suite, results, tmp_path):
    """SLURM's shortest time limit is one minute, and it may signal a job up to a minute early."""
    long = tmp_path / "disturbed.yaml"
    # many minutes of work anywhere
    long.write_text(SUITE.replace("EPOCHS", str(100 * EPOCHS)).replace("0-1", "0"))
    detached(long, results, slurm="time=2,signal_seconds=50")
    run = at_work(results, 1)[0]
    until(lambda: run.status() == "preempted", 150)
    said = run.read("status")
    assert (said["error_kind"], said["error"]) == ("preempted", "the time limit of its job is near")
    until(lambda: run.status() == "running")
    assert run.read("provenance")["slurm"]["restarts"] == 1 and run.read("status")["attempt"] == 2
    bench("cancel", "--suite", "disturbed", "--results", results)
    assert run.status() == "cancelled"


def test_a_job_whose_time_ends_in_an_evaluation_goes_on_with_the_sets_that_are_left(
    cluster, results, tmp_path, monkeypatch
):
    """It gets SLURM's signal while a finished run is evaluated on sets beside its test part."""
    monkeypatch.setenv("PATIENCE_AT_DRAWS", "2")
    path, sets = tmp_path / "disturbed.yaml", ["inverted", "noise_uniform", "noise_gaussian"]
    text = SUITE.replace("EPOCHS", "2").replace("0-1", "0")
    path.write_text(text.replace("base: {", f"base: {{evaluation.ood: [{', '.join(sets)}], "))
    detached(path, results)
    (run,) = until(lambda: [run for run in folders(results) if evaluated(run)])
    os.kill(pid_of(run), signal.SIGUSR2)
    first = run.path / beside.document(evaluated(run)[0])
    written, job = first.stat().st_mtime_ns, job_of(run)
    until(lambda: len(evaluated(run)) == len(sets))
    assert run.is_done() and run.read("status")["attempt"] == 1  # it was trained once
    assert first.stat().st_mtime_ns == written
    cluster.wait_for(job, ("COMPLETED",))
    told = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    assert "Restarts=1 " in told


def test_scancel_is_noted_and_the_next_launch_goes_on(cluster, suite, results, undisturbed):
    detached(suite, results)
    run = at_work(results)[0]
    subprocess.run(["scancel", job_of(run)], check=True)
    until(lambda: "1 cancelled" in statuses(results)[0])
    same(completed(suite, results), undisturbed)


def test_a_process_that_is_killed_is_tried_once_more_by_itself(cluster, suite, results, undisturbed):
    with subprocess.Popen(
        command("grid", *launch(suite, results)), stdout=subprocess.PIPE, text=True
    ) as grid:
        run = at_work(results)[0]
        os.kill(pid_of(run), signal.SIGKILL)
        assert grid.wait(200) == 0
    same(tables(results), undisturbed)
    assert run.read("status")["deaths"] == 1


def test_a_run_that_is_killed_twice_is_a_failure_with_a_name_and_goes_on_when_asked(
    cluster, suite, results, undisturbed
):
    detached(suite, results)
    run = at_work(results, 1)[0]
    for again in (True, False):
        job = job_of(run)
        os.kill(pid_of(run), signal.SIGKILL)
        cluster.wait_for(job, ("FAILED",))
        if again:
            detached(suite, results)
            until(lambda: run.status() == "running" and claims.holder(run))
    text, code = statuses(results)
    assert "1 failed" in text and f"its job {job} ended as FAILED" in text and code == 1
    done = bench("grid", *launch(suite, results))
    assert done.returncode == 1 and run.read("status")["error_kind"] == "killed"
    same(completed(suite, results, "--retry-failed"), undisturbed)


def test_a_run_that_takes_more_memory_than_its_job_has_is_told_so(cluster, results, tmp_path, monkeypatch):
    monkeypatch.setenv("PATIENCE", "1")  # SLURM looks every two seconds
    greedy = tmp_path / "disturbed.yaml"
    large = SUITE.replace("EPOCHS", "3").replace("0-1", "0").replace("sparsity: 0.9", "sparsity: 0")
    wide = "network: mlp, network.hidden: [4096, 4096], max_steps: 6"
    greedy.write_text(large.replace("network: mlp", wide))
    done = bench("grid", *launch(greedy, results, slurm="memory=700M"))
    run = folders(results)[0]
    said = run.read("status")
    assert done.returncode == 1 and (said["status"], said["error_kind"]) == ("failed", "oom"), done.stdout
    assert "emory limit" in said["error"]
    done = bench("grid", *launch(greedy, results, "--retry-failed", slurm="memory=4G"))
    assert done.returncode == 0 and run.status() == "done"


@pytest.fixture
def small_disk(tmp_path):
    """A results folder on its own file system of a few megabytes."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    place = tmp_path / "results"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place]).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def remount(place, how):
    """Wait until no process is in the middle of a write."""
    until(
        lambda: subprocess.run(["mount", "-o", f"remount,{how}", place], capture_output=True).returncode == 0
    )


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_takes_nothing_more_costs_no_result(cluster, suite, small_disk, undisturbed, trouble):
    results, filler = small_disk, small_disk / ".filler"
    detached(suite, results)
    jobs = [job_of(run) for run in at_work(results)]
    if trouble == "full":
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    else:
        remount(results, "ro")
    for job in jobs:
        cluster.wait_for(job, ("COMPLETED", "FAILED"))
    assert not any(run.is_done() for run in folders(results))
    refused = bench("grid", *launch(suite, results))
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    reason = "No space left on device" if trouble == "full" else "Read-only file system"
    assert refused.stderr.startswith("error: ") and reason in refused.stderr
    if trouble == "full":
        filler.unlink()
    else:
        remount(results, "rw")
    assert "failed" not in statuses(results)[0]
    same(completed(suite, results), undisturbed)


def test_a_controller_that_restarts_is_waited_for(cluster, suite, results, undisturbed):
    with subprocess.Popen(
        command("grid", *launch(suite, results)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as grid:
        at_work(results)
        cluster.stop_controller()
        time.sleep(15)
        cluster.start_controller()
        said, _ = grid.communicate(timeout=200)
    assert grid.returncode == 0, said
    same(tables(results), undisturbed)


def test_a_launcher_that_is_killed_is_missed_by_nobody(cluster, suite, results, undisturbed):
    with subprocess.Popen(command("grid", *launch(suite, results)), stdout=subprocess.DEVNULL) as grid:
        at_work(results)
        grid.kill()
    again = detached(suite, results)
    assert "already in jobs or computed elsewhere: 2 runs" in again and "submitted" not in again
    same(completed(suite, results), undisturbed)
    assert {run.read("status")["attempt"] for run in folders(results)} == {1}


def test_two_launchers_divide_the_work(cluster, suite, results, undisturbed):
    both = [
        subprocess.Popen(command("grid", *launch(suite, results)), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [grid.communicate(timeout=200)[0] for grid in both]
    assert [grid.returncode for grid in both] == [0, 0], said
    same(tables(results), undisturbed)
    assert {run.read("status")["attempt"] for run in folders(results)} == {1}


def test_a_job_that_cannot_start_is_one_line(cluster, suite, results):
    done = bench("grid", *launch(suite, results, slurm="setup=[exit 3]"))
    assert done.returncode == 2
    assert (
        done.stderr.startswith("error: jobs end without computing anything: ")
        and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("partition=nowhere", "Invalid partition name specified (asked for: --partition=nowhere "),
        ("memory=99999G", "Requested node configuration is not available (asked for: "),
        ("cpus=999", "Requested node configuration is not available (asked for: "),
    ],
)
def test_what_slurm_would_not_take_is_refused_before_anything_is_submitted(
    cluster, suite, results, asked, reason
):
    done = bench("grid", *launch(suite, results, slurm=asked))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: SLURM would refuse such jobs: ") and reason in done.stderr
    assert not list(Path(results.parent).glob("results.jobs/*"))


def test_bench_cancel_ends_what_waits_and_what_runs(cluster, suite, results):
    detached(suite, results, "--seeds", "0-5", slurm="array_parallelism=2")
    at_work(results)
    done = bench("cancel", "--suite", "disturbed", "--results", results)
    assert done.stdout.startswith("6 runs cancelled, 0 had ended before"), done.stdout + done.stderr
    until(lambda: not [row for row in cluster.squeue().values() if row.state not in OVER])
    assert "6 cancelled" in statuses(results)[0]


def test_accounting_is_asked_where_there_is_some(accounted_cluster, suite, results):
    detached(suite, results, "--seeds", "0")
    run = at_work(results, 1)[0]
    job = job_of(run)
    os.kill(pid_of(run), signal.SIGKILL)
    until(lambda: "1 preempted" in statuses(results)[0])
    assert slurm_commands.site().accounting
    assert slurm_commands.states([job, "999999"])[job].name == "FAILED"


def test_a_site_that_takes_few_jobs_gets_smaller_arrays(cluster, suite, results, tmp_path, monkeypatch):
    """An sbatch that refuses arrays of more than two jobs, as if the queue had a limit."""
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True).stdout.strip()
    limited = tmp_path / "bin" / "sbatch"
    limited.parent.mkdir()
    refusal = (
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
    )
    limited.write_text(
        f'#!/bin/bash\nif [ -f "$1" ] && grep -qE \'array=.?0-([2-9]|[1-9][0-9])\' "$1"; then\n'
        f"  echo '{refusal}' >&2; exit 1\nfi\nexec {real} \"$@\"\n"
    )
    limited.chmod(0o755)
    monkeypatch.setenv("PATH", f"{limited.parent}:{os.environ['PATH']}")
    said = detached(suite, results, "--seeds", "0-4", slurm="array_parallelism=1")
    assert "submitted 5 runs as 5 jobs" in said
    records = [
        json.loads(path.read_text())["tasks"] for path in results.parent.glob("results.jobs/*/array-*.json")
    ]
    assert sorted(map(len, records)) == [1, 2, 2]
    left = [
        path.name for path in results.parent.glob("results.jobs/*/submitit/*.pkl") if "_" not in path.stem
    ]
    assert left == [], "what was prepared for refused jobs is gone"
    assert bench("cancel", "--suite", "disturbed", "--results", results).returncode == 0


def test_a_launch_right_after_a_cancellation_goes_on(cluster, suite, results, undisturbed):
    detached(suite, results)
    at_work(results)
    subprocess.run(["scancel", *{job_of(run).partition("_")[0] for run in folders(results)}], check=True)
    same(completed(suite, results), undisturbed)


# -- paths that SLURM would change --------------------------------------------------------------


@pytest.mark.parametrize("name", ["50%j it's", "100%accurate %x"])
def test_a_results_folder_may_have_any_name(name, cluster, suite, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    runs = completed(suite, tmp_path / name, "--set", "epochs=1")["runs"]
    assert set(runs["status"]) == {"done"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "home"]
