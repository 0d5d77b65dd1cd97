"""``bench.check``: every method keeps every promise, and a method that breaks one is told which."""

from __future__ import annotations

import copy
import random
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench import check
from bench.checking.checks import CHECKS
from bench.checking.held import numbers_held
from bench.checking.parts import criterion as criterion_checks
from bench.checking.probe import weights_used
from bench.checking.trial import Trial, specification
from bench.checking.verdicts import examine
from bench.cli.entry import entry
from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.networks.base import NETWORKS, Network
from bench.training.checkpoints import Checkpoints
from methods.base import METHODS, Equivalent, Stage
from methods.core.errors import UserError
from methods.core.style import Style
from methods.criteria.base import CRITERIA, Criterion
from methods.deterministic import Deterministic
from methods.layers.inventory import kernel_layers
from methods.layers.layer import sparse_layers
from methods.static_vi import StaticVI

#: The methods of this package; other tests register toys.
OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("methods.")]


def verdicts(method, network, folder, overrides=None):
    trial = Trial(specification(method, network, overrides or {}), folder)
    return list(examine(CHECKS, trial, METHODS.get(method)))


def failures(found):
    return {verdict.check.name: verdict.words for verdict in found if verdict.outcome == "FAIL"}


# -- all methods keep all promises ---------------------------------------------------------------


#: Their convolutions are seen by the quick tests too; those of the others take seconds a method.
QUICK = ("ssvi", "deterministic")


@pytest.mark.parametrize(
    ("method", "network"),
    [
        *(pytest.param(m, "mlp", marks=[pytest.mark.slow] if m == "lottery_ticket" else []) for m in OURS),
        *(pytest.param(m, "cnn", marks=[pytest.mark.slow] if m not in QUICK else []) for m in OURS),
    ],
)
def test_every_method_keeps_every_promise(method, network, tmp_path):
    found = verdicts(method, network, tmp_path)
    assert [verdict.check for verdict in found] == list(CHECKS)
    assert {verdict.check.name: verdict.words for verdict in found if verdict.outcome != "pass"} == {}


#: Members whose checks are quick; those of the others are in the slow tests. Each method is in one of both.
MEMBERS = ("rigl", "magnitude_vi")
ALONE = {"lottery_ticket": {"level_share": 0.6}, "magnitude_vi": {"pruning": "one_shot"}}


@pytest.mark.parametrize(
    "member",
    [pytest.param(m, marks=[pytest.mark.slow] if m not in MEMBERS else []) for m in OURS if m != "ensemble"],
)
def test_an_ensemble_of_any_method_keeps_every_promise(member, tmp_path):
    overrides = {"members": 2, "member": member, "member_options": ALONE.get(member, {})}
    assert failures(verdicts("ensemble", "mlp", tmp_path, overrides)) == {}


@pytest.mark.slow
@pytest.mark.timeout(400)  # six levels of lottery_ticket take half a minute where nothing else runs
@pytest.mark.parametrize("method", OURS)
def test_every_method_keeps_its_promises_on_resnet18(method, tmp_path):
    found = verdicts(method, "resnet18", tmp_path)
    assert failures(found) == {}
    assert {verdict.check.name for verdict in found if verdict.outcome == "skipped"} == {"resume", "learning"}


# -- a promise that is not kept ------------------------------------------------------------------


class OtherDensity(StaticVI):
    """Keeps twice as many active weights as its sparsity declares."""

    def active_counts(self, network, generator):
        return StaticVI(replace(self.options, sparsity=0.9)).active_counts(network, generator)


class UndeclaredWeights(OtherDensity):
    """Keeps twice as many active weights as declared, but reports the declared number."""

    def counts(self, module):
        counts = super().counts(module)
        return replace(counts, active=237)


#: The generators that packages share are seeded from the run; this one cannot be.
_SYSTEM = random.SystemRandom()


class DrawnElsewhere(Deterministic):
    """Its loss uses a generator that does not depend on the run's seed."""

    def loss(self, module, batch, progress):
        return super().loss(module, batch, progress) * (1 + 0.1 * _SYSTEM.random())


class RemembersItself(Deterministic):
    """Keeps state in the method object, which no checkpoint stores."""

    calls = 0

    def loss(self, module, batch, progress):
        self.calls += 1
        return super().loss(module, batch, progress) / self.calls


class RemembersObjects(Deterministic):
    """Keeps state in an object that a checkpoint stores but can't load."""

    def enter_stage(self, context, stage):
        context.memory["calls"] = Kept(0)


class RemembersClosures(Deterministic):
    """Keeps state that can't be written to a checkpoint."""

    def enter_stage(self, context, stage):
        context.memory["calls"] = lambda: 0


class Probabilities(Deterministic):
    """Returns probabilities instead of logits."""

    def mean(self, module):
        return lambda inputs: module(inputs).softmax(-1)

    def draws(self, module, samples, generator):
        yield self.mean(module)


