"""Run a search: make its trials a plan of ordinary runs, and choose settings from their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.experiment.settings import flatten
from bench.planning import tuned_settings
from bench.planning.expansion import check_networks
from bench.planning.plan import Draft, Labeller, Plan, cells
from bench.planning.search_spec import SEARCH, FamilySearch, Search, Trial, elsewhere, trials
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
    """One family of a search, and its trials."""

    found: FamilySearch
    trials: list[Trial]


@dataclass(frozen=True)
class Outcome:
    """The scores of a family's trials.

    Parameters
    ----------
    part
        The family and its trials.
    metric
        Metric of the scores.
    scored
        All trials with their scores.
    chosen
        The best trial, of the finalists if there are any; None if none finished.
    finals
        Finalists with their scores under the final seeds, the suite's own settings first.
    checks
        The same finalists at ``check_at``; empty if it does not concern the family.
    """

    part: Part
    metric: str
    scored: list[Scored]
    chosen: Scored | None
    finals: tuple[Scored, ...] = ()
    checks: tuple[Scored, ...] = ()

    @property
    def failed(self) -> int:
        """The number of trials that did not finish."""
        return sum(item.failed for item in self.scored)

    @property
    def untuned(self) -> Scored | None:
        """The score of the suite's own settings, in the last round; None if it failed."""
        own = self.finals[0] if self.finals else self.scored[0]
        return None if own.failed else own

    @property
    def check_loss(self) -> float | None:
        """By how much the chosen settings are worse at ``check_at`` than the finalist that is best there.

        None if ``check_at`` does not concern the family, or runs failed.
        """
        number = None if self.chosen is None else self.chosen.trial.number
        checked = next((item for item in self.checks if item.trial.number == number), None)
        return None if checked is None else trial_scores.loss(checked, self.checks, self.metric)

    def best_of(self, number: int) -> tuple[float, float] | None:
        """Mean and standard deviation of the best of ``number`` trials (``trial_scores.best_of``)."""
        return trial_scores.best_of(self.scored, self.metric, number)


@dataclass(frozen=True)
class Written:
    """The result of writing a search.

    Parameters
    ----------
    paths
        Files that were written.
    kept
        Families of which no trial finished, so that their earlier chosen settings stay.
    """

    paths: list[Path]
    kept: list[Family]


