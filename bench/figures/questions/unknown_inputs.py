"""Answer what unknown and shifted inputs show: what sparsity costs, what averaging buys, who is ahead.

Each answer has a sentence for every measure, and every difference with its interval, its pairs and its
verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.figures.beside.shifted import SHIFTED, over_shifts, shifts
from bench.figures.beside.unknown import auroc_axis, detection_by_set, foreign_splits
from bench.figures.parts.axes import Axis
from bench.figures.parts.chart import Look
from bench.figures.parts.verdicts import by_how_much, said, tally
from bench.figures.questions.answer import Answer
from bench.results.words import counted
from bench.statistics.seeds import paired
from bench.statistics.splits import scope

#: Detector whose AUROC is compared; every predictor has it.
DETECTOR = "entropy"
#: Differences of AUROC below this do not matter.
AUROC_MARGIN = 0.01
#: Scores that are averaged over shifts and severities in each run.
_SCORES = ("accuracy", "nll", "ece")
#: As many comparisons are told one by one.
_FEW = 3
#: Ends the id of a configuration that is judged by its mean network.
_MEAN = " mean network"


@dataclass(frozen=True)
class Measure:
    """A measure of the runs of a setting.

    Parameters
    ----------
    axis
        How it is shown.
    values
        Finished runs by predictor, with the measure in the column ``column``.
    column
        Name of the column.
    margin
        Largest difference that does not matter; None for that of ``bench/columns.yaml``.
    """

    axis: Axis
    values: Mapping[str, pd.DataFrame]
    column: str
    margin: float | None = None


def beside(
    setting: str,
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    references: Mapping[str, str],
    predictor: str = "samples",
    look: Look | None = None,
) -> list[Answer]:
    """Answer for one data set and network; nothing if nothing was evaluated beside the test part.

    Parameters
    ----------
    setting
        Data set and network, for the headings.
    runs, metrics
        The tables of these names.
    references
        ``config_id`` to the ``config_id`` of its reference.
    predictor
        Whose scores to compare between configurations.
    look
        Names of methods.
    """
    look = look or Look.of(runs)
    found = list(measures(runs, metrics))
    dense = _sparse_with_dense(runs, references)
    averaged = _averaging(found)
    rivals = _rivals_of_ssvi(runs)
    told = [
        _answer(
            f"{setting}: what does sparsity cost on unknown and shifted inputs?",
            f"Each sparse configuration minus the same one dense, scores of predictor `{predictor}`.",
            [(measure, measure.values[predictor], dense) for measure in found],
            look,
        ),
        _answer(
            f"{setting}: does averaging beat the mean network on unknown and shifted inputs?",
            "Averaged samples minus the mean network of the same runs. Left out are configurations without "
            "a mean network, and those in which both predict the same.",
            [(measure, _both(measure), averaged) for measure in found],
            look,
        ),
        _answer(
            f"{setting}: is SSVI ahead of RigL and of an ensemble of sparse networks at equal cost?",
            "The rival minus SSVI at the same sparsity, each with the training FLOPs of dense VI (`budget: "
            f"flops`) or as many as its cap on epochs allows, scores of predictor `{predictor}`.",
            [(measure, measure.values[predictor], rivals) for measure in found],
            look,
        ),
    ]
    return [each for each in told if each is not None]


def measures(runs: pd.DataFrame, metrics: pd.DataFrame) -> Iterator[Measure]:
    """Yield the measures that any run has: AUROC over unknown sets, and scores over shifts."""
    predictors = ("samples", "mean")
    if foreign_splits(metrics):
        axis = replace(auroc_axis(DETECTOR), digits=2)
        tables = {
            each: detection_by_set(runs, metrics, DETECTOR, each).rename(columns={"mean of sets": "auroc"})
            for each in predictors
        }
        yield Measure(replace(axis, name=f"{axis.name}, mean of sets"), tables, "auroc", AUROC_MARGIN)
    if shifts(metrics):
        for score in _SCORES:
            axis = SHIFTED[score]
            tables = {each: over_shifts(runs, metrics, score, each) for each in predictors}
            yield Measure(replace(axis, name=f"{axis.name} under shift"), tables, score)


def _sparse_with_dense(runs: pd.DataFrame, references: Mapping[str, str]) -> dict[str, str]:
    """Return the references that are dense, of sparse configurations."""
    known = runs.drop_duplicates("config_id")
    sparsity = dict(zip(known["config_id"].astype(str), known["sparsity"].astype(float), strict=True))
    return {
        mine: theirs
        for mine, theirs in references.items()
        if sparsity.get(mine, 0) > 0 and sparsity.get(theirs) == 0
    }


def _rivals_of_ssvi(runs: pd.DataFrame) -> dict[str, str]:
    """Return SSVI's configuration by that of each sparse rival, both under ``budget: flops``."""
    if "config.training.budget" not in runs:
        return {}
    known = runs.drop_duplicates("config_id").astype({"config_id": str, "method": str})
    known = known[(known["config.training.budget"].astype(str) == "flops") & (known["sparsity"] > 0)]
    own = known[known["method"] == "ssvi"].drop_duplicates("sparsity")
    ssvi = dict(zip(own["sparsity"], own["config_id"], strict=True))
    rivals = known[known["method"].isin(["rigl", "ensemble"]) & known["sparsity"].isin(list(ssvi))]
    return {
        config_id: ssvi[sparsity]
        for config_id, sparsity in zip(rivals["config_id"], rivals["sparsity"], strict=True)
    }


