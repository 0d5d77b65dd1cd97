"""deterministic, mc_dropout and ensemble: what equals what to the bit, what a draw is, what members cost."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import bench
from bench.cli.describe_run import preview
from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.planning.plan import canonical
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.mc_dropout import Dropout, MCDropoutOptions
from tests import toys  # noqa: F401  (registers the toys)

#: What could move a member that is not in training: decay, momentum, the statistics of the toy network.
RECIPE = {"epochs": 3, "batch_size": 16, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.05, "samples": 4}


def spec(method, **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method, "dropout": 0.2}
    return parse_spec(nest(chosen | RECIPE | options))


def images(method, **options):
    chosen = {"dataset": "digits", "network": {"name": "cnn", "channels": [4, 6]}, "method": method}
    return parse_spec(nest(chosen | {"epochs": 1, "batch_size": 128, "samples": 3} | options))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs that several tests look at: each is trained once."""
    return Store(tmp_path_factory.mktemp("plain") / "results", create=True)


def trained(store, run):
    """The folder of ``run``, which is done."""
    folder = store.run(run.run_id)
    if not folder.is_done():
        assert execute(run, store, Execution()) == "done"
    return folder


def found(folder):
    """Everything that a run found, but for clock readings."""
    with np.load(folder.path / "predictions.npz") as arrays:
        predictions = {name: arrays[name].tobytes() for name in arrays.files}
    history = [row for row in folder.rows("history") if row["metric"] != "seconds"]
    return folder.read("metrics"), predictions, history


def model(folder):
    return checkpoints.load(folder.path / "model.pt")


def rows(folder, stage, split="test"):
    """Metrics of the draws of a stage."""
    chosen = [r for r in folder.read("metrics")["metrics"] if (r["stage"], r["split"]) == (stage, split)]
    return {r["metric"]: r["value"] for r in chosen if r["predictor"] == "samples"}


# -- identities --------------------------------------------------------------------------

PLAIN_TWINS = {
    "ensemble of one": ("ensemble", {"members": 1}, "0."),
    "dropout at rate 0": ("mc_dropout", {"rate": 0, "input_rate": 0}, ""),
}


@pytest.mark.parametrize("name", PLAIN_TWINS)
def test_a_twin_of_the_plain_network_has_its_bits(name, store):
    method, options, prefix = PLAIN_TWINS[name]
    plain, twin = trained(store, spec("deterministic")), trained(store, spec(method, **options))
    assert found(twin) == found(plain)
    weights = {key.removeprefix(prefix): value for key, value in model(twin).items() if key != "in_use"}
    assert weights.keys() == model(plain).keys()
    assert all(torch.equal(weights[key], value) for key, value in model(plain).items())


@pytest.mark.parametrize("name", PLAIN_TWINS)
def test_a_grid_trains_the_plain_network_in_its_place(name):
    method, options, _ = PLAIN_TWINS[name]
    target, reason = canonical(spec(method, **options))
    assert target == spec("deterministic")
    assert reason


def test_other_configurations_stand_for_themselves():
    for run in (spec("ensemble", members=2), spec("mc_dropout"), spec("mc_dropout", rate=0, input_rate=0.1)):
        assert canonical(run) == (run, None)


def test_the_plain_network_is_its_own_draw(store):
    folder = trained(store, spec("deterministic"))
    with np.load(folder.path / "predictions.npz") as arrays:
        assert arrays["samples/probabilities"].tobytes() == arrays["mean/probabilities"].tobytes()
        assert not arrays["samples/mutual_information"].any()


# -- dropout -----------------------------------------------------------------------------

UNITS = {
    # layer, inputs of two examples, the shape of what is dropped together
    "linear": (nn.Linear(6, 4), torch.randn(2, 6), (6,)),
    "tokens": (nn.Linear(6, 4), torch.randn(2, 5, 6), (6,)),
    "convolution": (nn.Conv2d(6, 4, 3), torch.randn(2, 6, 5, 5), (6, 1, 1)),
    "groups": (nn.Conv2d(6, 4, 3, groups=2), torch.randn(2, 6, 5, 5), (6, 1, 1)),
}


