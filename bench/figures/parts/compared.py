"""Tell how configurations of a suite compare with their references: how many differ, and the clearest."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import Look
from bench.figures.parts.configurations import apart, changed
from bench.figures.parts.verdicts import by_how_much, said, tally, within
from bench.results.words import counted
from bench.statistics.seeds import paired

#: Differences that are told one by one.
_TOLD = 2


def compared(
    runs: pd.DataFrame, references: Mapping[str, str], axis: Axis, look: Look, brief: bool = False
) -> list[str]:
    """Tell how many comparisons show what, and the clearest ones, with interval, pairs and verdict.

    Parameters
    ----------
    runs
        Finished runs.
    references
        ``config_id`` to the ``config_id`` of its reference.
    axis
        A column of ``runs``.
    look
        Names of methods.
    brief
        Whether to tell only the clearest difference, and not what was changed.
    """
    found = paired(runs, axis.column, references)
    found = found[(found["verdict"] != "reference") & found["difference"].notna()]
    if found.empty:
        return []
    pairs = sorted({int(n) for n in found["n"]})
    n = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    margin = f"; equivalent{within(axis.column)}" if axis.column in axes() else ""
    lines = [
        f"Of {counted(len(found), 'comparison')} of {axis.name} with the reference, "
        f"{tally(found['verdict'])}, after Holm's correction (n = {n} pairs{margin})."
    ]
    known = runs.drop_duplicates("config_id").set_index("config_id")
    labels = known["config_label"].astype(str)
    pairs_of = {mine: (labels[mine], labels[references[mine]]) for mine in found["config_id"].astype(str)}
    names = apart(pairs_of, look)
    kinds = (
        found["config_id"].astype(str).map(lambda mine: " and ".join(changed(*pairs_of[mine])) or "method")
    )
    if kinds.nunique() > 1 and not brief:
        verdicts = found["verdict"].groupby(kinds.to_numpy(), sort=False)
        differ = [f"{kind} {int((of == 'differs').sum())} of {len(of)}" for kind, of in verdicts]
        lines.append(f"By what is changed, so many differ: {'; '.join(differ)}.")
    clearest = found[found["verdict"] == "differs"].sort_values("p_holm", kind="stable")
    if clearest.empty:
        clearest = found.iloc[found["difference"].abs().to_numpy().argsort()[::-1]]
        clearest = clearest.head(1)
    for row in clearest.head(1 if brief else _TOLD).to_dict("records"):
        value = by_how_much(row, axis)
        lines.append(f"{names[row['config_id']]}: {value} (n = {row['n']} pairs), {said(row, axis)}.")
    return lines