class ProbabilitiesByDraws(Deterministic):
    """Returns probabilities instead of logits from its draws only."""

    def draws(self, module, samples, generator):
        yield lambda inputs: module(inputs).softmax(-1)


class Unnormalised(Probabilities):
    """Returns values proportional to probabilities instead of logits."""

    def mean(self, module):
        return lambda inputs: module(inputs).exp()


class Changing(StaticVI):
    """Its draws take a new sample at each call."""

    def draws(self, module, samples, generator):
        for _ in range(samples):
            yield lambda inputs: module(inputs) + 0.1 * torch.randn(10)


class EachItsOwn(StaticVI):
    """Its draws are repeatable, but each example has its own sample."""

    def draws(self, module, samples, generator):
        for seed in range(samples):
            yield (
                lambda inputs, seed=seed: (
                    module(inputs)
                    + torch.randn(len(inputs), 10, generator=torch.Generator().manual_seed(seed))
                )
            )


class OfNoGenerator(StaticVI):
    """Its draws do not depend on the generator."""

    def draws(self, module, samples, generator):
        yield from super().draws(module, samples, torch.default_generator)


class InPlace(StaticVI):
    """Its draws are written over the means, so that a draw lasts only until the next one."""

    def draws(self, module, samples, generator):
        means = [posterior.mean.data for _, _, posterior in sparse_layers(module)]
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
        for name, _, posterior in sparse_layers(context.module):
            context.memory[f"mask/{name}"] = posterior.scatter(torch.ones(posterior.active)).bool()


class HiddenMask(StaticVI):
    """Keeps a mask of the whole kernel as a plain attribute, which no checkpoint stores."""

    def enter_stage(self, context, stage):
        for _, layer, posterior in sparse_layers(context.module):
            layer.mask = posterior.scatter(torch.ones(posterior.active)).bool()


class MaskOnParameter(StaticVI):
    """Keeps a mask of the whole kernel in a list that is an attribute of the parameter."""

    def enter_stage(self, context, stage):
        for _, _, posterior in sparse_layers(context.module):
            posterior.mean.masks = [posterior.scatter(torch.ones(posterior.active)).bool()]


class Kept:
    """An object that keeps one thing."""

    def __init__(self, kept):
        self.kept = kept


class MaskInObject(StaticVI):
    """Keeps a mask of the whole kernel in an object that is an attribute of a layer."""

    def enter_stage(self, context, stage):
        for _, layer, posterior in sparse_layers(context.module):
            layer.helper = Kept({"mask": posterior.scatter(torch.ones(posterior.active)).bool()})


class DenseInClass(StaticVI):
    """Keeps dense tensors in a list of the class."""

    seen = []  # noqa: RUF012 - that is what is wrong with it

    def after_step(self, context):
        for _, _, posterior in sparse_layers(context.module):
            self.seen.append(posterior.scatter(posterior.mean.detach()))


class StoresDense(StaticVI):
    """Stores the means of the whole kernel."""

    def pack(self, module):
        dense = {
            f"dense/{name}": posterior.scatter(posterior.mean.detach())
            for name, _, posterior in sparse_layers(module)
        }
        return super().pack(module) | dense

    def unpack(self, module, packed):
        super().unpack(module, {name: t for name, t in packed.items() if not name.startswith("dense/")})


class ForgetsBiases(Deterministic):
    """Leaves out the biases, which predictions need, from the stored model."""

    def pack(self, module):
        return {name: t for name, t in super().pack(module).items() if not name.endswith("bias")}

    def unpack(self, module, packed):
        module.load_state_dict(packed, strict=False)


class HalfPrice(StaticVI):
    """Declares only one of the two contractions of local reparameterisation."""

    def flops(self, module, event):
        return super().flops(module, event) / (2 if event == "step" else 1)


class CheapPredictions(StaticVI):
    """Declares only half of the FLOPs of its forward pass."""

    def flops(self, module, event):
        return super().flops(module, event) / (2 if event == "inference" else 1)


class HiddenPass(Deterministic):
    """Sometimes computes a gradient in an extra pass that it does not declare."""

    def before_step(self, context):
        if context.progress.step % 20 == 0:
            loss = nn.functional.cross_entropy(context.module(context.batch[0]), context.batch[1])
            torch.autograd.grad(loss, list(context.module.parameters()))


class PrunesSilently(METHODS.get("magnitude_vi")):
    """Prunes weights without setting ``context.pruned``."""

    def after_step(self, context):
        super().after_step(context)
        context.pruned = False

    def enter_stage(self, context, stage):
        super().enter_stage(context, stage)
        context.pruned = False

    def leave_stage(self, context, stage):
        super().leave_stage(context, stage)
        context.pruned = False


class LearnsNothing(Deterministic):
    """Its loss has gradient zero."""

    def loss(self, module, batch, progress):
        return 0 * super().loss(module, batch, progress)


