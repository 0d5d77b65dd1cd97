"""Pruning: what stays and what becomes of its state; the methods that prune, and rigl, which moves points."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints
from bench.training.checkpoints import CHECKPOINT
from methods.base import METHODS, Budget, Progress, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.criteria.base import CRITERIA
from methods.criteria.moments import Moments
from methods.families.prior_and_kl import kl_rise
from methods.layers import convert
from methods.layers.layer import scale_parameters, variational_layers
from methods.layers.posterior import DenseGaussian, DensePoint, Slots, SparseGaussian, SparsePoint
from methods.subspace import pruning
from tests.test_training import EVERY_EPOCH, results
from tests.test_training import spec as toy_spec

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}
KINDS = {
    "gaussian": lambda name, w: DenseGaussian(w.shape, w, torch.full_like(w, 0.1), "softplus"),
    "point": lambda name, w: DensePoint(w.shape, w),
}


def network(kind="gaussian", keep_dense=()):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    return convert.to_variational(plain, KINDS[kind], 0.0, keep_dense)


def train(module, optimiser, steps=3):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x, y = torch.randn(8, 1, 6, 6, generator=generator), torch.randint(0, 5, (8,), generator=generator)
        optimiser.zero_grad()
        with passes.local_noise(generator):
            F.cross_entropy(module(x), y).backward()
        optimiser.step()


def magnitude(posterior):
    return posterior.mean.detach().abs()


def by_coordinate(layer, optimiser):
    """Flat coordinate to parameters and optimiser state there."""
    posterior, found = layer.posterior, {}
    index = posterior.index.tolist() if isinstance(posterior, Slots) else range(posterior.shape.numel())
    for name in posterior.PARAMETERS:
        parameter = getattr(posterior, name)
        state = optimiser.state[parameter]
        columns = [
            parameter,
            *(v for v in state.values() if torch.is_tensor(v) and v.shape == parameter.shape),
        ]
        assert len(columns) > 1
        for column in columns:
            for at, value in zip(index, column.detach().reshape(-1).tolist(), strict=True):
                found.setdefault(at, []).append(value)
    return found


# -- what is pruned ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_largest_stay_with_their_state_and_are_trained_on(kind, name):
    """Twice: from dense to sparse, and from sparse to sparser."""
    module = network(kind)
    optimiser = OPTIMISERS[name](module.parameters())
    train(module, optimiser)
    for sparsity in (0.5, 0.8):
        before = {n: by_coordinate(layer, optimiser) for n, layer in pruning.prunable(module).items()}
        assert list(before) == ["2", "4"]  # not the first convolution
        quota = pruning.Room.of(module).quota("uniform", sparsity, 0.8)
        pruning.prune(module, quota, magnitude, optimiser)
        for n, layer in pruning.prunable(module).items():
            kept = sorted(before[n], key=lambda at: -abs(before[n][at][0]))[: quota[n]]
            assert layer.posterior.index.tolist() == sorted(kept)
            assert (
                layer.posterior.active
                == quota[n]
                == layer.posterior.shape.numel() - math.floor(sparsity * layer.posterior.shape.numel())
            )
            assert by_coordinate(layer, optimiser) == {at: before[n][at] for at in kept}
        now = list(module.parameters())
        held = [p for group in optimiser.param_groups for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in now} and len(held) == len(now)
        assert set(optimiser.state) == set(now)  # nothing of what is gone is left
        moved = [p.detach().clone() for p in now]
        train(module, optimiser, steps=1)
        assert all((p != q).any() for p, q in zip(module.parameters(), moved, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_network_is_the_network_with_zeros(kind):
    module = network(kind)
    zeroed = copy.deepcopy(module)
    pruning.prune(module, {"2": 20, "4": 30}, magnitude, None)
    for name, layer in pruning.prunable(module).items():
        mean = zeroed.get_submodule(name).posterior.mean
        mean.data.copy_(layer.posterior.scatter(layer.posterior.mean.detach()))
    x = torch.randn(7, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(module(x), zeroed(x))
    assert isinstance(module[2].posterior, SparsePoint if kind == "point" else SparseGaussian)


@pytest.mark.parametrize("rule", ["uniform", "erk", "global"])
def test_pruning_to_sparsity_0_changes_nothing(rule):
    module = network()
    before = [*module.parameters()]
    pruning.prune(module, pruning.Room.of(module).quota(rule, 0.0, 0.0), magnitude, None)
    assert all(p is q for p, q in zip(module.parameters(), before, strict=True))


def test_layers_ranked_together_compare_their_scores_and_keep_one_weight_at_least():
    module = network()
    with torch.no_grad():
        module[2].posterior.mean.mul_(1e-3)  # all of it below every weight of the classifier
    pruning.prune(module, 41, magnitude, None)
    assert (module[2].posterior.active, module[4].posterior.active) == (1, 40)


@pytest.mark.parametrize("rule", ["uniform", "erk", "global"])
def test_every_rule_leaves_the_same_total_whatever_was_pruned_before(rule):
    module = network()
    for sparsity in (0.13, 0.47, 0.71, 0.83):
        pruning.prune(module, pruning.Room.of(module).quota(rule, sparsity, 0.83), magnitude, None)
    left = sum(layer.posterior.active for layer in pruning.prunable(module).values())
    assert left == (108 - math.floor(0.83 * 108)) + (80 - math.floor(0.83 * 80))


def test_layers_kept_dense_are_not_pruned():
    module = network(keep_dense=("4",))
    assert list(pruning.prunable(module)) == ["2"]


def test_scores_are_those_of_the_criterion():
    posterior = network()[4].posterior
    for criterion in ("abs_mean", "snr", "snr_exp"):
        expected = CRITERIA.get(criterion)().score(Moments(posterior.mean.detach(), posterior.std))
        assert torch.equal(pruning.by_criterion(criterion)(posterior), expected)


def test_a_freshly_built_module_loads_what_was_pruned():
    module, fresh = network(), network()
    pruning.prune(module, {"2": 20, "4": 30}, magnitude, None)
    fresh.load_state_dict(module.state_dict())
    assert [fresh[n].posterior.active for n in (2, 4)] == [20, 30]
    x = torch.randn(3, 1, 6, 6)
    assert torch.equal(fresh(x), module(x))


def test_the_cubic_schedule():
    """Zhu & Gupta 2017, equation 1, with s_f = 0.9 from step 100 to step 300."""
    expected = {0: 0.0, 100: 0.0, 150: 0.9 * (1 - 0.75**3), 200: 0.9 * 0.875, 300: 0.9, 999: 0.9}
    assert {step: pruning.cubic(step, 100, 300, 0.9) for step in expected} == pytest.approx(expected)


# -- the methods -------------------------------------------------------------------------


def run(tmp_path, name="run", **options):
    """A run on digits, and its folder."""
    chosen = {"dataset": "digits", "network": "mlp", "network.hidden": [32], "epochs": 4, "batch_size": 128}
    spec = parse_spec(nest(chosen | options))
    store = Store(tmp_path / name, create=True)
    assert execute(spec, store, Execution()) == "done"
    return spec, store.run(spec.run_id)


PRUNED = [
    {"method": "magnitude_vi", "prune_every": 3},
    {"method": "magnitude_vi", "pruning": "one_shot"},
    {"method": "snr_vi", "allocation": "global", "prune_every": 5},
    {"method": "snr_vi", "pruning": "one_shot", "allocation": "erk"},
    {"method": "lottery_ticket", "allocation": "global", "epochs": 2, "level_share": 0.4},
    {"method": "lottery_ticket", "rewind_to": 1, "epochs": 2, "level_share": 0.5, "optimiser": "adam"},
    {"method": "rigl", "allocation": "erk", "replace_every": 3},
    {"method": "rigl", "growth": "random", "replace_every": 3},
]


@pytest.mark.parametrize("options", PRUNED, ids=str)
def test_what_is_left_is_what_was_asked_for_and_all_that_is_stored(options, tmp_path):
    spec, folder = run(tmp_path, sparsity=0.95, **options)
    kernels = (64 * 32, 32 * 10)
    active = sum(n - math.floor(0.95 * n) for n in kernels)
    costs = folder.read("costs")
    assert costs["params_active"] == active + 32 + 10
    assert costs["density"] == active / sum(kernels)
    packed = checkpoints.load(folder.path / "model.pt")
    values = [t for name, t in packed.items() if name.endswith("posterior.mean")]
    assert sum(t.numel() for t in values) == active
    problem = make_problem(spec)
    module = problem.build(Streams(0))
    problem.method.unpack(module, packed)
    assert all(isinstance(layer.posterior, Slots) for layer in pruning.prunable(module).values())
    assert costs["execution"] in ("sparse", "mixed", "dense")
    stages = folder.read("metrics")["stages"]
    assert stages[-1]["density"] == costs["density"]
    assert stages[-1]["train_flops"] == costs["train_flops"]


@pytest.mark.parametrize("method", ["magnitude_vi", "snr_vi", "lottery_ticket"])
def test_without_sparsity_they_are_dense_vi_to_the_bit(method, tmp_path):
    pair = [toy_spec("dense_vi"), toy_spec(method, sparsity=0.0)]
    store = Store(tmp_path, create=True)
    for each in pair:
        assert execute(each, store, EVERY_EPOCH) == "done"
    first, second = (results(store, each) for each in pair)
    assert first == second
    same = METHODS.get(method).equivalent(pair[1].method[1])
    assert same is not None and same.method == "dense_vi"


def test_a_dense_phase_is_counted_where_it_was_spent(tmp_path):
    """One-shot: 3 of 4 epochs at the cost of dense VI, one at a twentieth of it."""
    _, folder = run(tmp_path, method="magnitude_vi", sparsity=0.95, pruning="one_shot")
    examples, (first, last) = 1097, folder.read("metrics")["stages"]
    dense = examples * 2 * 6 * (64 * 32 + 32 * 10)
    assert (first["epochs_total"], last["epochs_total"]) == (3, 4)
    assert first["train_flops"] == 3 * dense
    assert last["train_flops"] - first["train_flops"] == pytest.approx(dense * last["density"])
    assert first["density"] == 1


def test_cubic_pruning_costs_what_its_density_says(tmp_path):
    _, folder = run(
        tmp_path, method="snr_vi", sparsity=0.9, prune_every=1, prune_from=0, prune_until=0.5, epochs=10
    )
    costs = folder.read("costs")
    # the mean of (1 - s_t) over the first half is 1 - 3/4 s_f
    expected = 0.5 * (1 - 0.75 * 0.9) + 0.5 * 0.1
    assert costs["train_flops"] / costs["dense_vi_train_flops"] == pytest.approx(expected, abs=0.02)


def test_levels_of_a_lottery_ticket(tmp_path):
    """Each trained from the survivors' initial values, nested, a fifth of the weights gone each time."""
    method = METHODS.get("lottery_ticket")(METHODS.get("lottery_ticket").Options(sparsity=0.6))
    stages = method.stages(Budget(3, 10))
    assert [stage.name for stage in stages] == [
        "train",
        "level 1",
        "level 2",
        "level 3",
        "level 4",
        "level 5",
    ]
    assert method.sparsities == pytest.approx([0, 0.2, 0.36, 0.488, 0.5904, 0.6])
    assert {stage.epochs for stage in stages} == {3}
    streams = Streams(0)
    module = method.build(network_for_tickets(), streams, TASK)
    initial = {name: value.clone() for name, value in module.state_dict().items()}
    sets = [set(range(64 * 32))]
    for stage in stages[1:]:
        optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
        inputs, labels = torch.randn(64, 64), torch.arange(64) % 10
        F.cross_entropy(module(inputs), labels).backward()
        optimiser.step()
        trained = module[0].posterior.mean.detach()
        ranking = trained.abs().reshape(-1).argsort()
        before = sorted(sets[-1])
        method.rewind(module, initial, stage)
        posterior = module[0].posterior
        sets.append(set(posterior.index.tolist()))
        assert sets[-1] < sets[-2]
        assert sets[-1] == {before[at] for at in ranking[-posterior.active :].tolist()}
        at = posterior.index.long()
        assert torch.equal(posterior.mean, initial["0.posterior.mean"].view(-1)[at])
        assert torch.equal(posterior.rho, initial["0.posterior.rho"].view(-1)[at])
        assert torch.equal(module[2].bias, initial["2.bias"])
    assert len(sets[-1]) == 2048 - math.floor(0.6 * 2048)


