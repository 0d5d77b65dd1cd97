"""Ensembles of any method: members are what they would be alone, and cost that; options, ids and recipes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.recipes import Recipe
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.planning.expansion import Expansion, Scale
from bench.planning.plan import canonical
from bench.results.run_folder import RunFolder
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints, resume
from bench.training.trainer import Trainer
from methods.base import METHODS
from methods.core.errors import UserError
from methods.core.options import hashed_dict
from methods.core.streams import Streams
from methods.criteria.base import CRITERIA
from methods.layers import costs
from methods.rigl import RigLOptions
from methods.ssvi import SSVIOptions

BASE = {"dataset": "digits", "network": {"name": "mlp", "hidden": [24]}, "epochs": 2, "samples": 4}


def spec(method, **options):
    return parse_spec(nest(BASE | {"method": method} | options))


def draft(recipe, overrides=None, **grid):
    expansion = Expansion(Scale(seeds=0, grids=({"recipe": recipe, **BASE, **grid},)), "suite", overrides)
    (found,) = expansion.drafts()
    return found


# -- members alone -----------------------------------------------------------------------------


ALONE = {
    "rigl": {"sparsity": 0.8, "replace_every": 4},
    "ssvi": {"sparsity": 0.8, "replace_every": 4, "criterion": "abs_mean"},
    "magnitude_vi": {"sparsity": 0.8, "pruning": "one_shot"},
    "lottery_ticket": {"sparsity": 0.6, "level_share": 0.5},
}


@pytest.mark.parametrize("member", ALONE)
def test_members_predict_as_the_mean_of_members_trained_alone(member, tmp_path, monkeypatch):
    """Each is trained by the ordinary loop, from its own initial weights, and with the noise of its turn."""
    shared = {key: value for key, value in ALONE[member].items() if key != "sparsity"}
    options = {"member": member, "sparsity": ALONE[member]["sparsity"], "member_options": shared}
    run, store = spec("ensemble", members=3, **options), Store(tmp_path / "results", create=True)
    assert execute(run, store, Execution()) == "done"
    stored = store.run(run.run_id)

    together, alone = make_problem(run), make_problem(spec(member, **ALONE[member]))
    streams = Streams(run.seed)
    networks = together.network(streams)
    modules = [alone.method.build(network, streams, alone.task) for network in networks]
    trained, flops, rows = [], 0.0, []
    for number, module in enumerate(modules):
        costs.trace(module, alone.task.input_shape)  # and it gets its kernels, as in `Problem.build`
        alone.choose_execution(module)
        monkeypatch.setattr(resume, "_built", lambda *_, module=module: resume.State(module, streams))
        trainer = Trainer(
            alone, RunFolder(tmp_path / str(number)), stage_done=lambda *_: {}, stop=lambda: False,
            report=lambda at: None,
            checkpoint_seconds=float("inf"), started=time.perf_counter(),
        )  # fmt: skip
        trained.append(trainer.run().eval())
        flops += trainer.state.counters.flops
        rows += trainer.recorder.state_dict()["layers"].splitlines()

    generator = Streams(run.seed).fresh(f"evaluation/{together.method.stages(together.budget)[-1].name}")
    inputs, _ = next(together.batches(together.splits.test, 10_000))
    with torch.no_grad():
        found = [
            draw(inputs).double().softmax(-1)
            for module in reversed(trained)
            for draw in alone.method.draws(module, 2, generator)  # 4 samples of 3 members: 2 of each
        ]
    expected = torch.stack(found).mean(0)
    with np.load(stored.path / "predictions.npz") as arrays:
        assert np.abs(arrays["samples/probabilities"] - expected.numpy()).max() < 1e-6
    packed = checkpoints.load(stored.path / "model.pt")
    for number, module in enumerate(trained):
        for name, value in alone.method.pack(module).items():
            assert torch.equal(packed[f"{number}.{name}"], value), (number, name)
    costs_of_all = stored.read("costs")
    assert costs_of_all["train_flops"] == flops
    assert costs_of_all["density"] == pytest.approx(
        sum(alone.method.counts(m).active for m in trained)
        / sum(alone.method.counts(m).kernel for m in trained)
    )
    assert len(stored.rows("layers")) == len(rows)
    stages = {row["stage"] for row in stored.rows("layers")}
    assert stages == ({"train", "member 2", "member 3"} if rows else set())


def test_as_many_sparse_members_as_epochs_fit_in_the_flops_of_dense_vi():
    run = spec("ensemble", members=3, member="rigl", sparsity=0.8, budget="flops", epochs=12)
    alone = replace(run, method=("rigl", RigLOptions(sparsity=0.8)))
    three, one = preflight.budget(run).epochs, preflight.budget(alone).epochs
    assert one < 120 and one // 3 - 1 <= three <= one // 3 + 1  # updates do not fall evenly
    dense = spec("ensemble", members=3, budget="flops", epochs=10)
    assert preflight.budget(dense).epochs == 10  # dense members are not cut


# -- options -------------------------------------------------------------------------------------


def test_members_of_the_plain_network_keep_their_ids():
    plain = spec("ensemble", members=3)
    assert hashed_dict(plain.method[1]) == {"members": 3}
    assert spec("ensemble", members=3, sparsity=0.9).run_id == plain.run_id  # members have no such option
    assert spec("ensemble", members=3, member="deterministic", member_options={}).run_id == plain.run_id


def test_options_of_members_are_resolved_to_the_last_default():
    run = spec("ensemble", member="ssvi", member_options={"lam": 2})
    assert run.method[1].alone.options == SSVIOptions(lam=2.0)
    assert run.settings["method.sparsity"] == SSVIOptions().sparsity
    assert run == parse_spec(run.to_dict()) and run.run_id == parse_spec(run.to_dict()).run_id
    written = spec("ensemble", member="ssvi", member_options={"lam": 2, "criterion": "snr"}, sparsity=0.9)
    assert written.run_id == run.run_id
    assert spec("ensemble", member="ssvi").run_id != run.run_id
    assert run.replaced({"method.sparsity": 0.5}).method[1].alone.options == SSVIOptions(
        lam=2.0, sparsity=0.5
    )


def test_the_version_of_what_members_use_is_part_of_the_id(monkeypatch):
    def run():
        return spec("ensemble", member="ssvi", member_options={"criterion": "mean_abs"})

    before, stored = run().run_id, run().to_dict()
    monkeypatch.setattr(CRITERIA.get("mean_abs"), "version", 2)
    after = run()
    assert after.run_id != before
    assert parse_spec(after.to_dict()) == after
    with pytest.raises(UserError, match="criterion mean_abs has version 2, the run is of 1"):
        parse_spec(stored)


def test_a_recipe_speaks_to_members_as_it_does_to_their_method():
    for recipe in ("default", "released"):
        for member in ("ssvi", "rigl", "lottery_ticket", "lbbnn"):
            alone = draft(recipe, method=member).spec.method[1]
            assert draft(recipe, method="ensemble", member=member).spec.method[1].alone.options == alone
            asked = draft(recipe, {"member": member}, method="ensemble")
            assert asked.spec.method[1].alone.options == alone
    merged = draft("released", method="ensemble", member="ssvi", member_options={"lam": 3.0})
    assert merged.spec.method[1].alone.options == replace(
        draft("released", method="ssvi").spec.method[1], lam=3.0
    )


def test_options_of_another_member_do_not_stay():
    first = {"member": "ssvi", "member_options": {"criterion": "abs_mean"}}
    changed = draft("released", {"member": "rigl"}, method="ensemble", **first, sparsity=0.9).spec.method[1]
    assert changed.alone.options == replace(draft("released", method="rigl").spec.method[1], sparsity=0.9)
    more = draft("default", {"member_options": {"lam": 2.0}}, method="ensemble", **first).spec.method[1]
    assert (more.member_options.criterion, more.member_options.lam) == ("abs_mean", 2.0)


def test_a_sparsity_of_a_recipe_is_that_of_the_ensemble():
    recipe = Recipe(doc="a", method={"sparsity": 0.7})
    found = recipe.settings(METHODS.get("ensemble"), METHODS.get("rigl"))
    assert found == {"method.sparsity": 0.7, "method.member_options": {}}


def test_equal_configurations_are_trained_once():
    one, reason = canonical(spec("ensemble", members=1, member="rigl", sparsity=0.7))
    assert one == spec("rigl", sparsity=0.7) and reason == "an ensemble of one is one network"
    dense, reason = canonical(spec("ensemble", members=3, member="rigl", sparsity=0.0))
    assert dense == spec("ensemble", members=3) and reason == "of members, sparsity 0 is the dense network"
    ranked, _ = canonical(spec("ensemble", member="ssvi", member_options={"criterion": "snr_abs"}))
    assert ranked == spec("ensemble", member="ssvi", member_options={"criterion": "snr"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"member": "rigll"}, r"unknown method 'rigll' \(did you mean 'rigl'\?\)|'rigll' is not valid"),
        ({"member": "ensemble"}, "member: 'ensemble' is itself an ensemble"),
        ({"member": "ssvi", "member_options": {"sparsity": 0.5}}, "member_options: unknown key 'sparsity'"),
        ({"member": "ssvi", "member_options": {"criterion": "snrr"}}, "member_options: criterion: 'snrr'"),
        ({"member": "ssvi", "member_options": [3]}, r"member_options: expected a mapping, got \[3\]"),
        ({"member_options": {"lam": 1.0}}, "member_options: unknown key 'lam'"),
        ({"member": "ssvi", "sparsity": 95}, r"sparsity: 95.0 lies outside \[0, 1\) \(did you mean 0.95\?\)"),
    ],
)
def test_what_is_no_option_of_a_member_is_one_line(options, words):
    with pytest.raises(UserError, match=words) as error:
        spec("ensemble", **options)
    assert "\n" not in str(error.value)


def test_members_do_not_rewind_to_what_is_not_kept():
    run = spec("ensemble", member="lottery_ticket", member_options={"rewind_to": 1})
    with pytest.raises(UserError, match="stage 'level 1' of lottery_ticket starts rewind"):
        preflight.steps(run)


def test_a_network_that_no_member_can_have_is_refused():
    run = spec("ensemble", member="mc_dropout", network={"name": "mlp", "hidden": []})
    with pytest.raises(UserError, match=r"rate: 0\.1 is for layers after the first"):
        preflight.check(run)
