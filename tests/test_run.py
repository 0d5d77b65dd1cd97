"""``bench.run``: one cell in this process."""

from __future__ import annotations

import os
import signal

import pytest

from bench import run
from bench.cli.entry import entry
from bench.results import claims
from bench.results.store import Store
from bench.results.tables.metrics_reader import VIEW
from methods.base import METHODS
from tests import toys
from tests.run_folders import config, run_files, write_run

TOY = "dataset=toy_blobs,network=toy_network,method=ssvi,epochs=1,batch_size=16"


@pytest.fixture
def call(tmp_path, capsys):
    """Call the command like a process; return exit status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            entry(lambda: run.main([*arguments, "--results", str(tmp_path / "results")]))
        return caught.value.code, *capsys.readouterr()

    return call


def only_run(tmp_path):
    store = Store(tmp_path / "results")
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    return store, store.run(folder.name)


def test_a_run_is_computed_once_and_again_by_force(call, tmp_path):
    assert call("--set", TOY)[0] == 0
    _, folder = only_run(tmp_path)
    before = (folder.path / "metrics.json").stat().st_mtime_ns
    status, out, _ = call("--set", TOY)
    assert status == 0 and "is done already" in out
    assert (folder.path / "metrics.json").stat().st_mtime_ns == before
    status, out, _ = call("--set", TOY, "--force")
    assert status == 0 and "is done already" not in out
    assert (folder.path / "metrics.json").stat().st_mtime_ns > before


def test_scores_are_one_short_table(tmp_path, capsys):
    files = run_files(config(), stages=("search", "final"))
    last = next(r for r in files["metrics"]["metrics"] if (r["stage"], r["metric"]) == ("final", "nll"))
    last["value"] = None  # the NLL where a label was given probability 0
    store = Store(tmp_path, create=True)
    run.print_scores(store.run(write_run(tmp_path, files)))
    head, *lines, end = capsys.readouterr().out.splitlines()[1:]
    assert head.split() == ["predictor", "part", *VIEW]
    assert len(lines) == 4 * 2  # of the last stage: four predictors on two parts
    assert lines[0].split()[:2] == ["mean", "val"] and lines[0].split()[3] == "–"
    assert lines[-1].split()[:3] == ["samples+temperature", "test", "0.9450"]
    assert max(map(len, lines)) <= 110 and end.endswith("metrics.json")


def test_a_run_that_another_process_is_at_is_left_alone(call, tmp_path):
    call("--set", TOY)
    _, folder = only_run(tmp_path)
    claim = claims.acquire(folder)
    rows = (folder.path / "history.jsonl").read_bytes()
    status, _, err = call("--set", TOY, "--force")
    assert status == 2
    assert err.startswith(f"error: run {folder.run_id}: process ") and err.endswith(" computes it already\n")
    assert (folder.path / "history.jsonl").read_bytes() == rows
    claim.release()
    assert call("--set", TOY)[0] == 0


def test_the_claim_is_given_up_in_the_end(call, tmp_path):
    call("--set", TOY)
    _, folder = only_run(tmp_path)
    assert claims.holder(folder) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_goes_on_by_the_same_command(number, tmp_path, capfd, monkeypatch):
    def told(self, context):
        if context.progress.step == 4 and not told.done:
            told.done = True
            os.kill(os.getpid(), number)

    told.done = False
    monkeypatch.setattr(METHODS.get("ssvi"), "after_step", told)
    before = signal.getsignal(number)
    command = ["--set", TOY, "--results", str(tmp_path / "results")]
    assert run.main(command) == 128 + number
    out, err = capfd.readouterr()
    assert signal.getsignal(number) is before
    _, folder = only_run(tmp_path)
    assert out == (
        f"{folder.run_id} preempted: stopped by {number.name}\n"
        "at step 4 of 6 of stage 'train'; the same command goes on from there\n"
    )
    assert err == (
        "stopping at the next step; Ctrl-C once more ends it at once\n" if number == signal.SIGINT else ""
    )
    assert run.main(command) == 0
    assert folder.read("costs")["steps_total"] == 6 and folder.read("status")["attempt"] == 2


def test_a_second_ctrl_c_ends_it_at_once(tmp_path, monkeypatch):
    def told(self, context):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(METHODS.get("ssvi"), "after_step", told)
    with pytest.raises(KeyboardInterrupt):
        run.main(["--set", TOY, "--results", str(tmp_path / "results")])
    _, folder = only_run(tmp_path)
    assert (folder.status(), folder.read("status")["error"]) == ("preempted", "interrupted")
    assert claims.holder(folder) is None


def test_a_damaged_folder_is_set_aside_and_run_again(call, tmp_path):
    call("--set", TOY)
    _, folder = only_run(tmp_path)
    (folder.path / "metrics.json").unlink()
    status, out, _ = call("--set", TOY)
    assert status == 0
    assert f"run {folder.run_id} was moved to " in out
    assert (folder.path / "metrics.json").exists()


def test_a_dry_run_needs_no_data(call, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    status, out, err = call("--set", "dataset=cifar100,network=cnn", "--dry-run")
    assert (status, err) == (2, "") and "100x64" in out and "\ncannot start: data set cifar100: " in out


def test_a_layer_that_is_called_and_read_is_left_as_it_is(call, monkeypatch):
    class Reading(toys.Small):
        def forward(self, x):
            return super().forward(x.to(self.hidden.weight.dtype))

    monkeypatch.setattr(toys.SmallNetwork, "build", lambda self, task: Reading(8, task.classes))
    status, out, _ = call("--set", TOY)
    assert status == 0 and "failed" not in out


def test_a_dry_run_shows_every_parameter_and_trains_nothing(call, tmp_path):
    settings = f"{TOY},sparsity=0.5,keep_dense=[classifier]"
    status, out, err = call("--set", settings, "--dry-run")
    assert (status, err) == (0, "")
    assert not (tmp_path / "results").exists()
    start = next(at for at, line in enumerate(out.splitlines()) if line.startswith("hidden.weight"))
    table = {line.split()[0]: line.split(maxsplit=5)[1:] for line in out.splitlines()[start : start + 6]}
    assert table == {
        "hidden.weight": ["16x8", "128", "sparse", "64"],
        "hidden.bias": ["16", "16", "deterministic", "16"],
        "norm.weight": ["16", "16", "deterministic", "16"],
        "norm.bias": ["16", "16", "deterministic", "16"],
        "classifier.weight": ["3x16", "48", "dense", "48", "keep_dense names it"],
        "classifier.bias": ["3", "3", "deterministic", "3"],
    }
    assert "parameters: 227, 163 of them active" in out
    assert "density: 0.636364 (112 of 176 kernel weights)" in out
    assert "FLOPs per example: 224 for inference, 1,344 for a training step" in out
    call("--set", settings)
    _, folder = only_run(tmp_path)
    assert out.startswith(f"run {folder.run_id}: ssvi on toy_network, toy_blobs, seed 0\n")
    costs = folder.read("costs")
    assert (costs["params_total"], costs["params_active"], costs["inference_flops"]) == (227, 163, 224)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "keep_dense=[fc9]"], "keep_dense: 'fc9' matches no sparsifiable layer; there are: fc1, "),
        (
            ["--set", "network=torchvision,network.model=resnet19"],
            "unknown model 'resnet19' (did you mean 'resnet18'?)",
        ),
        (
            ["--set", "network=torchvision,network.model=vgg11"],
            "network torchvision: does not take inputs of 1x8x8: ",
        ),
        (["--threads", "0"], "'0' is not a positive whole number"),
        (["--set", "sparsity=1"], r"sparsity: 1.0 lies outside [0, 1)"),
        (["--set", "network=cnn", "--set", "network.channels=[]"], "needs at least one convolution"),
        (["--set", "network.hidden=[1099511627776]"], "network mlp: cannot be built: "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(call, tmp_path, arguments, words):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "results").exists()