TASK = Task((64,), 10, 100)


def network_for_tickets():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def test_levels_have_rows_of_their_own_and_cumulative_costs(tmp_path):
    _, folder = run(tmp_path, method="lottery_ticket", sparsity=0.5, epochs=1, level_share=0.3)
    document = folder.read("metrics")
    stages = document["stages"]
    assert [row["stage"] for row in stages] == ["train", "level 1", "level 2"]
    assert [row["epochs_total"] for row in stages] == [1, 2, 3]
    spent = [row["train_flops"] for row in stages]
    assert spent[1] - spent[0] == pytest.approx(spent[0] * stages[1]["density"])
    assert spent[2] - spent[1] == pytest.approx(spent[0] * 0.5, rel=1e-3)
    scored = {(row["stage"], row["split"]) for row in document["metrics"]}
    assert scored == {(row["stage"], split) for row in stages for split in ("val", "test")}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "magnitude_vi", "prune_every": 2, "prune_from": 0.4},
        {"method": "snr_vi", "pruning": "one_shot", "prune_until": 0.4, "optimiser": "adam", "lr": 0.01},
        {"method": "lottery_ticket", "rewind_to": 1, "level_share": 0.5, "epochs": 2},
        {"method": "rigl", "replace_every": 2},
    ],
    ids=str,
)
def test_stopped_anywhere_and_resumed_equals_uninterrupted(options, tmp_path):
    """Within stages, between them, and where a checkpoint holds layers that are built dense."""
    spec = toy_spec(**{"sparsity": 0.8, **options})
    whole, sliced = Store(tmp_path / "whole", create=True), Store(tmp_path / "sliced", create=True)
    assert execute(spec, whole, EVERY_EPOCH) == "done"
    sizes, attempts = [], 0
    for patience in [1, 7, 7, 6, 8, 13, 7, 6, 1000]:
        asked = iter(range(patience))
        outcome = execute(spec, sliced, EVERY_EPOCH, stop=lambda asked=asked: next(asked, None) is None)
        attempts += 1
        path = sliced.run(spec.run_id).path / CHECKPOINT
        if outcome == "done":
            break
        if path.exists():
            state = checkpoints.load(path)["module"]
            sizes.append(sum(v.numel() for k, v in state.items() if k.endswith("mean") and "norm" not in k))
    assert attempts > 3 and outcome == "done"
    if options["method"] != "rigl":
        assert max(sizes) == 8 * 16 + 16 * 3 and min(sizes) < max(sizes)  # checkpoints shrank with the model
    assert results(whole, spec) == results(sliced, spec)


