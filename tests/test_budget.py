"""``budget: flops``: sparse methods train while dense VI's training FLOPs last, ten times as long at most."""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import bench
from bench import grid, run
from bench import status as status_of
from bench.cli.describe_run import preview
from bench.cli.entry import entry
from bench.data.base import DATASETS
from bench.experiment import preflight
from bench.experiment.budget import allowed_epochs
from bench.experiment.execution import Execution
from bench.experiment.notation import parse_overrides
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.planning.estimate import estimate
from bench.planning.plan import canonical
from bench.planning.suite import parse_suite
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints
from methods.base import METHODS, Budget, Stage
from methods.core.errors import UserError
from methods.core.options import hashed_dict
from methods.core.streams import Streams
from methods.core.style import Style
from methods.static_vi import StaticVI
from tests import toys  # noqa: F401  (registers the toys)
from tests.run_folders import cell, config, identifier, plan, run_files, write_run

#: The cap unless a suite sets another.
CAP = 10
TRAIN, VAL, BATCH, EPOCHS = 90, 30, 16, 4  # the toy's
STEPS = -(-TRAIN // BATCH)
STYLE = Style("Budget toy", hue="#000000", hue_dark="#FFFFFF")


@METHODS.register
class Twice(StaticVI):
    """Static VI in two stages of the whole budget each."""

    name = "budget_twice"
    style = STYLE
    number = 2

    def stages(self, budget):
        return [Stage(f"stage {i}", budget.epochs, start="keep") for i in range(self.number)]


@METHODS.register
class Often(Twice):
    """Updates so often that even one epoch costs more than dense VI."""

    name = "budget_often"
    style = STYLE
    number = 6


@METHODS.register
class Rewinds(StaticVI):
    """Two stages, the second from the weights after three epochs of the first."""

    name = "budget_rewinds"
    style = STYLE

    def stages(self, budget):
        return [Stage("a", budget.epochs), Stage("b", budget.epochs, start="rewind", rewind_to=3)]


@METHODS.register
class Particular(Twice):
    """Refuses budgets of less than four epochs."""

    name = "budget_particular"
    style = STYLE

    def stages(self, budget):
        if budget.epochs < 4:
            raise UserError("at least four epochs")
        return super().stages(budget)


@METHODS.register
class Unbuildable(StaticVI):
    """Needs more memory than there is."""

    name = "budget_unbuildable"
    style = STYLE

    def build(self, network, streams, task):
        raise MemoryError


def spec(method="ssvi", budget="flops", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method, "budget": budget}
    return parse_spec(nest({**chosen, "epochs": EPOCHS, "batch_size": BATCH, "lr": 0.05, **options}))


def computed(tmp_path, specification):
    store = Store(tmp_path / "results", create=True)
    assert execute(specification, store, Execution(checkpoint_seconds=0.0)) == "done"
    return store.run(specification.run_id)


def epochs_of(specification):
    return preflight.budget(specification).epochs


def results(folder):
    """Return all results of a run, without measured times and identifiers."""
    history = [row for row in folder.rows("history") if row["metric"] != "seconds"]
    with np.load(folder.path / "predictions.npz") as arrays:
        predictions = {name: arrays[name].tobytes() for name in arrays.files}
    model = {k: v.numpy().tobytes() for k, v in checkpoints.load(folder.path / "model.pt").items()}
    costs = folder.read("costs")
    counted = [costs[key] for key in ("train_flops", "epochs_total", "steps_total", "events")]
    return folder.read("metrics"), history, folder.rows("layers"), predictions, model, counted


# -- how many epochs ---------------------------------------------------------------------------


@given(st.integers(1, 9), st.floats(0.01, 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 60))
def test_minibatches_in_epochs_are_those_of_their_sizes(steps, last, start, every, stop):
    chosen = range(start, stop, every)
    sizes = [last if step % steps == 0 else 1.0 for step in range(1, max(stop, steps) + 1)]
    expected = sum(sizes[step - 1] for step in chosen) / sum(sizes[:steps])
    assert Budget(3, steps, last).in_epochs(chosen) == pytest.approx(expected)


MOVING = [
    {"sparsity": 0.5, "replace_every": 3},
    {"sparsity": 0.5, "replace_every": 1},
    {"sparsity": 0.5, "replace_every": 2, "addition": "random"},
    {"sparsity": 0.8, "replace_every": 7, "addition": "grad_mean"},
    {"sparsity": 0.8, "replace_every": 6, "addition": "grad_averaged", "addition_draws": 3},
    {"sparsity": 0.8, "replace_every": 7, "addition": "grad_accumulated", "addition_minibatches": 7},
    {"sparsity": 0.9, "replace_every": 3, "addition": "grad_accumulated", "addition_minibatches": 2},
    {"sparsity": 0.9, "replace_every": 2},  # so few slots that the last updates replace none
    {"sparsity": 0.7, "replace_every": 4, "allocation": "global"},
    {"sparsity": 0.7, "replace_every": 4, "replace_until": 0.3, "step_on_update": False},
    {"sparsity": 0.3, "replace_every": 5, "precision": "float64"},
]
CASES = [
    *(("ssvi", options) for options in MOVING),
    *(("static_vi", {"sparsity": sparsity}) for sparsity in (0.01, 0.5, 0.77, 0.9)),
    ("rigl", {"sparsity": 0.6, "replace_every": 3}),
    ("rigl", {"sparsity": 0.6, "replace_every": 3, "growth": "random"}),
    ("static_vi", {"sparsity": 0.6, "protocol": "refit"}),
    ("budget_twice", {"sparsity": 0.2}),
    ("magnitude_vi", {"sparsity": 0.8, "pruning": "one_shot"}),
    ("snr_vi", {"sparsity": 0.8, "pruning": "cubic", "prune_every": 3}),
    ("lottery_ticket", {"sparsity": 0.4, "epochs": 9}),
    ("sparse_vd", {"sparsity": 0.8, "finetune": 0.5}),
    ("lbbnn", {"sparsity": 0.8}),
]


@pytest.mark.parametrize(("method", "options"), CASES, ids=str)
def test_as_many_epochs_are_trained_as_fit_the_flops_of_dense_vi(method, options, tmp_path):
    specification = spec(method, **options)
    folder, found = computed(tmp_path, specification), make_problem(specification)
    costs, epochs = folder.read("costs"), found.budget.epochs
    module = found.build(Streams(specification.seed))

    def expected(epochs):
        stages = Budget(epochs, found.budget.steps_per_epoch, found.budget.last_batch)
        return found.task.examples * found.method.training_flops(module, stages)

    assert costs["epochs_total"] == sum(stage.epochs for stage in found.method.stages(found.budget))
    assert costs["train_flops"] == pytest.approx(expected(epochs), rel=1e-12)
    assert costs["train_flops"] <= costs["dense_vi_train_flops"] * (1 + 1e-9)
    nominal = specification.training.epochs
    assert costs["epochs_factor"] == epochs / nominal and costs["epochs_capped"] == (epochs == CAP * nominal)
    if epochs < CAP * nominal:
        assert expected(epochs + 1) > costs["dense_vi_train_flops"]


def test_the_flops_of_convolutions_are_counted_by_their_uses(tmp_path):
    chosen = {"dataset": "digits", "network": "cnn", "channels": [4, 4], "sparsity": 0.8, "epochs": 2}
    folder = computed(tmp_path, parse_spec(nest({**chosen, "method": "ssvi", "budget": "flops"})))
    costs = folder.read("costs")
    left = costs["dense_vi_train_flops"] - costs["train_flops"]
    assert costs["epochs_total"] > 1 and 0 <= left < costs["train_flops"] / (costs["epochs_total"] - 1)


@pytest.mark.parametrize("method", ["dense_vi", "toy_two_stage", "ensemble"])
def test_a_dense_method_has_the_nominal_epochs(method, tmp_path):
    assert epochs_of(spec(method)) == EPOCHS
    assert canonical(spec(method))[0] == spec(method, budget="epochs")
    found = [results(computed(tmp_path, spec(method, budget=budget))) for budget in ("flops", "epochs")]
    assert found[0] == found[1]


@pytest.mark.parametrize("epochs", [1, 3, 7, 40, 191, 200])
def test_rounding_costs_dense_training_no_epoch(epochs):
    """With 175 of 176 weights active, one more epoch fits."""
    assert epochs_of(spec("static_vi", sparsity=0.01, epochs=epochs)) == epochs + epochs // 175


def test_a_method_that_costs_more_than_dense_vi_has_fewer_epochs_and_at_least_one(tmp_path):
    assert epochs_of(spec("budget_twice", sparsity=0.2)) == 2
    costs = computed(tmp_path, spec("budget_often", sparsity=0.2)).read("costs")
    assert costs["epochs_factor"] == 1 / EPOCHS and costs["train_flops"] > costs["dense_vi_train_flops"]


def test_the_cap_binds_and_is_said(tmp_path):
    settings = "dataset=toy_blobs,network=mlp,network.hidden=[64],method=static_vi,sparsity=0.99,epochs=1"
    assert called(run, "--set", settings + ",budget=flops", "--results", tmp_path) == 0
    (run_id,) = Store(tmp_path).run_ids()
    costs = Store(tmp_path).run(run_id).read("costs")
    assert (costs["epochs_factor"], costs["epochs_capped"], costs["epochs_total"]) == (CAP, True, CAP)
    assert costs["train_flops"] < costs["dense_vi_train_flops"] / CAP * 2


@pytest.mark.parametrize("cap", [1, 4, 200])
def test_the_cap_is_an_option(cap, tmp_path):
    chosen = spec(
        "static_vi", sparsity=0.99, epochs=1, budget_cap=cap, network={"name": "mlp", "hidden": [64]}
    )
    costs = computed(tmp_path, chosen).read("costs")
    if cap == 200:
        assert 10 < costs["epochs_total"] < cap and not costs["epochs_capped"]
        assert costs["train_flops"] == pytest.approx(costs["dense_vi_train_flops"], rel=0.1)
    else:
        assert (costs["epochs_total"], costs["epochs_capped"]) == (cap, True)


def test_a_cap_is_part_of_the_id_where_it_has_a_meaning():
    assert spec(sparsity=0.9).run_id == spec(sparsity=0.9, budget_cap=10).run_id
    assert spec(sparsity=0.9).run_id != spec(sparsity=0.9, budget_cap=30).run_id
    plain = spec(budget="epochs", sparsity=0.9)
    found, reason = canonical(spec(budget="epochs", budget_cap=30, sparsity=0.9))
    assert found == plain and reason == "budget epochs has no cap"
    assert canonical(spec("dense_vi", budget_cap=30))[0] == spec("dense_vi", budget="epochs")


def test_the_epochs_are_those_of_every_seed_and_process():
    chosen = {"sparsity": 0.7, "allocation": "global", "replace_every": 3}
    before = epochs_of(spec(**chosen))
    allowed_epochs.cache_clear()
    state = torch.get_rng_state()
    assert {epochs_of(spec(seed=seed, **chosen)) for seed in (5, 0, 17)} == {before}
    assert torch.equal(torch.get_rng_state(), state)
    assert allowed_epochs.cache_info().currsize == 1  # built once


def test_what_cannot_be_counted_is_one_line():
    with pytest.raises(
        UserError, match=r"^budget: flops: method budget_unbuildable, network toy_network: ca"
    ):
        preflight.check(spec("budget_unbuildable"))
    with pytest.raises(UserError, match=r"^budget: flops ends before epoch 3 does, to which stage 'b'"):
        preflight.check(spec("budget_rewinds", sparsity=0.2))
    preflight.check(spec("budget_rewinds", sparsity=0.9))
    # where fewer epochs than these cannot be at all, it is the method that says so
    assert epochs_of(spec("budget_particular", sparsity=0.5)) == 4
    with pytest.raises(UserError, match=r"^at least four epochs$"):
        preflight.check(spec("budget_particular", sparsity=0.2))
    with pytest.raises(UserError, match=r"^max_steps: 17 ends before epoch 3 does"):
        preflight.check(spec("budget_rewinds", sparsity=0.2, max_steps=17))


# -- a run ---------------------------------------------------------------------------------------


def test_ids_of_other_runs_are_as_they_were():
    before = spec(budget="epochs").to_dict()
    del before["training"]["budget"]
    assert parse_spec(before).run_id == spec(budget="epochs").run_id != spec().run_id
    assert parse_spec(before).config_id != spec().config_id
    assert "budget" not in hashed_dict(spec(budget="epochs").training)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.5, "replace_every": 3},
        {"sparsity": 0.6, "allocation": "global", "addition": "grad_averaged", "dropout": 0.2},
    ],
    ids=str,
)
def test_it_is_the_training_of_so_many_epochs(options, tmp_path):
    """Schedules, updates and streams equal those of a run whose epochs were set to this number."""
    specification = spec(**options)
    epochs = epochs_of(specification)
    assert epochs > EPOCHS
    told = spec(budget="epochs", **{**options, "epochs": epochs})
    assert results(computed(tmp_path, specification)) == results(computed(tmp_path, told))


