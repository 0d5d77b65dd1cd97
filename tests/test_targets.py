"""Class weights and label smoothing: torch's and scikit-learn's values, in training only, of every method."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from bench.data.base import DATASETS, Splits
from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from bench.runner.single import specify
from methods.base import METHODS, Method
from methods.core.data_loss import Targets, counting, data_loss
from methods.core.errors import UserError
from tests import toys

CHOSEN = {
    "dataset": "toy_uneven", "network": "toy_network", "epochs": 2, "batch_size": 32, "samples": 2,
}  # fmt: skip

#: The methods of this package; other tests register toys.
OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("methods.")]


class Uneven(toys.Blobs):
    """Blobs, of which the classes have 60, 25 and 5 examples."""

    name = "toy_uneven"
    counts = (60, 25, 5)

    def load(self, split: torch.Generator) -> Splits:
        splits = super().load(split)
        splits.train.labels[:] = torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor(self.counts))
        return splits


class Absent(Uneven):
    """Blobs without an example of the last class."""

    name = "toy_absent"
    counts = (60, 30, 0)


class OwnLoss(Method):
    """Has a loss of its own."""

    name = "toy_own_loss"
    style = toys.STYLE

    def loss(self, module, batch, progress):
        return module(batch[0]).square().mean()


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    for registry, cls in [(DATASETS, Uneven), (DATASETS, Absent), (METHODS, OwnLoss)]:
        monkeypatch.setitem(registry._registered, cls.name, cls)


def spec(method="deterministic", **settings):
    return parse_spec(nest({**CHOSEN, "method": method, **settings}))


def test_off_is_neutral():
    for settings in ({"class_weights": None}, {"label_smoothing": 0.0}, {}):
        assert spec(**settings).run_id == spec().run_id
    ids = [spec(**each).run_id for each in ({}, {"label_smoothing": 0.1}, {"class_weights": [1, 2, 3]})]
    assert len({*ids, spec(class_weights="balanced").run_id}) == 4


def test_balanced_weights_are_those_of_scikit_learn():
    problem = make_problem(spec(class_weights="balanced"))
    labels = problem.splits.train.labels.numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(problem.targets().class_weights.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(expected, [0.5, 1.2, 6.0])


def test_the_loss_is_the_one_of_torch():
    torch.manual_seed(0)
    module, batch = nn.Linear(4, 3).double(), (torch.randn(9, 4).double(), torch.arange(9) % 3)
    weights = torch.tensor([0.5, 1.2, 6.0], dtype=torch.float64)
    with counting(Targets(weights, 0.2)):
        found = data_loss(module, batch)
    # by its definition: log-probabilities against smoothed targets, over the sum of the labels' weights
    logs, targets = module(batch[0]).log_softmax(1), 0.8 * F.one_hot(batch[1], 3) + 0.2 / 3
    expected = -(logs * targets * weights).sum() / weights[batch[1]].sum()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(data_loss(module, batch), F.cross_entropy(module(batch[0]), batch[1]))


@pytest.mark.parametrize("method", OURS)
def test_every_method_trains_by_them(method, tmp_path):
    """Equal weights change nothing; others change the model, and metrics are those of plain labels."""
    settings = {"epochs": 4, "level_share": 0.5} if method == "lottery_ticket" else {}
    outcomes = []
    for number, more in enumerate(
        [{}, {"class_weights": [2.0, 2.0, 2.0]}, {"class_weights": "balanced"}, {"label_smoothing": 0.3}]
    ):
        run = specify({**CHOSEN, "method": method, **settings, **more}, "dense", "here")
        store = Store(tmp_path / str(number), create=True)
        assert execute(run, store, Execution()) == "done", store.run(run.run_id).read("status")
        stored = np.load(store.run(run.run_id).path / "predictions.npz")
        (name,) = [name for name in stored.files if name.endswith("samples/probabilities")]
        outcomes.append(stored[name])
        rows = (store.run(run.run_id).read("metrics") or {})["metrics"]
        (nll,) = [
            row["value"]
            for row in rows
            if row["predictor"] == "samples" and row["split"] == "test" and row["metric"] == "nll"
            and row["stage"] == rows[-1]["stage"]
        ]  # fmt: skip
        labels = make_problem(run).splits.test.labels.numpy()
        plain = -np.log(stored[name][np.arange(len(labels)), labels].astype(np.float64)).mean()
        assert math.isclose(nll, plain, rel_tol=1e-4)
    np.testing.assert_allclose(outcomes[1], outcomes[0], atol=1e-4)
    assert np.abs(outcomes[2] - outcomes[0]).max() > 1e-3
    assert np.abs(outcomes[3] - outcomes[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"class_weights": [1, 2]}, "class_weights: 2 weights, but data set toy_uneven has 3 classes"),
        ({"class_weights": [1, 2, 0]}, r"class_weights: 0.0 lies outside \(0, inf\)"),
        ({"class_weights": [1, 2, -1]}, "lies outside"),
        ({"class_weights": [1, 2, math.nan]}, "must be finite"),
        ({"class_weights": "equal"}, "class_weights: 'equal' is not valid; valid: balanced"),
        ({"class_weights": 3}, "class_weights: expected"),
        ({"class_weights": ["a", 1, 2]}, "class_weights"),
        ({"label_smoothing": 1}, r"label_smoothing: 1.0 lies outside \[0, 1\)"),
        ({"label_smoothing": -0.1}, "lies outside"),
    ],
)
def test_bad_values_are_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words) as told:
        preflight.check(spec(**settings))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"dataset": "toy_absent", "class_weights": "balanced"},
            "class 2 of data set toy_absent has no",
        ),
        ({"method": "toy_own_loss", "label_smoothing": 0.1}, "method toy_own_loss has a loss of its own"),
    ],
)
def test_what_shows_in_training_is_told_in_one_line(settings, words, tmp_path):
    run, store = spec(**settings), Store(tmp_path, create=True)
    assert execute(run, store, Execution()) == "failed"
    assert words in store.run(run.run_id).read("status")["error"]
    plain = spec(**{key: value for key, value in settings.items() if key == "method"})
    assert execute(plain, store, Execution()) == "done"