def test_the_last_level_keeps_no_dense_weights_in_its_checkpoint(tmp_path):
    spec = toy_spec("lottery_ticket", sparsity=0.75, level_share=0.5, epochs=2)
    store = Store(tmp_path, create=True)
    asked = iter(range(6 * 5 + 1))  # six steps an epoch: into the second epoch of the last level
    assert execute(spec, store, EVERY_EPOCH, stop=lambda: next(asked, None) is None) == "preempted"
    state = checkpoints.load(store.run(spec.run_id).path / CHECKPOINT)
    assert (state["stage_index"], state["epoch"]) == (2, 2)
    assert state["rewind_points"] == {}
    numbers = sum(v.numel() for k, v in state["module"].items() if "posterior" in k)
    assert numbers == 3 * (32 + 12)


def test_fine_tuning_has_the_kl_at_full_weight():
    method = METHODS.get("magnitude_vi")(METHODS.get("magnitude_vi").Options(pruning="one_shot"))
    noise = torch.Generator()
    assert kl_rise(method.options, Progress("finetune", 1, 10, 1, 100, 50, noise)) == 1
    assert kl_rise(method.options, Progress("train", 1, 10, 1, 100, 50, noise)) == pytest.approx(0.2)


def test_options_that_do_not_fit_are_refused():
    chosen = {"dataset": "digits", "network": "mlp"}
    from bench.experiment import preflight

    for options, words in [
        ({"method": "magnitude_vi", "prune_from": 0.9}, "prune_from: 0.9 comes after prune_until, 0.75"),
        ({"method": "magnitude_vi", "pruning": "one_shot", "epochs": 1}, "needs at least two epochs"),
        ({"method": "lottery_ticket", "rewind_to": 9, "epochs": 5}, "rewind_to: 9 comes after the 5 epochs"),
    ]:
        with pytest.raises(UserError, match=words):
            preflight.check(parse_spec(nest({**chosen, **options})))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "magnitude_vi", "prune_every": 4},
        {"method": "magnitude_vi", "prune_every": 7, "prune_from": 0.0, "prune_until": 1.0},
        {"method": "snr_vi", "pruning": "one_shot", "allocation": "erk"},
        {"method": "lottery_ticket", "level_share": 0.4, "epochs": 2},
        {"method": "lottery_ticket", "level_share": 0.4, "level_length": 0.3},
        {"method": "rigl", "replace_every": 4},
    ],
    ids=str,
)
def test_training_flops_are_known_before_training(options, tmp_path):
    spec, folder = run(tmp_path, sparsity=0.9, **options)
    problem = make_problem(spec)
    planned = problem.method.training_flops(problem.build(Streams(0)), problem.budget)
    counted = folder.read("costs")["train_flops"] / problem.task.examples
    assert planned == pytest.approx(counted, rel=1e-9)


