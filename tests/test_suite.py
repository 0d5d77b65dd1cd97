"""Suites: reading, expansion, layers of settings, aliases, what is refused, and the dry run."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from bench import grid, run, suites
from bench.cli.describe_plan import describe_plan
from bench.data import files
from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.experiment import preflight, problem, recipes
from bench.experiment.settings import Evaluation, Training, nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS, Network
from bench.planning.estimate import Estimate, estimate
from bench.planning.expansion import Expansion, Scale
from bench.planning.suite import load, names
from bench.results.store import Store
from bench.training.trainer import WARM_UP_STEPS
from methods.base import METHODS, Equivalent, Method, Task
from methods.core.errors import UserError
from methods.core.options import declared_by, describe, option, to_dict
from methods.core.options import names as option_names
from methods.core.style import Style
from methods.criteria.base import CRITERIA, Criterion
from methods.families.prior_and_kl import PriorOptions
from methods.ssvi import SSVI, SSVIOptions

RESOLVED = Path(__file__).with_name("resolved_settings.json")
STYLE = Style("Suite toy", hue="#000000", hue_dark="#FFFFFF")


@METHODS.register
class Plain(Method):
    """No option at all."""

    name = "plain"
    style = STYLE


@METHODS.register
class Dense(Method):
    """One option, which is shared."""

    @dataclass(frozen=True)
    class DenseOptions(PriorOptions):
        pass

    name = "dense"
    style = STYLE
    Options = DenseOptions


@METHODS.register
class Sparse(Method):
    """A twin criterion, sparsity 0 for the dense method, and a sparsity too high for a small network."""

    @dataclass(frozen=True)
    class SparseOptions(Dense.DenseOptions):
        sparsity: float = option(0.9, "share removed", within="[0, 1)")
        criterion: str = option("snr", "criterion", choices=("abs_mean", "snr", "twin"))

    name = "sparse"
    style = STYLE
    Options = SparseOptions

    @classmethod
    def equivalent(cls, options):
        if options.criterion == "twin":
            same = {"prior_std": options.prior_std, "sparsity": options.sparsity, "criterion": "snr"}
            return Equivalent("sparse", same, "twin ranks as snr")
        if options.sparsity == 0:
            return Equivalent("dense", {"prior_std": options.prior_std}, "sparsity 0 is dense")
        return None

    @classmethod
    def validate(cls, options, network):
        weights = sum(p.numel() for p in network.parameters())
        if weights * (1 - options.sparsity) < 1:
            raise UserError(f"sparsity {options.sparsity} leaves nothing of {weights} weights")


@NETWORKS.register
class Line(Network):
    """A linear layer after hidden ones."""

    @dataclass(frozen=True)
    class LineOptions:
        hidden: tuple[int, ...] = option((4,), "units", within="[1, inf)")

    name = "line"
    Options = LineOptions

    def build(self, task: Task) -> nn.Module:
        widths = [task.input_shape[0], *self.options.hidden, task.classes]
        if len(widths) > 5:
            raise UserError("network line: too deep")
        return nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(widths)])


@NETWORKS.register
class Dot(Network):
    """A linear layer, with an option of a name that methods use too."""

    @dataclass(frozen=True)
    class DotOptions:
        sparsity: float = option(0.0, "nothing", within="[0, 1)")

    name = "dot"
    Options = DotOptions

    def build(self, task: Task) -> nn.Module:
        return nn.Linear(task.input_shape[0], task.classes)


@DATASETS.register
class Points(Dataset):
    """100 points."""

    name = "points"

    def load(self, split: torch.Generator) -> Splits:
        part = Split(torch.zeros(100, 3), torch.zeros(100, dtype=torch.long))
        return Splits(part, part, part, classes=2)


SUITE = """
question: Which?
reference: {method: sparse, criterion: abs_mean}
scales:
  demo:
    seeds: 0-1
    base: {dataset: points, network: line, hidden: [8, 8], epochs: 3}
    grids:
      - {recipe: quick, method: dense}
      - recipe: quick
        method: sparse
        criterion: [abs_mean, snr, twin]
        sparsity: [0, 0.5]
        seeds: 0
      - recipe: slow
        method: sparse
        set: {network.hidden: [4], criterion: abs_mean}
"""
RECIPES = """
quick:
  doc: a
  training: {epochs: 1, lr: 0.5}
  method: {prior_std: 0.2}
  methods: {sparse: {criterion: abs_mean}}
  published: {methods: [sparse]}