def dropout(name, rate=0.3):
    layer, inputs, shape = UNITS[name]
    return Dropout(layer.double(), rate), inputs.double(), shape


@pytest.mark.parametrize("name", UNITS)
def test_no_pass_but_the_mean_drops_nothing(name):
    layer, inputs, _ = dropout(name)
    assert torch.equal(layer(inputs), layer.layer(inputs))
    generator = torch.Generator().manual_seed(0)
    with passes.local_noise(generator), passes.mean():
        assert torch.equal(layer(inputs), layer.layer(inputs))


@torch.no_grad()
@pytest.mark.parametrize("name", UNITS)
def test_the_average_over_masks_is_the_mean_pass(name):
    """Within five standard errors of 4,000 draws, in every output."""
    layer, inputs, shape = dropout(name)
    generator = torch.Generator().manual_seed(1)
    outputs = []
    for _ in range(4000):
        mask = layer.sample_mask(generator)
        assert mask.shape == shape
        with passes.weights({layer: mask}):
            outputs.append(layer(inputs))
    outputs = torch.stack(outputs)
    error = outputs.std(0) / len(outputs) ** 0.5
    assert ((outputs.mean(0) - layer(inputs)).abs() < 5 * error).all()
    assert (error > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("name", UNITS)
def test_noise_is_a_mask_of_whole_units_for_each_example(name):
    """What enters the layer is recorded: each unit of an example is 0, or enlarged, in all positions."""
    layer, inputs, shape = dropout(name)
    inputs = inputs[:1].expand(3000, *inputs.shape[1:])
    entered = []
    layer.layer.register_forward_pre_hook(lambda module, given: entered.append(given[0]))
    try:
        with passes.local_noise(torch.Generator().manual_seed(2)):
            layer(inputs)
    finally:
        layer.layer._forward_pre_hooks.clear()
    mask = entered[0] / inputs
    axis = 1 if len(shape) == 3 else -1
    units = mask.movedim(axis, 1).flatten(2) if mask.dim() > 2 else mask[..., None]
    assert torch.allclose(units, units[..., :1])  # one value in all positions
    values = units[..., 0]
    assert torch.allclose(values[values > 0], torch.tensor(1 / 0.7, dtype=torch.float64))
    assert len({tuple(row.tolist()) for row in values > 0}) == 2**6  # examples have masks of their own
    dropped = (values == 0).double().mean(0)
    assert ((dropped - 0.3).abs() < 5 * (0.3 * 0.7 / 3000) ** 0.5).all()


@torch.no_grad()
def test_a_draw_is_one_set_of_masks():
    run = images("mc_dropout", rate=0.3, precision="float64")
    problem = make_problem(run)
    module = problem.build(Streams(0)).eval()
    inputs = next(problem.batches(problem.splits.test, 20))[0]

    def draws():
        return list(problem.method.draws(module, 3, torch.Generator().manual_seed(4)))

    first, second = draws(), draws()
    outputs = [draw(inputs) for draw in first]
    for draw, again, output in zip(first, second, outputs, strict=True):
        assert torch.equal(draw(inputs), output)
        assert torch.equal(again(inputs), output)
        alone = torch.cat([draw(example[None]) for example in inputs])
        torch.testing.assert_close(alone, output, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], module(inputs))


def test_which_layers_have_dropout():
    """Attention's projections too; the first layer has a rate of its own."""

    def rates(**options):
        run = images("mc_dropout", network={"name": "vit", "depth": 1, "width": 12}, **options)
        preflight.check(run)
        module = make_problem(run).build(Streams(0))
        return {name: part.rate for name, part in module.named_modules() if isinstance(part, Dropout)}

    hidden = rates(rate=0.2)
    assert "embed" not in hidden and hidden["classifier"] == 0.2
    assert {name.rpartition(".")[2] for name in hidden} >= {"query", "key", "value", "out"}
    assert rates(rate=0, input_rate=0.1) == {"embed": 0.1}
    assert rates(rate=0.2, input_rate=0.1) == {"embed": 0.1, **hidden}
    assert rates(rate=0) == {}


