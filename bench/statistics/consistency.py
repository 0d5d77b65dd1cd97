"""Whether runs were computed alike: by one version of the code and of torch, on one kind of device."""

from __future__ import annotations

import re

import pandas as pd

_MOST_NAMED = 4
_REMEDY = "--force computes them anew, another --results keeps them apart"
_SHA = re.compile(r"([0-9a-f]{7})[0-9a-f]{33}(\+[0-9a-f]{0,8})?")


def differences(runs: pd.DataFrame) -> list[str]:
    """What was not the same for all finished runs of a scale: a line each for people, none where all was.

    runs: the table ``runs``. Scales are not compared with each other, as no summary mixes them.
    """
    done = runs[runs["status"] == "done"]
    several = done["scale"].nunique() > 1
    lines = []
    for scale, group in done.groupby("scale"):
        # which of several GPUs it was is no difference
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
    """A commit as git abbreviates it, with what says that files differed from it."""
    found = _SHA.fullmatch(sha)
    return f"{found[1]}{found[2] or ''}" if found else sha[:20]


def _listed(counts: pd.Series) -> str:
    """The most frequent with their numbers of runs, and how many others there are."""
    named = [f"{name} ({count})" for name, count in counts.head(_MOST_NAMED).items()]
    more = len(counts) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])