class Raises(Deterministic):
    """Raises an error in training."""

    def loss(self, module, batch, progress):
        if progress.step == 3:
            raise ValueError("here it\nends")
        return super().loss(module, batch, progress)


class RaisesLater(StaticVI):
    """Raises an error when predicting a single example."""

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
    (
        RemembersItself,
        "resume",
        r"stopped once \(in the middle of stage 'train'\) and resumed: model.pt \S+ differs",
    ),
    (RemembersObjects, "resume", r"can't be read, so that a run would start anew: it holds a \S*Kept; "),
    (RemembersClosures, "resume", r"from minibatch 0 to 19 of 36: \w+: .*pickle"),
    (Probabilities, "predictions", r"the mean network: probabilities, not logits \(rows sum to 1\)"),
    (ProbabilitiesByDraws, "predictions", r"draws: probabilities, not logits \(rows sum to 1\)"),
    (Unnormalised, "predictions", r"probabilities, not logits \(none is negative\)"),
    (Changing, "draws", "draw 1 gives other logits when it is called again"),
    (EachItsOwn, "draws", "draw 1 gives an example other logits alone than among 16"),
    (OfNoGenerator, "draws", "another generator of the same state gives other draws"),
    (InPlace, "draws", "draw 1 gives other logits once all are made"),
    (DenseMask, "state", r"memory\['mask/fc1'\] \(4096\)"),
    (HiddenMask, "state", r"fc1.mask \(4096\)"),
    (MaskOnParameter, "state", r"fc1.posterior.mean.masks \(4096\)"),
    (MaskInObject, "state", r"fc1.helper \(4096\)"),
    (DenseInClass, "state", r"DenseInClass.seen \(\d{6,}\)"),
    (StoresDense, "stored", r"dense/fc1 \(16384\)"),
    (ForgetsBiases, "stored", "the stored model gives other probabilities"),
    (
        HalfPrice,
        "costs",
        "three times the forward pass of the loss is 2844 FLOPs .* flops says 1422 for a step",
    ),
    (CheapPredictions, "costs", "the mean network: 474 FLOPs .* flops says 237 for inference"),
    (HiddenPass, "costs", r"step 20 of stage 'train': took .* passes; its events \(step\) count 1"),
    (LearnsNothing, "learning", "guessing gives 0.1, and up to 0.2 by luck"),
    (RaisesLater, "predictions", r"IndexError: one is too few, at tests/test_check.py:\d+ in predict"),
]


@pytest.fixture
def registered(monkeypatch):
    """Return a function that registers a class under a name until the test ends."""

    def register(cls, name="broken"):
        monkeypatch.setattr(cls, "name", name)
        monkeypatch.setitem(METHODS._registered, name, cls)
        return name

    return register


@pytest.mark.parametrize(("method", "name", "words"), BROKEN, ids=[method.__name__ for method, *_ in BROKEN])
def test_a_broken_promise_fails_its_check_and_no_other(method, name, words, registered, tmp_path):
    found = verdicts(registered(method), "mlp", tmp_path, {"epochs": 2})
    failed = failures(found)
    assert failed.keys() == {name}, failed
    assert re.search(words, failed[name]), failed[name]


def line_of(text):
    """Return the number of the first line of this file that contains ``text``."""
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def fails_alone(found, name):
    """Return the message of the one failed check; require that all later checks were skipped."""
    at = [check.name for check in CHECKS].index(name)
    assert {verdict.outcome for verdict in found[:at]} <= {"pass"}
    assert {(verdict.outcome, verdict.words) for verdict in found[at + 1 :]} == {
        ("skipped", f"{name} failed")
    }
    assert found[at].outcome == "FAIL"
    return found[at].words


def test_an_error_of_the_method_is_told_once_with_its_place(registered, tmp_path):
    found = verdicts(registered(Raises), "mlp", tmp_path)
    place = f"tests/test_check.py:{line_of('here it')} in loss"
    assert fails_alone(found, "runs") == f"ValueError: here it ends, at {place}"


def test_a_method_that_leaves_the_process_is_one_that_fails(registered, tmp_path):
    class Leaves(Deterministic):
        """Ends the process."""

        def loss(self, module, batch, progress):
            sys.exit("there is nothing more to do")

    place = f"tests/test_check.py:{line_of('nothing more')} in loss"
    found = verdicts(registered(Leaves), "mlp", tmp_path)
    assert fails_alone(found, "runs") == f"SystemExit: there is nothing more to do, at {place}"


def raising(*arguments):
    raise KeyError("no such thing")


KEY_ERROR = "KeyError: 'no such thing', at tests/test_check.py:"


TRAIN = Stage("train", 6)


