"""How a score responds to settings, and how the subspace settles: lines, names, overlaps and correlation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.figures import (
    Missing,
    answers,
    convergence,
    layer_types,
    rank_map,
    responses,
    setting_name,
    settled,
    settling,
    varied,
    worth,
)
from bench.figures.course.convergence import converged
from bench.figures.parts.configurations import apart
from bench.results.files import StoreError
from bench.statistics import rank_correlation
from tests.figure_data import LOOK, identifier, runs

CENTRE = {
    "config.method.name": "ssvi",
    "config.method.replace_every": 20.0,
    "config.method.criterion": "snr",
    "config.method.lam": 1.0,
    "config.method.kl_factor": 0.02,
}


def star():
    """Two settings around a centre, λ of one criterion, and a method without any of them."""
    one = [{"config.method.replace_every": value} for value in (80.0, 5.0)]
    lam = [{"config.method.criterion": "snr_exp", "config.method.lam": value} for value in (0.1, 10.0)]
    other = {"method": "dense_vi", "config.method.name": "dense_vi"}
    other |= dict.fromkeys(list(CENTRE)[1:4], None)
    given = [CENTRE, *(CENTRE | change for change in one + lam), CENTRE | other]
    table = runs(*({**each, "nll": [0.1 + n, 0.2 + n, 0.3 + n]} for n, each in enumerate(given)))
    return table


def test_lines_have_configurations_that_differ_in_one_setting():
    found = {
        (line.setting, line.method, line.others.get("method.criterion")): line.config_ids
        for line in varied(star())
    }
    assert found == {
        ("method.replace_every", "ssvi", "snr"): {5: identifier(2), 20: identifier(0), 80: identifier(1)},
        ("method.lam", "ssvi", "snr_exp"): {0.1: identifier(3), 10: identifier(4)},
    }
    assert [list(line.config_ids) for line in varied(star())] == [[5, 20, 80], [0.1, 10]]


def test_a_panel_has_means_and_intervals_under_names_that_people_use():
    chart = responses(star(), "nll", LOOK)
    first, second = chart.figure.data
    assert first.x == ("5", "20", "80") and first.y == pytest.approx((2.2, 0.2, 1.2))
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert first.error_y.array == pytest.approx([half] * 3)
    assert chart.figure.layout.xaxis.title.text == "M, minibatches between updates"
    assert chart.figure.layout.xaxis2.title.text == "λ of the exponential criteria"
    assert second.yaxis == "y2" and chart.figure.layout.yaxis2.matches == "y"
    assert (
        setting_name("method.kl_factor").startswith("κ") and setting_name("training.clip_norm") == "clip norm"
    )
    assert "config." not in chart.figure.to_json()
    assert "M, minibatches between updates" in chart.alt and "2.000 nats" in chart.alt


def test_nothing_varies_alone():
    both = [CENTRE, CENTRE | {"config.method.lam": 2.0, "config.method.replace_every": 5.0}]
    with pytest.raises(Missing, match="one setting only"):
        responses(runs(*({**each, "nll": [0.1]} for each in both)), "nll", LOOK)


def history(table, *overlaps):
    """Rows of ``history``: IoU with the final subspace after steps 10 and 50 of 100, by run."""
    rows = []
    for run, (early, middle) in zip(table["run_id"], overlaps, strict=True):
        values = (("iou_final", 10, early), ("iou_final", 50, middle), ("loss", 100, 0.5))
        rows += [
            {"run_id": run, "stage": "train", "step": step, "epoch": step, "split": "train", "metric": metric,
             "value": value} for metric, step, value in values
        ]  # fmt: skip
    return pd.DataFrame(rows)


def test_overlap_with_the_final_subspace_is_averaged_over_seeds():
    table = runs({"sparsity": 0.9, "nll": [0.1, 0.2, 0.3]})
    given = history(table, (0.2, 0.6), (0.3, 0.7), (0.4, 0.8))
    assert list(settled(given, table)["share"]) == [0.1, 0.5] * 3
    band, line = settling(given, table, LOOK).figure.data
    assert line.x == (0.1, 0.5) and line.y == pytest.approx((0.3, 0.7)) and band.fill == "toself"
    assert "0.70" in settling(given, table, LOOK).alt
    with pytest.raises(Missing, match="subspace_evolution"):
        settled(given[given["metric"] == "loss"], table)


def test_a_settled_run_is_compared_within_its_configuration_only():
    """Configurations differ in both, runs of one configuration in opposite directions."""
    table = runs({"nll": [0.1, 0.2, 0.3, 0.4]}, {"nll": [1.1, 1.2, 1.3, 1.45]})
    given = history(table, *((0, x) for x in (0.3, 0.25, 0.2, 0.1, 0.9, 0.8, 0.75, 0.7)))
    chart = worth(given, table, "nll", LOOK)
    assert "is -0.9" in chart.alt and "differs from 0" in chart.alt and "n = 8" in chart.alt
    assert len(chart.data) == 8
    with pytest.raises(Missing, match="four"):
        worth(given, table.head(3), "nll", LOOK)


def test_rank_correlation_has_the_interval_that_simulation_gives():
    """Of intervals of normal pairs whose true rank correlation is 0.483, about 95 % hold it."""
    generator, held = np.random.default_rng(0), 0
    true = 6 / math.pi * math.asin(0.5 / 2)
    for _ in range(300):
        x = generator.normal(size=40)
        y = 0.5 * x + math.sqrt(0.75) * generator.normal(size=40)
        shift = np.repeat([0, 5], 20)
        value, low, high = rank_correlation(x + shift, y - shift, shift)
        held += low <= true <= high
        assert low < value < high
    assert 0.9 <= held / 300 <= 0.99
    plain = rank_correlation(x, y, np.zeros(40))[0]
    assert plain == pytest.approx(stats.spearmanr(x, y).statistic)
    assert rank_correlation([1, 2, 3], [1, 2, 3], [0, 0, 0]) is None
    assert rank_correlation([1] * 9, range(9), [0] * 9) is None


# -- answers ------------------------------------------------------------------------------------


def answer(table, references, history=None, layers=None):
    """The sentences that answer the suite's own question."""
    metrics = pd.DataFrame(columns=["run_id", "split", "metric", "shift", "value"])
    tables = {"runs": table, "history": history, "layers": layers, "metrics": metrics}

    def read(name):
        if tables[name] is None:
            raise StoreError("no such table")
        return tables[name]

    found = answers(read, references, "nll", LOOK)
    return list(found[0].sentences) if found else []


