"""Suites: an experiment as data, and its expansion into a plan.

A suite is a YAML file in ``bench/suites/``, a file or mapping that a package offers under
the entry-point group ``ssvi_bench.suites``, or any file given by its path. Its name is the
file's (or the entry point's). ::

    question: Which criterion should choose the weights to remove?   # one sentence
    reference: {method: ssvi, criterion: abs_mean}     # labels of what comparisons start from
    one_at_a_time: false                               # true: runs never share the machine, for timing
    rank_by: nll                                       # by which the summary is sorted; left out: as written
    scales:
      demo:                                            # demo, small, paper: as many as there are
        seeds: 0-4                                     # 0-4, 0,2,5-7, 3 or [0, 1]
        base: {dataset: digits, network: mlp, epochs: 40}
        grids:
          - {recipe: default, method: dense_vi}
          - recipe: [default, released]                # a list is an axis, ...
            method: ssvi
            sparsity: [0.9, 0.98]
            seeds: 0-2                                 # (in place of the scale's)
            set: {network.hidden: [256, 256]}          # ... but under `set` and in `base` a value

A grid is the product over its axes, in the order written, seeds innermost. Keys are short
(``sparsity``) or full (``method.sparsity``, ``training.lr``); ``recipe`` names a block of
``bench/recipes.yaml``. Later wins: recipe, ``base``, chosen settings, grid, ``--set``. A grid's
keys must fit every one of its cells; the others' apply to the cells that have such an option.

Chosen settings are those that ``python -m bench.tune`` found best on validation data and wrote to
``<suite>.tuned.yaml`` beside the file, for each method; there may be none. They are a search's that
the suite, or a scale of it, declares under ``search`` (``search_spec.py`` describes its keys; those
of the scale win). Seeds by which settings are chosen are not reported::

    search:
      space: {lr: {log: [0.01, 1]}, kl_factor: {log: [0.001, 1]}, prior_std: {log: [0.03, 1]}}
      at: {sparsity: 0.9}                              # what its cells differ in is pinned for the search
      trials: 16
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from bench.experiment.notation import read_yaml, show
from bench.planning import tuned_settings
from bench.planning.expansion import Expansion, Scale, check_networks
from bench.planning.filters import parse_where, select
from bench.planning.plan import Cell, Draft, Labeller, Plan, canonical, cells
from bench.planning.search_spec import FamilySearch, Search, families, parse_search
from bench.results.plans import NAME, RESERVED
from methods.core.errors import UserError, unknown
from methods.core.options import option, parse

__all__ = ["Cell", "Plan", "Scale", "Suite", "load", "names"]

FOLDER = Path(__file__).parents[1] / "suites"
GROUP = "ssvi_bench.suites"
SCALES = ("demo", "small", "paper")


@dataclass(frozen=True)
class Suite:
    """A suite as read. ``source`` says where from, for error messages; ``path`` is its file, if it has one.

    one_at_a_time: whether its runs must not share the machine, because their times are what it asks about.
    searches, chosen: by scale, where there are any.
    """

    name: str
    source: str
    question: str
    reference: dict[str, Any]
    scales: dict[str, Scale]
    one_at_a_time: bool = False
    rank_by: str | None = None
    searches: dict[str, Search] = field(default_factory=dict)
    path: Path | None = None
    chosen: dict[str, list[tuned_settings.Record]] = field(default_factory=dict)

    def expand(
        self,
        scale: str = "demo",
        *,
        overrides: Mapping[str, Any] | None = None,
        where: Iterable[str] = (),
        seeds: str | None = None,
    ) -> Plan:
        """The plan at ``scale``; ``UserError`` before anything runs if any cell of it could not.

        overrides: settings that win over the suite's (``--set``). where: conditions as in
        ``bench.planning.filters``. seeds: in place of all seeds of the suite.
        """
        place = self._place(scale)
        expansion = Expansion(self.scales[scale], place, overrides, seeds)
        self._check_seeds(scale, expansion.declared(), "--seeds" if seeds else f"{place}: seeds")
        drafts = expansion.drafts(self._layers(scale, expansion))
        labeller = Labeller(drafts)
        rows = [_columns(draft) | labeller.labels(draft) for draft in drafts]
        if not overrides:  # which may well set aside what the suite varies
            self._check_reference(drafts, rows, place)
        kept = list(itertools.compress(drafts, select(rows, parse_where(where))))
        check_networks(kept)
        found = tuple(cells(kept, labeller))
        return Plan(self.name, scale, self.question, self.reference, found, self.one_at_a_time, self.rank_by)

    def families(self, scale: str, where: Iterable[str] = ()) -> list[FamilySearch]:
        """The families of its cells at ``scale`` with what its search says of each, in order.

        where: only those with a cell that fulfils the conditions. ``UserError`` where no search is declared.
        """
        place = self._place(scale)
        if scale not in self.searches:
            raise UserError(
                f"{place}: no search is declared; `search` is described in bench/planning/search_spec.py"
            )
        drafts = Expansion(self.scales[scale], place).drafts()
        labeller = Labeller(drafts)
        rows = [_columns(draft) | labeller.labels(draft) for draft in drafts]
        kept = select(rows, parse_where(where))
        found = families(self.searches[scale], drafts)
        return [family for family in found if any(kept[number] for number in family.cells)]

    def _place(self, scale: str) -> str:
        if scale not in self.scales:
            raise unknown("scale", scale, self.scales, self.source)
        return f"{self.source}: {scale}"

    def _layers(self, scale: str, expansion: Expansion) -> dict[str, tuned_settings.Layer]:
        records = self.chosen.get(scale)
        if not records or self.path is None:
            return {}
        search = self.searches.get(scale)
        now = families(search, expansion.declared()) if search else []
        return tuned_settings.layers(tuned_settings.path_of(self.path), records, search, now)

    def _check_seeds(self, scale: str, drafts: list[Draft], where: str) -> None:
        """No seed may be reported by which settings were chosen, or are to be."""
        search = self.searches.get(scale)
        used = {seed for record in self.chosen.get(scale, []) for seed in record.seeds}
        used |= set(search.seeds if search else ())
        if both := sorted(used & {draft.spec.seed for draft in drafts}):
            raise UserError(
                f"{where}: {both[0]} is a seed by which the search chooses settings; "
                f"valid: others than {show(sorted(used))}"
            )

    def _check_reference(self, drafts: list[Draft], rows: list[dict[str, Any]], place: str) -> None:
        kept = [canonical(draft.spec, draft.where)[1] is None for draft in drafts]
        trained = itertools.compress(rows, kept)
        if not any(all(row.get(key) == value for key, value in self.reference.items()) for row in trained):
            raise UserError(
                f"{place}: no cell that is trained has the labels of the reference, {self.reference}"
            )


def names() -> list[str]:
    """The suites of this package and of others, alphabetically."""
    files = {path.stem for path in FOLDER.glob("*.yaml") if not path.name.endswith(tuned_settings.SUFFIX)}
    return sorted(files | {point.name for point in _entry_points()})


def load(name: str) -> Suite:
    """The suite ``name``, or the one in the file ``name`` when it is a path (``./my.yaml``)."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return _read(Path(name))
    path = FOLDER / f"{name}.yaml"
    if path.is_file():
        return _read(path)
    for point in _entry_points():
        if point.name == name:
            return _from_entry_point(point)
    raise unknown("suite", name, names())