slow: {doc: b, training: {epochs: 100, lr: 0.001}}
"""


@pytest.fixture(autouse=True)
def toy_recipes(tmp_path, monkeypatch):
    (tmp_path / "recipes.yaml").write_text(RECIPES)
    monkeypatch.setattr(recipes, "_all", lambda: recipes.read(tmp_path / "recipes.yaml"))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the text as ``toy.yaml``, with replacements, and load it."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(text=SUITE, **replacements):
        for old, new in replacements.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "toy.yaml").write_text(text)
        return load("./toy.yaml")

    return write_and_load


def one_grid(grid, base="{dataset: points, network: line}", seeds="0"):
    return (
        f"question: Q?\nscales:\n  demo:\n    seeds: {seeds}\n    base: {base}\n    grids:\n      - {grid}\n"
    )


def labels(plan):
    return [(cell.label, cell.spec.seed) for cell in plan.cells]


# -- expansion ------------------------------------------------------------------------------


def test_cells_stand_in_the_order_written_with_seeds_innermost(write):
    assert labels(write().expand("demo")) == [
        ("dense recipe=quick", 0),
        ("dense recipe=quick", 1),
        ("sparse sparsity=0 criterion=abs_mean recipe=quick", 0),
        ("sparse sparsity=0.5 criterion=abs_mean recipe=quick", 0),
        ("sparse sparsity=0 criterion=snr recipe=quick", 0),
        ("sparse sparsity=0.5 criterion=snr recipe=quick", 0),
        ("sparse sparsity=0 criterion=twin recipe=quick", 0),
        ("sparse sparsity=0.5 criterion=twin recipe=quick", 0),
        ("sparse sparsity=0.9 criterion=abs_mean recipe=slow", 0),
        ("sparse sparsity=0.9 criterion=abs_mean recipe=slow", 1),
    ]


def test_precedence_is_recipe_base_grid_set(write):
    plan = write().expand("demo")
    dense, sparse, slow = plan.cells[0].spec, plan.cells[3].spec, plan.cells[-1].spec
    assert (dense.training.epochs, dense.training.lr) == (3, 0.5)  # base over recipe, recipe over the default
    assert (dense.method[1].prior_std, sparse.method[1].prior_std, slow.method[1].prior_std) == (
        0.2,
        0.2,
        0.1,
    )
    assert dense.network[1].hidden == (8, 8) and slow.network[1].hidden == (4,)  # a grid's set over base
    overridden = write().expand("demo", overrides={"epochs": 9, "training.lr": 0.25, "hidden": [2]})
    found = {(c.spec.training.epochs, c.spec.training.lr, c.spec.network[1].hidden) for c in overridden.cells}
    assert found == {(9, 0.25, (2,))}


def test_a_recipe_is_an_axis_like_any_other(write):
    plan = write(one_grid("{recipe: [slow, quick], method: [dense, plain]}")).expand()
    assert [cell.label for cell in plan.cells] == [
        "dense recipe=slow", "plain recipe=slow", "dense recipe=quick", "plain recipe=quick",
    ]  # fmt: skip
    assert [cell.recipe for cell in plan.cells] == ["slow", "slow", "quick", "quick"]


def test_a_list_is_an_axis_in_a_grid_and_a_value_under_set_and_in_base(write):
    as_value = write(one_grid("{method: plain, set: {hidden: [2, 3]}}")).expand()
    in_base = write(
        one_grid("{method: plain}", base="{dataset: points, network: line, hidden: [2, 3]}")
    ).expand()
    as_axis = write(one_grid("{method: plain, hidden: [[2, 3], [4], []]}")).expand()
    network = write(one_grid("{method: plain, network: [{name: line, hidden: [2, 3]}, dot]}")).expand()
    assert as_value.specs == in_base.specs
    assert [spec.network[1].hidden for spec in as_value.specs] == [(2, 3)]
    assert [spec.network[1].hidden for spec in as_axis.specs] == [(2, 3), (4,), ()]
    assert [spec.network[0] for spec in network.specs] == ["line", "dot"]
    assert network.specs[0] == as_value.specs[0]


@pytest.mark.parametrize(
    ("written", "seeds"), [("0-2", [0, 1, 2]), ("'0,5'", [0, 5]), ("3", [3]), ("[4, 2]", [4, 2])], ids=str
)
def test_seeds_of_a_scale(write, written, seeds):
    plan = write(one_grid("{method: plain}", seeds=written)).expand()
    assert [spec.seed for spec in plan.specs] == seeds


def test_seeds_of_the_caller_replace_all_seeds(write):
    plan = write().expand("demo", seeds="7,9")
    assert Counter(cell.spec.seed for cell in plan.cells) == {7: 8, 9: 8}


def test_labels_say_what_a_cell_is(write):
    plan = write().expand("demo")
    identity = {"recipe": "quick", "dataset": "points", "network": "line"}
    assert plan.cells[0].labels == {"method": "dense", **identity, "seed": 0}
    expected = {
        "method": "sparse",
        **identity,
        "sparsity": 0.5,
        "criterion": "snr",
        "seed": 0,
    }
    assert plan.cells[5].labels == expected


def test_two_keys_of_one_short_name_are_labelled_in_full(write):
    grid = "{method: sparse, network: dot, method.sparsity: [0.5, 0.6], network.sparsity: [0.1, 0.2]}"
    plan = write(one_grid(grid, base="{dataset: points}")).expand(
        where=["method.sparsity=0.5,network.sparsity=0.2"]
    )
    (cell,) = plan.cells
    assert cell.label == "sparse network.sparsity=0.2 method.sparsity=0.5"
    assert (cell.labels["method.sparsity"], cell.labels["network.sparsity"]) == (0.5, 0.2)
    with pytest.raises(UserError, match="unknown column 'sparsity'"):
        write(one_grid(grid, base="{dataset: points}")).expand(where=["sparsity=0.5"])


def test_expansion_is_the_same_every_time(write):
    first, second = (write().expand("demo").to_dict("grid") for _ in range(2))
    assert first == second


def test_the_stored_plan(write):
    plan = write().expand("demo")
    stored = plan.to_dict("python -m bench.grid --suite ./toy.yaml")
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    cells = stored.pop("cells")
    assert stored == {
        "schema": 1,
        "suite": "toy",
        "scale": "demo",
        "question": "Which?",
        "reference": {"method": "sparse", "criterion": "abs_mean"},
        "rank_by": None,
        "command": "python -m bench.grid --suite ./toy.yaml",
    }
    assert [cell["run_id"] for cell in cells] == [cell.spec.run_id for cell in plan.cells]
    assert {key for cell in cells for key in cell} == {
        "run_id", "config_id", "label", "recipe", "labels", "omitted", "alias_of", "tuned", "origins", "sets",
    }  # fmt: skip
    assert len({cell["config_id"] for cell in cells}) == 8
    assert [cell["run_id"] for cell in cells if cell["omitted"] is None] == [
        spec.run_id for spec in plan.specs
    ]


def test_the_store_takes_the_plan(write, tmp_path):
    store = Store(tmp_path / "results", create=True)
    store.merge_plan(write().expand("demo", where=["method=dense"]).to_dict("one"))
    store.merge_plan(write().expand("demo").to_dict("two"))
    (stored,) = store.plans("toy")
    assert stored["command"] == "two" and len(stored["cells"]) == 10


# -- equal configurations -------------------------------------------------------------------


def omitted(plan):
    return {cell.label.removesuffix(" recipe=quick"): cell.omitted for cell in plan.cells if cell.omitted}


def test_a_cell_that_means_another_one_points_to_it(write):
    plan = write().expand("demo")
    assert omitted(plan) == {
        "sparse sparsity=0 criterion=abs_mean": "sparsity 0 is dense; see dense recipe=quick",
        "sparse sparsity=0 criterion=snr": "sparsity 0 is dense; see dense recipe=quick",
        "sparse sparsity=0 criterion=twin": "twin ranks as snr; sparsity 0 is dense; see dense recipe=quick",
        "sparse sparsity=0.5 criterion=twin": "twin ranks as snr; "
        "see sparse sparsity=0.5 criterion=snr recipe=quick",
    }
    by_label = {(cell.label, cell.spec.seed): cell for cell in plan.cells}
    dense = by_label["dense recipe=quick", 0]
    for cell in plan.cells:
        assert (cell.alias_of is None) == (cell.omitted is None)
        assert cell.omitted is None or cell.run_id != cell.alias_of
        if cell.labels.get("sparsity") == 0:
            assert cell.alias_of == dense.run_id
    assert len(plan.specs) == len({spec.run_id for spec in plan.specs}) == 6


def test_the_other_one_is_planned_once_when_nobody_asked_for_it(write):
    plan = write().expand("demo", where=["criterion=twin"])
    assert [(cell.label.removesuffix(" recipe=quick"), bool(cell.omitted)) for cell in plan.cells] == [
        ("dense", False),
        ("sparse sparsity=0 criterion=twin", True),
        ("sparse sparsity=0.5 criterion=snr", False),
        ("sparse sparsity=0.5 criterion=twin", True),
    ]
    whole = {(cell.run_id, cell.label): cell for cell in write().expand("demo").cells}
    there = [replace(cell, origins={}) for cell in plan.cells]  # a stand-in's settings are nobody's words
    assert [replace(whole[cell.run_id, cell.label], origins={}) for cell in there] == there


def test_a_configuration_under_two_names_is_trained_once(write):
    base = "{dataset: points, network: line, epochs: 2, lr: 0.1, prior_std: 0.3}"
    plan = write(one_grid("{recipe: [quick, slow], method: dense}", base=base)).expand()
    first, second = plan.cells
    assert (first.label, second.label) == ("dense recipe=quick", "dense recipe=slow")
    assert first.omitted is None
    assert (second.omitted, second.alias_of) == (
        "the same configuration; see dense recipe=quick",
        first.run_id,
    )
    assert len(plan.specs) == 1


def test_a_cell_that_is_written_twice_is_there_once(write):
    plan = write(one_grid("{method: plain}\n      - {method: [plain, dense]}")).expand()
    assert labels(plan) == [("plain", 0), ("dense", 0)]


# -- choosing and overriding ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (["method=dense"], 2),
        (["method=sparse,seed=1"], 1),
        (["recipe=slow"], 2),
        (["sparsity>=0.5", "sparsity<0.9"], 3),
        (["sparsity=0"], 5),  # a method without sparsity has 0
        (["criterion!=twin"], 8),
        (["lr=0.5"], 8),
        (["training.epochs=3"], 10),
        (["hidden=[4]"], 2),
        (["network.name=line,dataset=points"], 10),
    ],
    ids=str,
)
def test_where_chooses_cells_by_label_or_setting(write, where, count):
    assert len(write().expand("demo", where=where).cells) == count


def test_where_knows_its_columns(write):
    with pytest.raises(
        UserError, match=r"^--where: unknown column 'sparsty'.*; valid: .*criterion.*recipe.*seed.*sparsity"
    ):
        write().expand("demo", where=["sparsty>0.5"])


def test_an_override_goes_to_the_methods_that_have_it(write):
    plan = write().expand("demo", overrides={"prior_std": 0.7, "criterion": "snr"})
    assert {cell.spec.method[1].prior_std for cell in plan.cells} == {0.7}
    assert {c.spec.method[1].criterion for c in plan.cells if c.labels["method"] == "sparse"} == {"snr"}


def test_an_override_that_changes_something_is_in_the_label(write):
    changed = write().expand("demo", overrides={"epochs": 5, "samples": 10}).cells[0]
    assert changed.label == "dense epochs=5 recipe=quick"
    assert changed.labels["epochs"] == 5
    assert changed.run_id != write().expand("demo").cells[0].run_id


def test_another_network_leaves_the_settings_of_the_first_behind(write):
    text = one_grid("{method: plain}", base="{dataset: points, network: line, hidden: [8]}")
    spec = write(text).expand(overrides={"network": "dot"}).specs[0]
    assert spec == parse_spec(nest({"dataset": "points", "network": "dot", "method": "plain"}))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("sparsity: [0.5, 0.9]", "sparsity: [0.5, 0.9] is a list, which is an axis only in a grid"),
        ("training: {lr: [0.1, 0.2]}", "training.lr: [0.1, 0.2] is a list, which is an axis only in a grid"),
        ("criterion: [snr, twin]", "criterion: [snr, twin] is a list, which is an axis only in a grid"),
        (
            "precision: [float32, tf32]",
            "precision: [float32, tf32] is a list, which is an axis only",
        ),
        ("recipe: quick", "'recipe' belongs in a grid"),
        ("set: {epochs: 3}", "'set' belongs in a grid"),
        ("seeds: 0-2", "'seeds' belongs in the scale or in a grid"),
        ("sparsity: 95", "method: sparsity: 95.0 lies outside [0, 1) (did you mean 0.95?)"),
    ],
)
def test_what_belongs_in_a_grid_is_sent_there(write, base, message):
    suite = one_grid("{method: sparse}", base=f"{{dataset: points, network: line, {base}}}")
    with pytest.raises(UserError, match=re.escape(message)):
        write(suite).expand("demo")


def test_a_list_for_an_override_is_sent_to_a_grid(write):
    with pytest.raises(UserError, match=r"^--set: sparsity: \[0\.5, 0\.9\] is a list, which is an axis only"):
        write().expand("demo", overrides={"sparsity": [0.5, 0.9]})
    assert write().expand("demo", overrides={"network.hidden": [3, 3]}).specs  # a list where one is meant


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"epoch": 5},
            r"^--set: unknown key 'epoch' \(did you mean 'epochs'\?\); valid: .*criterion.*hidden.*epochs",
        ),
        ({"method.width": 5}, r"^--set: unknown key 'method\.width'"),
        ({"epochs": 0}, r"^--set: training: epochs: 0 lies outside \[1, inf\)$"),
        ({"epochs": "many"}, r"^--set: training: epochs: expected integer, got 'many'$"),
        ({"sparsity": 1}, r"^--set: method: sparsity: 1\.0 lies outside \[0, 1\)$"),
        ({"network": "nope"}, r"^--set: unknown network 'nope'.*; valid: "),
        ({"epochs": 5, "training.epochs": 6}, r"^--set: key 'training\.epochs' is given twice$"),
        ({"seed": 5}, r"^--set: seed is not a setting; use `seeds`"),
        ({"method": "dense"}, r"^--set: the method can't be overridden; choose it by --where method=…$"),
        ({"recipe": "slow"}, r"^--set: unknown key 'recipe'"),
    ],
    ids=str,
)
def test_bad_overrides_are_named_as_such(write, overrides, message):
    with pytest.raises(UserError, match=message):
        write().expand("demo", overrides=overrides)


@pytest.mark.parametrize("seeds", ["", "a", "3-1", "0-"])
def test_bad_seeds_of_the_caller(write, seeds):
    with pytest.raises(UserError, match=r"^--seeds: "):
        write().expand("demo", seeds=seeds)


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question: Q?\nscales: {demo: [}\n", r"^toy\.yaml:2: malformed YAML: "),
        ("question: Q?\nquestion: R?\n", r"^toy\.yaml:2: malformed YAML: key 'question' appears twice$"),
        ("- 1\n", r"^toy\.yaml: expected the keys of a suite, got \[1\]$"),
        ("question: Q?\n", r"^toy\.yaml: missing key 'scales'$"),
        (
            "question: Q?\nscales: {}\nscale: 1\n",
            r"^toy\.yaml: unknown key 'scale'.*; valid: name, one_at_a_time, question, ",
        ),
        ("question: 1\nscales: {}\n", r"^toy\.yaml: question: expected string, got 1$"),
        ("question: Q?\nscales: [demo]\n", r"^toy\.yaml: scales: expected mapping, got \['demo'\]$"),
        (
            "question: Q?\nname: other\nscales: {}\n",
            r"^toy\.yaml: name: 'other' is not the name of the file, 'toy'$",
        ),
        (
            "question: Q?\nscales: {huge: {}}\n",
            r"^toy\.yaml: unknown scale 'huge'.*; valid: demo, paper, reduced, small$",
        ),
        ("question: Q?\nscales: {demo: 1}\n", r"^toy\.yaml: demo: expected a mapping, got 1$"),
        ("question: Q?\nscales: {demo: {seeds: 0}}\n", r"^toy\.yaml: demo: missing key 'grids'$"),
        (
            "question: Q?\nscales: {demo: {seeds: 0, grids: 1}}\n",
            r"^toy\.yaml: demo: grids: expected list of ",
        ),
        (
            "question: Q?\nscales: {demo: {seeds: 0, grids: [], grid: 1}}\n",
            r"^toy\.yaml: demo: unknown key 'grid'",
        ),
        ("question: Q?\nscales: {demo: {seeds: true, grids: []}}\n", r"^toy\.yaml: demo: seeds: expected "),
    ],
)
def test_a_malformed_suite_is_one_line(write, text, message):
    with pytest.raises(UserError, match=message) as caught:
        write(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (one_grid("5"), r"grid 1: expected a mapping, got 5$"),
        (
            "question: Q?\nscales: {demo: {seeds: 0, grids: []}}\n",
            r"^toy\.yaml: demo: grids: no grid has a cell; list at least one grid$",
        ),
        (
            one_grid("{method: plain}\n      - {method: dens}"),
            r"grid 2: unknown method 'dens'.*; valid: .*dense",
        ),
        (
            one_grid("{method: sparse, sparsiti: 1}"),
            r"grid 1: unknown key 'sparsiti'.*; valid: .*recipe.*method: .*sparsity",
        ),
        (one_grid("{method: [sparse, dense], sparsity: 0.5}"), r"grid 1: unknown key 'sparsity'.*; valid: "),
        (
            one_grid("{method: sparse, sparsity: [0.5, 1.5]}"),
            r"grid 1: method: sparsity: 1\.5 lies outside \[0, 1\)$",
        ),
        (one_grid("{method: sparse, sparsity: []}"), r"grid 1: sparsity: an empty list leaves no cell$"),
        (one_grid("{method: sparse, set: {sparsiti: 1}}"), r"grid 1: unknown key 'sparsiti'"),
        (one_grid("{method: sparse, set: 5}"), r"grid 1: set: expected mapping, got 5$"),
        (one_grid("{method: sparse, seeds: {a: 1}}"), r"grid 1: seeds: expected "),
        (one_grid("{method: sparse, seeds: 4-0}"), r"grid 1: seeds: '4-0' is not a seed or a range"),
        (one_grid("{method: sparse, seeds: []}"), r"grid 1: seeds: no seed is given$"),
        (one_grid("{method: sparse, seed: [0, 1]}"), r"grid 1: seed is not a setting; use `seeds`"),
        (
            one_grid("{method: sparse, sparsity: 0.5, method.sparsity: 0.9}"),
            r"grid 1: key 'method\.sparsity' is given twice$",
        ),
        (
            one_grid("{method: sparse, sparsity: 0.5, set: {sparsity: 0.9}}"),
            r"grid 1: key 'sparsity' is given twice$",
        ),
        (one_grid("{method: sparse, recipe: quik}"), r"grid 1: unknown recipe 'quik'.*; valid: quick, slow$"),
        (
            one_grid("{method: plain}", base="{dataset: points, network: lin}"),
            r"grid 1: unknown network 'lin'.*; valid: ",
        ),
        (one_grid("{method: plain}", base="{dataset: points}"), r"grid 1: missing key 'network'$"),
        (one_grid("{sparsity: 0.5}"), r"grid 1: unknown key 'sparsity'"),
        (
            one_grid("{method: plain}", base="{dataset: points, network: line, epoch: 3}"),
            r"^toy\.yaml: demo: base: unknown key 'epoch'.*; valid: .*training: .*epochs",
        ),
        (
            one_grid("{method: plain}", base="{dataset: points, network: line, sparsity: 0.5}"),
            r"^toy\.yaml: demo: base: unknown key 'sparsity'.*; valid: ",
        ),
        (
            one_grid("{method: plain}", base="{dataset: points, network: line, seed: 1}"),
            r"base: seed is not a setting; use `seeds`",
        ),
        (
            one_grid("{method: plain}", base="{dataset: points, network: line, training: 1}"),
            r"base: training: expected a mapping",
        ),
        # what only the network can tell
        (
            one_grid("{method: sparse, sparsity: [0.5, 0.99]}"),
            r"grid 1: sparsity 0\.99 leaves nothing of 26 weights$",
        ),
        (one_grid("{method: plain, set: {hidden: [1, 1, 1, 1]}}"), r"grid 1: network line: too deep$"),
    ],
)
def test_a_cell_that_cannot_run_is_named_before_anything_runs(write, text, message):
    toy = write(text)
    with pytest.raises(UserError, match=message) as caught:
        toy.expand("demo")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("toy.yaml: demo: ")


def test_a_scale_that_the_suite_has_not(write):
    with pytest.raises(UserError, match=r"^toy\.yaml: unknown scale 'paper'.*; valid: demo$"):
        write().expand("paper")


def test_a_reference_must_be_a_cell(write):
    toy = write(SUITE, **{"{method: sparse, criterion: abs_mean}": "{method: sparse, criterion: mean_abs}"})
    with pytest.raises(UserError, match=r"^toy\.yaml: demo: no cell has the labels of the reference"):
        toy.expand("demo")


def compared(plan):
    """Method, criterion and sparsity of the reference, by those of the configuration, in the recipe quick."""
    names = {
        cell.spec.config_id: tuple(cell.labels.get(key) for key in ("method", "criterion", "sparsity"))
        for cell in plan.cells
        if cell.alias_of is None and cell.recipe == "quick"
    }
    return {names[mine]: names[theirs] for mine, theirs in plan.references.items() if mine in names}


def test_a_reference_that_is_equal_to_another_cell_stands_for_that_one(write):
    twin = {"{method: sparse, criterion: abs_mean}": "{method: sparse, criterion: twin}"}
    found = compared(write(SUITE, **twin).expand("demo"))
    assert found["sparse", "abs_mean", 0.5] == ("sparse", "snr", 0.5)
    dense = {"{method: sparse, criterion: abs_mean}": "{sparsity: 0}"}
    found = compared(write(SUITE, **dense).expand("demo"))
    sparse = ("sparse", "abs_mean", 0.5), ("sparse", "snr", 0.5)
    assert found == dict.fromkeys([*sparse, ("dense", None, None)], ("dense", None, None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "quick: {doc: a, trainin: {}}",
            r": quick: unknown key 'trainin'.*; valid: doc, evaluation, .*, published, training$",
        ),
        ("quick: {training: {lr: 1}}", r": quick: missing key 'doc'$"),
        ("quick: {doc: a, training: {lrr: 1}}", r": quick: training: unknown key 'lrr'.*; valid: .*lr_scale"),
        ("quick: {doc: a, evaluation: {s: 1}}", r": quick: evaluation: unknown key 's'.*; valid: ood"),
        (
            "quick: {doc: a, method: {sparsiti: 1}}",
            r": quick: method: unknown key 'sparsiti'.*; valid: .*sparsity",
        ),
        (
            "quick: {doc: a, methods: {ssvy: {lam: 1}}}",
            r": quick: methods: unknown key 'ssvy'.*; valid: .*ssvi",
        ),
        ("quick: {doc: a, methods: {ssvi: 1}}", r": quick: methods: ssvi: expected a mapping, got 1$"),
        (
            "quick: {doc: a, methods: {ssvi: {rate: 1}}}",
            r": quick: methods: ssvi: unknown key 'rate'.*; valid: .*lam",
        ),
        (
            "quick: {doc: a, methods: {lottery_ticket: {criterion: snr}}}",
            r": quick: methods: lottery_ticket: the recipe's source did not publish this method.* \(none\)$",
        ),
        (
            "quick: {doc: a, methods: {lbbnn: {prior_std: 1}}, published: {methods: [ssvi]}}",
            r": quick: methods: lbbnn: the recipe's source did not publish .*: methods` \(ssvi\)$",
        ),
        ("[quick]", r": expected a mapping from names to recipes, got \['quick'\]$"),
        ("quick: {doc: a,\nx", r":\d: malformed YAML"),
    ],
)
def test_recipes_are_checked(tmp_path, text, message):
    (tmp_path / "recipes.yaml").write_text(text)
    with pytest.raises(UserError, match=r"recipes\.yaml" + message):
        recipes.read(tmp_path / "recipes.yaml")


def test_a_bad_value_in_a_recipe_is_found_where_it_is_used(write, tmp_path):
    (tmp_path / "recipes.yaml").write_text("quick: {doc: a, training: {lr: -1}}")
    with pytest.raises(UserError, match=r"^toy\.yaml: demo: grid 1: training: lr: -1\.0 lies outside"):
        write(one_grid("{recipe: quick, method: plain}")).expand()


# -- where suites come from -----------------------------------------------------------------


def test_an_unknown_suite_lists_the_others():
    with pytest.raises(UserError, match=r"^unknown suite 'criteria_ablatio'.*; valid: .*criteria_ablation"):
        load("criteria_ablatio")


def test_a_path_that_is_not_there():
    with pytest.raises(UserError, match=r"^absent\.yaml: No such file or directory$"):
        load("./absent.yaml")


@pytest.mark.parametrize("name", ["runs", "corrupted", "My suite", "..."])
def test_a_name_that_cannot_be_a_folder_beside_the_runs(tmp_path, name):
    (tmp_path / f"{name}.yaml").write_text("question: Q?\nscales: {}\n")
    with pytest.raises(UserError, match="is not a valid name of a suite and its folder"):
        load(str(tmp_path / f"{name}.yaml"))


class Point:
    """An entry point as importlib.metadata gives them."""

    def __init__(self, name, result):
        self.name, self.value, self._result = name, f"package:{name}", result

    def load(self):
        return self._result


def test_suites_of_other_packages(monkeypatch, tmp_path):
    (tmp_path / "file.yaml").write_text(SUITE)
    path = tmp_path / "file.yaml"
    points = [
        Point("as_path", path),
        Point("as_text", str(path)),
        Point("as_mapping", yaml.safe_load(SUITE)),
        Point("wrong", 5),
        Point("no_grids", {"question": "Q?", "scales": {"demo": {"seeds": 0}}}),
    ]
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: points if group == suites.GROUP else []
    )
    assert {"as_path", "as_text", "as_mapping", "criteria_ablation"} <= set(names())
    plans = [load(name).expand("demo") for name in ("as_path", "as_text", "as_mapping")]
    assert [plan.suite for plan in plans] == ["as_path", "as_text", "as_mapping"]
    assert plans[0].cells == plans[1].cells == plans[2].cells and len(plans[0].cells) == 10
    with pytest.raises(
        UserError, match=r"^entry point wrong \(package:wrong\): expected a path or a mapping, got 5$"
    ):
        load("wrong")
    with pytest.raises(
        UserError, match=r"^entry point no_grids \(package:no_grids\): demo: missing key 'grids'$"
    ):
        load("no_grids")


# -- the dry run ----------------------------------------------------------------------------


def finished(store, spec, wall_seconds, threads=1):
    folder = store.run(spec.run_id)
    folder.write(
        "spec", {"schema": 1, "run_id": spec.run_id, "config_id": spec.config_id, "config": spec.to_dict()}
    )
    folder.write("costs", {"wall_seconds": wall_seconds, "steps_total": preflight.steps(spec)})
    folder.write("provenance", {"threads": threads})
    folder.write("status", {"status": "done"})


def test_an_estimate_without_runs_is_a_count(write):
    plan = write(
        one_grid("{method: plain, epochs: [10, 20]}", base="{dataset: points, network: dot}")
    ).expand()
    found = estimate(plan, None)
    # 3 x 2 weights, 6 FLOPs each in a training step, twice for local reparameterisation; two steps an epoch
    steps = 30 * 2
    flops = steps * 64 * 2 * 6 * 6
    assert found.hours == {
        "core": pytest.approx((flops / 20e9 + steps * 1.5e-3 + 2 * 1.0) / 3600),
        "GPU": pytest.approx((flops / 10e12 + steps * 10e-3 + 2 * 10.0) / 3600),
    }
    assert found.runs == 2
    assert [sentence.split(": twice")[0] for sentence in found.basis] == [
        "core-hours: 2 runs by a rough count",
        "GPU-hours: 2 runs by a rough count",
    ]


def test_an_estimate_counts_the_steps_that_are_taken(write):
    text = one_grid("{method: plain, epochs: 10, max_steps: 5}", base="{dataset: points, network: dot}")
    found = estimate(write(text).expand(), None)
    assert found.hours["core"] == pytest.approx((5 * 64 * 2 * 6 * 6 / 20e9 + 5 * 1.5e-3 + 1.0) / 3600)


def test_an_estimate_uses_finished_runs_and_leaves_them_out(write, tmp_path):
    base = "{dataset: points, network: line, epochs: 10}"
    plan = write(one_grid("{method: [plain, dense]}", base=base, seeds="0-4")).expand()
    store = Store(tmp_path / "results", create=True)
    for spec, seconds in zip(plan.specs[:3], (10.0, 40.0, 20.0), strict=True):
        finished(store, spec, seconds, threads=2)
    store.run(plan.specs[3].run_id).write("status", {"status": "failed"})
    (store.run(plan.specs[4].run_id).path).mkdir()
    (store.run(plan.specs[4].run_id).path / "status.json").write_text("{")  # broken: to be run again
    found = estimate(plan, store)
    counted = estimate(write(one_grid("{method: dense}", base=base, seeds="0-4")).expand(), None)
    assert found.runs == 7
    # the median of plain's runs, 20 s of two threads, for two runs; dense was never measured
    assert found.hours["core"] == pytest.approx(2 * 40 / 3600 + counted.hours["core"])
    assert [sentence.split(" of ")[0] for sentence in found.basis] == [
        "core-hours: 2 runs by the time",
        "core-hours: 5 runs by a rough count: twice the training FLOPs",
        "GPU-hours: 7 runs by a rough count: twice the training FLOPs",
    ]


def test_an_estimate_takes_the_time_of_a_gpu_for_gpus_only(write, tmp_path):
    text = one_grid("{method: plain, epochs: [10, 30]}", base="{dataset: points, network: line}")
    plan = write(text).expand()
    store = Store(tmp_path / "results", create=True)
    finished(store, plan.specs[0], 5.0, threads=4)
    store.run(plan.specs[0].run_id).write("provenance", {"threads": 4, "device": "cuda"})
    assert estimate(plan, store).hours["GPU"] == pytest.approx(15 / 3600)
    assert estimate(plan, store).hours["core"] < 15 / 3600


@pytest.mark.parametrize("other", [{"batch_size": 7}, {"samples": 3}, {"precision": "float64"}])
def test_the_time_of_a_run_tells_nothing_of_one_that_is_computed_otherwise(write, tmp_path, other):
    text = one_grid("{method: plain, epochs: 10}", base="{dataset: points, network: line}")
    store = Store(tmp_path / "results", create=True)
    finished(store, write(text).expand().specs[0], 5000.0)
    changed = write(text).expand(overrides=other)
    assert estimate(changed, store).hours == estimate(changed, None).hours


def test_a_run_that_was_cut_short_tells_nothing_of_whole_ones(write, tmp_path):
    text = one_grid("{method: plain, epochs: 10}", base="{dataset: points, network: line}")
    plan = write(text).expand()
    short = write(text).expand(overrides={"max_steps": 2})
    store = Store(tmp_path / "results", create=True)
    finished(store, short.specs[0], 500.0)
    assert estimate(plan, store).hours == estimate(plan, None).hours
    more = write(text).expand(overrides={"max_steps": 2, "epochs": 99})
    assert estimate(more, store).hours["core"] == pytest.approx(500 / 3600)


def test_an_estimate_scales_with_epochs(write, tmp_path):
    text = one_grid("{method: plain, epochs: [10, 30]}", base="{dataset: points, network: line}")
    plan = write(text).expand()
    store = Store(tmp_path / "results", create=True)
    finished(store, plan.specs[0], 5.0)
    assert estimate(plan, store).hours["core"] == pytest.approx(15 / 3600)


def test_the_dry_run_lists_every_cell(write):
    plan = write().expand("demo")
    statuses = {plan.specs[0].run_id: "done", plan.specs[1].run_id: "failed"}
    text = describe_plan(plan, statuses, Estimate(4, {"core": 0.0123, "GPU": 1234.5}, ("4 of them guessed",)))
    lines = text.splitlines()
    assert lines[0] == "toy, scale demo: Which?"
    rows = {tuple(line.split(maxsplit=3)) for line in lines}
    for cell in plan.cells:
        status = "omitted" if cell.omitted else statuses.get(cell.run_id, "pending")
        assert (cell.alias_of or cell.run_id, status, str(cell.spec.seed), cell.label) in rows
    unwrapped = " ".join(text.split())
    for cell in plan.cells:
        assert cell.omitted is None or cell.omitted in unwrapped
    assert lines[-3:] == [
        "10 cells: 6 runs (1 done, 1 failed, 4 pending), 4 omitted",
        "about 0.012 core-hours or 1,234 GPU-hours for the 4 runs left",
        "- 4 of them guessed",
    ]
    assert max(map(len, lines)) <= 100


# -- the suites that ship -------------------------------------------------------------------


@pytest.fixture
def real_recipes(monkeypatch, toy_recipes):
    monkeypatch.setattr(
        recipes, "_all", lambda: recipes.read(Path(recipes.__file__).with_name("recipes.yaml"))
    )


@pytest.fixture
def no_images(tmp_path, monkeypatch):
    """A machine on which only the data set digits exists."""
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    for cache in (files.official_part, problem._load):
        cache.cache_clear()
    yield
    for cache in (files.official_part, problem._load):
        cache.cache_clear()


OURS = {"dense_vi", "static_vi", "ssvi"}
PRUNED = {"magnitude_vi", "snr_vi"}
OF_A_SPARSITY = OURS | PRUNED | {"lottery_ticket", "rigl"}
VARIATIONAL = OURS | PRUNED | {"lottery_ticket", "sparse_vd", "lbbnn"}
EVERY = OF_A_SPARSITY | {"deterministic", "mc_dropout", "ensemble", "sparse_vd", "lbbnn"}
#: What a network becomes after training, or is sampled to; also of dense networks.
COLLECTED = {"swag", "laplace", "csgld"}
ALL = EVERY | COLLECTED
#: The methods of each suite at each scale; rigl at sparsity 0 is the deterministic network.
METHODS_OF = {
    "criteria_ablation": (OURS, OURS, OURS),
    "sparsity_sweep": (ALL, OF_A_SPARSITY | {"deterministic"}, OURS | PRUNED),
    "baselines": (ALL, ALL, EVERY),
    "cost": (OURS, OURS, OURS),
    "posterior": (VARIATIONAL, VARIATIONAL, VARIATIONAL),
    "natural_sparsity": ({"ssvi", "sparse_vd", "lbbnn"},) * 3,
    "subspace_evolution": ({"ssvi", "rigl", "static_vi"},) * 3,
    "hyperparameters": ({"ssvi"},) * 3,
    "kl_schedule": ({"ssvi", "dense_vi"},) * 3,
    "initialisation": (OURS, OURS, OURS),
    "architectures": ({"ssvi"},) * 3,
    "adaptive": ({"ssvi"},) * 3,
    "high_dimensional": ({"ssvi", "static_vi", "rigl", "lottery_ticket", "dense_vi", "deterministic"},) * 3,
    "ood": (ALL, ALL, ALL),
}


SCALES = ("demo", "small", "paper")
#: Large networks are built there for every method and sparsity, to give it the FLOPs of dense VI.
LONG = {("baselines", "small"), ("baselines", "paper"), ("ood", "paper")}


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        pytest.param(name, scale, marks=[pytest.mark.slow] if (name, scale) in LONG else [])
        for name in METHODS_OF
        for scale in SCALES
    ],
)
def test_every_scale_can_be_planned_without_its_data(real_recipes, name, scale, no_images):
    """Labels distinguish all runs, seeds are paired, and every method exists."""
    found = load(name)
    assert tuple(scale for scale in found.scales if scale != "reduced") == SCALES
    plan = found.expand(scale)
    seeds = {}
    for spec in plan.specs:
        seeds.setdefault(spec.config_id, set()).add(spec.seed)
    assert {spec.method[0] for spec in plan.specs} == METHODS_OF[name][SCALES.index(scale)]
    assert set(map(len, seeds.values())) <= {3, 5}
    assert all(spec.seed < 100 for spec in plan.specs)
    assert set(estimate(plan, None).hours) == {"core", "GPU"}
    assert (preflight.missing_data(plan.specs) is None) == (scale == "demo")


REDUCED = {
    "sparsity_sweep": {"dense_vi", "deterministic", "ssvi", "static_vi", "rigl"},
    "criteria_ablation": OURS,
    "baselines": OURS | PRUNED | {"deterministic", "rigl", "lottery_ticket", "ensemble", "mc_dropout"},
}


@pytest.fixture(scope="module")
def reduced():
    """The plans of the scale `reduced`, which take seconds to make."""
    return {name: load(name).expand("reduced") for name in [*REDUCED, "ood"]}


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_reduced_campaign_trains_each_network_once_for_all_of_its_suites(real_recipes, reduced, dataset):
    """On all images, in the full depth of ResNet-18, and each run of a suite with three or five seeds."""
    runs = {
        name: {spec.run_id: spec for spec in plan.specs if spec.dataset[0] == dataset}
        for name, plan in reduced.items()
    }
    for name, methods in REDUCED.items():
        assert {spec.method[0] for spec in runs[name].values()} == methods
        seeds = Counter(spec.config_id for spec in runs[name].values())
        assert set(seeds.values()) <= {3, 5} and 5 in seeds.values()
    every = {run_id: spec for found in runs.values() for run_id, spec in found.items()}
    assert len(every) == 117
    # what is evaluated beside the test part is what was trained for equal epochs
    assert set(runs["ood"]) == {run_id for run_id in every if every[run_id].training.budget == "epochs"}
    for spec in every.values():
        assert (spec.dataset[1].train, spec.protocol, spec.training.max_steps) == (0, "holdout", None)
        assert spec.network[1].blocks == (2, 2, 2, 2)
    for key in ("network.width", "training.epochs", "training.batch_size"):
        assert len({spec.settings[key] for spec in every.values() if spec.training.budget == "epochs"}) == 1


def test_cells_of_the_reduced_campaign_have_short_names_and_a_reference(real_recipes, reduced):
    for name, plan in reduced.items():
        trained = [cell for cell in plan.cells if cell.omitted is None]
        for cell in trained:
            known = set(cell.label.split()[1:])
            keys = {part.partition("=")[0] for part in known}
            assert keys <= {"sparsity", "criterion", "recipe", "dataset", "budget"}, cell.label
            sparse = cell.labels.get("sparsity") and cell.labels["method"] != "ensemble"
            if sparse or name != "ood":
                assert cell.spec.config_id in plan.references, cell.label


def test_labels_leave_out_what_the_data_set_says(real_recipes):
    """Each data set has its own settings, equal in all of its cells, so labels need not repeat them."""
    labels = {cell.label for cell in load("sparsity_sweep").expand("small").cells}
    assert "ssvi sparsity=0.9 dataset=cifar10 network=resnet18" in labels
    assert "dense_vi dataset=fashion_mnist network=lenet5" in labels


def test_the_sweep_covers_all_sparsities_with_dense_vi_at_its_head(real_recipes):
    for scale, recipes_of in (("demo", 1), ("small", 1), ("paper", 2)):
        plan = load("sparsity_sweep").expand(scale, seeds="0")
        sets = {spec.dataset[0] for spec in plan.specs}
        for method in ("static_vi", "ssvi"):
            found = Counter(cell.labels["sparsity"] for cell in plan.cells if cell.labels["method"] == method)
            assert found == dict.fromkeys([0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99], recipes_of * len(sets))
        dense = [cell for cell in plan.cells if cell.labels.get("sparsity") == 0]
        assert all(cell.alias_of for cell in dense if cell.labels["method"] not in COLLECTED)
    assert sets == {"cifar10", "cifar100"}


@pytest.mark.parametrize("scale", ["demo", "small"])
def test_in_the_suite_ood_whatever_has_a_sparsity_is_compared_with_itself_dense(real_recipes, scale):
    plan = load("ood").expand(scale, seeds="0")
    trained = {cell.spec.config_id: cell.labels for cell in plan.cells if cell.alias_of is None}
    of_method = {"rigl": "deterministic"} | dict.fromkeys(("swag", "csgld", "sparse_vd", "lbbnn", "ensemble"))
    for config_id, labels in trained.items():
        if labels.get("sparsity"):
            dense = trained[plan.references[config_id]]
            assert not dense.get("sparsity")
            assert dense["method"] == (of_method.get(labels["method"], "dense_vi") or labels["method"])
            assert dense["dataset"] == labels["dataset"]
    sparse = [own for own in trained.values() if own["method"] == "ensemble" and "sparsity" in own]
    assert {own["member"] for own in sparse} == {"rigl"}
    sets = {spec.dataset[0]: (spec.evaluation.ood, spec.evaluation.shifts) for spec in plan.specs}
    assert all(ood and shifts for ood, shifts in sets.values())


def test_references_are_on_the_same_data_and_in_the_same_recipe(real_recipes):
    demo = load("baselines").expand("demo", seeds="0")
    labels = {cell.spec.config_id: cell.labels for cell in demo.cells if cell.alias_of is None}
    assert demo.references.keys() == labels.keys()
    (reference,) = set(demo.references.values())
    assert [labels[reference][key] for key in ("method", "sparsity", "budget")] == ["ssvi", 0.95, "epochs"]
    paper = load("sparsity_sweep").expand("paper", seeds="0")
    cells = {cell.spec.config_id: cell for cell in paper.cells}
    assert len(set(paper.references.values())) == 4  # two recipes on two data sets
    for mine, theirs in paper.references.items():
        assert cells[theirs].labels["method"] == "dense_vi"
        same = ("dataset", "network", "recipe")
        assert [cells[mine].labels[key] for key in same] == [cells[theirs].labels[key] for key in same]


def test_a_reference_keeps_what_it_does_not_name(real_recipes):
    """Criteria are compared at equal sparsity; a method without sparsity has no single reference."""
    plan = load("criteria_ablation").expand("demo", seeds="0")
    labels = {cell.spec.config_id: cell.labels for cell in plan.cells if cell.omitted is None}
    for mine, theirs in plan.references.items():
        assert labels[theirs]["criterion"] == "abs_mean"
        assert [labels[mine].get(key) for key in ("sparsity", "recipe")] == [
            labels[theirs][key] for key in ("sparsity", "recipe")
        ] or labels[mine]["method"] == "dense_vi"
    # of the released recipe there is one sparsity, so dense VI has its reference there
    without = {own["recipe"] for config_id, own in labels.items() if config_id not in plan.references}
    assert without == {"default"} and len(plan.references) == len(labels) - 1


def test_the_papers_grid_is_the_papers(real_recipes):
    """Section 9 of the paper's released settings: ResNet-18, 200 epochs of batches of 128, three seeds."""
    for name in ("criteria_ablation", "sparsity_sweep"):
        plan = load(name).expand("paper", where=["recipe=released"])
        for spec in plan.specs:
            training = spec.training
            assert spec.network[0] == "resnet18" and spec.network[1].width == 64
            assert (training.epochs, training.batch_size, training.optimiser) == (200, 128, "sgd")
            assert (training.lr, training.lr_scale, training.weight_decay) == (0.01, 0.01, 5e-4)
            assert spec.seed in (0, 1, 2) and spec.protocol == "holdout"
            assert getattr(spec.method[1], "replace_every", 100) == 100


