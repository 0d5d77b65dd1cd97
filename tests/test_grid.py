"""``bench.grid`` and ``bench.run`` from end to end: repeating, refusing, interrupting and resuming runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from bench import grid, run
from bench import status as status_of
from bench.cli.entry import entry
from bench.data.files import data_root
from bench.results import claims
from bench.results.files import shell_path
from bench.results.store import SCHEMA, Store
from bench.training import checkpoints
from tests import toys  # noqa: F401  (registers the toys)

SUITE = """
question: Which seed?
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, batch_size: 16, epochs: 2}
    grids:
      - {method: ssvi, sparsity: 0.5, criterion: [snr, abs_mean]}
"""
FAILING = f"{SUITE}      - {{method: toy_failing, how: [nan, raise]}}\n"


# -- in this process: quick, and the toys are known -----------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with the suite ``toy.yaml``; the handler of SIGTERM is restored afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "toy.yaml").write_text(SUITE)
    yield folder
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def call(here, capsys):
    """Call a command like a process; return exit status, standard output and standard error."""

    def call(*arguments, command=grid):
        with pytest.raises(SystemExit) as caught:
            entry(lambda: command.main([str(argument) for argument in arguments]))
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call


@pytest.fixture
def toy(call):
    """Run the toy suite inline, with these arguments added."""
    return lambda *arguments: call("--suite", "./toy.yaml", "--executor", "inline", *arguments)


def tree(folder):
    """Every file below ``folder`` with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    } | {str(path.relative_to(folder)): None for path in folder.rglob("*") if path.is_dir()}


