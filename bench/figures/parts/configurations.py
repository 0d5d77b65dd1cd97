"""Which configurations a chart of few shows, and what it calls them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from bench.figures.parts.chart import Look, escaped, variant

#: More lines or panels than this can't be told apart.
MOST_CHOSEN = 6


def one_a_method(
    runs: pd.DataFrame, look: Look, compared: Iterable[str] = (), most: int = MOST_CHOSEN
) -> list[str]:
    """A configuration of each method at a sparsity that most have, by ``config_id``; at most ``most``.

    runs: the table ``runs``; only finished ones count. compared: configurations that others are compared
    with. Of a method with several at that sparsity the one with most seeds is taken, then one of
    ``compared``, then the first by label; of a method with none there, the same of all it has.
    """
    done = runs[runs["status"] == "done"]
    if done.empty:
        return []
    groups = done.groupby("config_id", sort=False)
    found = groups[["method", "sparsity", "config_label"]].first()
    found["compared"] = found.index.isin(list(compared))
    found["seeds"] = groups["seed"].nunique()
    found["common"] = found["sparsity"] == _common(done)
    found = found.sort_values(
        ["common", "seeds", "compared", "config_label"], ascending=[False, False, False, True], kind="stable"
    )
    best = found.reset_index().drop_duplicates("method").set_index("method")["config_id"]
    return [str(best[method]) for method in look.ordered(best.index)][:most]


def short_names(table: pd.DataFrame, look: Look) -> dict[str, str]:
    """What a chart calls the configurations of ``table``, by ``config_id``: no two the same.

    table: with ``config_id``, ``config_label``, ``method`` and ``sparsity``. A name is that of the method and
    of what it says about itself that not all others say too. Safe to draw: see ``escaped``.
    """
    rows = table.drop_duplicates("config_id")
    ids, methods = rows["config_id"].astype(str).tolist(), rows["method"].astype(str).tolist()
    labels = rows["config_label"].astype(str).tolist()
    said = [_said(*row) for row in zip(labels, rows["sparsity"].astype(float), strict=True)]
    shared = set.intersection(*map(set, said)) if said else set()
    names = {
        config_id: ", ".join([look.name(method), *(part for part in parts if part not in shared)])
        for config_id, method, parts in zip(ids, methods, said, strict=True)
    }
    if len(set(names.values())) < len(names):
        names = dict(zip(ids, labels, strict=True))
    return {config_id: escaped(name) for config_id, name in names.items()}


def dashes(config_ids: Sequence[str], methods: Sequence[str], look: Look) -> dict[str, str]:
    """A plotly dash for each configuration: its method's, and other ones for further ones of the method."""
    found: dict[str, str] = {}
    used: dict[str, list[str]] = {}
    for config_id, method in zip(config_ids, methods, strict=True):
        mine = used.setdefault(method, [])
        free = [dash for dash in (look.dash(method), *_DASHES) if dash not in mine]
        found[config_id] = free[0] if free else "solid"
        mine.append(found[config_id])
    return found


_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def _common(done: pd.DataFrame) -> float:
    """The sparsity that most methods have, then most runs, then the highest; 0 where all are dense."""
    sparse = done[done["sparsity"] > 0]
    if sparse.empty:
        return 0.0
    groups = sparse.groupby("sparsity")
    counts = pd.DataFrame({"methods": groups["method"].nunique(), "runs": groups.size()})
    return float(counts.reset_index().sort_values(["methods", "runs", "sparsity"])["sparsity"].iloc[-1])


def _said(label: str, sparsity: float) -> list[str]:
    parts = [part.replace("=", " ", 1) for part in variant(label).split(" ") if part]
    # a dense one that does not say so is told apart by its method
    return ([f"sparsity {sparsity:g}"] if sparsity > 0 else []) + parts
