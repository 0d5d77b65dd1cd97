"""``bench.check``: every method keeps every promise, and a method that breaks one is told which."""

from __future__ import annotations

import copy
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench import check, cli, probe
from bench.checks import CHECKS, examine
from bench.trial import Trial, specification
from methods import layers
from methods.base import METHODS
from methods.deterministic import Deterministic
from methods.static_vi import StaticVI

#: The methods of this package; other tests register toys.
OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("methods.")]


def verdicts(method, network, folder, overrides=None):
    return list(examine(Trial(specification(method, network, overrides or {}), folder)))


def failures(found):
    return {verdict.check.name: verdict.words for verdict in found if verdict.outcome == "FAIL"}


# -- all methods keep all promises ---------------------------------------------------------------


#: Their convolutions are seen by the quick tests too; those of the others take seconds a method.
QUICK = ("ssvi", "deterministic")


@pytest.mark.parametrize(
    ("method", "network"),
    [
        *((method, "mlp") for method in OURS),
        *(pytest.param(m, "cnn", marks=[pytest.mark.slow] if m not in QUICK else []) for m in OURS),
    ],
)
def test_every_method_keeps_every_promise(method, network, tmp_path):
    found = verdicts(method, network, tmp_path)
    assert [verdict.check for verdict in found] == list(CHECKS)
    assert {verdict.check.name: verdict.words for verdict in found if verdict.outcome != "pass"} == {}


@pytest.mark.slow
@pytest.mark.timeout(400)  # six levels of lottery_ticket take half a minute where nothing else runs
@pytest.mark.parametrize("method", OURS)
def test_every_method_keeps_its_promises_on_resnet18(method, tmp_path):
    found = verdicts(method, "resnet18", tmp_path)
    assert failures(found) == {}
    assert {verdict.check.name for verdict in found if verdict.outcome == "skipped"} == {"resume", "learning"}


# -- a promise that is not kept ------------------------------------------------------------------


class OtherDensity(StaticVI):
    """Keeps twice as many weights as it is asked for."""

    def active_counts(self, network, generator):
        return StaticVI(replace(self.options, sparsity=0.9)).active_counts(network, generator)


class UndeclaredWeights(OtherDensity):
    """And says that it has half of them."""

    def counts(self, module):
        counts = super().counts(module)
        return replace(counts, active=237)


class DrawnElsewhere(Deterministic):
    """Its loss depends on a generator that no seed decides."""

    def loss(self, module, batch, progress):
        return super().loss(module, batch, progress) * (1 + 0.1 * random.random())


class RemembersItself(Deterministic):
    """Has state in the method object, which no checkpoint carries."""

    calls = 0

    def loss(self, module, batch, progress):
        self.calls += 1
        return super().loss(module, batch, progress) / self.calls


class Probabilities(Deterministic):
    """Gives probabilities."""

    def mean(self, module):
        return lambda inputs: module(inputs).softmax(-1)

    def draws(self, module, samples, generator):
        yield self.mean(module)


class Unnormalised(Probabilities):
    """Gives what is only in proportion to probabilities."""

    def mean(self, module):
        return lambda inputs: module(inputs).exp()


class Changing(StaticVI):
    """Draws that are drawn when they are called."""

    def draws(self, module, samples, generator):
        for _ in range(samples):
            yield lambda inputs: module(inputs) + 0.1 * torch.randn(10)


class EachItsOwn(StaticVI):
    """Draws that are not shared by all examples, though they repeat themselves."""

    def draws(self, module, samples, generator):
        for seed in range(samples):
            yield (
                lambda inputs, seed=seed: (
                    module(inputs)
                    + torch.randn(len(inputs), 10, generator=torch.Generator().manual_seed(seed))
                )
            )


class OfNoGenerator(StaticVI):
    """Draws that the generator does not decide."""

    def draws(self, module, samples, generator):
        yield from super().draws(module, samples, torch.default_generator)


class InPlace(StaticVI):
    """Draws that are samples written over the means, for as long as no other is asked for."""

    def draws(self, module, samples, generator):
        means = [posterior.mean.data for _, _, posterior in layers.sparse_layers(module)]
        before = [mean.clone() for mean in means]
        for _ in range(samples):
            for mean, old in zip(means, before, strict=True):
                mean.copy_(old + 0.1 * torch.randn(old.shape, generator=generator))
            yield module
        for mean, old in zip(means, before, strict=True):
            mean.copy_(old)


class DenseMask(StaticVI):
    """Keeps a mask of the whole kernel."""

    def enter_stage(self, context, stage):
        for name, _, posterior in layers.sparse_layers(context.module):
            context.memory[f"mask/{name}"] = posterior.scatter(torch.ones(posterior.active)).bool()


