"""What happens while runs train: dimensions that training chooses, updates, and features that it finds."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.figures import Missing, answers, dimension, finding, updates
from bench.figures.course.dimension import chosen, sweeps
from bench.figures.course.updates import cost_of_updates, rises
from tests.figure_data import LOOK, identifier, runs
from tests.test_selection import planted

FIXED, ADAPTIVE = {"config.method.dimension": "fixed"}, {"config.method.dimension": "adaptive"}


def rows(values):
    """Rows of ``history`` from (run, step, metric, value)."""
    return pd.DataFrame(
        [
            {"run_id": run, "stage": "train", "step": step, "epoch": step, "split": "train",
             "metric": metric, "value": value} for run, step, metric, value in values
        ]
    )  # fmt: skip


def sweep():
    """Two numbers of examples, an adaptive dimension and two fixed ones at each, three seeds."""
    table = runs(
        *(
            {**kind, "config.dataset.train": train, "config.method.sparsity": sparsity,
             "density": 1 - sparsity, "nll": [0.1, 0.2, 0.3]}
            for train in (40.0, 400.0)
            for kind, sparsity in ((ADAPTIVE, 0.9), (FIXED, 0.9), (FIXED, 0.98))
        )
    )  # fmt: skip
    slots = {0: (100, 30), 1: (100, 100), 2: (20, 20), 3: (100, 50), 4: (100, 100), 5: (20, 20)}
    energy = {0: 0.5, 1: 0.9, 2: 0.6, 3: 0.4, 4: 0.3, 5: 0.8}
    layers, history = [], []
    for run, config, seed in zip(table["run_id"], table["config_id"], table["seed"], strict=True):
        number = int(config, 16)
        for step, total in zip((10, 20), slots[number], strict=True):
            each = {"run_id": run, "stage": "train", "step": step, "epoch": 1}
            layers += [each | {"layer": name, "slots": total // 2} for name in ("first", "second")]
        noise = 0.01 * seed if number in (0, 3) else 0.0
        history += [(run, 15, "loss", 9.0), (run, 30, "loss", energy[number] + noise)]
    return pd.DataFrame(layers), rows(history), table


def test_an_adaptive_dimension_is_compared_with_the_best_of_its_own_sweep():
    layers, history, table = sweep()
    found = sweeps(table)
    assert [(each.name, each.adaptive, each.fixed) for each in found] == [
        ("training examples 40", identifier(0), [identifier(1), identifier(2)]),
        ("training examples 400", identifier(3), [identifier(4), identifier(5)]),
    ]
    first, second = chosen(layers, history, table)
    assert first.startswith(
        "training examples 40: 30 ± 0 weights are active at the end where the dimension is adaptive (n = 3 "
        "seeds). Its free energy less that of the best of 2 fixed dimensions, 20 weights, is -0.090 ± 0.025 "
        "nats (n = 3 pairs): differs"
    )
    assert "50 ± 0 weights" in second and "100 weights, is +0.110 ± 0.025 nats" in second
    tables = {"runs": table, "layers": layers, "history": history, "metrics": planted()[1].head(0)}
    own = answers(tables.__getitem__, {}, "nll", LOOK)[0].sentences
    assert first in own and second in own


def test_the_dimension_is_drawn_over_training_beside_the_free_energy():
    chart = dimension(*sweep(), LOOK)
    path, fixed, star, *others = chart.figure.data
    assert len(others) == 3
    assert path.x == (0.5, 1.0) and path.y == (100, 30)
    assert fixed.x == (100, 20) and fixed.y == pytest.approx((0.9, 0.6)) and fixed.xaxis == "x2"
    assert star.x == (30,) and star.y == pytest.approx((0.51,)) and star.text == ("40",)
    assert chart.alt.startswith("training examples 40: 30 ± 0 weights")
    layers, history, table = sweep()
    with pytest.raises(Missing, match="--suite adaptive"):
        dimension(layers, history, table[table["config.method.dimension"] == "fixed"], LOOK)
    with pytest.raises(Missing, match="recorded"):
        dimension(layers.head(0), history, table, LOOK)


def test_an_adaptive_dimension_alone_is_told_without_a_comparison():
    layers, history, table = sweep()
    (told,) = chosen(layers, history, table[table["config_id"] == identifier(3)])
    assert told == "50 ± 0 weights are active at the end where the dimension is adaptive (n = 3 seeds)."


def energies(table, *pairs):
    """Rows of ``history``: before and after updates at steps 10 and 80 of 100, by run."""
    values = []
    for run, (first, last) in zip(table["run_id"], pairs, strict=True):
        for step, (before, after) in ((10, first), (80, last)):
            values += [(run, step, "free_energy_before", before), (run, step, "free_energy_after", after)]
        values.append((run, 100, "loss", 0.1))
    return rows(values)


def test_an_update_is_told_and_drawn_by_what_it_costs():
    table = runs({"sparsity": 0.9, "nll": [0.1, 0.2]}, {"sparsity": 0.95, "nll": [0.1, 0.2]})
    history = energies(
        table,
        ((1.0, 1.2), (0.5, 0.51)), ((1.0, 1.4), (0.5, 0.53)),
        ((1.0, 0.9), (0.5, 0.5)), ((1.0, 0.9), (0.5, 0.5)),
    )  # fmt: skip
    assert list(rises(history, table)["rise"]) == pytest.approx([0.2, 0.01, 0.4, 0.03, -0.1, 0, -0.1, 0])
    assert list(rises(history, table)["share"]) == [0.1, 0.8] * 4
    chart = updates(history, table, None, LOOK)
    first, second = chart.figure.data
    assert first.x == (0.1, 0.8) and first.y == pytest.approx((0.3, 0.02))
    assert second.y == pytest.approx((-0.1, 0.0), abs=1e-9)
    (told,) = cost_of_updates(history, table, [identifier(1)], LOOK)
    assert "(nats, 2 seeds or more): -0.1000 ± 0.0000 at the first, +0.0000 ± 0.0000 at the last" in told
    (both,) = cost_of_updates(history, table, [identifier(0), identifier(1)], LOOK)
    assert "90 % +0.3000 ± 1.2706 at the first" in both and "95 % -0.1000" in both
    with pytest.raises(Missing, match="hyperparameters"):
        rises(history[history["metric"] == "loss"], table)


def test_features_are_found_while_training_goes_on():
    table, metrics, references = planted()
    many = table[table["config.dataset.train"] == 400]
    history = rows(
        (run, step, "input_average_precision", value + 0.01 * seed)
        for run, method, seed in zip(many["run_id"], many["method"], many["seed"], strict=True)
        for step, value in ((20, 0.1), (40, 0.9 if method == "ssvi" else 0.3))
    )
    chart = finding(table, metrics, history, references, LOOK)
    lines = [trace for trace in chart.figure.data if trace.fill is None]
    assert [trace.x for trace in lines] == [(50, 100)] * 2
    assert lines[0].y == pytest.approx((0.11, 0.91)) and lines[1].y == pytest.approx((0.11, 0.31))
    assert "400 training examples" in chart.how and "SSVI 0.91, RigL 0.31" in chart.alt
    with pytest.raises(Missing, match="during training"):
        finding(table, metrics, history.head(0), references, LOOK)
