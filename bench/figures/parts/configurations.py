"""Choose the few configurations that a chart shows, and name them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Look, escaped
from bench.results import names

#: Greatest number of lines or panels that readers can tell apart.
MOST_CHOSEN = 6


def one_a_method(
    runs: pd.DataFrame,
    look: Look | None = None,
    compared: Iterable[str] = (),
    most: int | None = MOST_CHOSEN,
    score: str | None = None,
) -> list[str]:
    """Choose one configuration of each method, at the sparsity that most methods have.

    If a method has several there, the one with the most seeds is chosen, then one of ``compared``, then the
    first by label. If it has none there, the same rule chooses among all its configurations.

    Parameters
    ----------
    runs
        The table ``runs``; only finished runs count.
    look
        Gives the order of methods.
    compared
        ``config_id`` of configurations that others are compared with.
    most
        Greatest number of configurations; None for no limit.
    score
        Column of ``runs`` by whose mean they are ranked before the list is cut; None for the order of
        methods.

    Returns
    -------
    list
        The chosen ``config_id``, in this order.
    """
    look = look or Look.of(runs)
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
    chosen = [str(best[method]) for method in look.ordered(best.index)]
    if score is not None:
        sign = 1 if axes()[score].better == "lower" else -1
        means = sign * groups[score].mean().astype("float64")
        chosen.sort(key=lambda config_id: (math.isnan(means[config_id]), means[config_id]))
    return chosen[:most]


def chosen_runs(runs: pd.DataFrame, config_ids: Sequence[str]) -> pd.DataFrame:
    """Return the runs of ``config_ids``, in that order."""
    places = {config_id: place for place, config_id in enumerate(config_ids)}
    chosen = runs[runs["config_id"].isin(places)]
    return chosen.sort_values("config_id", key=lambda column: column.map(places), kind="stable")


def whose(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the ``meta`` of a trace tells: of which configuration and method its marks are.

    The dashboard opens the configuration of a mark that is clicked, and highlights the method of the mark
    that the pointer is on.

    Parameters
    ----------
    rows
        Columns ``config_id`` and ``method``: one row a mark (for a map, one row a row of cells), or any rows
        of one configuration.

    Returns
    -------
    dict
        ``config_id`` and ``method``: one text that holds for all marks, or a list with a text for each.
    """
    texts = {key: rows[key].astype(str).tolist() for key in ("config_id", "method")}
    return {key: found[0] if len(set(found)) == 1 else found for key, found in texts.items()}


def ranked(table: pd.DataFrame, value: pd.Series) -> pd.DataFrame:
    """Sort rows by ``value``, the largest first, and rows without one last, by label."""
    order = table.assign(_value=value).sort_values(
        ["_value", "config_label"], ascending=[False, True], kind="stable"
    )
    return order.drop(columns="_value").reset_index(drop=True)


def short_names(table: pd.DataFrame, look: Look) -> dict[str, str]:
    """Give each configuration of a chart a short name; no two names are equal.

    A name is the method's name and those parts of the label that not all configurations share.

    Parameters
    ----------
    table
        Columns ``config_id``, ``config_label``, ``method`` and ``sparsity``.
    look
        Gives the names of methods.

    Returns
    -------
    dict
        Names by ``config_id``, escaped for plotly.
    """
    rows = table.drop_duplicates("config_id")
    ids, methods = rows["config_id"].astype(str).tolist(), rows["method"].astype(str).tolist()
    labels = rows["config_label"].astype(str).tolist()
    sparsities = rows["sparsity"].astype(float)
    said = [_said(*row, look) for row in zip(labels, sparsities, strict=True)]
    shared = set.intersection(*map(set, said)) if said else set()
    found = {
        config_id: names.BETWEEN.join([look.name(method), *(part for part in parts if part not in shared)])
        for config_id, method, parts in zip(ids, methods, said, strict=True)
    }
    if len(set(found.values())) < len(found):
        found = dict(zip(ids, map(look.configuration, labels), strict=True))
    return {config_id: escaped(name) for config_id, name in found.items()}