def test_a_rate_that_reaches_no_layer_is_refused():
    run = parse_spec(nest({"dataset": "digits", "network": "mlp", "hidden": [], "method": "mc_dropout"}))
    with pytest.raises(UserError, match=r"rate: 0\.1 is for layers after the first"):
        preflight.check(run)
    preflight.check(replace(run, method=("mc_dropout", MCDropoutOptions(rate=0.1, input_rate=0.1))))


def test_dropout_trains_with_noise_and_is_scored_by_masks(store):
    plain, folder = trained(store, images("deterministic")), trained(store, images("mc_dropout", rate=0.2))
    with np.load(folder.path / "predictions.npz") as arrays:
        assert (arrays["samples/mutual_information"] > 0).all()
        assert not arrays["mean/mutual_information"].any()
    one, other = model(plain), model(folder)
    assert not torch.equal(one["classifier.weight"], other["classifier.layer.weight"])
    costs = [f.read("costs") for f in (plain, folder)]
    for key in ("params_total", "params_active", "train_flops", "inference_flops", "epochs_total"):
        assert costs[0][key] == costs[1][key], key
    assert sum(t.nbytes for t in one.values()) == sum(t.nbytes for t in other.values())


# -- ensembles ---------------------------------------------------------------------------


def test_members_start_from_weights_of_their_own():
    problem = make_problem(spec("ensemble", members=3))
    plain = make_problem(spec("deterministic")).network(Streams(0))
    members = problem.network(Streams(0))
    assert len(members) == 3
    assert torch.equal(members[0].hidden.weight, plain.hidden.weight)
    starts = [plain.hidden.weight, members[1].hidden.weight, members[2].hidden.weight]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.isclose(starts[one], starts[other]).any()
    again = make_problem(spec("ensemble", members=5)).network(Streams(0))
    assert torch.equal(again[2].hidden.weight, members[2].hidden.weight)
    other = problem.network(Streams(0), salt="/later")
    assert not any(torch.isclose(a.hidden.weight, b.hidden.weight).any() for a in members for b in other)


def test_nothing_moves_a_member_that_is_not_in_training(store):
    """The first of three is the plain network still: weights, running statistics and what it predicts."""
    plain, folder = trained(store, spec("deterministic")), trained(store, spec("ensemble", members=3))
    stored, expected = model(folder), model(plain)
    assert "norm.running_mean" in expected
    for name, value in expected.items():
        assert torch.equal(stored[f"0.{name}"], value), name
        if value.is_floating_point():
            assert not torch.equal(stored[f"1.{name}"], value), name
    assert rows(folder, "train") == rows(plain, "train")
    # nor does a later member depend on how many follow it
    two = trained(store, spec("ensemble", members=2))
    assert all(torch.equal(value, stored[name]) for name, value in model(two).items() if name != "in_use")


def test_a_stage_is_scored_as_the_ensemble_so_far(store):
    run = spec("ensemble", members=3)
    folder, problem = trained(store, run), make_problem(run)
    module = problem.build(Streams(0))
    problem.method.unpack(module, model(folder))
    module.eval()
    assert int(module.in_use) == 3
    labels = problem.splits.test.labels
    with torch.no_grad():
        each = torch.stack([member(problem.splits.test.inputs).double().softmax(-1) for member in module])
        val = module[1](problem.splits.val.inputs).double().log_softmax(-1)
    for number, stage in enumerate(("train", "member 2", "member 3"), start=1):
        averaged = each[:number].mean(0)
        scores = rows(folder, stage)
        assert scores["nll"] == pytest.approx(-float(averaged[range(60), labels].log().mean()), rel=1e-6)
        assert scores["accuracy"] == pytest.approx(float((averaged.argmax(-1) == labels).double().mean()))
        assert (scores["mutual_information"] > 1e-6) == (number > 1)
    # the training curve is that of the member in training
    curve = [r for r in folder.rows("history") if (r["stage"], r["epoch"]) == ("member 2", 3)]
    nll = next(r["value"] for r in curve if (r["split"], r["metric"]) == ("val", "nll"))
    assert nll == pytest.approx(-float(val[range(30), problem.splits.val.labels].mean()), rel=1e-6)