def _averaging(found: list[Measure]) -> dict[str, str]:
    """Return what to compare to see what averaging buys: each configuration, and its mean network.

    Configurations whose samples and mean network are equal in every measure of every run are left out.
    """
    differ: set[str] = set()
    for measure in found:
        samples, mean = (
            measure.values[name].set_index(["config_id", "run_id"])[measure.column].dropna()
            for name in ("samples", "mean")
        )
        both = samples.index.intersection(mean.index)
        differ |= set(both[samples[both] != mean[both]].get_level_values("config_id").astype(str))
    return {config_id: config_id + _MEAN for config_id in sorted(differ)}


def _both(measure: Measure) -> pd.DataFrame:
    """Return the runs under both predictors, as runs of two configurations."""
    ids = {"run_id": str, "config_id": str, "config_label": str}
    samples, mean = (measure.values[name].astype(ids) for name in ("samples", "mean"))
    return pd.concat([samples, mean.assign(**{name: mean[name] + _MEAN for name in ids})])


def _summary(records: list[dict[Any, Any]], axis: Axis) -> str:
    """Return words for comparisons sorted from worst to best: all if they are few, else the ends and SSVI's.

    Of SSVI's own, those with the most pairs are told, by the criterion that most of them have: these are what
    the suite is about.
    """
    each = [f"{row['label']} {by_how_much(row, axis)} (n = {row['n']}), {row['verdict']}" for row in records]
    if len(records) <= _FEW:
        return "; ".join(each)
    worst, best = records[0], records[-1]
    ends = (
        f"from {by_how_much(worst, axis)} ({worst['label']}) to {by_how_much(best, axis)} ({best['label']})"
    )
    ssvi = [row for row in records if row["method"] == "ssvi"]
    usual = Counter(row["criterion"] for row in ssvi).most_common(1)
    most = max((row["n"] for row in ssvi if row["criterion"] == usual[0][0]), default=None)
    own = [
        told
        for row, told in zip(records, each, strict=True)
        if row["method"] == "ssvi" and row["n"] == most and row["criterion"] == usual[0][0]
    ]
    count = (
        f"of {counted(len(records), 'comparison')}, {tally(pd.Series([row['verdict'] for row in records]))}"
    )
    return "; ".join([f"{count}; differences are {ends}", *own[:_FEW]])


def _answer(
    question: str, what: str, compared: list[tuple[Measure, pd.DataFrame, Mapping[str, str]]], look: Look
) -> Answer | None:
    """Answer from differences in several measures; None if there are none."""
    words, rows = [], []
    for measure, runs, references in compared:
        axis = measure.axis
        if runs[measure.column].notna().sum() == 0 or not references:
            continue
        found = paired(runs, measure.column, references, measure.margin)
        if found.empty:
            continue
        known = runs.drop_duplicates("config_id")
        labels = dict(
            zip(known["config_id"].astype(str), known["config_label"].map(look.configuration), strict=True)
        )
        ids = found["config_id"].astype(str)
        told = known.set_index(known["config_id"].astype(str))[["method", "criterion"]].astype(str)
        named = found.assign(
            label=ids.map(labels), method=ids.map(told["method"]), criterion=ids.map(told["criterion"])
        )
        records = named.to_dict("records")
        sign = -1 if axis.better == "lower" else 1
        records.sort(key=lambda row: sign * row["difference"])

        words.append(f"{axis.title}: {_summary(records, axis)}.")
        for row in records:
            theirs = labels[str(references[str(row["config_id"])])]
            rows.append([axis.title, row["label"], theirs, by_how_much(row, axis), row["n"], said(row, axis)])
    if not rows:
        return None
    heads = ["measure", "configuration", "compared with", "difference", "n", "verdict"]
    how = (
        f"{what} Mean difference under the same seed ± half width of its 95 % t-interval, from n pairs. "
        "Verdicts: the paired t-test shows that it differs, or two one-sided t-tests that it is equivalent "
        f"(within {100 * AUROC_MARGIN:g} point of AUROC; otherwise as on the test part), at 5 % after Holm's "
        f"correction for the comparisons of the measure. {scope(compared[0][1])}"
    )
    return Answer(question, words, how, pd.DataFrame(rows, columns=heads))
