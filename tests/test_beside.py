"""Evaluation sets beside the test part: which there are, what runs are told, and what is no part of a run."""

from __future__ import annotations

import pytest
import torch

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.experiment import beside, preflight
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.planning.expansion import Scale
from bench.planning.suite import Suite
from methods.core.errors import UserError

CLASSES, FEATURES = 3, 6


def _part(count, first):
    """Class k is shifted along its own features; examples are the same in each process."""
    generator = torch.Generator().manual_seed(first)
    labels = torch.arange(count) % CLASSES
    inputs = torch.randn(count, FEATURES, generator=generator)
    inputs[torch.arange(count), labels] += 2.0
    return Split(inputs, labels)


@DATASETS.register
class Surrounded(Dataset):
    """A table with two sets of no class and two shifts."""

    name = "toy_surrounded"

    def load(self, split):
        return Splits(_part(90, 1), _part(45, 2), _part(60, 3), CLASSES)

    def unknown(self):
        return {
            "far": lambda splits: splits.test.inputs * 5 + 20,
            "noise": lambda splits: torch.randn(70, FEATURES, generator=torch.Generator().manual_seed(9)),
        }

    def shifts(self):
        return {
            "added": lambda batch, severity, splits: batch + 0.3 * severity,
            "scaled": lambda batch, severity, splits: batch * (1 + severity),
        }


@DATASETS.register
class Neighbour(Dataset):
    """Another table of the same shape."""

    name = "toy_neighbour"

    def load(self, split):
        return Splits(_part(60, 4), _part(45, 5), _part(30, 6), CLASSES)


def spec_of(**settings):
    usual = {"dataset": "toy_surrounded", "network": "mlp", "method": "dense_vi", "network.hidden": [8]}
    usual |= {"epochs": 2, "batch_size": 30, "evaluation.samples": 3}
    return parse_spec(nest({**usual, **settings}))


def test_evaluation_sets_are_no_part_of_a_run():
    plain, more = spec_of(), spec_of(**{"evaluation.ood": ["far"], "evaluation.shifts": "all"})
    assert (more.run_id, more.config_id) == (plain.run_id, plain.config_id)
    assert more.record() == plain.record() and "ood" not in more.record()["evaluation"]
    assert parse_spec(more.to_dict()) == more  # a worker is told of them


def test_sets_are_named_once_and_in_order():
    found = spec_of(**{"evaluation.ood": ["noise", "far", "noise"], "evaluation.shifts": "all"})
    assert beside.wanted(found) == ("ood.noise", "ood.far", "shift.added", "shift.scaled")
    assert beside.wanted(spec_of(**{"evaluation.ood": "far"})) == ("ood.far",)
    assert beside.wanted(spec_of(**{"evaluation.ood": "all"})) == ("ood.far", "ood.noise")
    assert beside.wanted(spec_of()) == ()


def test_the_test_part_of_another_data_set_is_a_set_of_inputs_of_no_class():
    found = spec_of(**{"evaluation.ood": ["toy_neighbour"]})
    preflight.check(found)
    assert torch.equal(beside.unknown_inputs(found, "toy_neighbour"), _part(30, 6).inputs)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"evaluation.ood": ["faar"]},
            "evaluation.ood: unknown set 'faar' (did you mean 'far'?); valid: all, far, ",
        ),
        ({"evaluation.ood": ["toy_surrounded"]}, "evaluation.ood: unknown set 'toy_surrounded'"),
        ({"evaluation.ood": ["digits"]}, "evaluation.ood: unknown set 'digits'"),  # images
        (
            {"evaluation.shifts": ["add"]},
            "evaluation.shifts: unknown shift 'add' (did you mean 'added'?); valid: added, all, scaled",
        ),
    ],
)
def test_a_set_that_there_is_not_is_refused_before_anything_is_trained(settings, line):
    with pytest.raises(UserError) as refused:
        preflight.check(spec_of(**settings))
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize("name", ["test", "all", "Far", "a.b", ""])
def test_a_data_set_cannot_declare_a_set_by_any_name(monkeypatch, name):
    monkeypatch.setattr(Surrounded, "shifts", lambda self: {name: None})
    with pytest.raises(UserError, match="can't be the name of an evaluation set"):
        preflight.check(spec_of(**{"evaluation.shifts": ["added"]}))


def grid(**axes):
    usual = {"method": "dense_vi", "dataset": "toy_surrounded", "network": "mlp", "network.hidden": [[8]]}
    return {**usual, "epochs": 2, "batch_size": 30, **axes}


def expanded(*grids, base=(), **given):
    scale = Scale(seeds="0", grids=grids, base=dict(base))
    return Suite("toys", "toys", "a question?", {}, {"demo": scale}).expand("demo", **given)


def test_a_run_is_evaluated_on_the_sets_that_any_of_its_cells_asks_for():
    plan = expanded(grid(**{"evaluation.ood": ["noise", "far"]}), grid(**{"evaluation.shifts": "added"}))
    (found,) = plan.specs
    assert beside.wanted(found) == ("ood.noise", "ood.far", "shift.added")


def test_labels_and_ids_of_cells_do_not_depend_on_evaluation_sets():
    sets = {"evaluation.ood": ["far"], "evaluation.shifts": "all"}
    plain = expanded(grid())
    for plan in (expanded(grid(), base=sets), expanded(grid(), overrides=sets)):
        assert [beside.wanted(spec) for spec in plan.specs] == [("ood.far", "shift.added", "shift.scaled")]
        assert [(c.run_id, c.label, c.labels) for c in plan.cells] == [
            (c.run_id, c.label, c.labels) for c in plain.cells
        ]


def test_a_plan_with_a_wrong_name_names_the_grid():
    with pytest.raises(UserError, match=r"grid 1: evaluation.ood: unknown set 'fra'"):
        expanded(grid(), overrides={"evaluation.ood": ["fra"]})
