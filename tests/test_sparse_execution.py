"""Runs whose sparse layers are computed by kernels: what is recorded, and what stays the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bench
from bench.cli.entry import BAD_INPUT
from bench.experiment.execution import Execution, stopped_otherwise
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.run import main as run_command
from bench.runner.execute import execute
from bench.training.checkpoints import CHECKPOINT
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.layers import execution
from methods.layers.posterior import DenseGaussian, SparseGaussian

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "dataset": "digits",
    "epochs": 2,
    "samples": 2,
    "replace_every": 5,
    "method": "ssvi",
    "sparsity": 0.9,
}


def spec(**changed):
    chosen = {"network": "mlp", **SMALL, **changed}
    if chosen["method"] != "ssvi":
        del chosen["replace_every"]
    if chosen["method"] == "dense_vi":
        del chosen["sparsity"]
    return parse_spec(nest(chosen))


def computed(root, chosen, **how):
    store = Store(root, create=True)
    assert execute(chosen, store, Execution(**how)) == "done", store.run(chosen.run_id).read("status")
    return store.run(chosen.run_id)


def predictions(run):
    return dict(np.load(run.path / "predictions.npz"))


# -- what is recorded -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "method", "expected"),
    [("auto", "ssvi", "sparse"), ("sparse", "static_vi", "sparse"), ("dense", "ssvi", "dense"),
     ("auto", "dense_vi", "dense"), ("sparse", "dense_vi", "dense")],
)  # fmt: skip
def test_a_run_says_how_its_layers_were_computed(mode, method, expected, tmp_path):
    run = computed(tmp_path, spec(method=method), mode=mode)
    costs = run.read("costs")
    assert costs["execution"] == expected
    assert set(costs["layers_run"]) == {"fc1", "fc2", "classifier"}
    assert all(way.startswith(expected) for way in costs["layers_run"].values())
    assert run.read("provenance")["mode"] == mode


def test_a_layer_with_all_weights_is_torchs_where_that_is_faster_and_the_kernels_where_not():
    """The first convolution has few inputs an output; the classifier that stays dense has thousands."""
    wide = spec(network={"name": "mlp", "hidden": [2048]}, keep_dense=["classifier"])
    module = make_problem(wide).build(Streams(0))
    assert (
        execution.report(module)["classifier"]
        == "dense: torch is faster at density 1 and 2048 inputs an output"
    )
    module = make_problem(spec(network="cnn")).build(Streams(0))
    assert isinstance(module.conv1.posterior, DenseGaussian)
    assert execution.report(module)["conv1"] == "sparse"


def test_where_some_sparse_layers_have_no_kernel_the_execution_is_mixed():
    module = make_problem(spec(sparsity=0.2, network={"name": "mlp", "hidden": [2048, 2048]})).build(
        Streams(0)
    )
    ways = execution.report(module)
    assert ways["fc1"] == "sparse" and ways["fc2"].startswith("dense: torch is faster at density 0.8")
    assert execution.summary(module) == "mixed"


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precisions_that_kernels_do_not_know_are_computed_densely(precision, capsys, tmp_path):
    module = make_problem(spec(precision=precision)).build(Streams(0))
    reason = f"dense: kernels are for float32, not for {precision}"
    assert set(execution.report(module).values()) == {reason}
    with pytest.raises(UserError, match=f"no kernels for precision {precision}; valid: float32, tf32"):
        run_command(
            [
                "--set",
                f"method=ssvi,precision={precision}",
                "--execution",
                "sparse",
                "--results",
                str(tmp_path),
            ]
        )
    assert not list(tmp_path.iterdir())


# -- what stays the same ----------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_threads_change_no_bit(network, tmp_path):
    chosen = spec(network=network, epochs=1, replace_every=3)
    found = [
        predictions(computed(tmp_path / str(threads), chosen, threads=threads, mode="sparse"))
        for threads in (1, 2, 3)
    ]
    for other in found[1:]:
        assert all(np.array_equal(found[0][key], other[key]) for key in other)


def test_sparse_and_dense_execution_differ_as_seeds_of_the_noise_do(tmp_path):
    chosen = spec(epochs=20, sparsity=0.95)
    scores = {}
    for mode in ("dense", "sparse"):
        rows = computed(tmp_path / mode, chosen, mode=mode).read("metrics")["metrics"]
        where = {"split": "test", "predictor": "samples"}
        scores[mode] = {r["metric"]: r["value"] for r in rows if where.items() <= r.items()}
    assert scores["sparse"]["accuracy"] == pytest.approx(scores["dense"]["accuracy"], abs=0.03)
    assert scores["sparse"]["nll"] == pytest.approx(scores["dense"]["nll"], abs=0.08)


def test_a_loaded_model_predicts_what_the_run_did(tmp_path):
    run = computed(tmp_path, spec(network="cnn"))
    model = bench.load(run.run_id, tmp_path)
    problem = make_problem(spec(network="cnn"))
    found = model.predict(problem.splits.test.inputs)
    assert np.array_equal(np.float32(found), predictions(run)["samples/probabilities"])


def test_a_loaded_model_is_computed_as_the_run_was(tmp_path):
    run = computed(tmp_path, spec(), mode="dense")
    assert execution.summary(bench.load(run.run_id, tmp_path).module) == "dense"
    assert (
        execution.summary(bench.load(computed(tmp_path / "b", spec()).run_id, tmp_path / "b").module)
        == "sparse"
    )


def test_inputs_of_another_shape_are_refused_as_torch_does(tmp_path):
    model = bench.load(computed(tmp_path, spec()).run_id, tmp_path)
    for shape in ((2, 1, 16, 16), (2, 1, 4, 4)):
        with pytest.raises(RuntimeError, match="for a layer that takes 64 channels or features"):
            model.module(torch.zeros(shape))


def test_channels_last_changes_no_gradient():
    """Parameters of images' layers then lie otherwise, and kernels read memory."""
    chosen = spec(network="cnn", dataset="fashion_mnist_sample", method="static_vi")
    x, found = torch.randn(4, 1, 28, 28), []
    for channels_last in (False, True):
        module = make_problem(chosen, Execution(channels_last=channels_last)).build(Streams(0))
        with passes.local_noise(torch.Generator().manual_seed(0)):
            module(x).square().sum().backward()
        found.append([p.grad.contiguous() for p in module.parameters()])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_a_dry_run_tells_of_the_execution_that_is_asked_for(capsys):
    chosen = ["--set", "method=ssvi,network=lenet5", "--dry-run"]
    for how, told in (("dense", "5 layers dense: asked for"), ("auto", "5 layers sparse")):
        assert run_command([*chosen, "--execution", how]) == 0
        assert f"execution: {told}" in capsys.readouterr().out