def test_an_answer_counts_verdicts_and_tells_the_clearest_difference():
    shifted = [[0.2 + n / 1000 + d for n in range(5)] for d in (0.0, 0.0001, 0.5)]
    table = runs(*({"nll": values, "method": "ssvi"} for values in shifted))
    for number, m in enumerate((20, 40, 80)):
        here = table["config_id"] == identifier(number)
        table.loc[here, "config_label"] = f"ssvi sparsity=0.9 replace_every={m}"
    odd = table["seed"] % 2
    table["nll"] += np.where(table["config_id"] == identifier(2), 0.003 * odd, 0)
    table["nll"] += np.where(table["config_id"] == identifier(1), 0.002 * odd - 0.001, 0)
    references = {identifier(number): identifier(0) for number in range(3)}
    first, clearest = answer(table, references)  # one kind of change: nothing is told by kind
    assert first == (
        "Of 2 comparisons of NLL with the reference, 1 differs, 1 is equivalent and 0 are undecided, after "
        "Holm's correction (n = 5 pairs; equivalent within ± 0.01 nats)."
    )
    assert clearest.startswith("SSVI, M 80 against 20: +0.501 ± 0.002 nats (n = 5 pairs), differs (p = ")
    assert answer(table.assign(status="failed"), references) == []


def test_an_answer_tells_ranges_and_from_where_averaging_gains():
    base = {"config.method.name": "ssvi", "config.training.lr": 0.01, "config.method.sparsity": 0.9}
    rates = {0.0001: 0.1, 0.001: 0.85, 0.1: 0.9, 1.0: 0.2}
    given = [base | {"accuracy": [0.92, 0.92]}]
    given += [base | {"config.training.lr": rate, "accuracy": [a, a]} for rate, a in rates.items()]
    table = runs(*({"nll": 0.2, "config.method.kl_factor": 0.02} | each for each in given))
    assert answer(table, {}) == [
        "Of learning rate 0.0001 to 1, these keep 90% of a method's best mean accuracy (in brackets: the "
        "accuracy next to the range): SSVI from 0.001 to 0.1 (10.0 ± 0.0 % at 0.0001, 20.0 ± 0.0 % at 1) "
        "(n = 2 seeds)."
    ]
    gains = {0.001: [0.0, 0.001, -0.001], 0.01: [0.01, 0.011, 0.009], 0.1: [0.05, 0.06, 0.05]}
    table = runs(
        *(
            {"nll": 0.2, "accuracy": 0.9, "config.method.kl_factor": k, "posterior_gain_nll": g}
            for k, g in gains.items()
        )
    )
    (gain, kept) = answer(table, {})
    assert gain == (
        "SSVI: the smallest κ at which averaging gains, by its own interval, is 0.01: +0.0100 ± 0.0025 nats "
        "(n = 3)."
    )
    assert (
        kept.startswith("Of factor of the KL term 0.001 to 0.1, these keep")
        and "SSVI from 0.001 to 0.1 (n" in kept
    )


