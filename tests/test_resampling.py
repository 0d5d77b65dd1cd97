"""Folds, leave-one-out, random and official parts, and what statistics say of them."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data.tables.resampling import Resampled, ResamplingOptions, Rows, filled, folds
from bench.statistics import splits as statistics
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams

LABELS = torch.tensor([0] * 13 + [1] * 20 + [2] * 9)


class Numbered(Resampled):
    """Rows that hold their own number, with an official test part of the last five."""

    name = "numbered"
    known, known_tested = (42, 3, (1,)), 5

    def rows(self):
        numbers = torch.arange(len(LABELS))
        return Rows(numbers[:, None].float(), LABELS, 3, numbers >= len(LABELS) - 5)


def parts(seed, **options):
    """Return the row numbers of the three parts of a seed, and the data set's own splits."""
    dataset = Numbered(parse(ResamplingOptions, options))
    splits = dataset.parts(Streams(seed)["split"], False, seed)
    told = dataset.task()
    assert told.examples == len(splits.train)
    return [
        set() if part is None else set(part.inputs[:, 0].int().tolist())
        for part in (splits.train, splits.val, splits.test)
    ]


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(2, 8), st.integers(0, 5))
def test_folds_are_disjoint_complete_even_and_stratified(labels, count, repeat):
    labels = torch.tensor(labels)
    found = folds(labels, count, repeat)
    assert sorted(torch.cat(found).tolist()) == list(range(len(labels)))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    counts = torch.stack([labels[fold].bincount(minlength=4) for fold in found])
    assert int((counts.amax(0) - counts.amin(0)).max()) <= 1


def test_a_repeat_tests_each_row_once_and_the_next_repeat_deals_them_anew():
    tested = [parts(seed, folds=5)[2] for seed in range(10)]
    for repeat in (tested[:5], tested[5:]):
        assert sorted(row for fold in repeat for row in fold) == list(range(42))
    assert {frozenset(fold) for fold in tested[:5]}.isdisjoint(frozenset(fold) for fold in tested[5:])


@pytest.mark.parametrize("resampling", ["folds", "leave_one_out", "split", "official"])
def test_parts_of_a_seed_are_disjoint_and_every_seed_trains_on_equally_many(resampling):
    sizes = set()
    for seed in range(7):
        train, val, test = parts(seed, resampling=resampling, folds=4)
        assert not (train & val or train & test or val & test)
        sizes.add((len(train), len(val)))
    assert len(sizes) == 1


def test_leave_one_out_tests_one_row_and_all_after_as_many_seeds_as_rows():
    assert [parts(seed, resampling="leave_one_out")[2] for seed in (0, 1, 41, 42)] == [{0}, {1}, {41}, {0}]


def test_the_official_part_is_the_authors():
    assert parts(3, resampling="official")[2] == {37, 38, 39, 40, 41}


def test_a_chosen_fold_hides_its_rows_from_every_seed_those_of_searches_included():
    """What a search sees of the tested rows is nothing: its seeds re-split the other rows only."""
    tested = parts(0, fold=2)[2]
    seen = [parts(seed, fold=2) for seed in (1, 7, 100, 101, 133)]
    assert all(test == tested for _, _, test in seen)
    assert not any(tested & (train | val) for train, val, _ in seen)
    assert len({frozenset(val) for _, val, _ in seen}) == len(seen)
    # without it, another seed's validation part has rows that this one tests
    assert any(parts(0)[2] & parts(seed)[1] for seed in range(100, 110))


def test_without_a_validation_share_there_is_no_validation_part():
    train, val, test = parts(0, val=0.0, folds=6)
    assert (len(train), len(val), len(test)) == (35, 0, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 5}, r"fold: 5; valid: 0 to 4, or null for that of the seed"),
        ({"folds": 43}, r"folds: 43 are more than its 42 examples"),
        ({"resampling": "leave_one_out", "fold": 42}, r"valid: 0 to 41"),
        ({"resampling": "split", "test": 0.01}, r"42 examples leave 0 for the test"),
    ],
)
def test_options_that_do_not_fit_the_rows_are_one_line(options, message):
    with pytest.raises(UserError, match=rf"^data set numbered: .*{message}"):
        parts(0, **options)


def test_no_official_part_is_said_with_what_is_valid():
    class Without(Numbered):
        name = "without"
        known_tested = None

        def rows(self):
            return Rows(torch.zeros(9, 1), torch.arange(9) % 3, 3)

    with pytest.raises(UserError, match=r"no test part; valid: folds, leave_one_out, split$"):
        Without(parse(ResamplingOptions, {"resampling": "official"})).load(torch.Generator())


def test_missing_values_become_the_mean_of_the_training_rows_alone():
    class Gaps(Numbered):
        name = "gaps"

        def rows(self):
            inputs = torch.arange(84).view(42, 2).float()
            inputs[::3, 0] = torch.nan
            inputs[:, 1] = torch.nan
            return Rows(inputs, LABELS, 3)

    gaps = Gaps()
    gaps.known = None
    whole = Gaps.rows(gaps).inputs[:, 0]
    splits = gaps.parts(Streams(0)["split"], False, 0)
    known = splits.train.inputs[:, 0][torch.isin(splits.train.inputs[:, 0], whole[~whole.isnan()])]
    for part in (splits.train, splits.val, splits.test):
        fills = part.inputs[:, 0][~torch.isin(part.inputs[:, 0], whole[~whole.isnan()])]
        assert torch.allclose(fills, known.mean()) and len(fills)
        assert bool((part.inputs[:, 1] == 0).all())
    untouched = Numbered().parts(Streams(0)["split"], False, 0)
    assert filled(untouched) is untouched


def runs(resampling, tested):
    """Return rows of the table ``runs`` of one configuration whose seeds test the named parts."""
    return pd.DataFrame(
        {
            "status": "done",
            "config_id": "a",
            "seed": range(len(tested)),
            "test_set": tested,
            "train_examples": 40,
            "test_examples": 10,
            "config.dataset.resampling": resampling,
        }
    )


def test_statistics_correct_for_folds_and_say_so():
    table = runs("folds", list("abcde"))
    assert statistics.overlap(table).tolist() == [0.25] * 5
    told = statistics.scope(table)
    assert told.startswith(
        "Each seed tests a fold of a cross-validation. Test parts of a repeat are disjoint"
    )
    assert (
        "(Nadeau and Bengio 2003, as Bouckaert and Frank 2004 do for repeated folds; n_test/n_train = 0.25)"
        in told
    )
    drawn = statistics.scope(runs("split", list("abcde")))
    assert drawn.startswith("Each seed draws its own test part, and these overlap: ") and "fold" not in drawn
    fixed = statistics.scope(runs("folds", ["a"] * 5))
    assert fixed.startswith("Intervals and tests over seeds cover the randomness of training on one test set")