def test_a_checkpoint_of_another_execution_is_not_gone_on_with(tmp_path):
    """Its random numbers can't be continued."""
    chosen = spec(epochs=4)
    expected = predictions(computed(tmp_path / "whole", chosen, mode="dense"))
    store, asked = Store(tmp_path / "cut", create=True), iter([False] * 60 + [True] * 10**6)
    how = Execution(mode="sparse", checkpoint_seconds=0.0)
    assert execute(chosen, store, how, stop=lambda: next(asked)) == "preempted"
    assert (store.run(chosen.run_id).path / CHECKPOINT).exists()
    assert stopped_otherwise(store.run(chosen.run_id), "dense")
    assert not stopped_otherwise(store.run(chosen.run_id), "sparse")
    assert execute(chosen, store, Execution(mode="dense")) == "done"
    assert not stopped_otherwise(store.run(chosen.run_id), "sparse")
    found = predictions(store.run(chosen.run_id))
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


# -- without kernels --------------------------------------------------------------------------


#: Runs each line of its arguments as a command, and says on stderr how it ended.
COMMANDS = """
import shlex, sys
from bench.cli.entry import entry
from bench.run import main
for words in map(shlex.split, sys.argv[1:]):
    try:
        entry(lambda: main(words))
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    print(f"ended with {status}", file=sys.stderr)
"""