def test_schedules_are_those_of_the_epochs_trained(tmp_path):
    specification = spec(sparsity=0.5, replace_every=2)
    folder, epochs = computed(tmp_path, specification), epochs_of(specification)
    curves = {}
    for row in folder.rows("history"):
        if row["split"] == "train":
            curves.setdefault(row["metric"], []).append(row["value"])
    assert epochs > EPOCHS and len(curves["lr"]) == epochs
    assert curves["lr"][-1] == pytest.approx(0.05 * 0.5 * (1 + math.cos(math.pi * (epochs - 1) / epochs)))
    full = specification.method[1].kl_factor / TRAIN
    reached = [epoch for epoch, weight in enumerate(curves["kl_weight"], 1) if weight == pytest.approx(full)]
    assert reached[0] == math.ceil(epochs / 2)
    updates = {row["step"] for row in folder.rows("layers")}
    end = math.floor(0.75 * epochs * STEPS)  # T_end
    assert EPOCHS * STEPS < max(updates) < end


def test_nominal_figures_stay_those_of_dense_vi(tmp_path):
    dense = computed(tmp_path, spec("dense_vi", budget="epochs")).read("costs")
    sparse = computed(tmp_path, spec("static_vi", sparsity=0.5)).read("costs")
    assert sparse["dense_vi_train_flops"] == dense["train_flops"] == dense["dense_vi_train_flops"]
    refit = computed(tmp_path, spec("static_vi", sparsity=0.5, protocol="refit")).read("costs")
    assert refit["dense_vi_train_flops"] == pytest.approx(dense["train_flops"] * (TRAIN + VAL) / TRAIN)