class HiddenMask(StaticVI):
    """Keeps it where no checkpoint looks."""

    def enter_stage(self, context, stage):
        for _, layer, posterior in layers.sparse_layers(context.module):
            layer.mask = posterior.scatter(torch.ones(posterior.active)).bool()


class StoresDense(StaticVI):
    """Writes means of the whole kernel into the stored model."""

    def pack(self, module):
        dense = {
            f"dense/{name}": posterior.scatter(posterior.mean.detach())
            for name, _, posterior in layers.sparse_layers(module)
        }
        return super().pack(module) | dense

    def unpack(self, module, packed):
        super().unpack(module, {name: t for name, t in packed.items() if not name.startswith("dense/")})


class ForgetsBiases(Deterministic):
    """Leaves out of the stored model what predictions need."""

    def pack(self, module):
        return {name: t for name, t in super().pack(module).items() if not name.endswith("bias")}

    def unpack(self, module, packed):
        module.load_state_dict(packed, strict=False)


class HalfPrice(StaticVI):
    """Counts one contraction of the two of local reparameterisation."""

    def flops(self, module, event):
        return super().flops(module, event) / (2 if event == "step" else 1)


class CheapPredictions(StaticVI):
    """Counts no more than half of its forward pass."""

    def flops(self, module, event):
        return super().flops(module, event) / (2 if event == "inference" else 1)


class HiddenPass(Deterministic):
    """Looks at a gradient that it does not count, now and then."""

    def before_step(self, context):
        if context.progress.step % 20 == 0:
            loss = nn.functional.cross_entropy(context.module(context.batch[0]), context.batch[1])
            torch.autograd.grad(loss, list(context.module.parameters()))


class LearnsNothing(Deterministic):
    """Its loss has no slope."""

    def loss(self, module, batch, progress):
        return 0 * super().loss(module, batch, progress)


class Raises(Deterministic):
    """Stumbles in training."""

    def loss(self, module, batch, progress):
        if progress.step == 3:
            raise ValueError("here it\nends")
        return super().loss(module, batch, progress)


class RaisesLater(StaticVI):
    """Stumbles over an example alone."""

    def mean(self, module):
        def predict(inputs):
            if len(inputs) == 1 and inputs.any():  # those by which FLOPs are traced are zeros
                raise IndexError("one is too few")
            return module(inputs)

        return predict


BROKEN = [
    (OtherDensity, "density", "474 weights are active; sparsity 0.95 declares 237 of 4736"),
    (UndeclaredWeights, "density", r"uses 47\d weights, found from its layers' outputs; counts says 237"),
    (DrawnElsewhere, "determinism", r"a second run under seed 0: model.pt \S+ differs \(by "),
    (RemembersItself, "resume", r"stopped once and gone on with: model.pt \S+ differs"),
    (Probabilities, "predictions", r"probabilities, not logits \(rows sum to 1\)"),
    (Unnormalised, "predictions", r"probabilities, not logits \(none is negative\)"),
    (Changing, "draws", "draw 1 gives other logits when it is called again"),
    (EachItsOwn, "draws", "draw 1 gives an example other logits alone than among 16"),
    (OfNoGenerator, "draws", "another generator of the same state gives other draws"),
    (InPlace, "draws", "draw 1 gives other logits once all are made"),
    (DenseMask, "state", r"memory\['mask/fc1'\] \(4096\)"),
    (HiddenMask, "state", r"fc1.mask \(4096\)"),
    (StoresDense, "stored", r"dense/fc1 \(16384\)"),
    (ForgetsBiases, "stored", "read anew, the model gives other probabilities"),
    (
        HalfPrice,
        "costs",
        "three times the forward pass of the loss is 2844 FLOPs .* flops says 1422 for a step",
    ),
    (CheapPredictions, "costs", "the mean network: 474 FLOPs .* flops says 237 for inference"),
    (HiddenPass, "costs", r"step 20 of stage 'train': took .* passes; its events \(step\) tell of 1"),
    (LearnsNothing, "learning", "to guess gives 0.1, and up to 0.2 by luck"),
    (RaisesLater, "predictions", r"IndexError: one is too few, at tests/test_check.py:\d+ in predict"),
]


@pytest.fixture
def registered(monkeypatch):
    """Registers a class under a name, for the length of a test."""

    def register(cls, name="broken"):
        monkeypatch.setattr(cls, "name", name)
        monkeypatch.setitem(METHODS._registered, name, cls)
        return name

    return register