def networks(agree):
    """Five criteria on four networks, in one order or in a random one each."""
    names, generator = ("abs_mean", "snr", "mean_abs", "mean_exp", "snr_exp"), np.random.default_rng(5)
    parts = []
    for network in ("mlp", "cnn", "lenet5", "vit"):
        order = range(5) if agree else generator.permutation(5).tolist()
        given = (
            {"criterion": name, "nll": [0.1 * place, 0.1 * place + 0.01], "network": network}
            for name, place in zip(names, order, strict=True)
        )
        part = runs(*given)
        parts.append(part.assign(config_id=network + part["config_id"], run_id=network + part["run_id"]))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("agree", "verdict"), [(True, "differs from 0."), (False, "undecided.")])
def test_an_answer_tells_whether_criteria_rank_alike(agree, verdict):
    (*_, last) = answer(networks(agree), {})
    assert "rankings of 5 criteria on 4 networks" in last and last.endswith(verdict)
    chart = rank_map(networks(agree), "nll", LOOK)
    assert len(chart.data) == 6 and chart.alt == last
    if agree:
        assert "mean rank correlation of 1.00, 95% interval over seeds 1.00 to 1.00" in last
        assert chart.data["correlation"].tolist() == pytest.approx([1] * 6)
    first = networks(agree)
    with pytest.raises(Missing, match="architectures"):
        rank_map(first[first["network"] != "vit"], "nll", LOOK)


def test_an_answer_tells_where_the_weights_of_a_transformer_go():
    given = [
        {
            "criterion": "snr",
            "network": "vit",
            "config.method.allocation": allocation,
            "nll": [0.1, 0.1],
            "sparsity": 0.9,
        }
        for allocation in ("uniform", "global")
    ]
    table = runs(*given)
    slots = {
        "uniform": {"embed": 5, "blocks.0.query": 10, "blocks.0.out": 10, "blocks.1.fc1": 20, "fc1": 7},
        "global": {"embed": 9, "blocks.0.query": 2, "blocks.0.out": 8, "blocks.1.fc1": 30, "fc1": 7},
    }
    rows = [
        {"run_id": run["run_id"], "layer": layer, "step": step, "slots": count if step == 20 else 1}
        for run in table.to_dict("records")
        for step in (20, 10)
        for layer, count in slots[run["config.method.allocation"]].items()
    ]
    (*_, last) = answer(table, {}, layers=pd.DataFrame(rows))
    assert last.endswith(": MLP blocks 1.50 ± 0.00, attention 0.50 ± 0.00 (n = 2 seeds).")
    chart = layer_types(table, pd.DataFrame(rows), LOOK)
    density = chart.data.set_index("type")["density"]
    assert density.to_dict() == pytest.approx({"query": 0.02, "out": 0.08, "fc1": 37 / 270, "embed": 0.18})
    assert "fc1 has" not in chart.alt and "embed has the highest density, 18.0 %" in chart.alt
    alone = table[table["config.method.allocation"] == "uniform"]
    assert answer(alone, {}, layers=pd.DataFrame(rows)) == []


