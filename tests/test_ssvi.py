"""SSVI's invariants (subspace of fixed size, schedule, initialisation of new slots) in real training."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from methods.base import METHODS, Budget, Context, Progress, Stage, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.families.variational import SparseOptions, VariationalOptions
from methods.layers.layer import sparse_layers, variational_layers
from methods.layers.scale_maps import SCALE_MAPS
from methods.ssvi import ADDITIONS, SSVI, SSVIOptions
from methods.static_vi import StaticVI
from methods.subspace import surgery

TASK = Task((12,), 4, examples=96)
STEPS = 40


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 4))


def batches(n, seed=1, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    for _ in range(n):
        labels = torch.randint(0, 4, (16,), generator=g)
        yield (
            torch.randn(16, 12, generator=g, dtype=dtype) + 2 * torch.eye(4, 12, dtype=dtype)[labels],
            labels,
        )


class Session:
    """The loop's part of the contract, in a few lines."""

    def __init__(self, method, steps=STEPS, lr=0.05, optimiser=None, dtype=torch.float32):
        self.method, self.steps = method, steps
        self.streams = Streams(0)
        self.module = method.build(network().to(dtype), self.streams, TASK)
        groups = [{"params": list(self.module.parameters()), "lr": lr}]
        self.optimiser = optimiser(groups) if optimiser else torch.optim.SGD(groups, momentum=0.9)
        self.rows = []
        progress = Progress("train", 1, 10, 0, steps, TASK.examples, self.streams["noise"])
        self.context = Context(
            self.module,
            self.optimiser,
            self.streams,
            TASK,
            progress,
            {},
            lambda t, r: self.rows.append((t, r)),
        )
        method.enter_stage(self.context, Stage("train", 10))

    def step(self, batch):
        context = self.context
        context.begin_step(batch, context.progress.step + 1)
        self.method.before_step(context)
        with passes.dense_gradients(context.gradient_consumer):
            loss = self.method.loss(self.module, batch, context.progress)
        self.optimiser.zero_grad()
        loss.backward()
        if not context.skip_step:
            self.optimiser.step()
        self.method.after_step(context)
        return loss.item()

    def slots(self):
        return {name: posterior.index.clone() for name, _, posterior in sparse_layers(self.module)}


def ssvi(**options):
    return SSVI(SSVIOptions(**{"sparsity": 0.7, "replace_every": 5, **options}))


@pytest.mark.parametrize("addition", ADDITIONS)
def test_subspace_keeps_its_size_and_moves_on_schedule(addition):
    session = Session(ssvi(addition=addition))
    counts = {name: len(index) for name, index in session.slots().items()}
    assert counts == {"0": 240 - math.floor(0.7 * 240), "3": 80 - math.floor(0.7 * 80)}
    last = math.floor(0.75 * STEPS)
    moved = []
    for t, batch in enumerate(batches(STEPS), start=1):
        before = session.slots()
        session.step(batch)
        after = session.slots()
        assert {name: len(index) for name, index in after.items()} == counts
        for index in after.values():
            assert (index[1:] > index[:-1]).all()
        if any(not torch.equal(before[n], after[n]) for n in before):
            moved.append(t)
            assert t % 5 == 0
            assert t < last
    assert moved, "the subspace never moved"


@pytest.mark.parametrize("added_scale", ["layer_mean", "tiny"])
@pytest.mark.parametrize("readmit", [True, False])
@pytest.mark.parametrize("addition", ADDITIONS)
def test_one_budget_moves_between_layers_and_stays_the_same(addition, readmit, added_scale):
    options = {"addition": addition, "readmit": readmit, "added_scale": added_scale}
    session = Session(ssvi(allocation="global", criterion="abs_mean", **options))
    total = 320 - math.floor(0.7 * 240) - math.floor(0.7 * 80)
    sizes = []
    for batch in batches(STEPS):
        session.step(batch)
        slots = session.slots()
        assert all((index[1:] > index[:-1]).all() for index in slots.values())
        sizes.append([len(index) for index in slots.values()])
        assert sum(sizes[-1]) == total and min(sizes[-1]) >= 1
        live = {id(p) for p in session.module.parameters()}
        assert {id(p) for g in session.optimiser.param_groups for p in g["params"]} == live
        assert {id(p) for p in session.optimiser.state} <= live
        for draw in session.method.draws(session.module, 1, torch.Generator().manual_seed(0)):
            assert torch.isfinite(draw(batch[0])).all()
    assert len({tuple(counts) for counts in sizes}) > 1, "no weight went to another layer"
    changes = [row for table, row in session.rows if table == "layers"]
    for step in (5, 10, 15, 20, 25):
        rows = [row for row in changes if row["step"] == step]
        assert sum(row["removed"] for row in rows) == sum(row["replaced"] for row in rows)
        assert [row["slots"] for row in rows] == sizes[step - 1]
        for row, before in zip(rows, sizes[step - 2], strict=True):
            assert row["slots"] == before - row["removed"] + row["replaced"]
            union = before + row["replaced"]
            assert row["iou_previous"] == pytest.approx((before - row["removed"]) / union)


