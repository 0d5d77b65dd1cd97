"""Check published tables of a method against the protocol of a suite, for ``bench.check --submission``.

A submission may choose what a search may choose: the options of its method, and settings of training such as
learning rates. All else has to be as the suite has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from bench.checking.verdicts import Check, Failed, Skipped
from bench.experiment.notation import show
from bench.experiment.settings import APART, flatten
from bench.planning.plan import Plan
from bench.planning.search_spec import NOT_SEARCHED
from bench.results.store import Store
from bench.results.words import counted
from bench.statistics.consistency import differences

_CONFIG = "config."
#: Sections of a run that a submission chooses, or that are no part of a protocol.
_OWN = ("method", "seed", "schema")
#: Columns that say where a run comes from.
_PROVENANCE = ("git_sha", "torch_version", "device", "started_at")


@dataclass(frozen=True)
class Protocol:
    """What a submission must not change.

    Parameters
    ----------
    settings
        Values by full key.
    neutral
        Keys whose values mean what was done before the setting existed, so that older tables lack them.
    """

    settings: Mapping[str, Any]
    neutral: frozenset[str]

    def unlike(self, mine: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the settings of a run that differ: its value and that of the protocol, by key."""
        keys = dict.fromkeys([*mine, *self.settings])
        both = {key: (mine.get(key), self.settings.get(key)) for key in keys}
        return {
            key: (own, ours)
            for key, (own, ours) in both.items()
            if own != ours and not (own is None and key in self.neutral)
        }