@pytest.mark.parametrize(
    ("hook", "value", "words"),
    [
        ("__init__", raising, "__init__: " + KEY_ERROR),
        ("members", raising, "members: " + KEY_ERROR),
        ("members", lambda self: 0, "members returns 0; "),
        ("equivalent", classmethod(raising), "equivalent: " + KEY_ERROR),
        ("equivalent", lambda self, options: None, "equivalent: is called on the class: @classmethod is "),
        (
            "equivalent",
            classmethod(lambda cls, options: Equivalent("deterministic", {"size": 1}, "the same")),
            "equivalent: unknown key 'size'; valid: (none)",
        ),
        ("equivalent", classmethod(lambda cls, options: "rigl"), "equivalent returns 'rigl'; "),
        (
            "equivalent",
            classmethod(lambda cls, options: Equivalent("rigged", {}, "the same")),
            "equivalent: unknown method 'rigged' (did you mean 'rigl'?); valid: ",
        ),
        ("validate", classmethod(raising), "validate: " + KEY_ERROR),
        ("stages", raising, "stages: " + KEY_ERROR),
        ("stages", lambda self, budget: sys.exit(3), "stages: SystemExit: 3, at tests/test_check.py:"),
        ("stages", lambda self, budget: [], "stages: there is none"),
        ("stages", lambda self, budget: [TRAIN, Stage("more", 0)], "stages: 'more' has 0 epochs"),
        ("stages", lambda self, budget: [Stage("train", 2.5)], "stages: 'train' has 2.5 epochs"),
        ("stages", lambda self, budget: [TRAIN, TRAIN], "stages: the name 'train' is empty or used twice"),
        ("stages", lambda self, budget: [TRAIN, Stage("more", 1, start="on")], "'more' starts 'on'"),
        (
            "stages",
            lambda self, budget: [Stage("train", 2), Stage("more", 1, start="rewind", rewind_to=-1)],
            "stages: 'more' rewinds to epoch -1 of the first stage, which has 2",
        ),
        ("stages", lambda self, budget: ["train"], "stages returns ['train']; "),
        ("version", "2", "version is '2'; "),
        ("__doc__", None, "Broken has no docstring; "),
        ("members", 2, "members is 2; it must be a function"),
        ("loss", lambda self, batch: None, "loss: takes (self, batch); it is called with (self, module"),
        ("loss", staticmethod(lambda batch: None), "loss: takes (batch); it is called with (module"),
        ("after_step", lambda self: None, "after_step: takes (self); it is called with (self, context), "),
        ("validate", classmethod(lambda cls: None), "validate: takes (); it is called with (options"),
        ("afterstep", lambda self, context: None, "afterstep is not a hook, so it is never called"),
        ("draw", staticmethod(raising), "is draws meant? A helper's name begins with _, at tests/test_check"),
        ("loss", lambda self, *_: None, "loss returns None; it must be a scalar tensor with a gradient, at "),
        ("loss", lambda self, *_: 0.5, "loss returns 0.5; "),
        ("loss", lambda self, *_: torch.tensor(0.5), "loss returns a tensor of shape () without a gradient"),
        ("loss", lambda self, module, *_: module.fc1.bias, "loss returns a tensor of shape (64,); "),
        ("build", lambda self, *_: None, "build returns None; it must be the nn.Module to train, at tests/"),
        ("build", lambda self, network, *_: nn.ModuleList([network]), "build returns a ModuleList, which "),
    ],
)  # fmt: skip
def test_what_is_wrong_before_training_is_told_by_the_contract(hook, value, words, registered, tmp_path):
    body = {"__doc__": "Breaks its contract.", hook: value}
    found = verdicts(registered(type("Broken", (Deterministic,), body)), "mlp", tmp_path)
    assert words in fails_alone(found, "contract")


def test_what_is_no_name_of_a_method_is_told_by_the_contract(registered, tmp_path):
    class Named(Deterministic):
        """Has a name that is not a valid folder name."""

    found = verdicts(registered(Named, "my method"), "mlp", tmp_path)
    assert fails_alone(found, "contract").startswith("name is 'my method'; valid: a to z, ")


def test_names_of_helpers_and_more_parameters_are_nobodys_business(registered, tmp_path):
    class Helped(Deterministic):
        """Has functions with names and arguments of its own."""

        def active_counts(self):
            raise NotImplementedError

        def loss(self, module, batch, progress, weight=1.0, **more):
            return weight * super().loss(module, batch, progress)

    assert failures(verdicts(registered(Helped), "mlp", tmp_path, {"epochs": 2})) == {}


def test_weights_that_are_lost_without_a_word_are_seen(registered, tmp_path):
    """A stopped run may then not resume from its checkpoint, so ``resume`` may fail too."""
    failed = failures(verdicts(registered(PrunesSilently), "mlp", tmp_path))
    words = r"\w+ of stage 'train': 4736 active weights become 1571; set context.pruned = True then"
    assert re.match(words, failed["density"])


class KeptMasks(Deterministic):
    """Sets weights to zero and keeps them all."""

    Options = StaticVI.Options

    def after_step(self, context):
        for _, layer in kernel_layers(context.module):
            layer.weight.data.view(-1)[::2] = 0