def apart(pairs: Mapping[str, tuple[str, str]], look: Look) -> dict[str, str]:
    """Name each configuration by what sets it apart from its reference, and where.

    Parameters
    ----------
    pairs
        Labels of a configuration and of its reference, by any key.
    look
        Gives the names of methods.

    Returns
    -------
    dict
        Names by key, unescaped: ``SSVI, M 80 against 20, at epochs 100``. What a configuration shares with
        its reference is told where references differ in it.
    """
    split = {key: (names.settings(mine), names.settings(theirs)) for key, (mine, theirs) in pairs.items()}
    common = set.intersection(*({*theirs.items()} for _, theirs in split.values())) if split else set()
    found = {}
    for key, (mine, theirs) in split.items():
        method, other = (label.split(" ")[0] for label in pairs[key])
        ours, others = (
            {name: value for name, value in one.items() if two.get(name) != value}
            for one, two in ((mine, theirs), (theirs, mine))
        )
        if method == other and ours:
            told = [_against(name, value, others.get(name), look) for name, value in ours.items()]
            said = ", ".join([look.name(method), *told])
        else:
            sides = ((method, ours), (other, others))
            said = " against ".join(
                names.BETWEEN.join([look.name(one), *names.parts(its, look.criteria)]) for one, its in sides
            )
        both = dict(item for item in mine.items() if item in theirs.items() and item not in common)
        at = names.parts(both, look.criteria)
        found[key] = said + (f", at {', '.join(at)}" if at else "")
    return found


def _against(name: str, mine: str, theirs: str | None, look: Look) -> str:
    """Return words for a setting and for that of the reference: ``M 80 against 20``."""
    word, other = (
        "".join(names.parts({name: value}, look.criteria)) or "dense" if value is not None else ""
        for value in (mine, theirs)
    )
    if theirs is None:
        return word
    plain = word == names.setting(name, mine)
    return f"{word} against {theirs if plain else other}"


def changed(mine: str, theirs: str) -> list[str]:
    """Return the names of the settings in which two labels differ, for readers; ``method`` if methods do."""
    if mine.split(" ")[0] != theirs.split(" ")[0]:
        return ["method"]
    one, two = names.settings(mine), names.settings(theirs)
    return [names.SYMBOLS.get(key, key.replace("_", " ")) for key in one if two.get(key) != one[key]]


def dashes(config_ids: Sequence[str], methods: Sequence[str], look: Look) -> dict[str, str]:
    """Return a plotly dash for each configuration: its method's, or another if the method already used it."""
    found: dict[str, str] = {}
    used: dict[str, list[str]] = {}
    for config_id, method in zip(config_ids, methods, strict=True):
        mine = used.setdefault(method, [])
        free = [dash for dash in (look.dash(method), *_DASHES) if dash not in mine]
        found[config_id] = free[0] if free else "solid"
        mine.append(found[config_id])
    return found


def dashes_of(table: pd.DataFrame, look: Look) -> dict[str, str]:
    """Return a plotly dash for each configuration of a chart (see ``dashes``)."""
    rows = table.drop_duplicates("config_id")
    return dashes(rows["config_id"].astype(str).tolist(), rows["method"].astype(str).tolist(), look)


_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def _common(done: pd.DataFrame) -> float:
    """Return the sparsity that most methods have, then most runs, then the highest; 0 if all are dense."""
    sparse = done[done["sparsity"] > 0]
    if sparse.empty:
        return 0.0
    groups = sparse.groupby("sparsity")
    counts = pd.DataFrame({"methods": groups["method"].nunique(), "runs": groups.size()})
    return float(counts.reset_index().sort_values(["methods", "runs", "sparsity"])["sparsity"].iloc[-1])


def _said(label: str, sparsity: float, look: Look) -> list[str]:
    return names.parts(names.settings(label) | {"sparsity": str(sparsity)}, look.criteria)