@pytest.mark.parametrize("method", ["magnitude_vi", "snr_vi", "lottery_ticket", "rigl", "ssvi"])
def test_ranked_together_training_costs_no_more_than_planned(method, tmp_path):
    """On a network whose early weights are used often and, of few inputs, are large: they stay."""
    chosen = {
        "dataset": "digits", "network": "resnet18", "network.width": 4, "network.blocks": [1, 1, 1],
        "epochs": 2, "batch_size": 256,
    }  # fmt: skip
    if method == "lottery_ticket":
        chosen["level_share"] = 0.5
    spec = parse_spec(nest({**chosen, "method": method, "sparsity": 0.7, "allocation": "global"}))
    store = Store(tmp_path, create=True)
    assert execute(spec, store, Execution()) == "done"
    folder = store.run(spec.run_id)
    problem = make_problem(spec)
    planned = problem.method.training_flops(problem.build(Streams(0)), problem.budget)
    assert folder.read("costs")["train_flops"] / problem.task.examples <= planned * (1 + 1e-9)


@pytest.mark.parametrize("sparsity", [0.55, 0.6])
def test_layers_that_exchange_weights_are_resumed_as_they_were_computed(sparsity, tmp_path):
    """A layer may cross the density from which kernels gain, which decides anew, and from the state alone."""
    chosen = {"dataset": "digits", "network": "mlp", "network.hidden": [256, 256], "batch_size": 128}
    options = {
        "method": "rigl",
        "sparsity": sparsity,
        "allocation": "global",
        "replace_every": 3,
        "epochs": 5,
    }
    spec = parse_spec(nest({**chosen, **options}))
    whole, sliced = Store(tmp_path / "whole", create=True), Store(tmp_path / "sliced", create=True)
    assert execute(spec, whole, EVERY_EPOCH) == "done"
    asked = iter(range(9 * 3 + 2))
    assert execute(spec, sliced, EVERY_EPOCH, stop=lambda: next(asked, None) is None) == "preempted"
    assert execute(spec, sliced, EVERY_EPOCH) == "done"
    assert results(whole, spec) == results(sliced, spec)
    ways = [store.run(spec.run_id).read("costs")["layers_run"] for store in (whole, sliced)]
    assert ways[0] == ways[1]