class Searching:
    """A search of settings for the families of a suite at one scale.

    Parameters
    ----------
    suite
        Suite whose settings are searched.
    scale
        Name of the scale.
    where
        Conditions (``--where``): only families with a cell that fulfils them are searched.
    number
        Number of trials of each family; by default as many as the suite declares.

    Attributes
    ----------
    plan
        Plan of all trials, called ``tune-NAME``.
    fixed
        Families that have nothing to search.
    gone
        Earlier chosen settings of families that the suite no longer has.

    Raises
    ------
    UserError
        Before anything runs: if a trial could not run, if earlier settings were chosen from more trials of
        the same search, or if the suite has no file beside which the results can be written, or a broken one.
    StoreError
        If the results could not be written.
    """

    def __init__(
        self, suite: Suite, scale: str, where: Iterable[str] = (), number: int | None = None
    ) -> None:
        if suite.path is None:
            raise UserError(
                f"{suite.source}: this suite has no file beside which chosen settings could be written; "
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
            raise UserError(f"{self.search.where}: search: nothing to search, the grids set every key of it")
        keys = {found.family.key for found in every}
        self.gone = [record for record in self._records if record.family.key not in keys]
        self._check_number()
        self.plan = self._plan(every)
        self._check_files()

    def outcomes(self, values: Mapping[str, float]) -> list[Outcome]:
        """Return the scores of each family; ``values`` has the metric on validation data by run id."""
        found = []
        for part in self.parts:
            scored = [trial_scores.score(trial, self.search.seeds, values) for trial in part.trials]
            found.append(
                Outcome(part, self.search.metric, scored, trial_scores.choose(scored, self.search.metric))
            )
        return found

    def second_round(self, outcomes: Sequence[Outcome]) -> Plan:
        """Return the plan of all trials and of the finalists, which are the best of ``outcomes``."""
        drafts = [draft for part in self.parts for draft in self._drafts(part)]
        for outcome in outcomes:
            drafts += self._final_drafts(outcome.part, self._finalists(outcome))
        return self._planned(drafts)

    def decided(self, outcomes: Iterable[Outcome], values: Mapping[str, float]) -> list[Outcome]:
        """Return ``outcomes`` with the finalists' scores; these alone decide which settings are chosen.

        So the choice does not profit from the luck by which a trial was the best of many.
        """
        found, metric, seeds = [], self.search.metric, self.search.final_seeds
        for outcome in outcomes:
            finalists = self._finalists(outcome)
            finals = tuple(trial_scores.score(trial, seeds, values) for trial in finalists)
            others = [elsewhere(self.search, outcome.part.found, trial) for trial in finalists]
            checks = tuple(trial_scores.score(trial, seeds, values) for trial in others if trial is not None)
            chosen = trial_scores.choose(finals, metric)
            found.append(replace(outcome, chosen=chosen, finals=finals, checks=checks))
        return found

    def before(self, part: Part) -> tuned_settings.Record | None:
        """Return the settings that an earlier search chose for a family; None if there are none."""
        return next((item for item in self._records if item.family.key == part.found.family.key), None)

    def write(self, outcomes: Iterable[Outcome], command: str) -> Written:
        """Write the chosen settings and all trials beside the suite's file; other families' entries are kept.

        If no trial of a family finished, its earlier chosen settings and trials are kept too.

        Parameters
        ----------
        outcomes
            Scores of the searched families.
        command
            Command line of the search.
        """
        path = tuned_settings.path_of(self._path)
        with locked(self._path):  # a search of other families may write at the same time
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
                rows += trial_scores.rows(
                    self.scale, family, outcome.scored, outcome.chosen, outcome.finals, outcome.checks
                )
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
                    f"{tuned_settings.path_of(self._path)}: {record.family} was tuned by {record.trials} "
                    f"trials of this search, more than {self.number}; valid: --trials {record.trials} and up"
                )

    def _check_files(self) -> None:
        """Raise now the errors that ``write`` would raise after all runs were computed."""
        with locked(self._path):
            tuned_settings.read(tuned_settings.path_of(self._path), list(self.suite.scales))
            trial_scores.check(self._table)
            check_writable(self._path.parent)

    def _plan(self, every: list[FamilySearch]) -> Plan:
        name = f"{PREFIX}{self.suite.name}"
        if not NAME.fullmatch(name):
            raise UserError(f"{self.suite.source}: the name is too long: {name!r} can't name its search")
        # labels are made from all families: labels of two searches of some families might otherwise be equal
        mine = {part.found.family.key: part for part in self.parts}
        parts = [self._part(item, mine) for item in every if item.ranges]
        drafts = [draft for part in parts for draft in self._drafts(part)]
        # and from what finalists may be, so that the labels of trials are the same in both rounds
        drafts += [draft for part in parts for draft in self._final_drafts(part, part.trials[:1])]
        self._labeller = Labeller(drafts)
        return self._planned([draft for part in self.parts for draft in self._drafts(part)])

    def _planned(self, drafts: list[Draft]) -> Plan:
        check_networks(drafts)
        name = f"{PREFIX}{self.suite.name}"
        question = f"Which settings suit each method of {self.suite.name}, by {self.search.metric}?"
        return Plan(name, self.scale, question, {}, tuple(cells(drafts, self._labeller)))

    def _finalists(self, outcome: Outcome) -> list[Trial]:
        """Return the trial of the suite's own settings and the best of the others."""
        own, *others = outcome.scored
        best = trial_scores.ranked(others, self.search.metric)[: self.search.finalists]
        return [item.trial for item in (own, *best)]

    def _part(self, found: FamilySearch, known: Mapping[str, Part]) -> Part:
        return known.get(found.family.key) or Part(found, trials(self.search, found, self.number))

    def _final_drafts(self, part: Part, finalists: Iterable[Trial]) -> list[Draft]:
        """Return the runs of finalists, and their runs at ``check_at``, under the final seeds."""
        drafts = []
        for trial in finalists:
            drafts += self._drafts(part, [trial], self.search.final_seeds)
            if (other := elsewhere(self.search, part.found, trial)) is not None:
                drafts += self._drafts(part, [other], self.search.final_seeds, tuple(part.found.pinned))
        return drafts

    def _drafts(
        self,
        part: Part,
        of: Iterable[Trial] | None = None,
        seeds: Sequence[int] | None = None,
        changed: tuple[str, ...] = (),
    ) -> list[Draft]:
        """Return runs of a part.

        Parameters
        ----------
        part
            The family and its trials.
        of
            Trials to run; all by default.
        seeds
            Seeds of each; by default those of the search.
        changed
            Keys that tell the runs apart besides those that are searched.
        """
        found = part.found
        # families may differ in options of data set and network, so these are part of the labels
        apart = [key for key in flatten(found.start.to_dict()) if key.startswith(("dataset.", "network."))]
        drafts = []
        for trial in part.trials if of is None else of:
            origins = {**found.origins, **dict.fromkeys(trial.settings, SEARCH)}
            written = (*apart, *changed, *trial.settings)
            for spec in trial.specs(self.search.seeds if seeds is None else seeds):
                drafts.append(Draft(spec, found.family.recipe, written, (), found.where, origins))
        return drafts

    def _record(self, outcome: Outcome, command: str) -> tuned_settings.Record | None:
        chosen, untuned = outcome.chosen, outcome.untuned
        if chosen is None or chosen.value is None:
            return None
        best = outcome.best_of(len(outcome.scored))
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
            final_seeds=self.search.final_seeds or None,
            choice_sd=best[1] if best else None,
            check_loss=outcome.check_loss,
        )