def test_a_machine_without_kernels_says_so_once_and_computes_densely(tmp_path):
    """And is told so where they are asked for."""
    settings = "method=ssvi,dataset=digits,network=mlp,epochs=1,samples=1"
    lines = [
        f"--results {tmp_path / name} --set {settings} {asked}"
        for name, asked in (("asked", "--execution dense"), ("needed", "--execution sparse"), ("auto", ""))
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *lines],
        capture_output=True, text=True, env=os.environ | {"ATEN_CPU_CAPABILITY": "default"}, cwd=ROOT,
        timeout=200,
    )  # fmt: skip
    reason = (
        "sparse kernels need Linux and AVX2 or AVX-512, not Linux and DEFAULT (ATEN_CPU_CAPABILITY=default)"
    )
    asked, refused, needed, note, auto = done.stderr.splitlines()
    assert (asked, needed, auto) == ("ended with 0", f"ended with {BAD_INPUT}", "ended with 0")
    assert refused.startswith("error: --execution sparse: sparse kernels need")
    assert note == f"note: every layer is computed densely: {reason}"
    (run,) = (tmp_path / "auto" / "runs").iterdir()
    assert Store(tmp_path / "auto").run(run.name).read("costs")["execution"] == "dense"


# -- how many images at once ------------------------------------------------------------------


def test_evaluation_takes_as_many_images_at_once_as_suit_the_caches():
    sizes = {}
    for network in ("mlp", "cnn", {"name": "cnn", "channels": [2048]}, {"name": "mlp", "hidden": [200_000]}):
        problem = make_problem(spec(network=network, method="static_vi"))
        sizes[str(network)] = problem.evaluation_batch(problem.build(Streams(0)))
    assert list(sizes.values()) == [256, 256, 16, 16]


# -- variances and KL -------------------------------------------------------------------------


@pytest.mark.parametrize("scale_map", ["softplus", "exp"])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 40_001])
def test_variances_and_kl_by_kernels_are_those_of_float64(scale_map, size):
    rho = torch.linspace(-40, 20 if scale_map == "softplus" else 3, size)
    index, mean = torch.arange(size), torch.randn(size, generator=torch.Generator().manual_seed(0))
    fused, exact = (
        SparseGaussian(torch.Size((size,)), index, mean.to(dtype), torch.ones(size, dtype=dtype), scale_map)
        for dtype in (torch.float32, torch.float64)
    )
    fused.fused = True
    weights = torch.randn(size, generator=torch.Generator().manual_seed(1))
    found = []
    for posterior in (fused, exact):
        with torch.no_grad():
            posterior.rho.copy_(rho)
        dtype = posterior.rho.dtype
        variance, kl = posterior.variance, posterior.kl(0.1)
        (by_variance,) = torch.autograd.grad((variance * weights.to(dtype)).sum(), posterior.rho)
        gradients = torch.autograd.grad(3 * kl, [posterior.mean, posterior.rho])
        found.append([t.double() for t in (variance, kl, by_variance, *gradients)])
    for ours, reference in zip(*found, strict=True):
        # d KL / d rho cancels where the scale is that of the prior
        torch.testing.assert_close(
            ours, reference, rtol=2e-6, atol=1e-30 if reference is not found[1][4] else 2e-5
        )


def test_kl_by_kernels_changes_no_bit_with_threads_and_passes_nan_on():
    size = 100_000
    mean = torch.randn(size, generator=torch.Generator().manual_seed(0))
    posterior = SparseGaussian(
        torch.Size((size,)), torch.arange(size), mean, torch.full((size,), 0.02), "softplus"
    )
    posterior.fused = True
    before, values = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            values.append(posterior.kl(0.1).item())
    finally:
        torch.set_num_threads(before)
    assert len(set(values)) == 1
    with torch.no_grad():
        posterior.rho[5] = float("nan")
    assert posterior.kl(0.1).isnan() and posterior.variance.isnan().sum() == 1
