"""Find out whether runs were computed by the same version of the code and of torch and on the same device."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_MOST_NAMED = 4
_REMEDY = "--force computes them anew, another --results keeps them apart"
_SHA = re.compile(r"([0-9a-f]{7})[0-9a-f]{33}(\+[0-9a-f]{0,8})?")


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
                runs_of = f"{len(group)} finished runs{f' at scale {scale}' if several else ''}"
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
