"""Describe one setting in which a claim is tested, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

HOLDS, FAILS, UNDECIDED = "holds here", "fails here", "undecided here"


@dataclass(frozen=True, eq=False)
class Setting:
    """Hold the results of a suite at one scale, on one data set and network.

    Parameters
    ----------
    suite, scale, dataset, network
        Names.
    runs
        Rows of the table ``runs``, finished ones only.
    references
        ``config_id`` to the ``config_id`` of its reference.
    """

    suite: str
    scale: str
    dataset: str
    network: str
    runs: pd.DataFrame
    references: Mapping[str, str]

    def __str__(self) -> str:
        return f"`{self.suite}`, scale {self.scale}, {self.dataset} and {self.network}"

    @cached_property
    def configurations(self) -> pd.DataFrame:
        """Return one run of each configuration, by ``config_id``."""
        return self.runs.astype({"config_id": str}).drop_duplicates("config_id").set_index("config_id")

    def named(self, config_id: object) -> str:
        """Name a configuration by its method, and by what else differs in this setting."""
        known = self.configurations
        own = known.loc[str(config_id)]
        words = [f"`{own['method']}`"]
        if own["sparsity"] > 0:
            words.append(f"sparsity {own['sparsity']:g}")
        several = [key for key in ("criterion", "recipe", "budget") if known[key].nunique() > 1]
        words += [f"{key} {own[key]}" for key in several if isinstance(own[key], str)]
        return " ".join([words[0], *([f"({', '.join(words[1:])})"] if words[1:] else [])])

    def mean(self, column: str) -> pd.Series[float]:
        """Return the mean of a column by ``config_id``."""
        values = self.runs[column].astype("float64")
        return values.groupby(self.runs["config_id"].astype(str)).mean()


@dataclass(frozen=True)
class Outcome:
    """Hold what a setting says of a claim.

    Parameters
    ----------
    result
        Figures with their intervals and numbers of pairs, in words.
    n
        Smallest number of pairs behind them.
    verdict
        ``HOLDS``, ``FAILS`` or ``UNDECIDED``.
    """

    result: str
    n: int
    verdict: str
