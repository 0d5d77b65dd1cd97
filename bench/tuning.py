"""A search being made: its trials as a plan of ordinary runs, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import choice, tuned
from bench.choice import Scored
from bench.expansion import check_networks
from bench.plan import Draft, Labeller, Plan, cells
from bench.planfile import NAME
from bench.search import FamilySearch, Search, Trial, trials
from bench.suite import Suite
from methods.errors import UserError

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


class Tuning:
    """The search of ``suite`` at ``scale``, or of those of its families with a cell that fulfils ``where``.

    number: trials of each, in place of as many as declared. Raises ``UserError`` before anything runs where
    a trial could not, and for a suite without a file, beside which the choices would be written.
    Its plan is called ``tune-NAME``. fixed: families for which nothing is left to search.
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
        every = suite.families(scale, where)
        self.search: Search = suite.searches[scale]
        self.number = number or self.search.trials
        self.fixed = [found for found in every if not found.ranges]
        self.parts = [Part(found, trials(self.search, found, self.number)) for found in every if found.ranges]
        if not self.parts:
            raise UserError(f"{self.search.where}: search: every key of its space is written by the grids")
        self.plan = self._plan()

    def outcomes(self, values: Mapping[str, float]) -> list[Outcome]:
        """What became of each family; values: the metric on validation data by run id."""
        found = []
        for part in self.parts:
            scored = [choice.score(trial, self.search.seeds, values) for trial in part.trials]
            found.append(Outcome(part, scored, choice.choose(scored, self.search.metric)))
        return found

    def before(self, part: Part) -> tuned.Record | None:
        """What was chosen for a family earlier."""
        records = self.suite.chosen.get(self.scale, [])
        return next((item for item in records if item.family.key == part.found.family.key), None)

    def write(self, outcomes: Iterable[Outcome], command: str) -> list[Path]:
        """Write choices and trials beside the suite's file, other families' left as they are; the paths."""
        path, table = tuned.path_of(self._path), choice.path_of(self._path)
        # read anew: a search of other families may have ended meanwhile
        records = tuned.read(path, list(self.suite.scales))
        mine = {record.family.key: record for record in records.get(self.scale, [])}
        rows = []
        for outcome in outcomes:
            family = outcome.part.found.family
            record = self._record(outcome, command)
            if record is None:
                mine.pop(family.key, None)
            else:
                mine[family.key] = record
            rows += choice.rows(self.scale, family, outcome.scored, outcome.chosen)
        records[self.scale] = list(mine.values())
        choice.merge(table, rows)
        tuned.write(
            path, {scale: records[scale] for scale in self.suite.scales if records.get(scale)}, table.name
        )
        return [path, table]

    def _plan(self) -> Plan:
        name = f"{PREFIX}{self.suite.name}"
        if not NAME.fullmatch(name):
            raise UserError(f"{self.suite.source}: the name is too long for {name!r} to be one")
        drafts = [
            Draft(spec, part.found.family.recipe, tuple(trial.settings), (), part.found.where)
            for part in self.parts
            for trial in part.trials
            for spec in trial.specs(self.search.seeds)
        ]
        check_networks(drafts)
        question = f"Which settings suit each method of {self.suite.name}, by {self.search.metric}?"
        return Plan(name, self.scale, question, {}, tuple(cells(drafts, Labeller(drafts))))

    def _record(self, outcome: Outcome, command: str) -> tuned.Record | None:
        chosen, untuned = outcome.chosen, outcome.untuned
        if chosen is None or chosen.value is None:
            return None
        return tuned.Record(
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
            command=command,
        )