@pytest.mark.parametrize(("method", "name", "words"), BROKEN, ids=[method.__name__ for method, *_ in BROKEN])
def test_a_broken_promise_fails_its_check_and_no_other(method, name, words, registered, tmp_path):
    found = verdicts(registered(method), "mlp", tmp_path)
    failed = failures(found)
    assert failed.keys() == {name}, failed
    assert re.search(words, failed[name]), failed[name]


def test_an_error_of_the_method_is_told_once_with_its_place(registered, tmp_path):
    found = verdicts(registered(Raises), "mlp", tmp_path)
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "here it" in text)
    assert failures(found) == {"runs": f"ValueError: here it ends, at tests/test_check.py:{line} in loss"}
    assert {verdict.outcome for verdict in found[1:]} == {"skipped"}


# -- what is measured ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 5),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(2, 0), dilation=2, groups=2),
        nn.Conv2d(4, 6, 1, stride=2, bias=False),
    ],
)
def test_weights_are_found_from_what_a_layer_gives(layer):
    """Of a layer that stands where a plain one stood, whatever it is: here behind a mask of its own."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = copy.deepcopy(layer)

        def forward(self, x):
            return self.inside(x)

    plain, twin = nn.Sequential(layer), nn.Sequential(Masked())
    with torch.no_grad():
        twin[0].inside.weight.view(-1)[::3] = 0
    x = torch.randn(2, *layer.weight.shape[1:2]) if isinstance(layer, nn.Linear) else torch.randn(2, 4, 9, 9)
    expected = int(twin[0].inside.weight.count_nonzero())
    assert 0 < expected < layer.weight.numel()
    with torch.no_grad():
        assert probe.weights_used(plain, twin, lambda: twin(x)) == {"0": expected}
        members = nn.ModuleList([plain, twin])
        assert probe.weights_used(plain, members, lambda: members[1](x)) == {"1.0": expected}


def test_all_that_training_keeps_is_counted_once():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module[0].mask = [torch.ones(5), {"inner": np.ones(4)}]
    module.shared = module[0].mask[0]
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.randn(4, 3)).square().sum().backward()
    optimiser.step()
    method = Deterministic()
    method.cache = torch.ones(6)
    held = probe.numbers_held(module, optimiser, {"steps": 3, "seen": [1.0, 2.0], "name": "x"}, method)
    assert held["0.weight"] == 6 and held["0.mask"] + held.get("shared", 0) == 9
    assert held["memory['seen']"] == 2 and held["the method object's cache"] == 6
    assert held["optimiser's momentum_buffer of 0.weight"] == 6
    # parameters and their momenta, two statistics and their count, the mask, memory, the cache
    assert sum(held.values()) == 2 * (6 + 2 + 2 + 2) + 5 + 9 + 3 + 6


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def call(capsys):
    """Call the command as its process would: exit status, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.entry(lambda: check.main([*arguments]))
        return caught.value.code, *capsys.readouterr()

    return call


def test_a_line_a_check_and_network(call):
    status, out, err = call("deterministic", "--network", "mlp", "--set", "epochs=2,network.hidden=[20]")
    assert (status, err) == (0, "")
    *lines, last = out.splitlines()
    assert [line.split()[:3] for line in lines] == [["mlp", "pass", check.name] for check in CHECKS]
    assert re.fullmatch(r"deterministic: 10 pass, 0 FAIL, 0 skipped in \d+ s", last)


def test_a_failed_check_is_status_1_and_shows_its_promise(call, registered):
    status, out, err = call(registered(Raises), "--network", "mlp")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith("mlp  FAIL     runs ") and "ValueError: here it ends, at " in lines[0]
    assert lines[1].split(maxsplit=1) == ["promise:", CHECKS[0].promise]
    assert lines[2].split() == ["mlp", "skipped", "determinism", "runs", "failed"]
    assert lines[-1].startswith("broken: 0 pass, 1 FAIL, 9 skipped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["densest"], "unknown method 'densest'"),
        (["ssvi", "--network", "mlpp"], "unknown network 'mlpp'; valid: "),
        (["ssvi", "--set", "sparsity=2"], "sparsity: 2.0 lies outside [0, 1)"),
        (["ssvi", "--set", "nothing=2"], "unknown key 'nothing'"),
        (["ssvi", "--set", "method=rigl"], "the method is the argument"),
        (["ssvi", "--network", "mlp", "--set", "keep_dense=[fc9]"], "keep_dense: 'fc9' matches no "),
        ([], "the following arguments are required: METHOD"),
    ],
)
def test_bad_input_is_one_line(call, arguments, words):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