def test_weights_that_are_zero_and_kept_are_too_many_numbers(registered, tmp_path):
    failed = failures(verdicts(registered(KeptMasks), "mlp", tmp_path, {"epochs": 2}))
    assert {"density", "state"} <= failed.keys()
    assert "237 active weights allow " in failed["state"]
    assert failed["state"].endswith("zeroed weights are still there: use slots (methods/families/sparse.py)")


def test_a_run_that_does_not_go_on_from_its_checkpoint_is_seen(tmp_path, monkeypatch):
    """The check fails although the run, starting anew, ends with the same bits."""
    monkeypatch.setattr(Checkpoints, "stored", lambda self, device, say: iter(()))
    assert failures(verdicts("deterministic", "mlp", tmp_path)) == {
        "resume": "from minibatch 55 to 108 of 108: 108 minibatches were trained: the run did not "
        "resume from its checkpoint"
    }


class TwoStages(Deterministic):
    """Trains in two stages."""

    def stages(self, budget):
        return [Stage("first", 1), Stage("second", 1, start="keep")]


@pytest.mark.parametrize(
    ("method", "epochs", "outcome", "words"),
    [
        (
            TwoStages,
            2,
            "pass",
            "stopped 3 times (in the middle of each of 2 stages, between stages once) and",
        ),
        (Deterministic, 2, "pass", "stopped once (in the middle of stage 'train') and resumed: the same"),
        (Deterministic, 1, "pass", "stopped once (in the middle of stage 'train') and resumed: the same"),
    ],
)
def test_resume_says_which_stops_there_were(method, epochs, outcome, words, registered, tmp_path):
    found = {v.check.name: v for v in verdicts(registered(method), "mlp", tmp_path, {"epochs": epochs})}
    assert found["resume"].outcome == outcome and found["resume"].words.startswith(words)


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
    """The weights used are found for any layer that replaced a plain one, here one with its own mask."""

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
        assert weights_used(plain, twin, lambda: twin(x)) == {"0": expected}
        members = nn.ModuleList([plain, twin])
        assert weights_used(plain, members, lambda: members[1](x)) == {"1.0": expected}


def test_all_that_training_keeps_is_counted_once():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module[0].mask = [torch.ones(5), {"inner": np.ones(4)}]
    module.shared = module[0].mask[0]
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.randn(4, 3)).square().sum().backward()
    optimiser.step()
    module.bare = Kept([Kept((torch.ones(7), torch.ones(8)))])
    module[0].weight.mask = torch.ones(6)
    module[0].weight.mask.of = module  # a circle
    optimiser.param_groups[0]["kept"] = torch.ones(2)
    optimiser.kept = [nn.Linear(3, 1)]
    method = Deterministic()
    method.cache = torch.ones(6)
    held = numbers_held(module, optimiser, {"steps": 3, "seen": [1.0, 2.0], "name": "x"}, method)
    assert held["0.weight"] == 6 and held["0.mask"] + held.get("shared", 0) == 9
    assert held["memory['seen']"] == 2 and held["the method object's cache"] == 6
    assert held["optimiser's momentum_buffer of 0.weight"] == 6
    assert (held["bare"], held["0.weight.mask"], held["the optimiser's group's kept"]) == (15, 6, 2)
    assert held["the optimiser's kept"] == 4
    # parameters and their momenta, two statistics and their count, the masks, memory, the cache
    assert sum(held.values()) == 2 * (6 + 2 + 2 + 2) + 5 + 9 + 15 + 6 + 2 + 4 + 3 + 6


# -- criteria ------------------------------------------------------------------------------------


def criterion_verdicts(cls):
    return list(examine(criterion_checks.CHECKS, criterion_checks.Subject(cls), cls))


@pytest.mark.parametrize("name", ["abs_mean", "snr", "mean_abs", "snr_abs", "mean_exp", "snr_exp"])
def test_every_criterion_keeps_every_promise(name):
    found = criterion_verdicts(CRITERIA.get(name))
    assert [verdict.check for verdict in found] == list(criterion_checks.CHECKS)
    assert {verdict.check.name: verdict.words for verdict in found if verdict.outcome != "pass"} == {}


class Narrow(Criterion):
    """Keeps the weights of smallest standard deviation."""

    name = "narrow"
    style = Style("Narrow", hue="#000000", hue_dark="#ffffff")
    formula, latex, source = "-std", r"-\sigma", "nowhere"

    def score(self, moments):
        return -moments.std


def scoring(score, **attributes):
    """A criterion of that score."""
    words = {"__doc__": "Broken.", "name": "broken", "score": lambda self, moments: score(moments)}
    return type("Broken", (Narrow,), words | attributes)


CALLS = []


def in_place(moments):
    return moments.z.mul_(2)


def pairwise(moments):
    return (
        (moments.std[:, None] > moments.std[None]).sum(1).double() if moments.std.dim() == 1 else -moments.std
    )


