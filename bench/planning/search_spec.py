"""Read a search as a suite declares it: which settings are tried, for which family of cells, in which trials.

::

    search:
      space:
        lr: {log: [0.01, 1]}
        kl_factor: {log: [0.001, 1]}
        prior_std: {log: [0.03, 1]}
        allocation: [uniform, global]
      at: {sparsity: 0.95, criterion: snr}  # fixed during the search, at values that the suite reports
      trials: 16                            # for every method; the first has the method's own settings
      metric: nll_val                       # or brier_val, accuracy_val
      seeds: 100-102                        # 100 and up; suites report seeds below 100
      finalists: 3                          # best trials that run again, with the suite's own settings, ...
      final_seeds: 103-107                  # ... under these seeds, which alone decide
      check_at: {sparsity: 0.8}             # where it is told what choosing at `at` loses

A key is searched for every method that has it. What a grid writes itself (an axis, or a key under
``set``) stays as written and is not searched.

The first trial has the settings that the suite has without a search. So, on validation data, with the
search's seeds and at the settings of ``at``, the chosen settings are never worse than those. The best of
many trials under few seeds is also the luckiest, and under other seeds it may be worse. So the best trials
may run again beside the suite's own settings, under seeds by which none of them was picked.

The other trials are points of a scrambled Sobol sequence. It is the same for all methods as far as they
share keys, so no method has better luck than another. More trials continue the sequence, and any trial
can be computed at any time on any machine. An adaptive sampler, such as Optuna's, is not used for this
reason: it decides by the trials that have finished, so it must keep a state between processes, and the
same command chooses other settings when the number of workers differs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.experiment.notation import parse_seeds, show
from bench.experiment.settings import APART, flatten, locate, open_sections, section_keys, valid_keys
from bench.experiment.spec import RunSpec
from bench.planning.plan import Draft, canonical
from bench.planning.search_space import Range, parse_range
from bench.planning.tuning_family import Family, family_of
from methods.core.errors import UserError, unknown
from methods.core.options import option, parse

FIRST_SEED = 100
#: The origin of settings that a search tries or fixes.
SEARCH = "search"
METRICS = ("nll_val", "brier_val", "accuracy_val")
#: Fixed, so that nobody can choose the seed with the best luck.
_SOBOL_SEED = 20240211
_LENGTH = "it sets how long training takes, which must be the same for all methods"
#: Keys that can't be searched, and why: they must be equal for all methods, or they make another experiment.
NOT_SEARCHED = {
    "training.epochs": _LENGTH,
    "training.max_steps": _LENGTH,
    "training.budget": _LENGTH,
    "training.budget_cap": _LENGTH,
    "training.batch_size": "it sets how many steps an epoch has, which must be the same for all methods",
    "training.last_batch": "it sets how many steps an epoch has, which must be the same for all methods",
    "method.name": "the suite compares methods",
    "method.member": "methods are compared, not chosen",
    "method.sparsity": "methods are compared at the same sparsity",
    "method.keep_dense": "it sets which weights a sparsity counts, which must be the same for all methods",
    "method.members": "more networks take more training, memory and FLOPs",
    "method.level_share": "it sets how many levels are trained, and so how long training takes",
    "method.level_length": _LENGTH,
}


@dataclass(frozen=True)
class _Block:
    """The keys of ``search``."""

    space: dict[str, Any] = option(doc="key to range")
    trials: int = option(16, "trials of each family; the first has its own settings", within="[1, inf)")
    metric: str = option("nll_val", "metric by which trials are compared", choices=METRICS)
    seeds: int | str | tuple[int, ...] = option("100-102", "seeds of every trial, 100 and up")
    at: dict[str, Any] = option({}, "settings that are fixed during the search")
    finalists: int = option(
        0,
        "best trials that run again, beside the suite's own settings, before one is chosen",
        within="[0, inf)",
    )
    final_seeds: int | str | tuple[int, ...] | None = option(None, "seeds of the finalists, 100 and up")
    check_at: dict[str, Any] = option(
        {}, "keys of `at` at other values, where the finalists are compared too"
    )


@dataclass(frozen=True)
class Search:
    """A search as declared.

    Parameters
    ----------
    space
        Ranges of the searched keys.
    trials
        Number of trials of each family.
    metric
        Metric on validation data by which trials are compared, one of ``METRICS``.
    seeds
        Seeds of every trial.
    at
        Settings that are fixed during the search.
    where
        The suite's file and scale, for error messages.
    finalists
        Number of best trials that run again under ``final_seeds`` before one is chosen.
    final_seeds
        Seeds of the finalists; none if there are no finalists.
    check_at
        Keys of ``at`` at other values, where the finalists are compared too.
    """

    space: tuple[Range, ...]
    trials: int
    metric: str
    seeds: tuple[int, ...]
    at: dict[str, Any]
    where: str
    finalists: int = 0
    final_seeds: tuple[int, ...] = ()
    check_at: dict[str, Any] = field(default_factory=dict)

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds of trials and finalists."""
        return (*self.seeds, *self.final_seeds)

    @property
    def digest(self) -> str:
        """A hash of all that decides the trials and the best of them, except the number of trials."""
        space = [str(item) for item in self.space]  # in order: coordinates of a point go to keys by position
        rest = [show(dict(sorted(self.at.items()))), self.metric, show(sorted(self.seeds)), str(_SOBOL_SEED)]
        if self.finalists:  # a search without them is the one that it was before there were any
            rest += [str(self.finalists), show(sorted(self.final_seeds))]
        return hashlib.blake2b("\n".join([*space, *rest]).encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class FamilySearch:
    """The search of one family.

    Parameters
    ----------
    family
        The family.
    start
        Its run without a search, with the search's first seed.
    ranges
        Ranges of the searched keys, by full key.
    written
        Full keys of the space that are not searched, because every cell writes them.
    cells
        Positions of the method's own cells among the drafts.
    where
        Its grid, for error messages.
    origins
        Where each setting of ``start`` is from, as in ``Cell``.
    pinned
        What ``at`` fixes for the family, by full key.
    """

    family: Family
    start: RunSpec
    ranges: dict[str, Range]
    written: tuple[str, ...]
    cells: tuple[int, ...]
    where: str
    origins: Mapping[str, str]
    pinned: Mapping[str, Any]

    @property
    def own(self) -> dict[str, Any]:
        """The values of the searched keys that the suite has without a search."""
        settings = flatten(self.start.to_dict())
        return {key: settings[key] for key in self.ranges}


@dataclass(frozen=True)
class Trial:
    """Settings to try.

    Parameters
    ----------
    number
        Number of the trial; 0 has the suite's own settings.
    settings
        Values of the searched keys.
    spec
        The run, with the search's first seed.
    """

    number: int
    settings: dict[str, Any]
    spec: RunSpec

    def specs(self, seeds: Sequence[int]) -> list[RunSpec]:
        """Return the trial's runs, one for each seed."""
        return [self.spec.with_seed(seed) for seed in seeds]


def parse_search(block: Mapping[str, Any], where: str) -> Search:
    """Parse the block ``search`` of a suite.

    Raises
    ------
    UserError
        If a key or range is not valid, or a seed is below 100.
    """
    place = f"{where}: search"
    found = parse(_Block, block, place)
    if not found.space:
        raise UserError(f"{place}: space: no key to search")
    seeds, final = _seeds(found.seeds, f"{place}: seeds"), found.final_seeds
    final_seeds = () if final is None else _seeds(final, f"{place}: final_seeds")
    if (found.finalists > 0) != bool(final_seeds):
        raise UserError(f"{place}: finalists and final_seeds: one of them is missing; give both or neither")
    if both := sorted(set(seeds) & set(final_seeds)):
        raise UserError(f"{place}: final_seeds: trials have seed {both[0]} already; valid: other seeds")
    space = tuple(parse_range(str(key), value, f"{place}: space") for key, value in found.space.items())
    at = open_sections(found.at, f"{place}: at")
    for key in at:
        if key == "seed" or key.endswith(".name"):
            raise UserError(f"{place}: at: {key!r} can't be fixed for a search; valid: other settings")
    check_at = open_sections(found.check_at, f"{place}: check_at")
    for key in check_at:
        if key not in at:
            raise unknown("key", key, at, f"{place}: check_at")
    if check_at and not found.finalists:
        raise UserError(f"{place}: check_at compares finalists; give finalists and final_seeds too")
    return Search(space, found.trials, found.metric, seeds, at, where, found.finalists, final_seeds, check_at)


def _seeds(written: int | str | tuple[int, ...], place: str) -> tuple[int, ...]:
    seeds = parse_seeds(written, place)
    if (low := min(seeds)) < FIRST_SEED:
        raise UserError(f"{place}: {low} is kept for reported runs; valid: {FIRST_SEED} and up")
    return seeds


def families(search: Search, drafts: Sequence[Draft]) -> list[FamilySearch]:
    """Return the families of ``drafts`` in order, with what is searched for each.

    Parameters
    ----------
    search
        The search as declared.
    drafts
        All cells, expanded without chosen settings.

    Raises
    ------
    UserError
        If a key of the space or of ``at`` is an option of no cell; if cells of one family differ in a setting
        that ``at`` does not fix; if the suite reports a seed of the search; or if a family has
        ``protocol: refit``, which has no validation data.
    """
    _check_seeds(search, drafts)
    members: dict[str, list[int]] = {}
    for number, draft in enumerate(drafts):
        members.setdefault(family_of(draft.spec, draft.recipe, draft.where).key, []).append(number)
    keys = [_keys(draft.spec) for draft in drafts]
    _check_fit(search, keys)
    found = [_family(search, drafts, numbers) for numbers in members.values()]
    _check_applied(search, [family.start for family in found])
    return found


def trials(search: Search, found: FamilySearch, number: int | None = None) -> list[Trial]:
    """Return the trials of a family; the first has the suite's own settings.

    Parameters
    ----------
    search
        The search as declared.
    found
        The family.
    number
        Number of trials; by default as many as declared.
    """
    number = search.trials if number is None else number
    place = f"{search.where}: search: {found.family.method}"
    column = {item.key: i for i, item in enumerate(search.space)}
    settings = flatten(found.start.to_dict())
    result = [Trial(0, found.own, found.start)]
    for i, point in enumerate(_points(len(search.space), number - 1), 1):
        values = {
            key: item.at(point[column[item.key]], whole=type(settings[key]) is int)
            for key, item in found.ranges.items()
        }
        result.append(Trial(i, values, found.start.replaced(values, place)))
    return result


def elsewhere(search: Search, found: FamilySearch, trial: Trial) -> Trial | None:
    """Return ``trial`` at ``check_at``; None if the search fixes none of these keys for the family."""
    place = f"{search.where}: search: check_at"
    homes = {locate(key, _keys(found.start), place): value for key, value in search.check_at.items()}
    settings = {str(home): value for home, value in homes.items() if home in found.pinned}
    return replace(trial, spec=trial.spec.replaced(settings, place)) if settings else None


def searchable(keys: Iterable[str]) -> list[str]:
    """Return those of the full ``keys`` that a search may choose."""
    return [key for key in keys if key.startswith(("method.", "training.")) and key not in NOT_SEARCHED]


def check_searchable(key: str, where: str) -> None:
    """Raise ``UserError`` with the reason if a search must not choose the full key ``key``."""
    if not searchable([key]):
        reason = NOT_SEARCHED.get(key, "valid: options of methods and of training")
        raise UserError(f"{where}: {key!r} can't be searched: {reason}")


def _points(dimensions: int, number: int) -> list[list[float]]:
    """Return ``number`` points in [0, 1)^dimensions; a larger number begins with the same points."""
    from scipy.stats import qmc  # slow to import, and expanding a suite does not need it

    if number < 1:
        return []
    sobol = qmc.Sobol(dimensions, scramble=True, rng=_SOBOL_SEED)
    points = sobol.random_base2(math.ceil(math.log2(number)))[:number]
    return [[float(share) for share in point] for point in points]


def _family(search: Search, drafts: Sequence[Draft], numbers: list[int]) -> FamilySearch:
    first = drafts[numbers[0]]
    family = family_of(first.spec, first.recipe, first.where)
    # SSVI at sparsity 0 is a cell of dense VI's family, but the search starts from dense VI's own cells
    own = [n for n in numbers if drafts[n].spec.method[0] == family.method] or numbers
    specs = {n: canonical(drafts[n].spec, drafts[n].where)[0] for n in own}
    keys = _keys(specs[own[0]])
    place = f"{search.where}: search"
    known = _located(search.space, keys, f"{place}: space")
    written = [key for key in known if all(key in drafts[n].written for n in own)]
    ranges = {key: item for key, item in known.items() if key not in written}
    free = [n for n in own if not any(key in drafts[n].written for key in ranges)]
    if not free:
        raise UserError(
            f"{place}: {family}: every cell sets some of {', '.join(ranges)}, so the search can't start"
        )
    pinned = _reported(family, _pinned(search, keys, ranges), list(specs.values()), f"{place}: at")
    starts = [_start(drafts[n], family, pinned, search) for n in free]
    _check_alike(family, starts, place)
    start = starts[0]
    if start.protocol == "refit":
        raise UserError(
            f"{place}: {family}: protocol refit has no validation data to choose by; fix another one: "
            "`at: {protocol: holdout}`"
        )
    _check_ends(start, ranges, f"{place}: space")
    where = drafts[free[0]].where
    origins = {**drafts[free[0]].origins, **dict.fromkeys(pinned, SEARCH)}
    return FamilySearch(family, start, ranges, tuple(written), tuple(own), where, origins, pinned)


def _located(space: Sequence[Range], keys: Mapping[str, Sequence[str]], place: str) -> dict[str, Range]:
    """Return the part of ``space`` that a family has, by full key."""
    known: dict[str, Range] = {}
    for item in space:
        if (home := locate(item.key, keys, place)) is None:
            continue
        if home in known:
            raise UserError(f"{place}: key {home!r} is given twice")
        known[home] = item
    return known


def _pinned(search: Search, keys: Mapping[str, Sequence[str]], ranges: Mapping[str, Range]) -> dict[str, Any]:
    """Return the part of ``at`` that a family has, by full key."""
    place = f"{search.where}: search: at"
    pinned: dict[str, Any] = {}
    for key, value in search.at.items():
        if (home := locate(key, keys, place)) is None:
            continue
        if home in pinned or home in ranges:
            raise UserError(f"{place}: key {home!r} is given twice, or is also searched")
        pinned[home] = value
    return pinned


def _reported(
    family: Family, pinned: Mapping[str, Any], specs: Sequence[RunSpec], place: str
) -> dict[str, Any]:
    """Return what of ``pinned`` applies to a family, so that its method is tuned as it is reported.

    An option of the method is fixed at a value that some cell has. If all cells have the same other value,
    as that of a method whose sparsity results from training, they keep it.
    """
    found = dict(pinned)
    for key, value in pinned.items():
        values = list(dict.fromkeys(show(spec.settings[key]) for spec in specs))
        wanted = show(specs[0].replaced({key: value}, place).settings[key])
        if not key.startswith("method.") or wanted in values:
            continue
        if len(values) > 1:
            raise UserError(
                f"{place}: {key.removeprefix('method.')}: no cell of {family} has {wanted}; "
                f"valid: {', '.join(values)}"
            )
        del found[key]
    return found


def _start(draft: Draft, family: Family, pinned: Mapping[str, Any], search: Search) -> RunSpec:
    # as written, if it can be: in a cell of sparsity 0, options that do not matter there have their defaults
    mine = draft.spec.method[0] == family.method
    spec = draft.spec if mine else canonical(draft.spec, draft.where)[0]
    plain = dict.fromkeys(APART, ())  # a trial is judged on validation data alone
    found = spec.replaced({**plain, **pinned}, f"{search.where}: search: at")
    return canonical(found, draft.where)[0].with_seed(search.seeds[0])


def _keys(spec: RunSpec) -> dict[str, list[str]]:
    names = {"dataset": spec.dataset[0], "network": spec.network[0], "method": spec.method[0]}
    return section_keys(names)


def _check_seeds(search: Search, drafts: Sequence[Draft]) -> None:
    reported = {draft.spec.seed for draft in drafts}
    if both := sorted(reported & set(search.every_seed)):
        raise UserError(
            f"{search.where}: search: seeds: {both[0]} is also a seed that the suite reports; choose others"
        )


def _check_fit(search: Search, keys: Sequence[Mapping[str, Sequence[str]]]) -> None:
    """Require that every key is an option of some cell, and that keys of the space may be searched."""
    union: dict[str, dict[str, None]] = {}
    for sections in keys:
        for section, names in sections.items():
            union.setdefault(section, {}).update(dict.fromkeys(names))
    place = f"{search.where}: search"
    for part, given in (("space", [item.key for item in search.space]), ("at", list(search.at))):
        for key in given:
            homes = {locate(key, sections, f"{place}: {part}") for sections in keys} - {None}
            if not homes:
                valid = valid_keys(union)
                raise unknown("key", key, searchable(valid) if part == "space" else valid, f"{place}: {part}")
            for home in homes:
                if part == "space":
                    check_searchable(str(home), f"{place}: space")


def _check_applied(search: Search, starts: Sequence[RunSpec]) -> None:
    """Require that some family has each method option that ``at`` fixes at the value given there."""
    place = f"{search.where}: search: at"
    for key, value in search.at.items():
        values: dict[str, None] = {}
        for start in starts:
            home = locate(key, _keys(start), place)
            if home is None or not home.startswith("method."):
                continue
            if start.replaced({home: value}, place).settings[home] == start.settings[home]:
                break
            values[show(start.settings[home])] = None
        else:
            if values:
                raise UserError(
                    f"{place}: {key}: no cell has {show(value)}, so it would be tuned as it is not reported; "
                    f"valid: {', '.join(values)}"
                )


def _check_alike(family: Family, starts: Sequence[RunSpec], place: str) -> None:
    every = [flatten(start.to_dict()) for start in starts]
    for key in every[0]:
        values = list(dict.fromkeys(show(settings[key]) for settings in every))
        if len(values) > 1:
            raise UserError(
                f"{place}: cells of {family} differ in {key} ({', '.join(values)}); fix one value: "
                f"`at: {{{key.removeprefix('method.')}: {values[0]}}}`"
            )


def _check_ends(start: RunSpec, ranges: Mapping[str, Range], place: str) -> None:
    """Require that each end and each choice is a valid value when it alone is changed."""
    for key, item in ranges.items():
        for value in item.values:
            start.replaced({key: value}, place)
