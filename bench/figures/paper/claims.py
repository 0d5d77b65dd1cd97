"""Read what the paper claims, and say what our nearest setting shows of each claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from bench.figures.paper.judges import JUDGES
from bench.figures.paper.setting import UNDECIDED, Outcome, Setting
from bench.figures.parts.chart import Missing

#: Said of a claim that nobody judges, since its figures are not entered.
NOT_ENTERED = "not entered"
#: Scales and data sets by nearness to the paper's setting, the nearest first; others are last.
_SCALES, _DATASETS = ("paper", "reduced", "small", "demo"), ("cifar10", "cifar100")
#: A setting with fewer pairs is only taken if there is no other.
_FEW = 3


@dataclass(frozen=True)
class Claim:
    """Hold a row of ``results/paper_reported.csv``.

    Parameters
    ----------
    claim
        Short name.
    statement
        What is claimed, in a sentence.
    figure
        What the source says, in its figures.
    source, place
        Where it says so.
    setting
        For which data, network and training.
    decided_by
        What would decide it.
    """

    claim: str
    statement: str
    figure: str
    source: str
    place: str
    setting: str
    decided_by: str


@dataclass(frozen=True)
class Examined:
    """Hold a claim with what each of our settings says of it, the nearest to the paper's first."""

    claim: Claim
    outcomes: tuple[tuple[Setting, Outcome], ...]

    @property
    def verdict(self) -> str:
        """Return the verdict in the nearest setting."""
        if self.claim.claim not in JUDGES:
            return NOT_ENTERED
        return self.outcomes[0][1].verdict if self.outcomes else UNDECIDED

    @property
    def said(self) -> str:
        """Return claim and verdict in a sentence."""
        return f"{self.claim.statement} {self.verdict[0].upper()}{self.verdict[1:]}."

    @property
    def sentences(self) -> list[str]:
        """Say what was claimed, what came out, and what would decide it."""
        told = [f"Reported: {self.claim.figure} ({self.claim.source}; {self.claim.place})."]
        if self.outcomes:
            setting, outcome = self.outcomes[0]
            told.append(f"Nearest setting: {setting}. {outcome.result[0].upper()}{outcome.result[1:]}.")
        elif self.verdict != NOT_ENTERED:
            told.append("None of the suites that test it was run.")
        told.append(f"Would decide it: {self.claim.decided_by}.")
        return told

    def table(self) -> pd.DataFrame:
        """Return every setting with its result, number of pairs and verdict."""
        rows = [(str(setting), found.result, found.n, found.verdict) for setting, found in self.outcomes]
        return pd.DataFrame(rows, columns=["setting", "result", "n", "verdict"])


def reported(path: Path) -> list[Claim]:
    """Read the claims.

    Parameters
    ----------
    path
        File ``paper_reported.csv``.

    Raises
    ------
    Missing
        If there is no such file, or it has other columns.
    """
    names = [field.name for field in fields(Claim)]
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        raise Missing(f"{path}: there is no readable file of claims") from None
    if list(table) != names:
        raise Missing(f"{path}: its columns are {', '.join(map(str, table))}; valid: {', '.join(names)}")
    return [Claim(*row) for row in table.itertuples(index=False)]


def settings(suite: str, scale: str, runs: pd.DataFrame, references: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the settings of a suite at one scale: each data set and network that has finished runs."""
    done = runs[runs["status"] == "done"]
    for (dataset, network), part in done.groupby(["dataset", "network"], sort=False, observed=True):
        yield Setting(suite, scale, str(dataset), str(network), part, references)


def examine(claims: Iterable[Claim], found: Iterable[Setting]) -> list[Examined]:
    """Judge each claim in every setting of its suites."""
    every = list(found)
    examined = []
    for claim in claims:
        judge, suites = JUDGES.get(claim.claim, (None, ()))
        outcomes = [
            (setting, outcome)
            for setting in every
            if judge is not None and setting.suite in suites and (outcome := judge(setting)) is not None
        ]
        outcomes.sort(key=lambda pair: _distance(*pair))
        examined.append(Examined(claim, tuple(outcomes)))
    return examined


def by_nearness(setting: Setting) -> tuple[int, int]:
    """Return a key that sorts settings, the nearest to the paper's first."""
    scale = _SCALES.index(setting.scale) if setting.scale in _SCALES else len(_SCALES)
    dataset = _DATASETS.index(setting.dataset) if setting.dataset in _DATASETS else len(_DATASETS)
    return scale, dataset


def _distance(setting: Setting, outcome: Outcome) -> tuple[bool, int, int]:
    return outcome.n < _FEW, *by_nearness(setting)