def test_cost_measures_as_many_steps_of_each_and_updates_among_them(real_recipes):
    suite = load("cost")
    assert suite.one_at_a_time
    for scale in suite.scales:
        for spec in suite.expand(scale).specs:
            steps = spec.training.max_steps
            assert steps is not None and steps >= 10 * WARM_UP_STEPS
            every = getattr(spec.method[1], "replace_every", None)
            assert every is None or steps // every >= 2


def test_a_grid_whose_data_are_missing_is_planned_but_not_begun(real_recipes, no_images, tmp_path, capsys):
    results = tmp_path / "results"
    arguments = ["--suite", "sparsity_sweep", "--scale", "paper", "--results", str(results)]
    assert grid.main([*arguments, "--dry-run"]) == 2  # as the launch would
    shown = capsys.readouterr().out
    assert "GPU-hours for the" in shown
    assert shown.splitlines()[-1].startswith("cannot start: data set cifar10: missing or incomplete in ")
    with pytest.raises(UserError, match="data set cifar10: missing or incomplete in"):
        grid.main(arguments)
    assert not results.exists()


def test_a_run_whose_data_are_missing_is_described_but_not_begun(real_recipes, no_images, tmp_path, capsys):
    arguments = ["--set", "dataset=cifar10,network=cnn", "--results", str(tmp_path / "results")]
    assert run.main([*arguments, "--dry-run"]) == 2
    shown = capsys.readouterr().out
    assert "FLOPs per example" in shown
    assert shown.splitlines()[-1].startswith("cannot start: data set cifar10: missing or incomplete in ")
    with pytest.raises(UserError, match="data set cifar10: missing or incomplete in"):
        run.main(arguments)