def test_scores_and_gradients_are_compared_across_layers():
    """One update replayed by hand on the coordinates of all layers together."""
    method = ssvi(criterion="abs_mean", step_on_update=False, allocation="global")
    session = Session(method, dtype=torch.float64)
    steps = list(batches(5, dtype=torch.float64))
    for batch in steps[:4]:
        session.step(batch)
    noise, dense = session.streams["noise"].get_state(), {}
    with passes.dense_gradients(lambda layer, g: dense.__setitem__(layer, g.clone())):
        session.method.loss(session.module, steps[4], session.context.progress).backward()
    session.streams["noise"].set_state(noise)
    found = list(sparse_layers(session.module))
    starts = dict(zip([name for name, *_ in found], (0, 240), strict=True))
    index = torch.cat([p.index.long() + starts[name] for name, _, p in found])
    mean = torch.cat([p.mean.detach() for *_, p in found])
    magnitude = torch.cat([dense[layer].abs().view(-1) for _, layer, _ in found])
    n = math.floor(len(index) * surgery.replacement_fraction(5, 30, 0.3))
    removed = index[mean.abs().argsort()[:n]]
    survivors = index[~torch.isin(index, removed)]
    magnitude[survivors] = -1
    expected = torch.cat([survivors, magnitude.topk(n).indices]).sort().values
    session.step(steps[4])
    after = [p.index.long() + starts[name] for name, _, p in sparse_layers(session.module)]
    assert n > 0
    assert torch.equal(torch.cat(after), expected)


def test_new_slots_of_a_layer_without_survivors_take_the_scale_of_all():
    session = Session(ssvi())
    posteriors = [posterior for *_, posterior in sparse_layers(session.module)]
    with torch.no_grad():
        posteriors[0].rho.copy_(torch.linspace(-3, -1, posteriors[0].active))
    none, come = torch.empty(0, dtype=torch.long), torch.tensor([0])
    gone = surgery.Change(none, come)
    stay = surgery.Change(torch.tensor([0, 5, 7]), come)
    survivors = posteriors[0].rho[stay.keep].mean()
    added = session.method.added(posteriors, [stay, gone])
    assert added == [{"rho": survivors}, {"rho": survivors}]
    added = session.method.added(posteriors, [gone, gone])
    tiny = SCALE_MAPS["softplus"].std(torch.stack([new["rho"] for new in added]))
    torch.testing.assert_close(tiny, torch.full((2,), 1e-6), rtol=1e-3, atol=0)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("added_state", ["zero", "mean"])