def test_an_answer_tells_whether_longer_training_settles_and_what_moves():
    base = {"sparsity": 0.9, "criterion": "snr", "nll": [0.1, 0.3, 0.2]}
    table = runs(*(base | {"config.training.epochs": epochs} for epochs in (20.0, 100.0)))
    table["density"] = 0.1
    overlaps = [(0.1, value) for value in (0.5, 0.6, 0.7, 0.8, 0.9, 0.97)]
    layers = pd.DataFrame(
        [
            {"run_id": run, "layer": layer, "step": step, "slots": slots, "replaced": 4,
             "regrown": step // 10, "kept_q50": 2.0 * slots, "removed_q50": 0.5, "added_q50": 0.0}
            for run in table["run_id"] for step in (10, 20) for layer, slots in (("a", 1), ("b", 3))
        ]
    )  # fmt: skip
    said = answer(table, {}, history(table, *overlaps), layers)
    assert said[0].startswith(
        "IoU of the subspace half-way with the final one, by epochs of training (chance: 0.05). SSVI: "
        "0.60 ± 0.25 in 20, 0.89 ± 0.21 in 100; +0.29 ± 0.04 from the shortest to the longest, n = 3 pairs: "
        "differs (p = "
    )
    assert said[1] == (
        "SSVI, 100 epochs: median snr of slots kept 5, removed 0.5, added 0 at the first update; kept 5, "
        "removed 0.5, added 0 at the last update. Of the weights that were added, 37.5 ± 0.0 % had been "
        "removed before (n = 3 runs)."
    )
    assert said[2].startswith("Within configurations") and len(said) == 3
    assert answer(table, {}) == []


def test_names_say_what_is_apart_and_where():
    labels = {
        "one": ("ssvi sparsity=0.9 replace_every=80", "ssvi sparsity=0.9 replace_every=20"),
        "two": ("static_vi sparsity=0.9", "ssvi sparsity=0.9 criterion=snr"),
        "three": ("ssvi sparsity=0.98 kl_factor=1", "ssvi sparsity=0.98 kl_factor=0.1"),
    }
    assert apart(labels, LOOK) == {
        "one": "SSVI, M 80 against 20, at 90 %",
        "two": "static_vi against SSVI · by snr, at 90 %",
        "three": "SSVI, κ 1 against 0.1, at 98 %",
    }
    labels = {
        "sparser": ("csgld sparsity=0.95 budget=flops", "csgld sparsity=0 budget=epochs"),
        "criterion": ("ssvi criterion=snr lam=1", "ssvi criterion=abs_mean lam=1"),
        "alone": ("ssvi lam=10", "ssvi"),
    }
    assert apart(labels, LOOK) == {
        "sparser": "csgld, 95 % against dense, equal FLOPs against equal epochs",
        "criterion": "SSVI, by snr against by abs_mean, at λ 1",
        "alone": "SSVI, λ 10",
    }
    assert apart({}, LOOK) == {}


def test_comparisons_are_told_by_what_is_changed():
    labels = [
        "ssvi kl_factor=0.1 prior_std=1",
        "ssvi kl_factor=1 prior_std=1",
        "ssvi kl_factor=0.1 prior_std=0.1",
    ]
    table = runs(*({"method": "ssvi", "nll": [0.1 + n, 0.2 + n, 0.35 + n * 1.1]} for n in range(3)))
    table["config_label"] = [label for label in labels for _ in range(3)]
    said = answer(table, {identifier(number): identifier(0) for number in range(3)})
    assert said[1] == "By what is changed, so many differ: κ 1 of 1; prior std 1 of 1."
    assert said[2].startswith("SSVI, κ 1 against 0.1: +1.033") and said[3].startswith(
        "SSVI, prior std 0.1 against 1"
    )


def test_steps_to_a_target_and_the_rate_are_those_of_the_curves():
    """NLL - 0.1 = steps^-2 until the last epoch, which has the smallest NLL; one configuration is slower."""
    base = {"criterion": "snr", "nll": [0.1, 0.2, 0.3]}
    table = runs(*(base | {"config.method.replace_every": every} for every in (20.0, 5.0)))
    table["config_label"] = [f"ssvi replace_every={every}" for every in (20, 20, 20, 5, 5, 5)]
    rows = []
    for place, run in enumerate(table["run_id"]):
        scale = (1.0 if place < 3 else 2.0) + 0.02 * (place % 3)
        curve = [0.1 + (scale * 10 / step) ** 2 for step in range(10, 110, 10)]
        rows += [
            {"run_id": run, "stage": "train", "epoch": step // 10, "step": step, "split": "val",
             "metric": "nll", "value": value}
            for step, value in zip(range(10, 120, 10), [*curve, 0.1], strict=True)
        ]  # fmt: skip
    history = pd.DataFrame(rows)
    found, target = converged(history, table)
    assert target == pytest.approx(0.11)  # ten per cent above the best
    assert list(found["steps_to_target"]) == [100, 110, 110, 110, 110, 110]
    assert list(found["updates_to_target"]) == [5, 5, 5, 22, 22, 22]
    assert found["rate"].to_numpy() == pytest.approx([2.0] * 6)
    chart = convergence(history, table, LOOK)
    assert len(chart.figure.data) == 2 and "needs fewest steps" in chart.alt and "107" in chart.alt
    said = answer(table, {identifier(0): identifier(0), identifier(1): identifier(0)}, history)
    assert said[0] == (
        "To a validation NLL of 0.110 nats, the reference needs 107 ± 14 steps (5 updates) at a rate of "
        "2.00 ± 0.00."
    )
    assert said[1].startswith("Of 1 comparison of these steps with the reference, 0 differ")
    assert said[2].startswith("SSVI, M 5 against 20: +3 ± 14 steps (n = 3 pairs), undecided")
    with pytest.raises(Missing, match="three epochs"):
        convergence(history.head(2), table, LOOK)