def scattered(moments):
    dense = torch.zeros(100_000, dtype=torch.float64)
    dense[: moments.std.numel()] = moments.std.flatten()
    return dense[: moments.std.numel()].view_as(moments.std)


def seeded(moments):
    torch.manual_seed(0)
    return moments.std


def counting(moments):
    CALLS.append(None)
    return moments.std * len(CALLS)


BROKEN_CRITERIA = [
    (scoring(lambda m: m.z, name="Of two words"), "declared", "name is 'Of two words'"),
    (scoring(lambda m: m.z, version=0), "declared", "version is 0; valid: a whole number"),
    (scoring(lambda m: m.z, __doc__=None), "declared", "has no docstring"),
    (scoring(lambda m: m.z, ranks_as="srn", because="x"), "declared", "ranks_as is 'srn'; it is the name of"),
    (scoring(lambda m: m.z, ranks_as="broken", because="x"), "declared", "ranks_as is 'broken'"),
    (scoring(lambda m: m.z.float()), "scores", "score is torch.float32 of torch.float32 weights"),
    (scoring(lambda m: m.z.sum()), "scores", r"score has shape \(\) of"),
    (scoring(lambda m: m.z.tolist()), "scores", "score returns list"),
    (scoring(lambda m: m.z * torch.ones(1).double().requires_grad_()), "scores", "requires a gradient"),
    (scoring(lambda m: m.nothing), "scores", "no attribute 'nothing', at tests/test_check"),
    (scoring(lambda m: (m.a / m.a.min().clamp(min=1e-8) ** 40)), "finite", "inf at mean "),
    (scoring(lambda m: m.a.log()), "finite", "-inf at mean 0, std 1e-12, lambda 0.01, and at 26 more of 756"),
    (scoring(lambda m: m.std + torch.rand(m.std.shape)), "determinism", "draws from torch's global random"),
    (scoring(seeded), "determinism", "draws from torch's global random stream, or seeds it"),
    (scoring(counting), "determinism", "4096 of 4096 scores differ the second time"),
    (scoring(in_place), "inputs", "score changes moments.z in place"),
    (scoring(lambda m: m.std.cumsum(-1)), "order", "weights in another order have other scores"),
    (scoring(pairwise), "size", "makes 16777216 numbers for 4096 weights"),
    (scoring(scattered), "size", "aten.zeros.* makes 100000 numbers"),
    (scoring(lambda m: m.z, value=lambda self, m: -m.z), "definition", "value falls 40.. times"),
    (scoring(lambda m: m.a, ranks_as="snr", because="x"), "equivalence", "ranks_as is snr, which ranks 4"),
    (scoring(lambda m: m.s), "lambda", "uses_lam is False, but scores differ at lambda 1 and 2"),
    (scoring(lambda m: m.z, uses_lam=True), "lambda", "uses_lam is True, but scores are the same"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "name", "words"), BROKEN_CRITERIA, ids=[c[2][:40] for c in BROKEN_CRITERIA])