def test_the_first_adam_step_of_an_added_slot_is_the_one_computed_by_hand(added_state, allocation):
    rate, beta1, beta2, eps, count = 1e-3, 0.9, 0.999, 1e-8, 200
    options = {"added_state": added_state, "allocation": allocation, "criterion": "abs_mean"}
    method = ssvi(replace_every=count, step_on_update=False, **options)
    session = Session(method, steps=2 * count, lr=rate, optimiser=torch.optim.Adam, dtype=torch.float64)
    *first, last = batches(count + 1, dtype=torch.float64)
    for batch in first[:-1]:
        session.step(batch)
    state, squares, index = session.optimiser.state, {}, {}
    for name, _, posterior in sparse_layers(session.module):
        squares[name] = [state[v]["exp_avg_sq"].mean() for v in (posterior.mean, posterior.rho)]
        index[name] = posterior.index.clone()
    session.step(first[-1])  # the update, without a step of the optimiser
    starts = {
        n: (p.mean.detach().clone(), p.rho.detach().clone()) for n, _, p in sparse_layers(session.module)
    }
    session.step(last)
    sizes = []
    for name, _, posterior in sparse_layers(session.module):
        added = ~torch.isin(posterior.index, index[name])
        parameters = zip((posterior.mean, posterior.rho), starts[name], squares[name], strict=True)
        for parameter, start, square in parameters:
            g, now = parameter.grad[added], parameter.detach()[added]
            second = (beta2 * square if added_state == "mean" else 0) + (1 - beta2) * g**2
            step = (1 - beta1) * g / (1 - beta1**count) / ((second / (1 - beta2**count)).sqrt() + eps)
            torch.testing.assert_close(now, start[added] - rate * step, rtol=1e-12, atol=1e-14)
            sizes += ((now - start[added]).abs() / rate).tolist()
    assert len(sizes) > 10
    if added_state == "zero":  # whatever the gradient is
        assert sizes == pytest.approx([1.347] * len(sizes), rel=1e-2)
    else:
        assert max(sizes) < 1


@pytest.mark.parametrize("released", [False, True])
def test_scales_of_either_sign_are_trained_and_new_slots_get_their_mean_size(released):
    """With the map abs, steps take scale parameters through 0; their sign then has no meaning."""
    start = {"scale_init": "released"} if released else {"initial_std": 0.02}
    session = Session(ssvi(scale_map="abs", step_on_update=False, **start), lr=0.3 if not released else 0.02)
    signs, come = set(), 0
    for batch in batches(STEPS):
        before = {n: (p.index.clone(), p.rho.detach().clone()) for n, _, p in sparse_layers(session.module)}
        assert math.isfinite(session.step(batch))
        for name, _, posterior in sparse_layers(session.module):
            index, rho = before[name]
            new = ~torch.isin(posterior.index, index)
            stayed = torch.isin(index, posterior.index)
            signs |= set(posterior.rho.sign().tolist())
            torch.testing.assert_close(posterior.std, posterior.rho.detach().abs())
            if new.any():
                come += 1
                expected = rho[stayed].abs().mean().expand(int(new.sum()))
                torch.testing.assert_close(posterior.rho[new].detach(), expected)
    assert signs == {-1.0, 1.0} and come