def test_members_of_equal_weights_part_by_the_order_of_the_data(tmp_path, monkeypatch):
    problem_type = type(make_problem(spec("ensemble", members=2)))
    network = problem_type.network

    def equal(self, streams, salt=""):
        members = network(self, streams, salt)
        members[1].load_state_dict(members[0].state_dict())
        return members

    monkeypatch.setattr(problem_type, "network", equal)
    stored = model(trained(Store(tmp_path, create=True), spec("ensemble", members=2)))
    assert not torch.isclose(stored["0.hidden.weight"], stored["1.hidden.weight"]).all()


def test_every_member_is_stored_and_counted_and_a_pass_is_one_members(store):
    plain, folder = trained(store, spec("deterministic")), trained(store, spec("ensemble", members=3))
    one, three = plain.read("costs"), folder.read("costs")
    for key in ("params_total", "params_active", "train_flops", "epochs_total", "steps_total"):
        assert three[key] == 3 * one[key], key
    assert three["inference_flops"] == one["inference_flops"]
    assert three["density"] == 1
    bytes_of_one = sum(t.nbytes for t in model(plain).values())
    assert sum(t.nbytes for t in model(folder).values()) == 3 * bytes_of_one + 8  # and how many are in use
    for key in ("dense_vi_train_flops", "deterministic_bytes"):
        assert three[key] == one[key], key


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_draws_are_the_members_however_many_are_asked_for(samples):
    problem = make_problem(spec("ensemble", members=3))
    module = problem.build(Streams(0))
    draws = list(problem.method.draws(module, samples, torch.Generator()))
    assert draws == [module[2], module[1], module[0]]
    module.use(2)
    assert list(problem.method.draws(module, samples, torch.Generator())) == [module[1], module[0]]
    assert problem.method.mean(module) is None


def test_an_ensemble_is_looked_at_before_it_is_trained():
    run, plain = spec("ensemble", members=3), spec("deterministic")
    preflight.check(run)
    text = preview(run)
    assert "2.classifier.weight" in text and "never called" not in text
    shown, expected = (t.splitlines()[-1] for t in (text, preview(plain)))
    assert shown == expected and "for a training step" in shown
    assert "parameters: 681, 681 of them active" in text  # (8 + 1) * 16 + 2 * 16 + (16 + 1) * 3, three times


def test_the_steps_of_all_members_are_foreseen(store):
    for run in (spec("ensemble", members=3), spec("ensemble", members=2, max_steps=7), spec("deterministic")):
        assert preflight.steps(run) == trained(store, run).read("costs")["steps_total"]


# -- stored models -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "run", [images("mc_dropout", rate=0.2), images("ensemble", members=3), images("deterministic")]
)
def test_a_stored_model_predicts_as_the_run_did(run, store):
    folder = trained(store, run)
    loaded = bench.load(run.run_id, store.root)
    inputs = make_problem(run).splits.test.inputs
    with np.load(folder.path / "predictions.npz") as arrays:
        assert loaded.predict(inputs).numpy().tobytes() == arrays["samples/probabilities"].tobytes()
        if run.method[0] == "ensemble":
            with pytest.raises(UserError, match="no mean network"):
                loaded.mean(inputs)
        else:
            assert loaded.mean(inputs).numpy().tobytes() == arrays["mean/probabilities"].tobytes()


# -- compiled ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize(("method", "options"), [("mc_dropout", {"rate": 0.2}), ("ensemble", {"members": 2})])
def test_a_compiled_network_has_the_same_masks_and_members(method, options, tmp_path):
    run = images(method, **options, network={"name": "mlp", "hidden": [16, 16]})
    problem = make_problem(run)
    stage = problem.method.stages(problem.budget)[-1].name
    torch._dynamo.utils.counters.clear()
    results = []
    for name in ("plain", "compiled"):
        store = Store(tmp_path / name, create=True)
        assert execute(run, store, Execution(compile=name == "compiled")) == "done"
        results.append(rows(store.run(run.run_id), stage)["nll"])
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) == (name == "compiled")
    assert results[1] == pytest.approx(results[0], rel=1e-4)
