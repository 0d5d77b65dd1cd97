"""Whether probabilities mean what they say: reliability diagrams, and what one temperature mends."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Chart, Look, Missing, interval
from bench.figures.parts.configurations import short_names
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import last_rows, scored
from bench.figures.parts.panels import add_keys, add_panel, panels
from bench.statistics.nonparametric import wilson
from bench.statistics.seeds import summarise

#: A bin of fewer examples than this in a run says next to nothing about accuracy.
FEW = 10
#: Letters of a line above a panel.
_HEADING = 26
#: What is added to a predictor's name once its probabilities were divided by a temperature.
SCALED = "+temperature"


def bins(runs: pd.DataFrame, calibration: pd.DataFrame, predictor: str, split: str) -> pd.DataFrame:
    """A row a configuration and bin that has examples, over the last stages of finished runs.

    Columns: ``config_id``, ``config_label``, ``method``, ``bin``, ``lower``, ``upper``, ``count`` (of all
    seeds), ``seeds``, ``per_seed``, ``confidence`` and ``accuracy`` (of the pooled examples), ``gap``
    (accuracy less confidence), ``low`` and ``high`` (95 % Wilson interval of the accuracy, on ``per_seed``
    examples).
    """
    done = runs[runs["status"] == "done"].drop_duplicates("run_id")
    known = done.assign(run_id=done["run_id"].astype(str)).set_index("run_id")
    # before anything else: the table has 120 rows a run, and few runs are asked for
    mine = calibration[calibration["run_id"].isin(known.index)]
    rows = last_rows(mine, done, predictor, split).astype({"run_id": str, "count": "float64"})
    rows = rows.drop_duplicates(["run_id", "bin"])
    for column in ("config_id", "config_label", "method"):
        rows[column] = rows["run_id"].map(known[column].astype(str))
    rows["right"] = (rows["accuracy"] * rows["count"]).fillna(0.0).round()
    rows["said"] = (rows["confidence"] * rows["count"]).fillna(0.0)
    keys = ["config_id", "config_label", "method", "bin", "lower", "upper"]
    found = rows.groupby(keys, as_index=False)[["count", "right", "said"]].sum()
    found = found[found["count"] > 0].reset_index(drop=True)
    seeds = rows.groupby("config_id")["run_id"].nunique()
    found["seeds"] = seeds.reindex(found["config_id"]).to_numpy(dtype=int)
    found["per_seed"] = found["count"] / found["seeds"]
    found["confidence"] = found["said"] / found["count"]
    found["accuracy"] = found["right"] / found["count"]
    found["gap"] = found["accuracy"] - found["confidence"]
    low, high = wilson(found["right"] / found["seeds"], found["per_seed"])
    found["low"], found["high"] = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    return found.drop(columns=["right", "said"])


def reliability(
    runs: pd.DataFrame,
    calibration: pd.DataFrame,
    metrics: pd.DataFrame,
    config_ids: Sequence[str],
    predictor: str,
    split: str,
    look: Look,
) -> Chart:
    """A reliability diagram for each of ``config_ids`` on the same axes, with counts below.

    runs, calibration, metrics: the tables. predictor: such as ``samples`` or ``samples+temperature``. Raises
    ``Missing`` where none of them has bins of ``predictor`` on ``split``.
    """
    chosen = runs[runs["config_id"].isin(list(config_ids))]
    found = bins(chosen, calibration, predictor, split)
    if found.empty:
        raise Missing(_nothing(chosen, predictor, split))
    scores = summarise(
        scored(chosen, metrics, ["ece", "ece_null"], predictor, split), metrics=["ece", "ece_null"]
    )
    names = short_names(chosen, look)
    shown = [config_id for config_id in config_ids if config_id in set(found["config_id"])]
    parts = {config_id: found[found["config_id"] == config_id] for config_id in shown}
    headings = [_heading(names[config_id], scores, parts[config_id]) for config_id in shown]
    figure = panels(headings, look)
    for place, config_id in enumerate(shown):
        add_panel(figure, place, parts[config_id], FEW, look)
    add_keys(figure, FEW, look)
    lowest, most = min(1.0, float(found["per_seed"].min())), float(found["per_seed"].max())
    figure.update_yaxes(
        selector={"type": "log"}, range=[np.log10(lowest) - 0.15, np.log10(most) + 0.25],
        dtick=2, tickformat="~s",
    )  # fmt: skip
    few = int((found["per_seed"] < FEW).sum())
    worst = scores.set_index("config_id")["ece_mean"].reindex(shown)
    said = ""
    if worst.notna().any():
        label = names[str(worst.idxmax())]
        said = f" The largest mean ECE is {100 * worst.max():.2f} %, of {label}."
    when = " after temperature scaling" if predictor.endswith(SCALED) else ""
    return Chart(
        title=f"Do probabilities mean what they say{when}?",
        figure=figure,
        data=found,
        how=(
            f"Predictor `{predictor}`, split `{split}`, last stage of each run. Examples are sorted into 15 "
            "bins of equal width by the probability of the predicted class; a mark stands at a bin's mean "
            "confidence and accuracy, those of all seeds together. The bar from the diagonal to the mark "
            "is the gap; above the diagonal the predictor is underconfident, below it overconfident. "
            "Whiskers are the 95 % Wilson interval of the accuracy, for as many examples as one run has in "
            "the bin: seeds predict the same examples, or many of the same, so that pooled ones are not "
            "independent, and an interval for their sum would be too narrow. Below: examples a run in each "
            f"bin, on a log scale; {few} of {len(found)} bins that are not empty have fewer than {FEW} "
            "(hollow marks, under the dotted rule), and say next to nothing.\n\nAbove each panel: ECE, mean "
            "over seeds ± half width of the 95 % t-interval (none for a single seed), and what it would "
            f"be if the predictor were calibrated.\n\n**ECE**: {axes()['ece'].definition}"
        ),
        alt=(
            f"Accuracy against confidence in 15 bins, {len(shown)} panels, predictor {predictor}, split "
            f"{split}.{said} {few} of {len(found)} bins have fewer than {FEW} examples a run."
        ),
    )


def scaling(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    score: str,
    predictor: str,
    split: str,
    look: Look,
    singles: bool = False,
) -> Chart:
    """``score`` before and after temperature scaling, a row a configuration, best after it first.

    score: a metric that is a column of ``runs`` too. predictor: ``mean`` or ``samples``. singles: a dot a run
    too. Raises ``Missing`` where no finished run was scaled.
    """
    axis = axes()[score]
    table = _before_after(runs, metrics, score, predictor, split)
    stems = ["before", "after", "change", "null_before", "null_after", "temperature"]
    found = summarise(table, metrics=stems)[described(stems)]
    if found.empty:
        raise Missing(_nothing(runs, predictor + SCALED, split))
    rising = axis.better == "lower"
    found = found.sort_values("after_mean", ascending=rising, kind="stable").reset_index(drop=True)
    shown = found.head(MOST_ROWS)
    marks = [
        Marks("before", "before", "open", 0.14),
        Marks("after", "after temperature scaling", "filled", -0.14),
    ]
    null = ""
    if score == "ece":
        marks += [
            Marks("null_before", "if it were calibrated", "tick", 0.14),
            Marks("null_after", "if it were calibrated", "tick", -0.14),
        ]
        null = (
            " Each mark has a rule of its own at the ECE to expect of a calibrated predictor with the same "
            "confidences; an ECE near it is no evidence of miscalibration."
        )
    figure = dot_plot(shown, marks, axis, short_names(shown, look), look, table if singles else None)
    change = found["change_mean"] * axis.factor
    told = found["change_half_width"].notna() & (found["change_mean"].abs() > found["change_half_width"])
    less, more = int((told & (change < 0)).sum()), int((told & (change > 0)).sum())
    return Chart(
        title=f"What does one temperature do to {axis.name}?",
        figure=figure,
        data=found,
        how=(
            f"Predictor `{predictor}` before, `{predictor}{SCALED}` after; split `{split}`, last stage. "
            "Marks are means over seeds, whiskers 95 % t-intervals over seeds (none for a single seed), n "
            "in the tooltip. The data below have the change too, paired by seed, with its own t-interval, "
            f"not corrected for the number of rows.{null}{rest(found)}\n\n**{axis.name}**: "
            f"{axis.definition}"
        ),
        alt=(
            f"{axis.name} before and after temperature scaling of {len(found)} configurations: the 95 % "
            f"interval of the change lies below 0 for {less} and above 0 for {more} of them."
        ),
    )


def _before_after(
    runs: pd.DataFrame, metrics: pd.DataFrame, score: str, predictor: str, split: str
) -> pd.DataFrame:
    """Runs that have both: ``score`` before, after and its change, ``ece_null`` and T."""
    names = [score, "ece_null"]
    before = scored(runs, metrics, names, predictor, split)
    after = scored(runs, metrics, [*names, "temperature"], predictor + SCALED, split)
    table = before.assign(
        before=before[score], after=after[score], change=after[score] - before[score],
        null_before=before["ece_null"], null_after=after["ece_null"], temperature=after["temperature"],
    )  # fmt: skip
    return table[table["change"].notna()]


def _heading(name: str, scores: pd.DataFrame, mine: pd.DataFrame) -> str:
    """What a panel is of, its ECE, what a calibrated one would have, and how many bins say nothing."""
    axis = axes()["ece"]
    row = scores[scores["config_id"] == mine["config_id"].iloc[0]].iloc[0]
    ece = interval(row["ece_mean"], row["ece_half_width"], axis.digits, axis.factor)
    null = interval(row["ece_null_mean"], float("nan"), axis.digits, axis.factor)
    few = int((mine["per_seed"] < FEW).sum())
    method, _, rest = name.partition(", ")
    lines = [f"<b>{method}</b>", *textwrap.wrap(rest, _HEADING, break_long_words=False)]
    lines += [f"ECE {ece} %", f"{null} % if calibrated", f"{few} of {len(mine)} bins nearly empty"]
    return "<br>".join(lines)


def _nothing(runs: pd.DataFrame, predictor: str, split: str) -> str:
    """Why there is nothing of ``predictor`` on ``split``, and what brings it."""
    if not (runs["status"] == "done").any():
        return "No run here is finished. Widen the filters, or see the page Runs."
    if predictor.endswith(SCALED):
        return (
            "No run here was scaled by a temperature. Runs of the protocol refit have no validation part "
            "to fit it on; others were computed before temperature scaling was there, and --force computes "
            "them anew."
        )
    return (
        f"No run here has bins of predictor {predictor} on split {split}. Choose another split or predictor."
    )
