"""Tell from which κ on averaging gains, and over which range of scales and rates methods still train."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.figures.parts.chart import Look, interval, signed
from bench.figures.parts.varied import setting_name, varied
from bench.statistics.seeds import summarise

#: A method still trains while its mean accuracy is at least this share of the best one on its line.
KEPT = 0.9
#: Settings over whose range it is told whether a method still trains.
_RANGES = ("method.initial_std", "training.lr", "method.kl_factor", "method.prior_std")


def gains(runs: pd.DataFrame, look: Look) -> list[str]:
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
                f"{look.name(line.method)}: averaging gains at no κ from {ends[0]:g} to {ends[-1]:g}, "
                f"by its own interval (n = {_counts(mine[f'{gain}_n'])})."
            )
            continue
        first = int(surely.argmax())
        row = mine.iloc[first]
        value = signed(row[f"{gain}_mean"], row[f"{gain}_half_width"], 4)
        lines.append(
            f"{look.name(line.method)}: the smallest κ at which averaging gains, by its own interval, is "
            f"{ends[first]:g}: {value} nats (n = {row[f'{gain}_n']})."
        )
    return lines


def ranges(runs: pd.DataFrame, look: Look) -> list[str]:
    """Tell over which range of scales and rates each method trains, where one varies over two decades."""
    found = summarise(runs, metrics=["accuracy"]).set_index("config_id")
    told: dict[str, list[str]] = {}
    tried: dict[str, set[float]] = {}
    for line in varied(runs):
        values = list(line.config_ids)
        if line.setting not in _RANGES or len(values) < 3 or min(values) <= 0 or values[-1] / values[0] < 99:
            continue
        rows = found.loc[list(line.config_ids.values())]
        means, halves = (rows[f"accuracy_{part}"].to_numpy(float) for part in ("mean", "half_width"))
        best = int(np.nanargmax(means))
        low = high = best
        while low > 0 and means[low - 1] >= KEPT * means[best]:
            low -= 1
        while high < len(means) - 1 and means[high + 1] >= KEPT * means[best]:
            high += 1
        beyond = [
            f"{interval(means[place], halves[place], 1, 100)} % at {values[place]:g}"
            for place in (low - 1, high + 1)
            if 0 <= place < len(values)
        ]
        sparsity = line.others.get("method.sparsity")
        name = look.name(line.method) + (f" at sparsity {sparsity:g}" if sparsity else "")
        outside = f" ({', '.join(beyond)})" if beyond else ""
        told.setdefault(line.setting, []).append(f"{name} from {values[low]:g} to {values[high]:g}{outside}")
        tried.setdefault(line.setting, set()).update(values)
    n = _counts(found["accuracy_n"])
    return [
        f"Of {setting_name(setting).split(', ')[-1]} {min(tried[setting]):g} to {max(tried[setting]):g}, "
        f"these keep {KEPT:.0%} of a method's best mean accuracy (in brackets: the accuracy next to the "
        f"range): {'; '.join(lines)} (n = {n} seeds)."
        for setting, lines in told.items()
    ]


def _counts(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low} to {high}"