@dataclass(frozen=True)
class _File:
    """The keys of a suite file."""

    question: str = option(doc="what the suite answers, in one sentence")
    scales: dict[str, Any] = option(doc="each scale's seeds, base and grids")
    reference: dict[str, Any] = option({}, "labels of the cells that comparisons start from")
    name: str | None = option(None, "the suite's name, which must be the file's")
    one_at_a_time: bool = option(False, "no two of its runs at once on a machine: it measures time")
    rank_by: str | None = option(None, "metric by which the summary is sorted", choices=("accuracy", "nll"))
    search: dict[str, Any] = option({}, "what bench.tune searches, at every scale; keys of a scale's win")


def parse_suite(content: Any, name: str, source: str, path: Path | None = None) -> Suite:
    """The suite ``name`` from the content of its file ``path``; ``source`` stands in error messages."""
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: expected the keys of a suite, got {content!r}")
    if not NAME.fullmatch(name) or name in RESERVED:
        rule = f"lower-case letters, digits, _ and -, and none of {', '.join(RESERVED)}"
        raise UserError(f"{source}: {name!r} cannot name a suite and its folder; valid: {rule}")
    file = parse(_File, content, source)
    if file.name not in (None, name):
        raise UserError(f"{source}: name: {file.name!r} is not the file's name, {name!r}")
    for scale in file.scales:
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES, source)
    scales = {scale: parse(Scale, block, f"{source}: {scale}") for scale, block in file.scales.items()}
    declared = {scale: {**file.search, **block.search} for scale, block in scales.items()}
    searches = {s: parse_search(block, f"{source}: {s}") for s, block in declared.items() if block}
    chosen = tuned_settings.read(tuned_settings.path_of(path), list(scales)) if path else {}
    return Suite(
        name, source, file.question, file.reference, scales, file.one_at_a_time, file.rank_by,
        searches, path, chosen,
    )  # fmt: skip


def _read(path: Path, name: str | None = None) -> Suite:
    here = Path.cwd()
    source = path.relative_to(here) if path.is_relative_to(here) else path
    return parse_suite(read_yaml(source), name or path.stem, str(source), source)


def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=GROUP)


def _from_entry_point(point: importlib.metadata.EntryPoint) -> Suite:
    value, source = point.load(), f"entry point {point.name} ({point.value})"
    if isinstance(value, (str, PathLike)):
        return _read(Path(value), point.name)
    if isinstance(value, Mapping):
        return parse_suite(value, point.name, source)
    raise UserError(f"{source}: expected a path or a mapping, got {value!r}")


def _columns(draft: Draft) -> dict[str, Any]:
    """What ``--where`` sees beside the labels: all settings, by short keys too where they are clear.

    A method without ``sparsity`` has 0, as in the table of runs.
    """
    full = draft.settings
    uses = Counter(key.rpartition(".")[2] for key in full)
    short = {leaf: value for key, value in full.items() if uses[leaf := key.rpartition(".")[2]] == 1}
    return ({} if "sparsity" in uses else {"sparsity": 0.0}) | full | short