@pytest.mark.parametrize("step_on_update", [True, False])
def test_sparsity_0_is_dense_vi(step_on_update):
    dense = Session(DenseVI())
    ours = Session(ssvi(sparsity=0.0, step_on_update=step_on_update))
    losses = [[session.step(batch) for batch in batches(STEPS)] for session in (dense, ours)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_released_initial_values_and_subspace_are_paired_by_seed():
    released = {"mean_init": "released", "scale_init": "released"}
    dense = Session(DenseVI(VariationalOptions(**released))).module
    static = Session(StaticVI(SparseOptions(sparsity=0.7, **released))).module
    default = Session(StaticVI(SparseOptions(sparsity=0.7))).module
    for name, _, posterior in sparse_layers(static):
        full = dense.get_submodule(name).posterior
        assert torch.equal(posterior.mean, posterior.gather(full.mean))
        assert torch.equal(posterior.rho, posterior.gather(full.rho))
        assert torch.equal(posterior.index, default.get_submodule(name).posterior.index)


def test_state_has_the_size_of_the_subspace():
    session = Session(ssvi(sparsity=0.9))
    for batch in batches(12):
        session.step(batch)
    for _, layer, posterior in sparse_layers(session.module):
        for parameter in (posterior.mean, posterior.rho):
            assert parameter.shape == parameter.grad.shape == (posterior.active,)
            assert session.optimiser.state[parameter]["momentum_buffer"].shape == (posterior.active,)
        assert sum(p.numel() for p in layer.parameters()) == 2 * posterior.active + layer.bias.numel()


@pytest.mark.parametrize("added_scale", ["layer_mean", "tiny"])
def test_new_slots_start_as_specified(added_scale):
    session = Session(ssvi(added_scale=added_scale, step_on_update=False))
    updates = 0
    for t, batch in enumerate(batches(STEPS), start=1):
        before = {
            n: (p.index.clone(), p.mean.detach().clone(), p.rho.detach().clone())
            for n, _, p in sparse_layers(session.module)
        }
        session.step(batch)
        if t % 5 or t >= 30:
            continue
        for name, _, posterior in sparse_layers(session.module):
            index, mean, rho = before[name]
            new = ~torch.isin(posterior.index, index)
            stayed = torch.isin(index, posterior.index)
            # without the optimiser's step, what stays (removed and re-added too) is untouched
            assert torch.equal(posterior.mean[~new].detach(), mean[stayed])
            assert torch.equal(posterior.rho[~new].detach(), rho[stayed])
            if not new.any():
                continue
            updates += 1
            assert (posterior.mean[new] == 0).all()
            if added_scale == "layer_mean":
                torch.testing.assert_close(
                    posterior.rho[new].detach(), rho[stayed].mean().expand(int(new.sum()))
                )
            else:
                torch.testing.assert_close(
                    posterior.std[new].detach(), torch.full((int(new.sum()),), 1e-6), rtol=1e-3, atol=0
                )
            assert (session.optimiser.state[posterior.mean]["momentum_buffer"][new] == 0).all()
        # posterior sampling works right after an update
        for draw in session.method.draws(session.module, 2, torch.Generator().manual_seed(0)):
            assert torch.isfinite(draw(batch[0])).all()
    assert updates


def test_released_behaviour_forfeits_the_step_on_updates_only():
    kept = Session(ssvi(step_on_update=False, replace_fraction=0.0))
    for t, batch in enumerate(batches(STEPS), start=1):
        before = [p.clone() for p in kept.module.parameters()]
        kept.step(batch)
        moved = any(not torch.equal(a, b) for a, b in zip(before, kept.module.parameters(), strict=True))
        assert moved == (t % 5 != 0 or t >= 30)


def test_removed_slots_are_the_lowest_and_added_ones_have_the_largest_gradient():
    """One update replayed by hand from the dense gradient of the same noisy pass."""
    session = Session(ssvi(criterion="abs_mean", step_on_update=False), dtype=torch.float64)
    steps = list(batches(5, dtype=torch.float64))
    for batch in steps[:4]:
        session.step(batch)
    noise = session.streams["noise"].get_state()
    dense = {}
    with passes.dense_gradients(lambda layer, g: dense.__setitem__(layer, g.clone())):
        session.method.loss(session.module, steps[4], session.context.progress).backward()
    session.streams["noise"].set_state(noise)
    before = {
        n: (layer, p.index.long().clone(), p.mean.detach().clone())
        for n, layer, p in sparse_layers(session.module)
    }
    session.step(steps[4])
    fraction = surgery.replacement_fraction(5, 30, 0.3)
    for name, _, posterior in sparse_layers(session.module):
        layer, index, mean = before[name]
        n = math.floor(len(index) * fraction)
        removed = index[mean.abs().argsort()[:n]]
        survivors = index[~torch.isin(index, removed)]
        magnitude = dense[layer].abs().view(-1)
        magnitude[survivors] = -1
        expected = torch.cat([survivors, magnitude.topk(n).indices]).sort().values
        assert n > 0
        assert torch.equal(posterior.index.long(), expected)


def test_removed_slots_may_compete_with_the_kl_gradient_too():
    """With a strong KL, a removed slot's own pull brings it back; on the likelihood alone it would not."""
    indices = {}
    for choice in ("likelihood", "likelihood_and_kl"):
        options = ssvi(removed_gradient=choice, kl_factor=1e4, criterion="snr_exp", kl_warmup=0.0)
        session = Session(options, lr=1e-7)
        for batch in batches(5):
            session.step(batch)
        indices[choice] = session.slots()["0"]
    assert not torch.equal(*indices.values())


def buffers(session):
    """Sizes of the sums of gradients that the method keeps, by layer."""
    return {
        name.removeprefix("gradients/"): tensor.numel()
        for name, tensor in session.context.memory.items()
        if name.startswith("gradients/")
    }


@pytest.mark.parametrize("kl", [False, True])
@pytest.mark.parametrize("minibatches", [2, 4, 5])
def test_accumulated_gradients_rank_as_the_mean_of_the_dense_ones(minibatches, kl):
    """Every update replayed by hand, from dense gradients of each minibatch of its window."""
    options = {"addition": "grad_accumulated", "addition_minibatches": minibatches, "criterion": "abs_mean"}
    if kl:  # so strong a KL that most removed slots come back
        options |= {"removed_gradient": "likelihood_and_kl", "kl_factor": 100.0}
    method = ssvi(**options, step_on_update=False)
    session, window, moved = Session(method, lr=1e-3, dtype=torch.float64), [], 0
    for t, batch in enumerate(batches(STEPS, dtype=torch.float64), start=1):
        context, seen = session.context, {}
        context.progress.epoch = 1 + (t - 1) // 4  # the weight of the KL changes within a window
        noise = session.streams["noise"].get_state()
        with passes.dense_gradients(lambda layer, g, seen=seen: seen.__setitem__(layer, g.clone())):
            session.method.loss(session.module, batch, context.progress).backward()
        session.streams["noise"].set_state(noise)
        if kl:
            for _, layer, posterior in sparse_layers(session.module):
                slope = method.kl_weight(context.progress) / method.options.prior_std**2
                seen[layer] += posterior.scatter(slope * posterior.mean.detach())
        window = [*window, seen][-minibatches:]
        before = {
            n: (p.index.long().clone(), p.mean.detach().clone()) for n, _, p in sparse_layers(session.module)
        }
        session.step(batch)
        until = -t % 5  # minibatches to the next update
        inside = t + until < 30 and until < minibatches
        assert context.events == (["dense_gradient"] if inside else [])
        assert buffers(session) == ({"0": 240, "3": 80} if inside and until else {})
        if t % 5 or t >= 30:
            continue
        for name, layer, posterior in sparse_layers(session.module):
            index, mean = before[name]
            n = math.floor(len(index) * surgery.replacement_fraction(t, 30, 0.3))
            survivors = index[~torch.isin(index, index[mean.abs().argsort()[:n]])]
            magnitude = torch.stack([gradients[layer] for gradients in window]).mean(0).abs().view(-1)
            magnitude[survivors] = -1
            expected = torch.cat([survivors, magnitude.topk(n).indices]).sort().values
            assert torch.equal(posterior.index.long(), expected)
            moved += not torch.equal(index, expected)
    assert moved >= 5


def test_a_window_of_one_minibatch_is_that_of_the_update():
    one = SSVIOptions(addition="grad_accumulated", addition_minibatches=1)
    same = SSVI.equivalent(one)
    assert same is not None and same.options["addition"] == "grad_sampled"
    unused = SSVI.equivalent(SSVIOptions(addition="grad_mean", addition_minibatches=9))
    assert unused is not None and unused.options["addition_minibatches"] == 4
    sessions = [
        Session(ssvi(addition="grad_sampled")),
        Session(SSVI(replace(one, sparsity=0.7, replace_every=5))),
    ]
    for batch in batches(STEPS):
        assert sessions[0].step(batch) == sessions[1].step(batch)
    assert str(sessions[0].slots()) == str(sessions[1].slots())


def test_gradients_of_a_layer_that_the_updates_minibatch_does_not_reach_are_not_lost():
    """A layer that is skipped now and then, as under stochastic depth, is ranked by the other minibatches."""
    session = Session(ssvi(addition="grad_accumulated", addition_minibatches=3), dtype=torch.float64)
    first, loss = session.module[0], session.method.loss
    skipped = []

    def without_first(module, batch, progress):
        if progress.step != 5:
            return loss(module, batch, progress)
        skipped.append(torch.is_grad_enabled())
        hidden = module[2](module[1](first(batch[0]).detach()))
        return torch.nn.functional.cross_entropy(module[3](hidden), batch[1])

    session.method.loss = without_first
    steps = list(batches(5, dtype=torch.float64))
    for batch in steps[:4]:
        session.step(batch)
    total = session.context.memory["gradients/0"].abs().view(-1).clone()
    index = first.posterior.index.long()
    scores = session.method.scores(first.posterior)
    n = math.floor(len(index) * surgery.replacement_fraction(5, 30, 0.3))
    survivors = index[~torch.isin(index, index[scores.argsort()[:n]])]
    total[survivors] = -1
    session.step(steps[4])
    assert skipped.count(True) == 1 and buffers(session) == {}
    expected = torch.cat([survivors, total.topk(n).indices]).sort().values
    assert torch.equal(first.posterior.index.long(), expected)


def test_a_window_longer_than_the_period_is_refused():
    options = SSVIOptions(addition="grad_accumulated", addition_minibatches=6, replace_every=5)
    with pytest.raises(UserError, match=r"^addition_minibatches: 6 is above replace_every, 5") as error:
        SSVI.validate(options, network())
    assert "\n" not in str(error.value)
    SSVI.validate(replace(options, addition="grad_sampled"), network())
    SSVI.validate(replace(options, addition_minibatches=5), network())


@pytest.mark.parametrize("addition", ["grad_mean", "grad_averaged"])
def test_extra_passes_touch_neither_statistics_nor_noise(addition):
    """Up to the first update's choice of coordinates, the run is that of a method without extra passes."""
    plain, extra = Session(ssvi(replace_fraction=0.0)), Session(ssvi(addition=addition))
    for batch in batches(5):
        assert plain.step(batch) == extra.step(batch)
    assert torch.equal(plain.streams["noise"].get_state(), extra.streams["noise"].get_state())
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(plain.module.state_dict()[name], extra.module.state_dict()[name])
    expected = ["mean_pass"] if addition == "grad_mean" else ["noisy_pass"] * 3 + ["dense_gradient"]
    assert extra.context.events == expected


def test_dense_equivalence_at_full_density():
    """Slots over every coordinate give the losses of plain dense code, step by step."""

    class Full(StaticVI):
        def active_counts(self, network, generator):
            return {"0": 240, "3": 80}

    shared = {f.name: f.default for f in fields(VariationalOptions)}
    full = Session(Full(SparseOptions(**shared, sparsity=0.5)), dtype=torch.float64)
    dense = Session(DenseVI(VariationalOptions(**shared)), dtype=torch.float64)
    for batch in batches(20, dtype=torch.float64):
        assert full.step(batch) == pytest.approx(dense.step(batch), rel=1e-9)


def test_static_subspace_never_moves():
    session = Session(StaticVI(SparseOptions(sparsity=0.7)))
    before = session.slots()
    for batch in batches(STEPS):
        session.step(batch)
    assert all(torch.equal(before[n], index) for n, index in session.slots().items())


def test_methods_of_one_seed_share_initial_weights():
    dense = Session(DenseVI()).module
    sparse = Session(ssvi()).module
    for (_, _, posterior), full in zip(sparse_layers(sparse), variational_layers(dense), strict=True):
        density = posterior.active / posterior.shape.numel()
        shared = full.posterior.mean.view(-1)[posterior.index.long()] / density**0.5
        torch.testing.assert_close(posterior.mean, shared)


def test_released_initialisation():
    dense = DenseVI(VariationalOptions(mean_init="released", scale_init="released"))
    module = dense.build(nn.Sequential(nn.Linear(400, 300)), Streams(0), TASK)
    posterior = variational_layers(module)[0].posterior
    assert posterior.mean.std().item() == pytest.approx(0.01, rel=0.02)
    assert torch.isfinite(posterior.rho).all()
    assert posterior.rho.median().item() == pytest.approx(-7.42, abs=0.05)


def test_equivalent_configurations_point_to_one():
    dense = SSVI.equivalent(SSVIOptions(sparsity=0.0))
    assert dense is not None and dense.method == "dense_vi" and "criterion" not in dense.options
    assert "dense" in dense.reason
    same = SSVI.equivalent(SSVIOptions(criterion="snr_abs"))
    assert same is not None and same.options["criterion"] == "snr"
    unused = SSVI.equivalent(SSVIOptions(criterion="abs_mean", lam=2.0))
    assert unused is not None and unused.options["lam"] == 1.0
    assert SSVI.equivalent(SSVIOptions(criterion="mean_exp", lam=2.0)) is None
    assert SSVI.equivalent(SSVIOptions()) is None


def test_a_layer_left_without_a_weight_is_refused():
    small = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    with pytest.raises(UserError, match=r"'1' \(6 weights\)|'0' \(4 weights\)"):
        SSVI.validate(SSVIOptions(sparsity=0.9999999999), small)


def test_an_optimiser_with_other_state_is_refused():
    class Factored(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["rows"] = torch.zeros(3)

    session = Session(ssvi(), optimiser=lambda groups: Factored(groups, momentum=0.9))
    with pytest.raises(UserError, match="Factored keeps 'rows'"):
        for batch in batches(10):
            session.step(batch)


def test_recorded_rows_describe_the_updates():
    session = Session(ssvi(criterion="mean_abs"))
    for batch in batches(STEPS):
        session.step(batch)
    changes = [row for table, row in session.rows if table == "layers"]
    pairs = [row for table, row in session.rows if table == "criteria_pairs"]
    steps = [5, 10, 15, 20, 25]
    assert [row["step"] for row in changes] == [s for s in steps for _ in range(2)]
    assert {row["layer"] for row in changes} == {"0", "3"}
    for row in changes:
        assert row["iou_previous"] == pytest.approx(
            (row["slots"] - row["replaced"]) / (row["slots"] + row["replaced"])
        )
        assert 0 <= row["iou_initial"] <= 1
        assert row["kept_q10"] <= row["kept_q50"] <= row["kept_q90"]
    first = [r for r in changes if r["step"] == 5]
    assert all(r["iou_initial"] == r["iou_previous"] for r in first)
    assert {(r["criterion_a"], r["criterion_b"]) for r in pairs} >= {
        ("abs_mean", "snr"),
        ("mean_abs", "mean_exp"),
    }
    assert all(0 <= r["iou"] <= 1 and -1 <= r["rank_correlation"] <= 1 + 1e-9 for r in pairs)
    assert all(
        r["iou"] > 0.8 for r in pairs if (r["criterion_a"], r["criterion_b"]) == ("mean_abs", "mean_exp")
    )


def test_methods_are_found_by_their_files():
    assert {"ssvi", "dense_vi", "static_vi"} <= set(METHODS.names())
    assert METHODS.get("ssvi") is SSVI
    with pytest.raises(UserError, match=r"unknown method 'svi'.*ssvi"):
        METHODS.get("svi")


def test_kl_warm_up_is_a_staircase_that_ends_halfway():
    method = DenseVI(replace(VariationalOptions(), kl_factor=0.5))
    progress = Progress("train", 1, 10, 0, 100, 50, torch.Generator())
    weights = [method.kl_weight(replace(progress, epoch=e)) for e in range(1, 11)]
    assert weights == pytest.approx([0.5 / 50 * min(2 * e / 10, 1) for e in range(1, 11)])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        # 20 steps in 4 epochs, of which half warm up; steps 1, 5, 6, 10 and 20 are in epochs 1, 1, 2, 2 and 4
        ("staircase", [1 / 2, 1 / 2, 1, 1, 1]),
        ("linear", [1 / 10, 5 / 10, 6 / 10, 1, 1]),
        ("cosine", [(1 - math.cos(math.pi * share)) / 2 for share in (0.1, 0.5, 0.6, 1, 1)]),
        ("none", [1, 1, 1, 1, 1]),
        # two cycles of 10 steps: five steps rise from 0, five have the whole weight
        ("cyclical", [0, 4 / 5, 1, 1, 1]),
    ],
)
def test_the_weight_of_the_kl_rises_as_its_shape_says(shape, expected):
    options = replace(VariationalOptions(), kl_factor=0.5, kl_shape=shape, kl_cycles=2)
    steps = [Progress("train", -(-s // 5), 4, s, 20, 50, torch.Generator()) for s in (1, 5, 6, 10, 20)]
    assert [DenseVI(options).kl_weight(p) for p in steps] == pytest.approx([0.01 * w for w in expected])
    again = Progress("train", 3, 4, 11, 20, 50, torch.Generator())
    assert DenseVI(options).kl_weight(again) == (0 if shape == "cyclical" else 0.01)
    finetune = Progress("finetune", 1, 4, 1, 20, 50, torch.Generator())
    assert DenseVI(options).kl_weight(finetune) == 0.01


def test_default_stage_is_the_whole_budget():
    assert ssvi().stages(Budget(7, 3)) == [Stage("train", 7)]


def test_scale_maps_exist_for_every_choice():
    assert set(SCALE_MAPS) == {"softplus", "exp", "abs"}