def stamps(folder):
    """Return the time of the last change of every file below ``folder``."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def statuses(root):
    """The status document of every run, by id."""
    store = Store(root)
    return {run_id: store.run(run_id).read("status") for run_id in store.run_ids()}


def said(root, key):
    return [document[key] for document in statuses(root).values()]


def set_aside(root):
    """Return the reason for each folder in ``corrupted``."""
    return [json.loads(path.read_text())["reason"] for path in sorted(root.glob("corrupted/*/reason.json"))]


def test_a_suite_becomes_runs_tables_and_a_summary(toy, here):
    status, out, err = toy()
    assert (status, err) == (0, "")
    assert said(here / "results", "status") == ["done"] * 4
    assert "toy, scale demo: 4 runs: 4 pending" in out
    assert "SSVI · by abs_mean" in out and "mean ± half width" in out
    runs = Store(here / "results").read_tables("toy")["runs"]
    assert list(runs["status"]) == ["done"] * 4 and runs["accuracy"].notna().all()
    assert not (here / "results.jobs").exists()


def test_the_same_command_again_computes_nothing(toy, here):
    toy()
    before = stamps(here / "results" / "runs")
    status, out, _ = toy()
    assert status == 0
    assert "4 runs: 4 done" in out and "SSVI · by abs_mean" in out
    assert stamps(here / "results" / "runs") == before


def test_more_seeds_add_their_runs_only(toy, here):
    toy("--seeds", "0")
    first = statuses(here / "results")
    status, out, _ = toy("--seeds", "0-2")
    now = statuses(here / "results")
    assert status == 0 and "6 runs: 2 done, 4 pending" in out
    assert len(now) == 6 and {run_id: now[run_id] for run_id in first} == first


def test_conditions_and_overrides_choose_what_runs(toy, here):
    status, out, _ = toy("--where", "criterion=snr,seed=1", "--set", "epochs=1")
    assert status == 0
    assert "1 run: 1 pending" in out and "SSVI" in out and "epochs 1" in out
    (run_id,) = statuses(here / "results")
    config = Store(here / "results").run(run_id).read("spec")["config"]
    assert (config["seed"], config["method"]["criterion"], config["training"]["epochs"]) == (1, "snr", 1)


NAMES = ["a b", "it's", '"q"', "$HOME", "`id`", "-x", "~", "50%j", "a\\b", "a\nb", "é ±", "\udce9t"]


@pytest.mark.parametrize("name", NAMES)
def test_a_results_folder_may_have_any_name_and_can_be_pasted(toy, call, here, name):
    status, _, err = toy("--seeds", "0", "--where", "criterion=snr", f"--results=./{name}")
    assert (status, err) == (0, "")
    assert said(here / name, "status") == ["done"]
    assert call(f"--results=./{name}", command=status_of)[0] == 0
    words = f"printf '%s|' --results {shell_path(name)}"
    pasted = subprocess.run(["bash", "-c", words], capture_output=True).stdout.decode(
        errors="surrogateescape"
    )
    assert pasted.removeprefix("--results|").removesuffix("|").removeprefix("./") == name
    assert shell_path(name).isprintable()
    assert not pasted.startswith("--results|-")


@pytest.mark.parametrize("name", ["50%j it's", "100%accurate"])
def test_workers_compute_in_a_folder_of_any_name(call, here, name, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    chosen = (
        "--seeds",
        "0",
        "--where",
        "criterion=snr",
        "--set",
        "dataset=digits,network=mlp,epochs=1,max_steps=2",
    )
    status, _, err = call("--suite", "./toy.yaml", *chosen, "--workers", "1", "--results", here / name)
    assert (status, err) == (0, "")
    assert said(here / name, "status") == ["done"]
    assert sorted(path.name for path in here.iterdir() if path.name != "home") == [name, "toy.yaml"]


def test_the_home_folder_may_be_written_as_a_tilde(toy, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    (here / "toy.yaml").rename(here / "home" / "toy.yaml")
    assert toy("--seeds", "0", "--suite", "~/toy.yaml", "--results=~/found")[0] == 0
    assert said(here / "home" / "found", "status") == ["done"] * 2
    assert Store("~/found").run_ids() == Store(here / "home" / "found").run_ids()
    monkeypatch.setenv("BENCH_DATA_ROOT", "~/data")
    assert data_root() == here / "home" / "data"
    assert not (here / "~").exists()


# -- failures -------------------------------------------------------------------------------


def test_failing_runs_are_rows_with_reasons_the_others_are_done_and_the_status_is_1(toy, here):
    (here / "toy.yaml").write_text(FAILING)
    status, out, _ = toy("--seeds", "0")
    assert status == 1
    assert "2/4 runs" not in out and "4/4 runs: 2 failed, 2 done" in out
    assert "RuntimeError: told to fail in two lines" in out and "loss is nan at step 3" in out
    runs = Store(here / "results").read_tables("toy")["runs"].set_index("config_label")
    assert sorted(runs["status"]) == ["done", "done", "failed", "failed"]
    failed = runs[runs["status"] == "failed"]
    assert sorted(failed["error_kind"]) == ["exception", "nan"] and failed["accuracy"].isna().all()


def test_what_failed_is_repeated_when_asked_for_only(toy, here):
    (here / "toy.yaml").write_text(FAILING)
    toy("--seeds", "0")
    status, out, _ = toy("--seeds", "0")
    assert status == 1 and "told to fail" in out
    assert said(here / "results", "attempt") == [1] * 4
    assert toy("--seeds", "0", "--retry-failed")[0] == 1
    attempts = {(d["status"], d["attempt"]) for d in statuses(here / "results").values()}
    assert attempts == {("done", 1), ("failed", 2)}


def test_force_runs_everything_again_and_keeps_what_was(toy, here):
    toy("--seeds", "0")
    before = statuses(here / "results")
    status, _, _ = toy("--seeds", "0", "--force")
    after = statuses(here / "results")
    assert status == 0 and said(here / "results", "status") == ["done"] * 2
    assert before.keys() == after.keys()
    assert all(before[run_id]["started_at"] < after[run_id]["started_at"] for run_id in before)
    assert set_aside(here / "results") == ["run again by --force"] * 2


def test_a_run_that_another_process_is_at_is_waited_for(toy, here):
    """The process of the run dies meanwhile, so that another one takes the run over."""
    toy("--seeds", "0")
    store = Store(here / "results")
    run_id = store.run_ids()[0]
    store.run(run_id).write("status", {"status": "running"})
    other = subprocess.Popen(["sleep", "0.5"])
    owner = claims.Process(claims.Process.current().host, other.pid, psutil.Process(other.pid).create_time())
    (store.run(run_id).path / claims.NAME).write_text(json.dumps({**vars(owner), "token": "another"}))
    began = time.monotonic()
    status, _, _ = toy("--seeds", "0")
    assert status == 0 and time.monotonic() - began > 0.2
    assert store.run(run_id).is_done()
    other.wait()


# -- damage ---------------------------------------------------------------------------------


def _make_link(path):
    moved = path.parent.parent / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def _make_file(path):
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    path.write_text("in the way")


DAMAGE = {
    "empty metrics": lambda path: (path / "metrics.json").write_bytes(b""),
    "torn status": lambda path: (path / "status.json").write_bytes(b'{"status": "do'),
    "another run's spec": lambda path: (path / "spec.json").write_text(
        (path / "spec.json").read_text().replace(path.name, "0" * 12)
    ),
    "a link": _make_link,
    "a file": _make_file,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_set_aside_reported_and_run_again(toy, here, damage):
    one = ("--where", "criterion=snr,seed=0")
    toy(*one)
    results = here / "results"
    whole = all_evidence(results)
    (run_id,) = whole
    DAMAGE[damage](results / "runs" / run_id)
    status, out, _ = toy(*one)
    assert status == 0
    assert f"run {run_id} is corrupted" in out and f"corrupted/{run_id}-1" in out
    assert len(set_aside(results)) == 1
    assert all_evidence(results) == whole


# -- the dry run ----------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(toy, here):
    before = tree(here)
    status, out, err = toy("--dry-run")
    assert (status, err) == (0, "")
    assert "4 cells: 4 runs (4 pending), 0 omitted" in out
    assert tree(here) == before


def test_a_dry_run_beside_results_changes_nothing_and_tells_what_is_done(toy, here):
    toy("--seeds", "0")
    before = tree(here)
    status, out, _ = toy("--dry-run", "--force", "--retry-failed")
    assert status == 0 and "(2 done, 2 pending)" in out
    assert tree(here) == before


def test_a_dry_run_shows_every_cell_and_why_some_are_omitted(toy, here):
    (here / "toy.yaml").write_text(SUITE.replace("[snr, abs_mean]", "[snr, snr_abs]"))
    toy("--seeds", "0")
    (run_id,) = statuses(here / "results")
    _, out, _ = toy("--dry-run")
    rows = [line.split(maxsplit=3) for line in out.splitlines() if "criterion=" in line[31:]]
    assert [row[1:] for row in rows if len(row) == 4 and row[2] in "01"] == [
        ["done", "0", "ssvi criterion=snr"],
        ["pending", "1", "ssvi criterion=snr"],
        ["omitted", "0", "ssvi criterion=snr_abs"],
        ["omitted", "1", "ssvi criterion=snr_abs"],
    ]
    assert [row[0] for row in rows].count(run_id) == 2, "the omitted cell points to the run it equals"
    assert "4 cells: 2 runs (1 done, 1 pending), 2 omitted" in out
    assert "see ssvi criterion=snr" in " ".join(out.split())


# -- what is refused ------------------------------------------------------------------------

MALFORMED = "question: [unclosed\nscales: {demo"
BAD = {
    "suite": (
        ["--suite", "criteria_ablatoin"],
        "unknown suite 'criteria_ablatoin' (did you mean 'criteria_ablation'?); valid: ",
    ),
    "no suite": ([], "the following arguments are required: --suite"),
    "suite file": (["--suite", "./none.yaml"], "none.yaml"),
    "malformed YAML": (["--suite", "./bad.yaml"], "bad.yaml:2: malformed YAML"),
    "method in a suite": (
        ["--suite", "./method.yaml"],
        "unknown method 'svsi' (did you mean 'ssvi'?); valid: ",
    ),
    "data set in a suite": (
        ["--suite", "./dataset.yaml"],
        "unknown data set 'toy_blob' (did you mean 'toy_blobs'?); valid: ",
    ),
    "scale": (["--suite", "./toy.yaml", "--scale", "paper"], "unknown scale 'paper'; valid: demo"),
    "executor": (["--suite", "./toy.yaml", "--executor", "cloud"], "--executor: invalid choice: 'cloud'"),
    "key": (
        ["--suite", "./toy.yaml", "--set", "epoch=1"],
        "--set: unknown key 'epoch' (did you mean 'epochs'?); valid: ",
    ),
    "no value": (["--suite", "./toy.yaml", "--set", "epochs"], "--set"),
    "value": (["--suite", "./toy.yaml", "--set", "epochs=many"], "epochs"),
    "method": (["--suite", "./toy.yaml", "--set", "method=svsi"], "--set: the method can't be overridden"),
    "data set": (["--suite", "./toy.yaml", "--set", "dataset=none"], "unknown data set 'none'; valid: "),
    "network": (["--suite", "./toy.yaml", "--set", "network=none"], "unknown network 'none'; valid: "),
    "criterion": (
        ["--suite", "./toy.yaml", "--set", "criterion=srn"],
        "criterion: 'srn' is not valid (did you mean 'snr'?); valid: abs_mean, ",
    ),
    "negative sparsity": (
        ["--suite", "./toy.yaml", "--set", "sparsity=-0.1"],
        "sparsity: -0.1 lies outside [0, 1)",
    ),
    "sparsity 1": (["--suite", "./toy.yaml", "--set", "sparsity=1"], "sparsity: 1.0 lies outside [0, 1)"),
    "sparsity as text": (["--suite", "./toy.yaml", "--set", "sparsity=high"], "sparsity"),
    "sparsity that empties a layer": (
        ["--suite", "./toy.yaml", "--set", "sparsity=0.999999999999"],
        "without a weight",
    ),
    "column": (
        ["--suite", "./toy.yaml", "--where", "sparsty=0.5"],
        "--where: unknown column 'sparsty' (did you mean 'sparsity'?); valid: ",
    ),
    "condition": (["--suite", "./toy.yaml", "--where", "sparsity"], "--where"),
    "nothing chosen": (["--suite", "./toy.yaml", "--where", "seed=17"], "no cell fulfils 'seed=17'"),
    "seeds": (["--suite", "./toy.yaml", "--seeds", "a-b"], "--seeds: 'a-b' is not a seed or a range"),
    "falling seeds": (["--suite", "./toy.yaml", "--seeds", "4-0"], "seeds"),
    "no seeds": (["--suite", "./toy.yaml", "--seeds", ""], "seeds"),
    "workers": (["--suite", "./toy.yaml", "--workers", "0"], "--workers: '0' is not a positive whole number"),
    "profile": (["--suite", "./toy.yaml", "--profile", "x"], "--profile: only with --executor slurm"),
    "detach": (["--suite", "./toy.yaml", "--detach"], "--detach: only with --executor slurm"),
    "key of a profile": (["--suite", "./toy.yaml", "--set", "slurm.time=3"], "only with --executor slurm"),
    "no such profile": (
        ["--suite", "./toy.yaml", "--executor", "slurm", "--profile", "nowhere"],
        "--profile nowhere: there is no slurm/nowhere.yaml; valid: cpu, example, or a path",
    ),
    "unknown key of a profile": (
        ["--suite", "./toy.yaml", "--executor", "slurm", "--set", "slurm.gpu=1"],
        "--set slurm: unknown key 'gpu' (did you mean 'gpus'?); valid: account, ",
    ),
    "no such file": (
        ["--suite", "./toy.yaml", "--executor", "slurm", "--profile", "./nowhere.yaml"],
        "--profile ./nowhere.yaml: there is no such file",
    ),
    "workers of slurm": (
        ["--suite", "./toy.yaml", "--executor", "slurm", "--workers", "3"],
        "--workers: only for runs on this machine; with SLURM use --set slurm.array_parallelism=N",
    ),
    "option": (["--suite", "./toy.yaml", "--worker", "1"], "unrecognized arguments: --worker 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(call, here, name):
    arguments, words = BAD[name]
    (here / "bad.yaml").write_text(MALFORMED)
    (here / "method.yaml").write_text(SUITE.replace("ssvi", "svsi"))
    (here / "dataset.yaml").write_text(SUITE.replace("toy_blobs", "toy_blob"))
    refused(call(*arguments), words, here)


def test_without_slurm_it_is_one_line_and_nothing_is_written(call, here, monkeypatch):
    monkeypatch.setenv("PATH", str(here))
    words = "there is no SLURM here: sbatch is not on PATH"
    refused(call("--suite", "./toy.yaml", "--executor", "slurm"), words, here)


def test_a_dry_run_says_as_what_jobs_slurm_would_get_it(call, here, monkeypatch):
    asked = ["--suite", "./toy.yaml", "--executor", "slurm", "--set", "slurm.runs_per_job=1", "--dry-run"]
    (commands := here / "commands").mkdir()
    monkeypatch.setenv("PATH", str(commands))
    status, out, _ = call(*asked)
    assert status == 2 and out.endswith("cannot start: there is no SLURM here: sbatch is not on PATH\n")
    for name, script in (("sbatch", "exit 0"), ("scontrol", "echo 'MaxArraySize = 3'")):
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    status, out, _ = call(*asked)
    assert status == 0
    assert out.endswith("SLURM accepts these jobs; a launch would submit 4 runs as 4 jobs in 2 arrays\n")
    assert {path.name for path in here.iterdir()} == {"toy.yaml", "commands"}


def test_runs_that_were_cancelled_go_on_unasked_and_those_that_failed_do_not(toy, here):
    toy()
    store = Store(here / "results")
    cancelled, failed, *_ = (store.run(run_id) for run_id in store.run_ids())
    for found, status in ((cancelled, "cancelled"), (failed, "failed")):
        found.write("status", {**found.read("status"), "status": status})
    toy()
    assert (cancelled.status(), failed.status()) == ("done", "failed")


def refused(answer, words, folder):
    """Require that ``answer`` is one line that contains ``words``."""
    status, out, err = answer
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert words in err
    assert {path.name for path in folder.iterdir()} <= {
        "toy.yaml", "bad.yaml", "method.yaml", "dataset.yaml", "file",
    }  # fmt: skip


@pytest.mark.parametrize("results", ["file", "file/results", "file/deep/results"])
def test_a_file_in_the_way_of_the_results_is_one_line(toy, here, results):
    (here / "file").write_text("in the way")
    refused(toy("--results", results), results, here)
    assert (here / "file").read_text() == "in the way"


def test_results_of_a_newer_version_are_left_alone(toy, here):
    (here / "results").mkdir()
    (here / "results" / "schema.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    before = tree(here)
    for options in ([], ["--dry-run"], ["--force"]):
        status, out, err = toy(*options)
        assert (status, out) == (2, "")
        assert err.startswith("error: results folder results: schema 2, written by a newer version")
        assert err.count("\n") == 1
    assert tree(here) == before


def test_a_folder_that_holds_something_else_is_left_alone(toy, here):
    (here / "photos").mkdir()
    (here / "photos" / "holiday.jpg").write_text("")
    before = tree(here)
    status, _, err = toy("--results", "photos")
    assert status == 2 and "not a results folder, and not empty (it holds 'holiday.jpg')" in err
    assert tree(here) == before


def test_a_file_in_the_way_of_the_suites_folder_is_one_line(toy, here):
    Store(here / "results", create=True)
    (here / "results" / "toy").write_text("in the way")
    status, out, err = toy()
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "results/toy" in err
    assert Store(here / "results").run_ids() == []


def test_a_file_in_the_way_of_the_runs_is_one_line(toy, here):
    (here / "results").mkdir()
    (here / "results" / "runs").write_text("in the way")
    status, _, err = toy()
    assert status == 2 and err.startswith("error: results folder results: cannot be written: ")


# -- bench.run ------------------------------------------------------------------------------

ONE = ("--set", "dataset=toy_blobs,network=toy_network,epochs=2,batch_size=16,sparsity=0.5")


def test_one_run_prints_its_scores_and_is_computed_once(call, here):
    status, out, err = call(*ONE, command=run)
    assert (status, err) == (0, "")
    assert re.search(r"^  samples +test +0\.\d{4} ", out, re.M)
    before = tree(here / "results")
    status, again, _ = call(*ONE, command=run)
    assert status == 0 and "done already" in again and out.splitlines()[1:] == again.splitlines()[2:]
    assert tree(here / "results") == before


def test_one_run_is_the_same_run_as_in_a_grid(call, toy, here):
    toy("--where", "criterion=snr,seed=1")
    (run_id,) = statuses(here / "results")
    _, out, _ = call(*ONE, "--set", "criterion=snr", "--seed", "1", command=run)
    assert out.startswith(f"{run_id} is done already")


def test_one_run_again_by_force(call, here):
    call(*ONE, command=run)
    assert call(*ONE, "--force", command=run)[0] == 0
    assert said(here / "results", "status") == ["done"]
    assert len(set_aside(here / "results")) == 1


def test_one_run_that_fails_is_status_1_with_the_reason(call):
    failing = ("--set", "dataset=toy_blobs,network=toy_network,epochs=1,batch_size=16,method=toy_failing")
    status, out, err = call(*failing, command=run)
    assert (status, err) == (1, "")
    assert "failed: RuntimeError: told to fail in two lines" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "method=svsi"], "unknown method 'svsi' (did you mean 'ssvi'?); valid: "),
        (["--set", "dataset=none"], "unknown data set 'none'; valid: "),
        (
            ["--set", "criterion=srn"],
            "criterion: 'srn' is not valid (did you mean 'snr'?); valid: abs_mean, ",
        ),
        (["--set", "epoch=3"], "unknown key 'epoch' (did you mean 'epochs'?); valid: "),
        (["--set", "sparsity=1.0"], "sparsity: 1.0 lies outside [0, 1)"),
        (["--set", "epochs"], "--set"),
        (["--seed", "one"], "--seed: invalid int value: 'one'"),
        (["--suite", "toy"], "unrecognized arguments: --suite toy"),
        ([*ONE, "--results", "file"], "results folder file: is not a folder"),
    ],
)
def test_bad_input_of_one_run_is_one_line(call, here, arguments, words):
    (here / "file").write_text("in the way")
    refused(call(*arguments, command=run), words, here)


# -- bench.status ---------------------------------------------------------------------------


def test_status_tells_where_a_grid_stands_and_writes_nothing(call, toy, here):
    (here / "toy.yaml").write_text(FAILING)
    toy("--seeds", "0", "--where", "method=ssvi")
    before = tree(here)
    status, out, err = call("--suite", "toy", command=status_of)
    assert (status, err) == (0, "") and "2/2 runs: 2 done" in out
    assert tree(here) == before


def test_status_of_a_grid_with_a_failed_run_is_1_and_names_the_reason(call, toy, here):
    (here / "toy.yaml").write_text(FAILING)
    toy("--seeds", "0")
    status, out, _ = call(command=status_of)
    assert status == 1
    reasons = [line for line in out.splitlines() if line.startswith("failed: toy_failing how=raise seed=0")]
    assert reasons and all(line.endswith(": RuntimeError: told to fail in two lines") for line in reasons)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--suite", "toi"], "results: no suite toi was launched; there are: toy"),
        (["--scale", "paper"], "results: no suite at scale paper was launched; there are: demo"),
        (["--results", "none"], "results folder none: does not exist"),
        (["--seeds", "0"], "unrecognized arguments: --seeds 0"),
    ],
)
def test_bad_input_of_status_is_one_line(call, toy, here, arguments, words):
    toy("--seeds", "0", "--where", "criterion=snr")
    before = tree(here)
    status, out, err = call(*arguments, command=status_of)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert tree(here) == before


# -- as processes ---------------------------------------------------------------------------

#: Two runs that need a few seconds each.
LONG = (
    "--set",
    "epochs=120,network.hidden=[32]",
    "--where",
    "sparsity=0.9,method=ssvi,criterion=snr|abs_mean",
)
#: A checkpoint every half second, so that runs need not be longer to have one.
OFTEN = ("--checkpoint-seconds", "0.5")
#: Whoever pressed Ctrl-C waits no longer than this.
WITHIN_SECONDS = 2.0


def slow(test):
    return pytest.mark.slow(pytest.mark.timeout(400)(test))


def suite_options(results, *arguments):
    return ["--suite", "criteria_ablation", "--seeds", "0", "--results", str(results), *arguments]


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def start():
    """Start commands in their own process group, as a terminal does; kill what is left of them."""
    started = []

    def start(*arguments, program=("-m", "bench.grid")):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, *program, *map(str, arguments)]
        started.append(subprocess.Popen(command, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def output(process, status=0):
    """Return the output of a process that runs to its end; it must not write to standard error."""
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (status, ""), out
    return out


def evidence(root, run_id):
    """Return all results of a run, as bytes where possible, without measured times."""
    folder = Store(root).run(run_id)
    with np.load(folder.path / "predictions.npz") as arrays:
        predictions = {name: arrays[name].tobytes() for name in arrays.files}
    model = {k: v.numpy().tobytes() for k, v in checkpoints.load(folder.path / "model.pt").items()}
    costs = folder.read("costs")
    return {
        "metrics": (folder.path / "metrics.json").read_bytes(),
        "history": [row for row in folder.rows("history") if row["metric"] != "seconds"],
        "layers": folder.lines("layers"),
        "pairs": folder.lines("criteria_pairs"),
        "predictions": predictions,
        "model": model,
        "costs": {key: costs[key] for key in ("train_flops", "epochs_total", "steps_total", "events")},
    }


def all_evidence(root):
    return {run_id: evidence(root, run_id) for run_id in Store(root).run_ids()}


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
    return found


def checkpointed(results, count=2):
    return lambda: len(list(results.glob("runs/*/checkpoint.pt"))) == count


def at_work(results):
    """Return the processes that compute a run."""
    if not (results / "schema.json").exists():
        return []
    store = Store(results)
    running = [run_id for run_id in store.run_ids() if store.run(run_id).status() == "running"]
    return [owner for run_id in running if (owner := claims.holder(store.run(run_id)))]


def alive(pids):
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of the two long runs, computed one after the other in this process without interruption."""
    root = tmp_path_factory.mktemp("uninterrupted") / "results"
    before = signal.getsignal(signal.SIGTERM)
    assert grid.main(suite_options(root, *LONG, "--executor", "inline")) == 0
    signal.signal(signal.SIGTERM, before)
    assert said(root, "status") == ["done", "done"]
    return all_evidence(root)