def test_criteria_ablation_compares_all_criteria_in_both_recipes(real_recipes):
    plan = load("criteria_ablation").expand("demo")
    kinds = Counter(
        (c.recipe, c.labels["method"], c.labels.get("criterion"), c.omitted is None) for c in plan.cells
    )
    for recipe, sparsities, seeds in (("default", 2, 5), ("released", 1, 3)):
        assert kinds[recipe, "dense_vi", None, True] == seeds
        assert kinds[recipe, "static_vi", None, True] == seeds * sparsities
        for criterion in ("abs_mean", "snr", "mean_abs", "mean_exp", "snr_exp"):
            assert kinds[recipe, "ssvi", criterion, True] == seeds * sparsities
        assert kinds[recipe, "ssvi", "snr_abs", False] == seeds * sparsities
    assert len(plan.specs) == kinds.total() - 13 == 86
    assert {spec.seed for spec in plan.specs} == {0, 1, 2, 3, 4}


class Foreign(Criterion):
    """A criterion of another package, which would stand first by its order."""

    name = "foreign"
    style = Style("Foreign", hue="#000000", hue_dark="#ffffff", order=-1)
    formula, latex, source = "-std", r"-\sigma", "nowhere"

    def score(self, moments):
        return -moments.std


def test_all_means_every_criterion_there_is_and_the_stored_plan_keeps_them(
    real_recipes, tmp_path, monkeypatch
):
    built_in = load("criteria_ablation").expand("demo", seeds="0")
    store = Store(tmp_path / "results", create=True)
    with monkeypatch.context() as installed:
        installed.setitem(CRITERIA._registered, "foreign", Foreign)
        more = load("criteria_ablation").expand("demo", seeds="0")
        store.merge_plan(more.to_dict("first"))
    criteria = [cell.labels["criterion"] for cell in more.cells if "criterion" in cell.labels]
    order = ["abs_mean", "snr", "mean_abs", "snr_abs", "mean_exp", "snr_exp", "foreign"]
    assert list(dict.fromkeys(criteria)) == order
    kept = [cell for cell in more.cells if cell.labels.get("criterion") != "foreign"]
    assert [cell.run_id for cell in kept] == [cell.run_id for cell in built_in.cells]
    # launched again where the package is gone, the plan still has its cells
    store.merge_plan(built_in.to_dict("second"))
    stored = {cell["labels"].get("criterion") for cell in store.plan("criteria_ablation", "demo")["cells"]}
    assert stored == {None, *order}


