"""Tell how configurations of a suite compare with their references: how many differ, and the clearest."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Look, signed
from bench.figures.parts.configurations import apart
from bench.figures.parts.verdicts import said, tally, within
from bench.results.words import counted
from bench.statistics.seeds import paired

#: Differences that are told one by one.
_TOLD = 2


def compared(runs: pd.DataFrame, references: Mapping[str, str], score: str, look: Look) -> list[str]:
    """Tell how many comparisons show what, and the clearest ones, with interval, pairs and verdict.

    Parameters
    ----------
    runs
        Finished runs.
    references
        ``config_id`` to the ``config_id`` of its reference.
    score
        Column of ``runs``.
    look
        Names of methods.
    """
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
    known = runs.drop_duplicates("config_id").set_index("config_id")
    labels = known["config_label"].astype(str)
    pairs_of = {mine: (labels[mine], labels[references[mine]]) for mine in found["config_id"].astype(str)}
    names = apart(pairs_of, look)
    clearest = found[found["verdict"] == "differs"].sort_values("p_holm", kind="stable")
    if clearest.empty:
        clearest = found.iloc[found["difference"].abs().to_numpy().argsort()[::-1]]
        clearest = clearest.head(1)
    for row in clearest.head(_TOLD).to_dict("records"):
        value = signed(row["difference"], row["half_width"], axis.digits, axis.factor)
        unit = f" {axis.step}" if axis.step else ""
        lines.append(f"{names[row['config_id']]}: {value}{unit} (n = {row['n']} pairs), {said(row, axis)}.")
    return lines
