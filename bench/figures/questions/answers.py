"""Answer the question of a suite in a few sentences: comparisons, ranges, and where the posterior matters."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Look, Missing, interval, signed
from bench.figures.parts.verdicts import said, tally, within
from bench.figures.questions.responses import setting_name, varied
from bench.figures.questions.settling import worth
from bench.results import names
from bench.results.words import counted
from bench.statistics.seeds import LEVEL, paired, summarise

#: Differences that are told one by one.
_TOLD = 2
#: A method still trains while its mean accuracy is at least this share of the best one on its line.
KEPT = 0.9
#: What the layers of a transformer's blocks belong to, by the last part of their names.
_KINDS = dict.fromkeys(("query", "key", "value", "out"), "attention") | dict.fromkeys(
    ("fc1", "fc2"), "MLP blocks"
)
#: Settings over whose range it is told whether a method still trains.
_RANGES = ("method.initial_std", "training.lr", "method.kl_factor", "method.prior_std")


def answer(
    runs: pd.DataFrame,
    references: Mapping[str, str],
    score: str = "nll",
    look: Look | None = None,
    history: pd.DataFrame | None = None,
    layers: pd.DataFrame | None = None,
) -> list[str]:
    """Return sentences that answer a suite's question, with interval, number of pairs and verdict.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite and scale.
    references
        ``config_id`` to the ``config_id`` of its reference.
    score
        Column of ``runs`` that the suite ranks by.
    look
        Names of methods.
    history
        The table ``history``; with it, it is told whether a subspace that settles early predicts the score.
    layers
        The table ``layers``; with it, it is told where the weights of a transformer go under one budget.

    Returns
    -------
    list
        Plain text; empty if no run is finished.
    """
    look, done = look or Look.of(runs), runs[runs["status"] == "done"]
    if done.empty:
        return []
    settings = [part for _, part in done.groupby(["dataset", "network"], sort=False, observed=True)]
    lines = _compared(done, references, score, look)
    for part in settings:
        where = f"{part['dataset'].iloc[0]}, {part['network'].iloc[0]}: " if len(settings) > 1 else ""
        lines += [where + line for line in (*_gains(part, look), *_ranges(part, look))]
        if history is not None:
            with suppress(Missing):
                lines.append(where + worth(history, part, score, look).alt)
        if layers is not None:
            lines += [where + line for line in _blocks(part, layers)]
    return [*lines, *_alike(settings, score)]


def _compared(runs: pd.DataFrame, references: Mapping[str, str], score: str, look: Look) -> list[str]:
    """Tell how many comparisons show what, and the clearest ones."""
    axis, found = axes()[score], paired(runs, score, references)
    found = found[(found["verdict"] != "reference") & found["difference"].notna()]
    if found.empty:
        return []
    pairs = sorted({int(n) for n in found["n"]})
    n = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    lines = [
        f"Of {counted(len(found), 'comparison')} of {axis.name} with the reference, "
        f"{tally(found['verdict'])}, after Holm's correction (n = {n} pairs; equivalent{within(score)})."
    ]
    labels = runs.drop_duplicates("config_id").set_index("config_id")["config_label"].astype(str)
    clearest = found[found["verdict"] == "differs"].sort_values("p_holm", kind="stable")
    if clearest.empty:
        clearest = found.iloc[found["difference"].abs().to_numpy().argsort()[::-1]]
        clearest = clearest.head(1)
    for row in clearest.head(_TOLD).to_dict("records"):
        mine, theirs = labels[row["config_id"]], labels[references[row["config_id"]]]
        value = signed(row["difference"], row["half_width"], axis.digits, axis.factor)
        unit = f" {axis.step}" if axis.step else ""
        told = f"{value}{unit} (n = {row['n']} pairs), {said(row, axis)}"
        lines.append(f"{_apart(mine, theirs, look)}: {told}.")
    return lines


def _apart(mine: str, theirs: str, look: Look) -> str:
    """Name a configuration, and its reference by what sets it apart if they have the method in common."""
    parts, others = names.settings(mine), names.settings(theirs)
    differ = {name: value for name, value in others.items() if parts.get(name) != value}
    same = mine.split()[0] == theirs.split()[0]
    against = names.BETWEEN.join(names.parts(differ, look.criteria)) if same and differ else ""
    return f"{look.configuration(mine)} against {against or look.configuration(theirs)}"


def _gains(runs: pd.DataFrame, look: Look) -> list[str]:
    """Tell from which κ on averaging gains, where a suite varies it."""
    gain = "posterior_gain_nll"
    found = summarise(runs, metrics=[gain]).set_index("config_id")
    lines = []
    for line in varied(runs):
        if line.setting != "method.kl_factor" or len(line.config_ids) < 3:
            continue
        mine = found.loc[list(line.config_ids.values())]
        surely = (mine[f"{gain}_mean"] - mine[f"{gain}_half_width"] > 0).to_numpy()
        ends = list(line.config_ids)
        if not surely.any():
            lines.append(
                f"{look.name(line.method)}: averaging gains surely at no κ from {ends[0]:g} to {ends[-1]:g}."
            )
            continue
        first = int(surely.argmax())
        row = mine.iloc[first]
        value = signed(row[f"{gain}_mean"], row[f"{gain}_half_width"], 4)
        lines.append(
            f"{look.name(line.method)}: the smallest κ at which averaging surely gains is {ends[first]:g}, "
            f"by {value} nats (n = {row[f'{gain}_n']})."
        )
    return lines


def _ranges(runs: pd.DataFrame, look: Look) -> list[str]:
    """Tell over which range of scales and rates a method still trains, where it varies over two decades."""
    found = summarise(runs, metrics=["accuracy"]).set_index("config_id")["accuracy_mean"]
    lines = []
    for line in varied(runs):
        values = list(line.config_ids)
        if (
            line.setting not in _RANGES
            or len(values) < 3
            or min(values) <= 0
            or max(values) / min(values) < 99
        ):
            continue
        means = found[list(line.config_ids.values())].to_numpy(float)
        best = int(np.nanargmax(means))
        low = high = best
        while low > 0 and means[low - 1] >= KEPT * means[best]:
            low -= 1
        while high < len(means) - 1 and means[high + 1] >= KEPT * means[best]:
            high += 1
        sparsity = line.others.get("method.sparsity")
        name = look.name(line.method) + (f", sparsity {sparsity:g}" if sparsity else "")
        lines.append(
            f"{name}: of {setting_name(line.setting).split(', ')[-1]} {values[0]:g} to {values[-1]:g}, "
            f"{values[low]:g} to {values[high]:g} keeps {KEPT:.0%} of the best accuracy."
        )
    return lines


def _blocks(runs: pd.DataFrame, layers: pd.DataFrame) -> list[str]:
    """Tell how many weights attention and MLP blocks have under one budget for all layers.

    The numbers are those under the allocation ``global``, as multiples of those under ``uniform`` with the
    same seed and criterion; both are means over criteria.
    """
    from scipy import stats  # imported here since it is slow to load

    allocation = "config.method.allocation"
    if allocation not in runs:
        return []
    last = layers.sort_values("step", kind="stable").drop_duplicates(["run_id", "layer"], keep="last")
    leaf = last["layer"].astype(str).str.rpartition(".")
    kind = leaf[2].map(_KINDS).where(leaf[0] != "")
    known = runs.drop_duplicates("run_id").assign(run_id=lambda rows: rows["run_id"].astype(str))
    table = last.assign(kind=kind, run_id=last["run_id"].astype(str)).dropna(subset=["kind"])
    table = table.merge(known[["run_id", "seed", "criterion", allocation]], on="run_id")
    slots = table.pivot_table(
        index=["kind", "criterion", "seed"], columns=allocation, values="slots", aggfunc="sum", observed=True
    )
    if not {"global", "uniform"} <= set(slots.columns):
        return []
    ratio = (slots["global"] / slots["uniform"]).dropna().groupby(["kind", "seed"]).mean()
    told = []
    for name, values in ratio.groupby("kind"):
        n = len(values)
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * values.std() / n**0.5 if n > 1 else np.nan
        told.append(f"{name} {interval(float(values.mean()), float(half), 2)}")
    if len(told) < 2:
        return []
    seeds = ratio.index.get_level_values("seed").nunique()
    return [
        f"With one budget for all layers, as multiples of their weights under the uniform allocation: "
        f"{', '.join(told)} (n = {seeds} seeds)."
    ]


def _alike(settings: list[pd.DataFrame], score: str) -> list[str]:
    """Tell whether criteria rank alike on several networks and data sets."""
    from scipy import stats  # imported here since it is slow to load

    means = []
    for part in settings:
        found = summarise(part, metrics=[score])
        named = found.dropna(subset=["criterion"]).groupby("criterion")[f"{score}_mean"].mean()
        means.append(named)
    table = pd.concat(means, axis=1, keys=range(len(means))).dropna()
    if table.shape[1] < 4 or len(table) < 4:
        return []
    ranks = table.rank()
    each = [
        float(
            stats.spearmanr(
                ranks.iloc[:, place], ranks.drop(columns=ranks.columns[place]).mean(axis=1)
            ).statistic
        )
        for place in range(ranks.shape[1])
    ]
    values = np.array([value for value in each if value == value])
    if len(values) < 2:
        return []
    mean, n = values.mean(), len(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * values.std(ddof=1) / n**0.5
    verdict = "undecided" if abs(mean) <= half else "differs from 0"
    return [
        f"The ranking of {len(table)} criteria on a network and data set has a rank correlation of "
        f"{mean:.2f} ± {half:.2f} with their mean ranking on the others (n = {n}): {verdict}."
    ]