def test_sparsity_0_is_dense_vi_for_every_variational_method(real_recipes):
    plan = load("criteria_ablation").expand("demo", overrides={"sparsity": 0}, seeds="0")
    assert {spec.method[0] for spec in plan.specs} == {"dense_vi"} and len(plan.specs) == 2
    reasons = {cell.omitted for cell in plan.cells if cell.labels["method"] != "dense_vi"}
    assert reasons == {
        f"sparsity 0 is dense VI; see dense_vi recipe={recipe}" for recipe in ("default", "released")
    }


def test_a_sparsity_that_empties_a_layer_is_refused(real_recipes):
    with pytest.raises(
        UserError, match=r"criteria_ablation\.yaml: demo: grid \d: sparsity 0\.9+ leaves layer "
    ):
        load("criteria_ablation").expand("demo", overrides={"sparsity": 1 - 1e-13})


def built_in():
    """The methods of this package, without those of tests."""
    return [name for name in METHODS.names() if METHODS.get(name).__module__ == f"methods.{name}"]


@pytest.mark.parametrize("name", ["default", "released"])
def test_recipes_hold_only_what_differs_from_defaults(real_recipes, name):
    """Otherwise an edit of a default changes nothing, and nobody sees why."""

    def defaults(cls):
        """As YAML has them."""
        found = {info.name: info.default for info in describe(cls)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}

    recipe = recipes.get(name)
    options = {method: defaults(METHODS.get(method).Options) for method in built_in()}
    applied = [("training", defaults(Training), recipe.training)]
    applied += [("evaluation", defaults(Evaluation), recipe.evaluation)]
    applied += [(method, own, recipe.method) for method, own in options.items()]
    applied += [(method, options[method], block) for method, block in recipe.methods.items()]
    restated = [
        f"{where}.{key}"
        for where, declared, block in applied
        for key, value in block.items()
        if key in declared and declared[key] == value
    ]
    assert applied[0][2] and restated == []