def test_a_criterion_that_breaks_a_promise_fails_that_check_and_no_other(cls, name, words):
    failed = failures(criterion_verdicts(cls))
    # what changes from call to call has no fixed scores for any other check either
    others = {"order", "lambda"} if name == "determinism" else set()
    assert name in failed and failed.keys() <= {name} | others, failed
    assert re.search(words, failed[name]), failed[name]


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def call(capsys):
    """Call the command like a process; return exit status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            entry(lambda: check.main([*arguments]))
        return caught.value.code, *capsys.readouterr()

    return call


def test_a_line_a_check_and_network(call):
    status, out, err = call("deterministic", "--network", "mlp", "--set", "epochs=2,network.hidden=[20]")
    assert (status, err) == (0, "")
    *lines, last = out.splitlines()
    assert [line.split()[:3] for line in lines] == [["mlp", "pass", check.name] for check in CHECKS]
    assert re.fullmatch(r"deterministic: 11 pass, 0 FAIL, 0 skipped in \d+ s", last)


def test_a_failed_check_is_status_1_and_shows_its_promise(call, registered):
    status, out, err = call(registered(Raises), "--network", "mlp")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[1].startswith("mlp  FAIL     runs ") and "ValueError: here it ends, at " in lines[1]
    assert lines[2].split(maxsplit=1) == ["promise:", CHECKS[1].promise]
    assert lines[3].split() == ["mlp", "skipped", "determinism", "runs", "failed"]
    assert lines[-1].startswith("broken: 1 pass, 1 FAIL, 9 skipped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["densest"], "unknown method 'densest'"),
        (["ssvi", "--network", "mlpp"], "unknown network 'mlpp' (did you mean 'mlp'?); valid: "),
        (["ssvi", "--set", "sparsity=2"], "sparsity: 2.0 lies outside [0, 1)"),
        (["ssvi", "--set", "nothing=2"], "unknown key 'nothing'"),
        (
            ["ssvi", "--network", "cnn", "--set", "network.hidden=[3]"],
            "--set, network cnn: unknown key 'network.hidden'; valid: dataset, ",
        ),
        (["ssvi", "--set", "epochs=1000000000"], "--set: epochs: 1000000000 are too many: "),
        (["ssvi", "--set", "seed=1"], "--set: seed: the checks choose their own seeds, 0 and 1"),
        (["ssvi", "--set", "method=rigl"], "choose the method by the argument METHOD"),
        (["ssvi", "--network", "mlp", "--set", "keep_dense=[fc9]"], "keep_dense: 'fc9' matches no "),
        ([], "the following arguments are required: METHOD"),
        (
            ["--criterion", "srn"],
            "--criterion: unknown criterion 'srn' (did you mean 'snr'?); valid: abs_mean, ",
        ),
        (["--dataset", "digit"], "--dataset: unknown data set 'digit' (did you mean 'digits'?); valid: "),
        (["--network", "mlpp"], "--network: unknown network 'mlpp' (did you mean 'mlp'?); valid: "),
        (["ssvi", "--dataset", "digits"], "--dataset NAME goes without METHOD"),
        (["--dataset", "digits", "--set", "dataset.val=5"], "dataset: val: 5 lies outside [10, 600]"),
        (["ssvi", "--criterion", "snr"], "--criterion NAME stands alone"),
        (["--criterion", "snr", "--network", "mlp"], "--criterion NAME stands alone"),
    ],
)
def test_bad_input_is_one_line(call, arguments, words):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


def test_keys_that_are_refused_are_not_listed_as_valid(call):
    err = call("ssvi", "--network", "cnn", "--set", "network.hidden=[3]")[2]
    own, *sections = err.strip().partition("valid: ")[2].split("; ")
    assert not {"method", "network", "seed"} & {*own.split(", ")}
    assert any(section.startswith("network: channels") for section in sections)


def test_options_that_are_none_are_one_line(call, registered):
    class Plain:
        sparsity = 0.9

    class Fields:
        """Has options of a type that settings can't have."""

        def __init__(self):
            raise OSError("no options here")

    name = registered(type("Broken", (Deterministic,), {"Options": Plain}))
    assert call(name, "--network", "mlp")[0] == 2
    fields = dataclass(frozen=True)(Fields)
    name = registered(type("Broken", (Deterministic,), {"Options": fields}))
    status, out, err = call(name, "--network", "mlp")
    assert (status, out) == (2, "")
    assert re.fullmatch(
        r"error: method broken: OSError: no options here, at tests/test_check.py:\d+ in __init__\n", err
    )


def test_a_criterion_is_checked_by_its_name(call, monkeypatch):
    status, out, err = call("--criterion", "snr_abs")
    assert (status, err) == (0, "")
    *lines, last = out.splitlines()
    assert [line.split()[:2] for line in lines] == [["pass", check.name] for check in criterion_checks.CHECKS]
    assert re.fullmatch(r"snr_abs: 10 pass, 0 FAIL, 0 skipped in \d+ s", last)
    monkeypatch.setitem(CRITERIA._registered, "broken", scoring(lambda m: m.a.log()))
    status, out, err = call("--criterion", "broken")
    assert (status, err) == (1, "")
    (at,) = (number for number, line in enumerate(out.splitlines()) if line.startswith("FAIL"))
    promise = out.splitlines()[at + 1]
    assert promise.split(maxsplit=1) == ["promise:", criterion_checks.CHECKS[2].promise]


# -- data sets and networks ----------------------------------------------------------------------


def outcomes(out):
    """Return the outcome of each check by its name."""
    words = [line.split() for line in out.splitlines()[:-1] if "promise:" not in line]
    return {word[2]: word[1] for word in words}


def test_a_data_set_and_a_network_are_checked_by_their_names(call):
    status, out, err = call("--dataset", "digits", "--network", "cnn")
    assert (status, err) == (0, "")
    assert {line.split()[0] for line in out.splitlines()[:-1]} == {"digits", "cnn"}
    assert re.fullmatch(r"digits, cnn: 15 pass, 0 FAIL, 0 skipped in \d+ s", out.splitlines()[-1])


class Seen(Dataset):
    """A table with nothing wrong."""

    name = "seen"

    def load(self, split):
        def part(count):
            return Split(torch.randn(count, 5, generator=split), torch.arange(count) % 3)

        return Splits(part(30), part(12), part(25), 3)


class LaterNaN(Seen):
    """A number late in the test part becomes infinite when it is prepared."""

    name = "seen"

    def prepare(self, inputs, splits, augmentation):
        return torch.where(inputs == splits.std, torch.inf, inputs)

    def load(self, split):
        splits = super().load(split)
        return replace(splits, std=splits.test.inputs[24, 2].clone().abs(), test=replace(
            splits.test, inputs=splits.test.inputs.abs()))  # fmt: skip