def test_what_will_be_pruned_is_not_said_to_stay():
    module = METHODS.get("magnitude_vi")().build(network_for_tickets(), Streams(0), TASK)
    assert {layer.why_dense for layer in variational_layers(module)} == {"pruned in training"}


# -- rigl --------------------------------------------------------------------------------


def test_rigl_that_replaces_nothing_is_a_static_sparse_network():
    """Against plain torch: dense weights with a mask on weights and gradients."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
    method = METHODS.get("rigl")(METHODS.get("rigl").Options(sparsity=0.8, replace_fraction=0.0))
    module = method.build(copy.deepcopy(plain), Streams(3), TASK)
    masks = []
    for at in (0, 2):
        posterior = module[at].posterior
        masks.append(posterior.scatter(torch.ones_like(posterior.mean)).detach())
        plain[at].weight.data.mul_(masks[-1]).div_((posterior.active / posterior.shape.numel()) ** 0.5)
    optimisers = [
        torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3) for m in (module, plain)
    ]
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        x = torch.randn(16, 64, generator=generator, dtype=torch.float64)
        y = torch.randint(0, 10, (16,), generator=generator)
        for network, optimiser in zip((module, plain), optimisers, strict=True):
            optimiser.zero_grad()
            F.cross_entropy(network(x), y).backward()
            if network is plain:
                for at, mask in zip((0, 2), masks, strict=True):
                    network[at].weight.grad.mul_(mask)
            optimiser.step()
    for at in (0, 2):
        posterior = module[at].posterior
        torch.testing.assert_close(posterior.scatter(posterior.mean.detach()), plain[at].weight.detach())


def test_rigl_removes_the_smallest_and_adds_the_largest_gradients_at_zero(tmp_path):
    _, folder = run(
        tmp_path, method="rigl", sparsity=0.9, replace_every=5, replace_fraction=0.5, readmit=False
    )
    rows = folder.rows("layers")
    moved = [row for row in rows if row["replaced"]]
    assert moved and all(row["removed_q90"] <= row["kept_q10"] for row in moved)
    assert all(row["added_q90"] == 0 for row in moved)
    assert all(row["slots"] == {"fc1": 205, "classifier": 32}[row["layer"]] for row in rows)
    assert folder.read("costs")["events"]["dense_gradient"] == len(rows) / 2


def test_rigl_has_one_network_to_predict_with(tmp_path):
    spec, folder = run(tmp_path, method="rigl", sparsity=0.9, epochs=15, batch_size=32)
    problem = make_problem(spec)
    module = problem.build(Streams(0))
    assert len(list(problem.method.draws(module, 10, torch.Generator()))) == 1
    assert not scale_parameters(module)
    rows = {
        (r["predictor"], r["metric"]): r["value"]
        for r in folder.read("metrics")["metrics"]
        if r["split"] == "test"
    }
    assert rows["samples", "nll"] == rows["mean", "nll"]
    assert rows["samples", "accuracy"] > 0.8