@pytest.mark.parametrize(("limit", "of_dense_vi"), [(9, TRAIN + 3 * BATCH), (29, EPOCHS * TRAIN)])
def test_max_steps_cut_the_longer_training_short(limit, of_dense_vi, tmp_path):
    """Dense VI's values are those of a run with the same steps, if there is one."""
    specification = spec("static_vi", sparsity=0.5, max_steps=limit)
    epochs = epochs_of(specification)
    assert epochs == epochs_of(spec("static_vi", sparsity=0.5)) > EPOCHS
    costs = computed(tmp_path, specification).read("costs")
    assert (costs["steps_total"], costs["epochs_factor"]) == (limit, epochs / EPOCHS)
    a_step = make_problem(spec("dense_vi")).method
    module = make_problem(spec("dense_vi")).build(Streams(0))
    assert costs["dense_vi_train_flops"] == of_dense_vi * a_step.flops(module, "step")


@pytest.mark.parametrize("method", ["ssvi", "budget_twice"])
def test_stopped_and_resumed_equals_uninterrupted(method, tmp_path):
    specification = spec(method, sparsity=0.2 if method == "budget_twice" else 0.5)
    whole, sliced = computed(tmp_path, specification), Store(tmp_path / "sliced", create=True)
    outcomes = []
    for patience in (9, 3, 2, 1000):
        allowed_epochs.cache_clear()  # as in another process
        asked = iter(range(patience))
        how = Execution(checkpoint_seconds=0.0)
        outcomes.append(execute(specification, sliced, how, stop=lambda a=asked: next(a, None) is None))
        assert (
            allowed_epochs.cache_info().currsize == 1
        )  # counted once, for the plan's task and the loaded data's
    assert outcomes == ["preempted"] * 3 + ["done"]
    assert results(whole) == results(sliced.run(specification.run_id))