def declared(method):
    """The options that a method declares itself, with their defaults."""
    options = METHODS.get(method).Options
    own = {name: declared_by(options, name).__module__ for name in option_names(options)}
    defaults = {info.name: info.default for info in describe(options)}
    return {name: defaults[name] for name, module in own.items() if module == f"methods.{method}"}


def test_no_recipe_contradicts_a_methods_source(real_recipes):
    for recipe, method in itertools.product(map(recipes.get, recipes.names()), built_in()):
        if method not in recipe.published.get("methods", ()):
            given = recipe.settings(METHODS.get(method))
            changed = {key for key in declared(method) if f"method.{key}" in given}
            assert changed == set(), method
    assert declared("lottery_ticket")["criterion"] == "abs_mean"  # as in its paper


SEARCHED = [(name, scale) for name in METHODS_OF for scale in load(name).searches]


@pytest.mark.parametrize(("name", "scale"), SEARCHED)
def test_every_method_is_searched_as_it_is_reported(real_recipes, name, scale):
    """Each trial has the options of a reported cell, except for what is searched."""
    found = load(name)
    reported = {}
    for draft in Expansion(found.scales[scale], name).declared():
        reported.setdefault(draft.spec.method[0], []).append(to_dict(draft.spec.method[1]))
    families = found.families(scale)
    assert {family.family.method for family in families} == METHODS_OF[name][SCALES.index(scale)]
    for family in families:
        searched = {key.removeprefix("method.") for key in family.ranges}
        kept = {key: value for key, value in to_dict(family.start.method[1]).items() if key not in searched}
        assert any(kept.items() <= cell.items() for cell in reported[family.family.method]), family.family


