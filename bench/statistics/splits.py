"""Correct statistics over seeds for test parts that are drawn anew for each seed, and therefore overlap.

Values of such seeds are correlated: their training parts share examples, and so do their test parts. The
variance of a mean over n seeds is then not s²/n but about s² (1/n + n_test/n_train) (Nadeau and Bengio,
Inference for the Generalization Error, 2003). This module decides for every statistic which of the two holds,
from the columns ``test_set``, ``train_examples`` and ``test_examples`` of the table ``runs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Values of the option ``resampling`` of a data set under which each seed tests one fold.
_FOLDED = ("folds", "leave_one_out")
_COLUMNS = ("test_set", "train_examples", "test_examples")


def overlap(runs: pd.DataFrame) -> pd.Series[float]:
    """Return n_test / n_train for the runs of configurations whose seeds draw their own test part, else 0.

    Parameters
    ----------
    runs
        Rows of the table ``runs``. Runs without the columns about their test part count as runs on one.

    Returns
    -------
    pandas.Series
        One number for each row: what ``variance_factor`` adds to 1/n.
    """
    import pandas as pd

    if not {*_COLUMNS, "config_id"} <= set(runs.columns):
        return pd.Series(0.0, runs.index)
    keys = [column for column in ("scale", "config_id") if column in runs]
    group = runs.groupby(keys, observed=True, sort=False).ngroup().to_numpy()
    part = pd.factorize(runs["test_set"])[0]  # -1 where it is null
    known = (part >= 0) & (group >= 0)
    # the seeds of a group have several test parts if the smallest number of a part is not the largest
    most = np.full(group.max(initial=-1) + 1, -1)
    least = np.full(len(most), len(runs))
    np.maximum.at(most, group[known], part[known])
    np.minimum.at(least, group[known], part[known])
    redrawn = (most > least)[group] & (group >= 0)
    ratio = runs["test_examples"].astype("float64") / runs["train_examples"].astype("float64")
    return ratio.where(redrawn, 0.0).fillna(0.0)


def variance_factor(count: Any, share: Any) -> NDArray[np.float64]:
    """Return the variance of a mean over seeds, divided by the variance of one seed; NaN without seeds.

    Parameters
    ----------
    count
        Number of seeds.
    share
        ``overlap`` of their runs.
    """
    number = np.asarray(count, np.float64)
    return np.asarray(1 / np.where(number > 0, number, np.nan) + np.asarray(share, np.float64))


def _ratios(share: pd.Series[float]) -> list[str]:
    """Return the different positive values of ``overlap`` in words."""
    return [f"n_test/n_train = {value:.2g}" for value in sorted(set(share[share > 0].round(4)))]


def scope(runs: pd.DataFrame) -> str:
    """Say in a sentence or two what intervals and tests over the seeds of ``runs`` cover.

    Parameters
    ----------
    runs
        Rows of the table ``runs``.
    """
    done = runs[runs["status"] == "done"]
    share = overlap(done)
    sizes = set(done["test_examples"].dropna()) if "test_examples" in done else set()
    told = _ratios(share)
    sentences = []
    folded = (
        done["config.dataset.resampling"].isin(_FOLDED) if "config.dataset.resampling" in done else share < 0
    )
    corrected = (
        "variances of means over n seeds are multiplied by 1 + n × n_test/n_train (Nadeau and Bengio 2003"
    )
    if drawn := _ratios(share[~folded]):
        sentences.append(
            f"Each seed draws its own test part, and these overlap: {corrected}; {', '.join(drawn)})."
        )
    if dealt := _ratios(share[folded]):
        sentences.append(
            "Each seed tests a fold of a cross-validation. Test parts of a repeat are disjoint, but training "
            f"parts overlap: {corrected}, as Bouckaert and Frank 2004 do for repeated folds; "
            f"{', '.join(dealt)})."
        )
    if (share == 0).any() or not len(share):
        shared = f" of {int(max(sizes))} examples" if sizes and not told else ""
        rest = "Where seeds share a test set, intervals" if told else "Intervals"
        sentences.append(
            f"{rest} and tests over seeds cover the randomness of training on one test set{shared}, not the "
            "choice of its examples."
        )
    seeds = done.groupby("config_id", observed=True)["seed"].nunique()
    if seeds.nunique() > 1:
        sentences.append(
            f"Configurations have {seeds.min()} to {seeds.max()} seeds; a pair is compared on the seeds that "
            "both have."
        )
    return " ".join(sentences)