class Jittered(Seen):
    """Augments by numpy."""

    name = "seen"

    def prepare(self, inputs, splits, augmentation):
        return inputs if augmentation is None else inputs + np.random.rand()


class Drawn(Seen):
    """Splits by torch's global stream."""

    name = "seen"

    def load(self, split):
        return super().load(None)


class Repeated(Seen):
    """Its test part is the training part."""

    name = "seen"

    def load(self, split):
        splits = super().load(split)
        return replace(splits, test=splits.train)


class Counting(Seen):
    """Counts labels from 1."""

    name = "seen"

    def load(self, split):
        splits = super().load(split)
        return replace(splits, train=replace(splits.train, labels=splits.train.labels + 1))


class Beside(Seen):
    """Has unknown sets and a shift, and no files for one of the sets."""

    name = "seen"

    def unknown(self):
        return {"far": self.far, "absent": self.absent}

    def shifts(self):
        return {"added": self.added}

    def far(self, splits):
        return splits.test.inputs + 9

    def absent(self, splits):
        raise UserError("no file")

    def added(self, inputs, severity, splits):
        return inputs + severity


class NarrowUnknown(Beside):
    """Has an unknown set of another shape."""

    name = "seen"

    def far(self, splits):
        return splits.test.inputs[:, :4]


class DrawnUnknown(Beside):
    """Has an unknown set that differs each time."""

    name = "seen"

    def far(self, splits):
        return torch.randn(7, 5)


class CentredShift(Beside):
    """Shifts each example by what the others are."""

    name = "seen"

    def added(self, inputs, severity, splits):
        return inputs - severity * inputs.mean(0)


class WiderShift(Beside):
    """Changes the type of inputs."""

    name = "seen"

    def added(self, inputs, severity, splits):
        return inputs.double()


@pytest.mark.parametrize(
    ("cls", "failed", "words"),
    [
        (Seen, set(), "there are no shifts"),
        (
            Beside,
            set(),
            "1 unknown sets fit and are the same the second time; not checked, since files are missing",
        ),
        (NarrowUnknown, {"unknown"}, "unknown set far: inputs are torch.float32 of shape (25, 4)"),
        (DrawnUnknown, {"unknown"}, "unknown set far draws from the global random stream of torch"),
        (
            CentredShift,
            {"shifts"},
            "shift added at severity 1: what becomes of an example depends on its batch",
        ),
        (WiderShift, {"shifts"}, "shift added: inputs are torch.float64 of shape (5, 5)"),
        (LaterNaN, {"prepared"}, "prepared inputs[24, 2] is inf"),
        (Jittered, {"augmented"}, "prepare draws from the global random stream of numpy"),
        (Drawn, {"seeds"}, "load draws from the global random stream of torch"),
        (Repeated, {"disjoint"}, "test: all 30 rows are also in train"),
        (Counting, {"loads"}, "labels[2] is 3; valid: 0 to 2"),
    ],
)
def test_a_data_set_that_breaks_a_promise_fails_that_check(cls, failed, words, call, monkeypatch):
    monkeypatch.setitem(DATASETS._registered, "seen", cls)
    status, out, _ = call("--dataset", "seen")
    assert {name for name, outcome in outcomes(out).items() if outcome == "FAIL"} == failed
    assert status == (1 if failed else 0) and words in out


class Tabular(Network):
    """Takes rows of numbers only."""

    name = "tabular"
    change = staticmethod(lambda y: y)

    def build(self, task):
        (inputs,) = task.input_shape
        network = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, task.classes))
        return Changed(network, type(self).change)


class Changed(nn.Module):
    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x):
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    ("change", "failed", "words"),
    [
        (lambda y: y, set(), ",) give logits of "),  # of which table depends on what other tests register
        (lambda y: (y, y), {"outputs"}, "returns a tuple; return the tensor of logits alone"),
        (lambda y: y - y.mean(0), {"apart"}, "an example alone has other outputs than among others"),
        (lambda y: y.detach(), {"trained"}, ""),
        (lambda y: y / 0, {"outputs"}, "outputs of standard normal inputs are not finite"),
    ],
)
def test_a_network_is_checked_on_its_own_kind_of_input(change, failed, words, call, monkeypatch):
    monkeypatch.setitem(NETWORKS._registered, "tabular", type("T", (Tabular,), {
        "name": "tabular", "change": staticmethod(change), "__doc__": "A table."}))  # fmt: skip
    status, out, _ = call("--network", "tabular")
    assert {name for name, outcome in outcomes(out).items() if outcome == "FAIL"} == failed
    assert status == (1 if failed else 0) and words in out


def test_a_method_is_checked_on_the_kind_of_input_that_a_network_takes(call, monkeypatch):
    monkeypatch.setitem(NETWORKS._registered, "tabular", Tabular)
    status, out, err = call("deterministic", "--network", "tabular")
    assert (status, err) == (0, "") and " 0 FAIL" in out