def test_what_recipes_resolve_to_is_as_it_was(real_recipes):
    """Results exist under these settings: where a default changes, a recipe has to keep the old value."""
    golden = json.loads(RESOLVED.read_text())
    found = {}
    for key in golden:
        recipe, method = key.split()
        grid = {"recipe": recipe, "method": method, "dataset": "digits", "network": "mlp"}
        (draft,) = Expansion(Scale(seeds="0", grids=(grid,)), "toy").drafts()
        found[key] = {part: draft.spec.to_dict()[part] for part in ("training", "evaluation", "method")}
    assert set(golden) == {f"{recipe} {method}" for recipe in recipes.names() for method in built_in()}
    assert found == golden


def test_options_of_one_method_win_over_those_of_all(write, tmp_path):
    recipe = (
        "quick: {doc: a, method: {prior_std: 0.2}, methods: {sparse: {prior_std: 0.3}}, "
        "published: {methods: [sparse]}}"
    )
    (tmp_path / "recipes.yaml").write_text(recipe)
    suite = write(one_grid("{recipe: quick, method: [plain, sparse, dense]}"))

    def given(**options):
        return {s.method[0]: s.method[1].prior_std for s in suite.expand("demo", **options).specs[1:]}

    assert given() == {"sparse": 0.3, "dense": 0.2}
    assert given(overrides={"prior_std": 0.5}) == {"sparse": 0.5, "dense": 0.5}