def test_the_stored_model_predicts_as_the_run_did(tmp_path):
    specification = spec(sparsity=0.6)
    folder = computed(tmp_path, specification)
    allowed_epochs.cache_clear()
    model = bench.load(specification.run_id, tmp_path / "results")
    test = DATASETS.get("toy_blobs")().parts(Streams(0)["split"], refit=False).test
    with np.load(folder.path / "predictions.npz") as arrays:
        assert np.array_equal(model.predict(test.inputs).numpy(), arrays["samples/probabilities"])


# -- plans, commands and tables --------------------------------------------------------------------

SUITE = """
question: What does a sparse method make of dense VI's FLOPs?
reference: {method: dense_vi}
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, batch_size: 16, epochs: 2}
    grids:
      - {method: [dense_vi, static_vi], budget: [epochs, flops], set: {}}
      - {method: ssvi, sparsity: [0, 0.5, 0.95], budget: [epochs, flops]}
"""


def expanded(**options):
    return parse_suite(yaml.safe_load(SUITE), "toy", "toy.yaml").expand("demo", **options)


def called(command, *arguments):
    with pytest.raises(SystemExit) as caught:
        entry(lambda: command.main(list(map(str, arguments))))
    return caught.value.code


def test_an_axis_of_budgets_trains_nothing_twice():
    plan = expanded(seeds="0")
    omitted = {cell.label: cell.omitted for cell in plan.cells if cell.omitted}
    assert omitted == {
        "dense_vi budget=flops": "budget flops allows it the epochs it has; see dense_vi budget=epochs",
        "ssvi budget=epochs sparsity=0": "sparsity 0 is dense VI; see dense_vi budget=epochs",
        "ssvi budget=flops sparsity=0": "sparsity 0 is dense VI; budget flops allows it the epochs it has; "
        "see dense_vi budget=epochs",
    }
    assert [cell.label for cell in plan.cells if not cell.omitted] == [
        "dense_vi budget=epochs",
        "static_vi budget=epochs sparsity=0.9",
        "static_vi budget=flops sparsity=0.9",
        *(f"ssvi budget={b} sparsity={s}" for s in (0.5, 0.95) for b in ("epochs", "flops")),
    ]
    assert all(cell.labels["budget"] == cell.spec.training.budget for cell in plan.cells)


