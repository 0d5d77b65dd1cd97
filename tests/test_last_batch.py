"""A last minibatch of one example, which batch normalisation can't be trained on: one rule, planned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.experiment import preflight
from bench.experiment.budget import minibatches, nominal_budget
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS
from bench.planning.expansion import Expansion, Scale
from bench.results.store import Store
from bench.runner.execute import execute
from bench.runner.single import specify
from methods.base import METHODS, Task
from methods.core.errors import UserError
from methods.core.streams import Streams
from tests import toys

#: One of 1,257 training images remains for the last of 158 minibatches.
DIGITS = {"dataset": "digits", "network": "resnet18", "network.width": 2, "batch_size": 8, "epochs": 1}
#: The methods of this package; other tests register toys.
OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("methods.")]
BLOBS = {
    "dataset": "toy_blobs", "network": "toy_network", "batch_size": 8, "dataset.examples": 25, "epochs": 2,
}  # fmt: skip


class Grouped(toys.SmallNetwork):
    """Normalises by statistics of groups of examples, as one device would of its share."""

    name = "toy_grouped"

    def build(self, task: Task) -> nn.Module:
        network = super().build(task)

        class Groups(nn.BatchNorm1d):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.cat(
                    [super(Groups, self).forward(part) for part in x.chunk(2 if len(x) > 3 else 1)]
                )

        network.norm = Groups(16)
        return network


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.setitem(NETWORKS._registered, Grouped.name, Grouped)


def specified(**settings):
    return specify({"method": "deterministic", **settings}, "dense", "here")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (DIGITS, "merge"),
        (BLOBS, "merge"),
        (BLOBS | {"network": "toy_grouped"}, "merge"),
        (BLOBS | {"dataset.examples": 26}, "keep"),
        (BLOBS | {"batch_size": 25}, "keep"),
        (BLOBS | {"max_steps": 3}, "keep"),  # ends before the fourth minibatch
        (BLOBS | {"max_steps": 4}, "merge"),
        (BLOBS | {"network": "mlp"}, "keep"),  # has no statistics of batches
        (DIGITS | {"network": "mlp"} | {"network.hidden": [8]}, "keep"),
    ],
    ids=str,
)
def test_the_rule_is_chosen_only_where_a_run_cannot_be_trained_otherwise(settings, expected):
    settings = dict(settings)
    if settings["network"] != "resnet18":
        settings.pop("network.width", None)
    run = specified(**settings)
    assert run.training.last_batch == expected
    assert ("last_batch" in run._seedless["training"]) == (expected == "merge")


@pytest.mark.parametrize("method", OURS)
def test_suites_choose_it_too(method):
    settings = {key: value for key, value in BLOBS.items() if key not in ("dataset", "network")}
    grid = {
        "recipe": "default",
        "method": method,
        "dataset": "toy_blobs",
        "network": "toy_network",
        "set": settings,
    }
    (draft,) = Expansion(Scale(seeds=0, grids=(grid,)), "here").drafts()
    assert draft.spec.training.last_batch == "merge"
    (kept,) = Expansion(Scale(seeds=0, grids=(grid,)), "here", {"last_batch": "keep"}).drafts()
    assert kept.spec.training.last_batch == "keep"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"last_batch": "keep"}, "set last_batch: merge, or another batch_size"),
        ({"batch_size": 1}, "set batch_size to 2 or more"),
        ({"dataset.examples": 1}, "train on more examples"),
        ({"batch_size": 1, "last_batch": "merge"}, "set batch_size to 2 or more"),
    ],
)
def test_a_run_that_cannot_be_trained_is_refused_in_one_line(changes, remedy):
    with pytest.raises(
        UserError, match=r"^batch_size: \d+ leaves a minibatch of one of \d+ training examples"
    ) as told:
        specified(**BLOBS | changes)
    assert remedy in str(told.value) and "\n" not in str(told.value)


def test_minibatches_have_every_example_once():
    for examples in range(1, 30):
        for size in range(1, 12):
            for rule in ("keep", "merge"):
                run = parse_spec(
                    nest({"method": "deterministic", **BLOBS, "batch_size": size, "last_batch": rule})
                )
                count, last = minibatches(run, examples)
                assert size * (count - 1) + last == examples
                assert 1 <= last <= size + (rule == "merge")
                if rule == "merge" and size > 1 and examples > 1:
                    assert last > 1
                length = nominal_budget(run, Task((8,), 3, examples))
                whole = length.in_epochs(range(1, 3 * count + 1))
                assert whole == pytest.approx(3)


def test_minibatches_of_training_are_those_that_were_planned():
    run = specified(**BLOBS)
    problem, streams = make_problem(run), Streams(0)
    sizes = [len(labels) for _, labels in problem.training_batches(streams)]
    assert sizes == [8, 8, 9]
    assert len(sizes) == problem.budget.steps_per_epoch == preflight.budget(run).steps_per_epoch
    kept = make_problem(parse_spec(nest({"method": "deterministic", **BLOBS, "last_batch": "keep"})))
    theirs = [labels for _, labels in kept.training_batches(Streams(0))]
    assert [len(labels) for labels in theirs] == [8, 8, 8, 1]


@pytest.mark.parametrize("method", ["deterministic", "ssvi", "ensemble", "lottery_ticket", "mc_dropout"])
@pytest.mark.parametrize("budget", ["epochs", "flops"])
def test_runs_train_count_and_resume_by_the_rule(method, budget, tmp_path):
    levels = {"epochs": 6, "level_share": 0.5} if method == "lottery_ticket" else {}
    run = specify({**BLOBS, "method": method, "budget": budget, "samples": 2, **levels}, "dense", "here")
    store = Store(tmp_path / "whole", create=True)
    assert execute(run, store, Execution()) == "done", store.run(run.run_id).read("status")
    costs = store.run(run.run_id).read("costs")
    assert costs["steps_total"] == preflight.steps(run) == 3 * costs["epochs_total"]
    problem = make_problem(run)
    planned = problem.method.training_flops(problem.build(Streams(0)), problem.budget) * 25
    assert planned == pytest.approx(costs["train_flops"], rel=0.1)
    parts = Store(tmp_path / "parts", create=True)
    calls = iter(range(2))  # in the middle of an epoch, before the larger minibatch
    assert (
        execute(run, parts, Execution(checkpoint_seconds=0.0), lambda: next(calls, None) is None)
        == "preempted"
    )
    assert execute(run, parts, Execution()) == "done"
    assert parts.run(run.run_id).read("metrics") == store.run(run.run_id).read("metrics")