@pytest.fixture
def register(monkeypatch):
    """Register methods for one test."""
    monkeypatch.setattr(METHODS, "_registered", dict(METHODS._registered))
    return METHODS.register


def derived(name, options):
    """A method of another package that derives from SSVI."""
    return type(name, (SSVI,), {"name": name, "style": STYLE, "Options": options})


@dataclass(frozen=True)
class OwnDefaults(SSVIOptions):
    """Options that SSVI and all variational methods have, with other defaults."""

    criterion: str = option("mean_abs", "criterion", choices=CRITERIA)
    prior_std: float = option(0.3, "prior", within="(0, inf)")


@dataclass(frozen=True)
class OwnOptions:
    """Options that only have the names of those that the recipes set."""

    criterion: str = option("size", "criterion", choices=("size", "age"))
    kl_factor: int = option(3, "another factor", within="[1, inf)")


@pytest.mark.parametrize("recipe", ["default", "released"])
def test_a_recipe_leaves_a_methods_own_defaults_alone(real_recipes, register, write, recipe):
    register(derived("other_defaults", OwnDefaults))
    register(derived("as_ssvi", SSVIOptions))

    @register
    class Unrelated(Method):
        """Nothing of SSVI's."""

        name = "unrelated"
        style = STYLE
        Options = OwnOptions

    suite = write(one_grid(f"{{recipe: {recipe}, method: [ssvi, as_ssvi, other_defaults, unrelated]}}"))
    ssvi, same, other, unrelated = (spec.method[1] for spec in suite.expand("demo").specs)
    assert (other.criterion, other.prior_std) == ("mean_abs", 0.3)
    assert unrelated == OwnOptions()
    assert same == ssvi  # what it inherits as it is, the recipe sets as it does for SSVI
    assert replace(other, criterion=ssvi.criterion, prior_std=ssvi.prior_std) == OwnDefaults(**vars(ssvi))


def test_a_recipe_that_names_a_method_speaks_of_its_own_options(register, write, tmp_path):
    register(derived("other_defaults", OwnDefaults))
    text = (
        "quick: {doc: a, methods: {other_defaults: {criterion: snr_exp}}, "
        "published: {methods: [other_defaults]}}"
    )
    (tmp_path / "recipes.yaml").write_text(text)
    (spec,) = write(one_grid("{recipe: quick, method: other_defaults}")).expand("demo").specs
    assert (spec.method[1].criterion, spec.method[1].prior_std) == ("snr_exp", 0.3)


def test_a_recipes_options_of_all_methods_are_shared_ones(tmp_path):
    (tmp_path / "recipes.yaml").write_text("quick: {doc: a, method: {criterion: snr}}")
    with pytest.raises(UserError, match="quick: method: unknown key 'criterion'"):
        recipes.read(tmp_path / "recipes.yaml")


def test_each_setting_says_where_it_is_from(write):
    origins = {
        (cell.spec.method[0], cell.recipe): cell.origins
        for cell in write().expand("demo", overrides={"batch_size": 10}).cells
    }
    assert origins["sparse", "quick"] == {
        "training.epochs": "suite",
        "training.lr": "recipe quick",
        "training.batch_size": "--set",
        "method.prior_std": "recipe quick",
        "method.criterion": "suite",
        "method.sparsity": "suite",
        "dataset.name": "suite",
        "network.name": "suite",
        "network.hidden": "suite",
        "method.name": "suite",
    }
    assert origins["dense", "quick"]["method.prior_std"] == "recipe quick"
    assert "method.prior_std" not in origins["sparse", "slow"]


def test_the_stored_plan_and_the_dry_run_say_where_settings_are_from(real_recipes, register, write):
    register(derived("other_defaults", OwnDefaults))
    grids = "{recipe: released, dataset: digits, network: mlp, method: [ssvi, other_defaults], epochs: 2}"
    plan = write(one_grid(grids, base="{sparsity: 0.5}")).expand("demo", overrides={"lr": 0.5})
    origins = {
        (cell.spec.method[0], cell.spec.method[1].criterion): stored["origins"]
        for cell, stored in zip(plan.cells, plan.to_dict("")["cells"], strict=True)
    }
    ssvi, other = origins["ssvi", "snr_abs"], origins["other_defaults", "mean_abs"]
    assert "method.criterion" in ssvi["recipe released"] and ssvi["--set"] == ["training.lr"]
    assert not any("method.criterion" in keys for keys in other.values())  # its own default
    text = describe_plan(plan, {}, Estimate(2, {"core": 1.0}, ()))
    lines = {line.strip().partition(": ")[0]: line for line in unwrapped(text)}
    assert "method.criterion=snr_abs" in lines["recipe released for ssvi"]
    assert "method.criterion=mean_abs" in lines["default of other_defaults"]
    assert "method.kl_factor=0.01" in lines["recipe released"]
    assert "training.epochs=2" in lines["suite"] and "method.sparsity=0.5" in lines["suite"]
    assert "training.lr=0.5" in lines["--set"]
    assert list(lines).index("default of ssvi") < list(lines).index("recipe released")
    assert list(lines).index("recipe released") < list(lines).index("suite") < list(lines).index("--set")


def unwrapped(text):
    """The lines of ``text``, each with what is indented below it."""
    lines = []
    for line in text.splitlines():
        if line.startswith("    ") and lines:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return lines


def test_the_released_recipe_is_that_of_the_authors(real_recipes):
    recipe = recipes.get("released").settings(METHODS.get("ssvi"))
    names = {"dataset": "digits", "network": "mlp", "method": "ssvi"}
    spec = parse_spec(nest(names | recipe))
    options, training = spec.method[1], spec.training
    assert (options.prior_std, options.kl_factor, options.variance_floor) == (0.005, 0.01, 1e-8)
    assert (options.replace_every, options.replace_fraction, options.replace_until) == (100, 0.3, 0.75)
    assert (options.mean_init, options.scale_init, options.criterion) == ("released", "released", "snr_abs")
    assert not options.step_on_update and options.removed_gradient == "likelihood_and_kl"
    rates = (training.lr, training.lr_scale, training.momentum, training.weight_decay)
    assert rates == (0.01, 0.01, 0.9, 5e-4)
    assert (training.epochs, training.batch_size, training.schedule) == (200, 128, "cosine")


def test_suites_that_are_older_than_the_authors_rounding_keep_theirs(real_recipes):
    assert recipes.get("released").settings(METHODS.get("ssvi"))["method.replace_rounding"] == "product"
    for name in ("baselines", "cost", "criteria_ablation", "sparsity_sweep"):
        # of SSVI alone, since other methods that get the FLOPs of dense VI would be built to count theirs
        plan = load(name).expand("paper", where=["recipe=released", "method=ssvi"])
        options = [spec.method[1] for spec in plan.specs]
        assert {o.replace_rounding for o in options if isinstance(o, SSVIOptions)} == {"quotient"}, name


def test_on_few_data_the_released_kl_is_scaled_to_the_same_pull_an_example(real_recipes):
    """kappa / N of the demo is that of CIFAR-10 with 50,000 images."""
    plan = load("criteria_ablation").expand("demo", where=["recipe=released"], seeds="0")
    for spec in plan.specs:
        assert spec.method[1].kl_factor / 1097 == pytest.approx(0.01 / 50_000, rel=0.01)


@pytest.mark.parametrize("scale", ["demo", "small"])
def test_a_reference_names_labels_also_where_a_scale_does_not_vary_them(scale, real_recipes):
    plan = load("high_dimensional").expand(scale)
    labels = {cell["config_id"]: cell["label"] for cell in plan.to_dict("")["cells"] if cell["config_id"]}
    found = {labels[mine]: labels[theirs] for mine, theirs in plan.references.items()}
    (static,) = (name for name in found if re.search("^static_vi.*(train=400|0.9 dataset=alon)", name))
    assert found[static].startswith("ssvi ") and "criterion=snr" in found[static]
