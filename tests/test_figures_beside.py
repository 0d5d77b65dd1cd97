"""Charts of sets beside the test part, as data: detection by set, severity, corruption error, temperature."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bench.figures import (
    EVERY_SHIFT,
    Missing,
    corruption_error,
    detection_by_set,
    matrix,
    scaled_under_shift,
    severity,
)
from tests.figure_data import LOOK, identifier, runs
from tests.test_figures_uncertainty import DENSE, SEEDS, SSVI, T2, metrics

DETERMINISTIC = {"method": "deterministic", "seed": SEEDS, "stage": "train"}


def shifted(table, score, predictor="samples", **by_shift):
    """A row a run, shift and severity; by_shift: values at severities 1, 2, ..., each a number or by seed."""
    parts = [
        metrics(table, shift=shift, level=level, predictor=predictor, **{score: value})
        for shift, values in by_shift.items()
        for level, value in enumerate(values, start=1)
    ]
    return pd.concat(parts)


# -- unknown inputs ---------------------------------------------------------------------------


def test_the_matrix_has_a_column_for_each_set_and_the_mean_of_sets_best_row_first():
    table = runs(SSVI, DENSE)
    ssvi, dense = table[table["method"] == "ssvi"], table[table["method"] == "dense_vi"]
    rows = pd.concat(
        [
            metrics(ssvi, "letters", auroc_entropy=[0.7, 0.8, 0.9]),
            metrics(ssvi, "noise_uniform", auroc_entropy=[0.5, 0.6, 0.7]),
            metrics(dense, "letters", auroc_entropy=0.95),
            metrics(dense, "noise_uniform", auroc_entropy=0.85),
            metrics(table, "letters", auroc_energy=0.1),
        ]
    )
    chart = matrix(table, rows, "entropy", "samples", LOOK)
    (cells,) = chart.figure.data
    assert [list(line) for line in cells.z] == [
        pytest.approx([0.95, 0.85, 0.9]),
        pytest.approx([0.8, 0.6, 0.7]),
    ]
    heads = [head.removesuffix("<br>\u00a0<br>\u00a0") for head in chart.figure.layout.xaxis.ticktext]
    assert heads == ["letters", "noise_<br>uniform", "mean of sets"]
    assert cells.text[1][0] == f"80.0<br>± {100 * 0.1 * T2 / math.sqrt(3):.1f}"
    assert "n = 3" in cells.customdata[1][0]
    assert [note.text for note in chart.figure.layout.annotations] == ["Dense VI", "SSVI · 90 %"]
    assert "90.0 % by Dense VI" in chart.alt and "on 2 sets" in chart.alt


def test_a_run_without_one_of_the_sets_has_no_mean_of_sets():
    table = runs(SSVI)
    rows = pd.concat(
        [
            metrics(table, "letters", auroc_entropy=[0.7, 0.8, 0.9]),
            metrics(table[table["seed"] > 0], "digit_9", auroc_entropy=0.5),
        ]
    )
    found = detection_by_set(table, rows, "entropy", "samples")
    assert found["letters"].tolist() == [0.7, 0.8, 0.9]
    assert found["mean of sets"].isna().tolist() == [True, False, False]
    chart = matrix(table, rows, "entropy", "samples", LOOK)
    assert chart.data["mean of sets_n"].tolist() == [2] and chart.data["letters_n"].tolist() == [3]


def test_without_the_detector_there_is_a_sentence():
    table = runs(SSVI)
    rows = metrics(table, "letters", auroc_entropy=0.7)
    with pytest.raises(Missing, match="need several samples"):
        matrix(table, rows, "mutual_information", "samples", LOOK)


# -- shifted inputs ---------------------------------------------------------------------------


def test_all_shifts_are_averaged_in_each_run_before_seeds_are():
    table = runs(SSVI)
    rows = pd.concat(
        [
            metrics(table, accuracy=0.9),
            shifted(table, "accuracy", fog=[[0.8, 0.8, 0.8], 0.6], snow=[[0.4, 0.6, 0.8], 0.2]),
            # one run was not evaluated under blur, which therefore does not count
            shifted(table[table["seed"] == 0], "accuracy", blur=[0.0, 0.0]),
        ]
    )
    chart = severity(table, rows, "accuracy", EVERY_SHIFT, [identifier(0)], "samples", LOOK)
    assert chart.data["severity"].tolist() == [0, 1, 2]
    assert chart.data["mean"].tolist() == pytest.approx([0.9, 0.7, 0.4])
    assert chart.data["half_width"].iloc[1] == pytest.approx(0.1 * T2 / math.sqrt(3))
    assert "Averaged over 2 shifts first" in chart.how
    one = severity(table, rows, "accuracy", "snow", [identifier(0)], "samples", LOOK)
    assert one.data["mean"].tolist() == pytest.approx([0.9, 0.6, 0.2])


def test_corruption_errors_are_relative_to_the_deterministic_network():
    table = runs(SSVI, DETERMINISTIC)
    ssvi, plain = table[table["method"] == "ssvi"], table[table["method"] == "deterministic"]
    rows = pd.concat(
        [
            shifted(ssvi, "accuracy", fog=[0.9, 0.8], snow=[0.7, 0.7]),
            shifted(plain, "accuracy", fog=[[0.7, 0.8, 0.9], 0.8], snow=[0.8, 0.8]),
        ]
    )
    chart = corruption_error(table, rows, "samples", LOOK)
    found = chart.data.set_index("method")
    assert found.loc["ssvi", "error_mean"] == pytest.approx((0.3 / 0.4 + 0.6 / 0.4) / 2)
    assert found.loc["deterministic", "error_mean"] == pytest.approx(1)
    # seeds of the reference are spread about its mean
    assert found.loc["deterministic", "error_half_width"] == pytest.approx(0.125 * T2 / math.sqrt(3))
    assert found.index.tolist() == ["deterministic", "ssvi"]
    with pytest.raises(Missing, match="relative to the method deterministic"):
        corruption_error(ssvi, rows, "samples", LOOK)


def test_what_a_temperature_cannot_do_is_between_the_rule_and_the_hollow_mark():
    table = runs(SSVI)
    rows = pd.concat(
        [
            metrics(table, predictor="samples+temperature", ece=0.01),
            shifted(table, "ece", fog=[0.2, 0.4], snow=[0.2, 0.4]),
            shifted(table, "ece", "samples+temperature", fog=[0.1, 0.2], snow=[0.1, 0.2]),
        ]
    )
    chart = scaled_under_shift(table, rows, "samples", LOOK)
    (row,) = chart.data.to_dict("records")
    assert [row[f"{stem}_mean"] for stem in ("raw", "scaled", "clean")] == pytest.approx([0.3, 0.15, 0.01])
    assert "higher on shifted than on unshifted test inputs in 1 of 1" in chart.alt
    with pytest.raises(Missing, match="No finished run"):
        scaled_under_shift(table, metrics(table, ece=0.1), "samples", LOOK)
