"""Find what readers of results should know: runs computed differently, and methods that do the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from bench.results.words import counted

if TYPE_CHECKING:
    import pandas as pd

_MOST_NAMED = 4
_REMEDY = "--force computes them anew, another --results keeps them apart"
#: Metrics that two runs share in every digit only if they computed the same.
_RESULTS = ("accuracy", "nll", "brier", "ece")
#: Settings in which two methods always differ.
_NAMES = ("config.method.name", "config.method.version")
_SHA = re.compile(r"([0-9a-f]{7})[0-9a-f]{33}(\+[0-9a-f]{0,8})?")


def notes(runs: pd.DataFrame) -> list[str]:
    """Return what ``differences`` and ``equal_methods`` say of the table ``runs``, a line each."""
    return [*differences(runs), *equal_methods(runs)]


def equal_methods(runs: pd.DataFrame) -> list[str]:
    """Describe pairs of methods that have equal results from equal settings.

    Settings are equal if no option that both methods have differs. Results are equal if accuracy, NLL, Brier
    score and ECE are, in every digit. Then one of the methods may be computed as the other.

    Parameters
    ----------
    runs
        The table ``runs``.

    Returns
    -------
    list
        One line for readers per pair of methods; empty if there is none.
    """
    done = runs[runs["status"] == "done"].drop_duplicates(["scale", "run_id"])
    settings = [column for column in done if str(column).startswith("config.") and column not in _NAMES]
    shared = ["scale", "dataset", "network", "seed", *_RESULTS]
    # runs of one method with equal results are no news, and few runs have equal results at all
    alike = done[done.duplicated(shared, keep=False) & done["brier"].notna()]
    pairs: Counter[tuple[str, str]] = Counter()
    for _, group in alike.groupby(shared, dropna=False, observed=True):
        if group["method"].nunique() == 1:
            continue
        rows = group[settings].astype(object).where(group[settings].notna(), None).to_dict("records")
        names = group["method"].astype(str).tolist()
        for one, other in combinations(range(len(rows)), 2):
            if names[one] != names[other] and _agree(rows[one], rows[other]):
                pairs[names[one], names[other]] += 1
    return [
        f"{other} has the results of {one} in every digit, with equal settings ({count} of its runs): "
        "it may be computed as that method; --dry-run shows where settings are from"
        for (one, other), count in pairs.items()
    ]


def _agree(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Tell whether no setting that both runs have differs."""
    return all(
        value is None or other[key] is None or str(value) == str(other[key]) for key, value in one.items()
    )


def differences(runs: pd.DataFrame) -> list[str]:
    """Describe how the finished runs of a scale differ in code, version of torch or kind of device.

    Scales are not compared with each other, since no summary mixes them.

    Parameters
    ----------
    runs
        The table ``runs``.

    Returns
    -------
    list
        One line for readers per difference; empty if there is none.
    """
    done = runs[runs["status"] == "done"]
    several = done["scale"].nunique() > 1
    lines = []
    for scale, group in done.groupby("scale"):
        # "cuda:0" and "cuda:1" are the same kind of device
        devices = group["device"].str.partition(":")[0]
        for words, column in (
            ("by {} versions of the code", group["git_sha"].map(_short, na_action="ignore")),
            ("by {} versions of torch", group["torch_version"]),
            ("on {} kinds of device", devices),
        ):
            counts = column.fillna("unknown").value_counts()
            if len(counts) > 1:
                runs_of = f"{counted(len(group), 'finished run')}{f' at scale {scale}' if several else ''}"
                lines.append(
                    f"{runs_of} were computed {words.format(len(counts))}: {_listed(counts)}; {_REMEDY}"
                )
    return lines


def _short(sha: str) -> str:
    """Abbreviate a commit as git does; keep the suffix that marks files changed since the commit."""
    found = _SHA.fullmatch(sha)
    return f"{found[1]}{found[2] or ''}" if found else sha[:20]


def _listed(counts: pd.Series) -> str:
    """List the most frequent values with their numbers of runs, and how many other values there are."""
    named = [f"{name} ({count})" for name, count in counts.head(_MOST_NAMED).items()]
    more = len(counts) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])