def test_a_plan_of_one_budget_has_dense_vi_too():
    plan = expanded(where=["budget=flops", "method=dense_vi"], seeds="0")
    assert [(s.method[0], s.training.budget, s.training.epochs) for s in plan.specs] == [
        ("dense_vi", "epochs", 2)
    ]
    assert [bool(cell.omitted) for cell in plan.cells] == [False, True]


def test_what_cannot_be_counted_names_its_grid():
    content = yaml.safe_load(SUITE)
    content["scales"]["demo"]["grids"] = [{"method": ["dense_vi", "budget_unbuildable"], "budget": "flops"}]
    with pytest.raises(
        UserError, match=r"^toy\.yaml: demo: grid 1: budget: flops: method budget_unbuildable"
    ):
        parse_suite(content, "toy", "toy.yaml").expand("demo")
    content["scales"]["demo"]["grids"] = [{"method": "budget_rewinds", "budget": ["epochs", "flops"],
                                           "sparsity": 0.2, "epochs": 4}]  # fmt: skip
    del content["scales"]["demo"]["base"]["epochs"], content["reference"]
    with pytest.raises(UserError, match=r"^toy\.yaml: demo: grid 1: budget: flops ends before epoch 3"):
        parse_suite(content, "toy", "toy.yaml").expand("demo")


