"""Errors under corruptions relative to a reference, against tables made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.statistics import corruption_errors


def test_each_corruption_counts_by_its_ratio():
    reference = [[0.1, 0.3], [0.5, 0.9]]
    assert corruption_errors(reference, reference).tolist() == [1, 1]
    errors = [[0.1, 0.1], [0.7, 0.7]]
    assert corruption_errors(errors, reference) == pytest.approx([0.5, 1])
    assert corruption_errors(errors, reference).mean() == pytest.approx(0.75)


def test_relative_errors_are_what_is_lost():
    reference, errors = [[0.3, 0.5]], [[0.15, 0.25]]
    # from 0.2 to 0.4 on average, and from 0.1 to 0.2: half of the loss
    assert corruption_errors(errors, reference, 0.1, 0.2) == pytest.approx([0.5])
    # a network whose errors stay what they are on clean data loses nothing
    assert corruption_errors([[0.3, 0.3]], reference, 0.3, 0.2) == pytest.approx([0])


def test_a_corruption_without_errors_of_the_reference_has_no_ratio():
    found = corruption_errors([[0.1], [0.2]], [[0.0], [0.4]])
    assert np.isnan(found[0]) and found[1] == pytest.approx(0.5)
    assert np.isnan(corruption_errors([[0.1]], [[0.2]], 0.1, 0.2)).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([[0.1]], [[0.1, 0.2]]), "of one shape"),
        (([0.1], [0.1]), "of one shape"),
        ((np.empty((0, 5)), np.empty((0, 5))), "of one shape"),
        (([[10]], [[20]]), "rates from 0 to 1"),
        (([[float("nan")]], [[0.2]]), "rates from 0 to 1"),
        (([[0.1]], [[0.2]], 0.1), "both errors on clean data"),
    ],
)
def test_what_is_no_table_of_errors_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        corruption_errors(*arguments)