@dataclass(frozen=True)
class Subject:
    """A published folder, and the plan of the suite whose protocol it should have."""

    store: Store
    plan: Plan

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs of the plan's scale, of all suites of the folder."""
        tables = [self.store.read_tables(suite, ["runs"])["runs"] for suite in self.store.suites()]
        found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return found if found.empty else found[found["scale"] == self.plan.scale].drop_duplicates("run_id")

    @cached_property
    def done(self) -> pd.DataFrame:
        """The finished runs."""
        return self.runs[self.runs["status"] == "done"]

    @cached_property
    def protocols(self) -> list[tuple[Protocol, set[int]]]:
        """The protocols of the suite's cells, each with the seeds that the suite reports under it."""
        found: dict[str, tuple[Protocol, set[int]]] = {}
        for spec in self.plan.specs:
            key = spec.key(*(section for section in spec.to_dict() if section not in _OWN))
            settings = _fixed(spec.settings)
            neutral = frozenset(settings) - frozenset(flatten(json.loads(key)))
            found.setdefault(key, (Protocol(settings, neutral), set()))[1].add(spec.seed)
        return list(found.values())

    @cached_property
    def mine(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Label and protocol of each configuration, by its id."""
        columns = [column for column in map(str, self.done) if column.startswith(_CONFIG)]
        rows = self.done.drop_duplicates("config_id")
        return {
            str(row["config_id"]): (
                str(row["config_label"]), _fixed({c.removeprefix(_CONFIG): row[c] for c in columns})
            )
            for row in rows[["config_id", "config_label", *columns]].to_dict("records")
        }  # fmt: skip


def readable(subject: Subject) -> str:
    """Check that every table can be read, and that there are finished runs."""
    if not subject.store.published:
        raise Failed("is a results folder with runs; `python -m bench.publish` makes the folder to send")
    for suite in subject.store.suites():
        subject.store.read_tables(suite)
    if subject.runs.empty or subject.done.empty:
        raise Failed(f"has no finished run of scale {subject.plan.scale}")
    methods = ", ".join(sorted(subject.done["method"].astype(str).unique()))
    return f"{counted(len(subject.done), 'finished run')} of {methods}"


def complete(subject: Subject) -> str:
    """Check that no planned run is missing or failed, since those that are left out may be the worst."""
    left = subject.runs[subject.runs["status"] != "done"]
    if len(left):
        row = left.iloc[0]
        raise Failed(
            f"{counted(len(left), 'planned run')} not done, such as {row['config_label']}, "
            f"seed {row['seed']}: {row['status']}"
        )
    return "every planned run is done"


def protocol(subject: Subject) -> str:
    """Check data, network, length of training and evaluation of every configuration."""
    for label, mine in subject.mine.values():
        nearest = min((known.unlike(mine) for known, _ in subject.protocols), key=len)
        if nearest:
            key, (ours, theirs) = next(iter(nearest.items()))
            raise Failed(
                f"{label}: {key} is {show(ours)}, in {subject.plan.suite} {show(theirs)}"
                + (f", and {counted(len(nearest) - 1, 'other difference')}" if len(nearest) > 1 else "")
            )
    return f"data, network, length of training and evaluation are those of {subject.plan.suite}"


def seeds(subject: Subject) -> str:
    """Check that every configuration has every seed that the suite reports under its protocol."""
    ids, fewest = subject.done["config_id"].astype(str), None
    for config_id, (label, mine) in subject.mine.items():
        wanted = [found for known, found in subject.protocols if not known.unlike(mine)]
        if not wanted:
            continue
        own = set(subject.done.loc[ids == config_id, "seed"].dropna().astype(int))
        if lacking := sorted(set.union(*wanted) - own):
            raise Failed(f"{label}: no run of {_listed(lacking)}")
        fewest = min(len(own), fewest or len(own))
    if fewest is None:
        raise Skipped("no configuration has a protocol of the suite")
    return f"{fewest} or more of every configuration, those of the suite among them"


def provenance(subject: Subject) -> str:
    """Check that commit, version of torch, device and date are known, and changed files are there."""
    for column in _PROVENANCE:
        unknown = subject.done[subject.done[column].isna()]
        if len(unknown):
            raise Failed(
                f"{counted(len(unknown), 'run')} without {column}, such as {unknown.iloc[0]['run_id']}"
            )
    for sha in sorted(subject.done["git_sha"].astype(str).unique()):
        _, changed, digest = sha.partition("+")
        if changed and not (subject.store.root / "patches" / f"{digest}.diff").is_file():
            raise Failed(
                f"commit {sha[:7]} with changes that are not in patches/: commit them, and run again"
            )
    if lines := differences(subject.done):
        raise Failed(lines[0])
    return f"commit {', '.join(sorted(sha[:7] for sha in subject.done['git_sha'].astype(str).unique()))}"


def tuning(subject: Subject) -> str:
    """Tell whether a search as large as that of the suite's own methods chose the settings."""
    tuned = subject.done.groupby("config_label", observed=True)["tuned"].all()
    if not tuned.all():
        raise Skipped(
            f"{counted(int((~tuned).sum()), 'configuration')} with settings that no declared search chose: "
            "say how they were chosen, and that it was not by test data"
        )
    return "a search on validation data chose the settings"


CHECKS: tuple[Check[Subject], ...] = (
    Check("tables", "the folder is one that bench.publish wrote", readable, vital=True),
    Check("complete", "no run that was planned is left out", complete),
    Check("protocol", "only the method and what a search may choose differ from the suite", protocol),
    Check("seeds", "every configuration has all seeds of the suite", seeds),
    Check("provenance", "every run says by which code, where and when it was computed", provenance),
    Check("tuning", "settings were chosen by as much search as those of the suite's methods", tuning),
)


def _fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a submission must not change, without those that are null."""
    plain = {key: _plain(value) for key, value in settings.items() if _is_fixed(key)}
    return {key: value for key, value in plain.items() if value is not None}


def _is_fixed(key: str) -> bool:
    section = key.partition(".")[0]
    return key in NOT_SEARCHED if section == "training" else section not in _OWN and key not in APART


def _plain(value: Any) -> Any:
    """Return a value as the table ``runs`` has it: text, a number, or None; lists as their JSON."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value)
    if value is None or pd.isna(value):
        return None
    return value if isinstance(value, str) else float(value)


def _listed(numbers: Iterable[int]) -> str:
    found = list(numbers)
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