def test_a_suite_of_both_budgets_runs_and_has_its_columns(tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(SUITE)
    try:
        assert called(grid, "--suite", "./toy.yaml", "--executor", "inline") == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "SSVI · 95 % · equal FLOPs" in capsys.readouterr().out
    runs = Store(tmp_path / "results").read_tables("toy")["runs"]
    assert list(runs["status"]) == ["done"] * 14
    nominal = runs[runs["budget"] == "epochs"]
    assert set(nominal["epochs_factor"]) == {1.0} and not nominal["epochs_capped"].any()
    assert set(nominal["epochs_total"]) == {2}
    longer = runs[runs["budget"] == "flops"].set_index("config_label")
    assert set(longer.index) == {
        "static_vi budget=flops sparsity=0.9",
        *(f"ssvi budget=flops sparsity={s}" for s in (0.5, 0.95)),
    }
    assert set(longer["epochs"]) == {2} and (longer["epochs_factor"] * 2 == longer["epochs_total"]).all()
    assert longer["epochs_capped"].to_dict()["ssvi budget=flops sparsity=0.95"]
    assert not longer["epochs_capped"].to_dict()["ssvi budget=flops sparsity=0.5"]
    assert (longer["train_flops_ratio"] <= 1 + 1e-9).all() and (longer["epochs_factor"] > 1).all()
    assert called(status_of, "--suite", "toy") == 0
    assert "14/14 runs: 14 done" in capsys.readouterr().out


def test_measured_ratios_are_to_the_dense_vi_that_there_is(tmp_path):
    """With a budget the number of epochs changes, the time of a step does not."""
    runs = []
    for method, budget, seconds in (("dense_vi", "epochs", 0.02), ("ssvi", "flops", 0.01)):
        configuration = config(method=method)
        configuration["training"]["budget"] = budget
        runs.append(run_files(configuration))
        runs[-1]["costs"] |= {"seconds_per_step": seconds, "epochs_factor": 7.5}
        runs[-1]["provenance"]["concurrency"] = 1
        write_run(tmp_path, runs[-1])
    store = Store(tmp_path, create=True)
    store.merge_plan(plan([cell(files["spec"]["config"]) for files in runs]))
    table = store.tables("criteria_ablation")["runs"]
    assert table["step_time_ratio"].tolist() == [1.0, 0.5]
    assert table["epochs_factor"].tolist() == [1.0, 7.5]


def test_what_the_tables_say_of_runs_from_before_and_of_unfinished_ones(tmp_path):
    old, unfinished, planned = config(0), config(1), config(2)
    del old["training"]["budget"]
    unfinished["training"]["budget"] = planned["training"]["budget"] = "flops"
    files = [run_files(old), run_files(unfinished, status="preempted")]
    for name in ("epochs_factor", "epochs_capped"):
        del files[0]["costs"][name]
    for one in files:
        write_run(tmp_path, one)
    store = Store(tmp_path, create=True)
    pending = cell(planned)
    pending["labels"]["budget"] = "flops"
    store.merge_plan(plan([cell(old), cell(unfinished), pending]))
    runs = store.tables("criteria_ablation")["runs"]
    assert runs["status"].tolist() == ["done", "preempted", "pending"]
    assert runs["budget"].tolist() == ["epochs", "flops", "flops"]
    assert (runs["epochs_factor"][0], runs["epochs_capped"][0]) == (1.0, False)
    assert runs.loc[1:, ["epochs_factor", "epochs_capped"]].isna().all(axis=None)
    assert str(runs["epochs_capped"].dtype) == "boolean" and pd.notna(runs["epochs_capped"][0])


def test_a_truth_value_of_another_type_is_a_corrupted_run(tmp_path):
    configuration = config()
    configuration["training"]["budget"] = "flops"
    files = run_files(configuration)
    files["costs"]["epochs_capped"] = 1
    write_run(tmp_path, files)
    store = Store(tmp_path, create=True)
    store.merge_plan(plan([cell(configuration)]))
    (row,) = store.tables("criteria_ablation")["runs"].to_dict("records")
    assert row["run_id"] == identifier(configuration) and row["error_kind"] == "corrupted"
    assert "costs.json: epochs_capped: expected boolean, got 1" in row["error"]


def test_an_estimate_is_of_the_epochs_that_are_trained(tmp_path):
    def hours(budget, store=None):
        return estimate(expanded(where=["method=static_vi", f"budget={budget}"], seeds="0"), store).hours[
            "core"
        ]

    assert hours("flops") > hours("epochs")
    specification = next(
        s for s in expanded(seeds="0").specs if (s.method[0], s.training.budget) == ("static_vi", "flops")
    )
    folder = computed(tmp_path, specification)
    folder.write("costs", {**folder.read("costs"), "wall_seconds": 3600.0})
    factor = folder.read("costs")["epochs_factor"]  # so many times the epochs took an hour
    assert factor > 1 and hours("epochs", Store(tmp_path / "results")) == pytest.approx(1 / factor)


def test_progress_weighs_runs_by_their_epochs():
    plan = expanded(where=["method=ssvi", "sparsity=0.95"], seeds="0")
    weights = {item.label: item.weight for item in plan.items()}
    nominal, longer = (weights[f"ssvi budget={budget} sparsity=0.95"] for budget in ("epochs", "flops"))
    assert longer == CAP * nominal


def test_a_preview_says_the_epochs():
    assert "\nbudget: " not in preview(spec(budget="epochs"))
    assert "budget: flops: 40 epochs, 10 x 4, the most that is allowed" in preview(
        spec("static_vi", sparsity=0.95)
    )
    epochs = epochs_of(spec("static_vi", sparsity=0.5))
    assert preview(spec("static_vi", sparsity=0.5)).endswith(f"flops: {epochs} epochs, {epochs / 4:.4g} x 4")


def test_the_document_says_how_many_epochs_its_example_trains():
    text = (Path(__file__).resolve().parent.parent / "docs" / "costs.md").read_text()
    (settings,) = re.findall(r"^    python -m bench\.run --set (\S*budget=flops)$", text, re.MULTILINE)
    chosen = {"dataset": "digits", "network": "mlp"} | parse_overrides([settings])
    assert f"it trains as `epochs={epochs_of(parse_spec(nest(chosen)))}` would" in text