@slow
def test_workers_and_one_process_give_the_same_bits_beside_a_run_that_diverges(start, call, here, tmp_path):
    (here / "rates.yaml").write_text(
        "question: Q?\nscales:\n  demo:\n    seeds: 0\n    base: {dataset: digits, network: mlp, epochs: 1}\n"
        "    grids:\n      - {method: ssvi, lr: [1.0e+30, 0.1, 0.05]}\n"
    )
    out = output(start("--suite", "./rates.yaml"), status=1)
    assert "3/3 runs: 1 failed, 2 done" in out
    assert "failed: ssvi lr=1e+30 seed=0" in out and "loss is nan" in out
    assert sorted(said(here / "results", "status")) == ["done", "done", "failed"]
    assert not (here / "results.jobs").exists()
    call("--suite", "./rates.yaml", "--executor", "inline", "--results", "inline")
    done = [run_id for run_id, document in statuses(here / "results").items() if document["status"] == "done"]
    for run_id in done:
        assert evidence(here / "results", run_id) == evidence(here / "inline", run_id)


@slow
def test_bad_input_leaves_a_process_without_a_traceback(start, results):
    process = start(*suite_options(results, "--set", "criterion=srn"))
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "'srn'" in err
    assert not results.exists()


COMMANDS = {
    "run": (
        "bench.run",
        ["--set", "epochs=1"],
        ["--set", "epoch=1"],
        "accuracy",
        "unknown key 'epoch' (did you mean 'epochs'?); valid: ",
    ),
    "status": ("bench.status", [], ["--suite", "none"], "1/1 runs: 1 done", "no suite none was launched"),
    "list": (
        "bench.list",
        ["methods"],
        ["method"],
        "ssvi",
        "unknown kind 'method' (did you mean 'methods'?); valid: ",
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A results folder with one run of a suite."""
    root = tmp_path_factory.mktemp("small") / "results"
    quick = ("--set", "epochs=1", "--where", "method=dense_vi,recipe=default", "--executor", "inline")
    before = signal.getsignal(signal.SIGTERM)
    assert grid.main(suite_options(root, *quick)) == 0
    signal.signal(signal.SIGTERM, before)
    return root


@slow
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_as_a_process_with_good_and_with_bad_input(start, small, name):
    module, good, bad, shown, refusal = COMMANDS[name]
    results = [] if name == "list" else ["--results", small]
    assert shown in output(start(*results, *good, program=("-m", module)))
    process = start(*results, *bad, program=("-m", module))
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and refusal in err


# -- Ctrl-C ---------------------------------------------------------------------------------


def interrupt(process, send, number=signal.SIGINT):
    """What ``process`` said after ``send``, which is ``os.kill`` or ``os.killpg``.

    It must have ended in time, with status 130, without a word of complaint, and all processes below it too.
    """
    below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    began = time.monotonic()
    send(process.pid, number)
    process.wait(timeout=60)
    took = time.monotonic() - began
    print(f"ended {took:.2f} s after the signal")
    out = output(process, status=130)
    assert took < WITHIN_SECONDS
    assert alive(below) == []
    return out


@slow
def test_ctrl_c_in_a_terminal_ends_a_grid_and_the_same_command_goes_on(start, results, uninterrupted):
    process = start(*suite_options(results, *LONG), *OFTEN)
    until(checkpointed(results))
    out = interrupt(process, os.killpg)
    assert "stopped: 2 preempted; the same command goes on from here" in out
    assert said(results, "status") == ["preempted"] * 2
    assert not list(results.glob("runs/*/*claim*"))
    output(start(*suite_options(results, *LONG)))
    assert all_evidence(results) == uninterrupted
    assert said(results, "attempt") == [2, 2]


@slow
def test_ctrl_c_inline_ends_a_grid_and_the_same_command_goes_on(start, call, results, uninterrupted):
    options = suite_options(results, *LONG, "--where", "criterion=snr", "--executor", "inline")
    process = start(*options, *OFTEN)
    until(checkpointed(results, 1))
    assert "stopped: 1 preempted" in interrupt(process, os.kill)
    assert call(*options)[0] == 0
    (run_id,) = statuses(results)
    assert evidence(results, run_id) == uninterrupted[run_id]
    assert said(results, "attempt") == [2]


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_alone_stops_its_workers_too(start, results, number):
    process = start(*suite_options(results, "--set", "epochs=5000", *LONG[2:]))
    until(lambda: len(at_work(results)) == 2)
    interrupt(process, os.kill, number)
    assert said(results, "status") == ["preempted"] * 2


@slow
def test_ctrl_c_while_imports_are_made_and_workers_start(start, tmp_path):
    for seconds in (0.3, 1.0, 2.0, 3.5):
        process = start(*suite_options(tmp_path / f"results-{seconds}", *LONG))
        time.sleep(seconds)
        interrupt(process, os.killpg)


# -- deaths ---------------------------------------------------------------------------------


@slow
def test_a_worker_that_is_killed_in_mid_run_costs_nothing_but_time(start, results, uninterrupted):
    process = start(*suite_options(results, *LONG), *OFTEN)
    until(checkpointed(results))
    os.kill(at_work(results)[0].pid, signal.SIGKILL)
    output(process)
    assert all_evidence(results) == uninterrupted
    assert sorted(said(results, "attempt")) == [1, 2]


@slow
def test_a_launcher_that_is_killed_takes_its_workers_along_and_the_same_command_goes_on(
    start, results, uninterrupted
):
    process = start(*suite_options(results, *LONG), *OFTEN)
    until(checkpointed(results))
    workers = [owner.pid for owner in at_work(results)]
    assert len(workers) == 2
    process.kill()
    process.wait()
    output(start(*suite_options(results, *LONG)))  # at once: the workers may not be gone yet
    assert alive(workers) == []
    assert all_evidence(results) == uninterrupted
    assert said(results, "attempt") == [2, 2]


# -- company --------------------------------------------------------------------------------


@slow
def test_two_launchers_share_the_work_and_a_third_process_follows_it(start, results):
    options = suite_options(results, "--set", "epochs=20,network.hidden=[32]", *LONG[2:], "--seeds", "0-3")
    launchers = [start(*options, "--workers", "1"), start(*options, "--executor", "inline")]
    until(lambda: at_work(results))
    watcher = start("--results", results, "--watch", program=("-m", "bench.status"))
    for launcher in launchers:
        assert "8/8 runs: 8 done" in output(launcher)
    assert output(watcher).splitlines()[-1] == "8/8 runs: 8 done"
    assert said(results, "attempt") == [1] * 8, "a run was computed twice"
    assert len(set(said(results, "pid"))) == 2, "one did all the work"
    assert len(Store(results).read_tables("criteria_ablation")["runs"]) == 8
