"""Which inputs the first layer of a network uses, compared with those that decide the class."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from bench.evaluation import recovery
from bench.evaluation.evaluate import evaluate_stage
from bench.experiment.problem import make_problem
from bench.experiment.spec import parse_spec
from methods.base import METHODS
from methods.core.streams import Streams
from methods.layers.layer import VariationalLayer, contraction_of
from methods.layers.posterior import DenseGaussian, SparseGaussian

RELEVANT = torch.tensor([1, 4])
NAMES = {"input_precision", "input_recall", "input_average_precision"}


def weight():
    """Five outputs of six inputs: input 4 is used most, then 0 and 1 alike; 2, 3 and 5 are not used."""
    dense = torch.zeros(5, 6)
    dense[:, 4], dense[2, 0], dense[0, 1] = 1.0, -0.5, 0.5
    return dense


def sparse_layer():
    index = weight().flatten().nonzero().flatten()
    values = weight().flatten()[index]
    posterior = SparseGaussian(torch.Size((5, 6)), index, values, torch.full_like(values, 0.1), "softplus")
    return VariationalLayer(contraction_of(nn.Linear(6, 5))[0], posterior, None)


def plain_layer():
    layer = nn.Linear(6, 5)
    layer.weight.data = weight()
    return layer


@pytest.mark.parametrize("layer", [sparse_layer, plain_layer])
def test_inputs_with_an_active_weight_are_compared_with_the_truth(layer):
    module = nn.Sequential(nn.Flatten(), nn.Linear(7, 6), layer())
    found = recovery.scores(module, RELEVANT, 6)
    # 0, 1 and 4 are used; ranked 4, then 0 and 1 together
    assert found == pytest.approx(
        {"input_precision": 2 / 3, "input_recall": 1.0, "input_average_precision": (1 + 2 / 3) / 2}
    )


def test_every_input_of_a_dense_posterior_is_used_and_ranked():
    std = torch.full((5, 6), 0.1)
    posterior = DenseGaussian(torch.Size((5, 6)), weight() + 1e-3, std, "softplus")
    module = VariationalLayer(contraction_of(nn.Linear(6, 5))[0], posterior, None)
    found = recovery.scores(module, RELEVANT, 6)
    assert (found["input_precision"], found["input_recall"]) == (pytest.approx(2 / 6), 1.0)
    assert found["input_average_precision"] > 0.8


def test_a_network_without_such_a_layer_has_no_scores():
    assert recovery.scores(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(8, 2)), RELEVANT, 6) == {}


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_that_of_scikit_learn_ties_included(seed):
    rng = np.random.default_rng(seed)
    strength = rng.integers(0, 6, 30) / 7
    truth = rng.permutation(30) < 5
    mine = recovery.average_precision(torch.from_numpy(strength), torch.from_numpy(truth))
    assert mine == pytest.approx(average_precision_score(truth, strength))


@pytest.mark.parametrize(
    "method", [n for n in METHODS.names() if METHODS.get(n).__module__.startswith("methods.")]
)
def test_a_run_on_a_planted_problem_has_the_scores_of_every_method_once(method):
    options = {"name": method, **({"sparsity": 0.8} if method in ("ssvi", "rigl") else {})}
    dataset = {"name": "planted", "features": 20, "relevant": 3, "train": 40, "val": 20, "test": 30}
    network = {"name": "mlp", "hidden": [4]}
    problem = make_problem(parse_spec({"dataset": dataset, "network": network, "method": options}))
    module = problem.build(Streams(0))
    stage = problem.method.stages(problem.budget)[0]
    if method in ("swag", "csgld", "ensemble", "laplace"):  # they predict only after training
        found = recovery.scores(module, problem.dataset.relevant(), 20)
        assert found.keys() == NAMES
        return
    rows = [row for row in evaluate_stage(problem, module, stage)[0]["metrics"] if row["metric"] in NAMES]
    assert {row["metric"] for row in rows} == NAMES and len(rows) == 3
    assert all(row["n"] == 20 and 0 <= row["value"] <= 1 and row["split"] == "test" for row in rows)


def test_real_data_have_no_such_scores():
    config = {"dataset": "digits", "network": {"name": "mlp", "hidden": [4]}, "method": "deterministic"}
    problem = make_problem(parse_spec(config))
    stage = problem.method.stages(problem.budget)[0]
    found = evaluate_stage(problem, problem.build(Streams(0)), stage)[0]["metrics"]
    assert not NAMES & {row["metric"] for row in found}


def test_the_lasso_of_the_documentation_finds_the_features_from_enough_examples(capsys):
    page = (Path(__file__).parents[1] / "docs" / "high-dimensional.md").read_text(encoding="utf-8")
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "sklearn" in code)
    exec(block, {})
    few, many = capsys.readouterr().out.splitlines()
    assert few.startswith("40 examples: average precision 0.0")
    assert re.match(r"400 examples: average precision (0\.9|1\.0)", many)
