"""A search being made: its trials as a plan of ordinary runs, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.experiment.settings import flatten
from bench.planning import tuned_settings
from bench.planning.expansion import check_networks
from bench.planning.plan import Draft, Labeller, Plan, cells
from bench.planning.search_spec import FamilySearch, Search, Trial, trials
from bench.planning.suite import Suite
from bench.planning.tuning_family import Family
from bench.results.files import check_writable, locked
from bench.results.plans import NAME
from bench.tuning import trial_scores
from bench.tuning.trial_scores import Scored
from methods.core.errors import UserError

PREFIX = "tune-"


@dataclass(frozen=True)
class Part:
    """One family of a search and its trials."""

    found: FamilySearch
    trials: list[Trial]


@dataclass(frozen=True)
class Outcome:
    """What became of a family's trials; ``chosen`` is None where none finished."""

    part: Part
    scored: list[Scored]
    chosen: Scored | None

    @property
    def failed(self) -> int:
        """How many trials did not finish."""
        return sum(item.failed for item in self.scored)

    @property
    def untuned(self) -> Scored | None:
        """The suite's own settings, where they finished."""
        return None if self.scored[0].failed else self.scored[0]


@dataclass(frozen=True)
class Written:
    """The files that were written. kept: families of which no trial finished, whose earlier choice stays."""

    paths: list[Path]
    kept: list[Family]


class Searching:
    """The search of ``suite`` at ``scale``, or of those of its families with a cell that fulfils ``where``.

    number: trials of each, in place of as many as declared. Raises ``UserError`` before anything runs where
    a trial could not, where an earlier choice is of more trials of the same search, and for a suite without
    a file, beside which the choices would be written; this or ``StoreError`` where they could not be.
    Its plan is called ``tune-NAME``. fixed: families for which nothing is left to search. gone: choices
    for families that the suite has no longer.
    """

    def __init__(
        self, suite: Suite, scale: str, where: Iterable[str] = (), number: int | None = None
    ) -> None:
        if suite.path is None:
            raise UserError(
                f"{suite.source}: a mapping, so there is no file beside which choices could be written; "
                "save it as a YAML file and give its path"
            )
        self.suite, self.scale, self._path = suite, scale, suite.path
        self._table = trial_scores.path_of(suite.path)
        where = list(where)
        every = suite.families(scale)
        mine = suite.families(scale, where) if where else every
        self.search: Search = suite.searches[scale]
        self.number = number or self.search.trials
        self.fixed = [found for found in mine if not found.ranges]
        self.parts = [self._part(found, {}) for found in mine if found.ranges]
        if not self.parts:
            raise UserError(f"{self.search.where}: search: every key of its space is written by the grids")
        keys = {found.family.key for found in every}
        self.gone = [record for record in self._records if record.family.key not in keys]
        self._check_number()
        self.plan = self._plan(every)
        self._check_files()

    def outcomes(self, values: Mapping[str, float]) -> list[Outcome]:
        """What became of each family; values: the metric on validation data by run id."""
        found = []
        for part in self.parts:
            scored = [trial_scores.score(trial, self.search.seeds, values) for trial in part.trials]
            found.append(Outcome(part, scored, trial_scores.choose(scored, self.search.metric)))
        return found

    def before(self, part: Part) -> tuned_settings.Record | None:
        """What was chosen for a family earlier."""
        return next((item for item in self._records if item.family.key == part.found.family.key), None)

    def write(self, outcomes: Iterable[Outcome], command: str) -> Written:
        """Write choices and trials beside the suite's file, other families' left as they are.

        Where no trial of a family finished, what an earlier search chose for it stays, with its trials.
        """
        path = tuned_settings.path_of(self._path)
        with locked(self._path):  # a search of other families may end at the same time
            records = tuned_settings.read(path, list(self.suite.scales))
            mine = {record.family.key: record for record in records.get(self.scale, [])}
            rows, kept = [], []
            for outcome in outcomes:
                family = outcome.part.found.family
                record = self._record(outcome, command)
                if record is not None:
                    mine[family.key] = record
                elif family.key in mine:
                    kept.append(family)
                    continue
                rows += trial_scores.rows(self.scale, family, outcome.scored, outcome.chosen)
            records[self.scale] = list(mine.values())
            trial_scores.merge(self._table, rows)
            found = {scale: records[scale] for scale in self.suite.scales if records.get(scale)}
            tuned_settings.write(path, found, self._table.name)
        return Written([path, self._table], kept)

    @property
    def _records(self) -> list[tuned_settings.Record]:
        return self.suite.chosen.get(self.scale, [])

    def _check_number(self) -> None:
        for part in self.parts:
            record = self.before(part)
            if (
                record
                and tuned_settings.is_of(record, self.search, part.found)
                and record.trials > self.number
            ):
                raise UserError(
                    f"{tuned_settings.path_of(self._path)}: {record.family} has a choice by {record.trials} "
                    f"trials of this search, more than {self.number}; valid: --trials {record.trials} and up"
                )

    def _check_files(self) -> None:
        """Fail now by what would stop ``write`` when everything has been computed."""
        with locked(self._path):
            tuned_settings.read(tuned_settings.path_of(self._path), list(self.suite.scales))
            trial_scores.check(self._table)
            check_writable(self._path.parent)

    def _plan(self, every: list[FamilySearch]) -> Plan:
        name = f"{PREFIX}{self.suite.name}"
        if not NAME.fullmatch(name):
            raise UserError(f"{self.suite.source}: the name is too long for {name!r} to be one")
        # labels are those of a search of all families: with fewer in sight, those of two might be the same
        mine = {part.found.family.key: part for part in self.parts}
        parts = [self._part(item, mine) for item in every if item.ranges]
        labeller = Labeller([draft for part in parts for draft in self._drafts(part)])
        drafts = [draft for part in self.parts for draft in self._drafts(part)]
        check_networks(drafts)
        question = f"Which settings suit each method of {self.suite.name}, by {self.search.metric}?"
        return Plan(name, self.scale, question, {}, tuple(cells(drafts, labeller)))

    def _part(self, found: FamilySearch, known: Mapping[str, Part]) -> Part:
        return known.get(found.family.key) or Part(found, trials(self.search, found, self.number))

    def _drafts(self, part: Part) -> list[Draft]:
        found = part.found
        # families may differ in options of these, and then their labels have to
        apart = [key for key in flatten(found.start.to_dict()) if key.startswith(("dataset.", "network."))]
        return [
            Draft(spec, found.family.recipe, (*apart, *trial.settings), (), found.where)
            for trial in part.trials
            for spec in trial.specs(self.search.seeds)
        ]

    def _record(self, outcome: Outcome, command: str) -> tuned_settings.Record | None:
        chosen, untuned = outcome.chosen, outcome.untuned
        if chosen is None or chosen.value is None:
            return None
        return tuned_settings.Record(
            family=outcome.part.found.family,
            chosen=chosen.trial.settings,
            metric=self.search.metric,
            value=chosen.value,
            sd=chosen.sd,
            untuned=untuned.value if untuned else None,
            untuned_sd=untuned.sd if untuned else None,
            trial=chosen.trial.number,
            trials=len(outcome.scored),
            failed=outcome.failed,
            seeds=self.search.seeds,
            start=outcome.part.found.start.config_id,
            search=self.search.digest,
            command=command,
        )
