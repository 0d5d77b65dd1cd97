"""Read suites, which are experiments written as data, and expand them into plans.

A suite is a YAML file in ``bench/suites/``, a file or mapping that a package offers under
the entry-point group ``ssvi_bench.suites``, or any file given by its path. Its name is that of the
file or of the entry point. ::

    question: Which criterion should choose the weights to remove?   # one sentence
    reference: {method: ssvi, criterion: abs_mean}     # labels of the cells that others are compared with;
                                                       # {sparsity: 0}: each with itself dense
    one_at_a_time: false                               # true: runs never share the machine, for timing
    rank_by: nll                                       # metric that sorts the summary; default: as written
    scales:
      demo:                                            # any of demo, small, reduced, paper
        seeds: 0-4                                     # 0-4, 0,2,5-7, 3 or [0, 1]
        base: {dataset: digits, network: mlp, epochs: 40}
        grids:
          - {recipe: default, method: dense_vi}
          - recipe: [default, released]                # a list is an axis, ...
            method: ssvi
            sparsity: [0.9, 0.98]
            seeds: 0-2                                 # replaces the scale's seeds
            set: {network.hidden: [256, 256]}          # ... but under `set` and in `base` it is one value

A grid is the product over its axes, in the order written; seeds vary fastest. Keys are short
(``sparsity``) or full (``method.sparsity``, ``training.lr``). ``recipe`` names a block of
``bench/experiment/recipes.yaml``. If several places set a key, the last of these wins: recipe, ``base``,
chosen settings, grid, ``--set``. A key of a grid must be an option of each of its cells; keys of the other
places apply to the cells that have such an option. ``criterion: all`` is
an axis over every registered criterion, the built-in ones first; the stored plan holds their names.

Chosen settings are those that ``python -m bench.tune`` found best on validation data for each method. It
writes them to ``<suite>.tuned.yaml`` beside the suite's file, which need not exist. The search is declared
under ``search``, for the suite or for one scale, whose keys win (``search_spec.py`` describes them). Seeds
that a search uses are never reported::

    search:
      space: {lr: {log: [0.01, 1]}, kl_factor: {log: [0.001, 1]}, prior_std: {log: [0.03, 1]}}
      at: {sparsity: 0.9}                              # the search fixes a setting in which cells differ
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
from bench.planning.plan import Cell, Draft, Labeller, Plan, cells
from bench.planning.search_spec import FamilySearch, Search, families, parse_search
from bench.results.plans import NAME, RESERVED
from bench.suites import SCALES, entry_points, from_here, names, path_of
from methods.core.errors import UserError, unknown
from methods.core.options import option, parse
from methods.core.registry import loaded, told, warn_once

__all__ = ["Cell", "Plan", "Scale", "Suite", "load", "names"]


@dataclass(frozen=True)
class Suite:
    """A suite as read.

    Parameters
    ----------
    name
        Name of the suite and of its folder of tables.
    source
        Where it was read from, for error messages.
    question
        Question that it answers, in one sentence.
    reference
        Labels of the cells that others are compared with.
    scales
        Scales by name.
    one_at_a_time
        Whether no two of its runs may share the machine, because it measures time.
    rank_by
        Metric by which the summary is sorted; None keeps the order of the suite.
    searches
        Declared searches, by scale.
    path
        File of the suite, if it has one.
    chosen
        Settings that searches chose, by scale.
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
        """Expand the suite into the plan at ``scale``.

        Parameters
        ----------
        scale
            Name of the scale.
        overrides
            Settings that win over the suite's (``--set``).
        where
            Conditions on cells (``--where``), as in ``bench.planning.filters``.
        seeds
            Seeds that replace all seeds of the suite (``--seeds``).

        Raises
        ------
        UserError
            If any cell could not run.
        """
        place = self._place(scale)
        expansion = Expansion(self.scales[scale], place, overrides, seeds)
        self._check_seeds(scale, expansion.declared(), "--seeds" if seeds else f"{place}: seeds")
        drafts = expansion.drafts(self._layers(scale, expansion))
        labeller = Labeller(drafts)
        rows = [_columns(draft) | labeller.labels(draft) for draft in drafts]
        if not overrides:  # overrides may replace the labels of the reference
            self._check_reference(rows, place)
        kept = list(itertools.compress(drafts, select(rows, parse_where(where))))
        check_networks(kept)
        found = tuple(cells(kept, labeller))
        return Plan(self.name, scale, self.question, self.reference, found, self.one_at_a_time, self.rank_by)

    def families(self, scale: str, where: Iterable[str] = ()) -> list[FamilySearch]:
        """Return the families of the cells at ``scale`` in order, with what the search declares for each.

        Parameters
        ----------
        scale
            Name of the scale.
        where
            Conditions (``--where``): only families with a cell that fulfils them are returned.

        Raises
        ------
        UserError
            If no search is declared, or it does not fit the cells.
        """
        place = self._place(scale)
        if scale not in self.searches:
            raise UserError(
                f"{place}: no search is declared; bench/planning/search_spec.py describes the key `search`"
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
        """Require that no reported seed is used by a search, past or declared."""
        search = self.searches.get(scale)
        used = {seed for record in self.chosen.get(scale, []) for seed in record.every_seed}
        used |= set(search.every_seed if search else ())
        if both := sorted(used & {draft.spec.seed for draft in drafts}):
            raise UserError(
                f"{where}: seed {both[0]} can't be reported, because the search chooses settings by it; "
                f"valid: seeds other than {show(sorted(used))}"
            )

    def _check_reference(self, rows: list[dict[str, Any]], place: str) -> None:
        if not self.reference:
            return
        if not any(all(row.get(key) == value for key, value in self.reference.items()) for row in rows):
            raise UserError(f"{place}: no cell has the labels of the reference, {self.reference}")


def load(name: str) -> Suite:
    """Load a suite.

    Parameters
    ----------
    name
        Name of a suite, or path of a file (with ``/`` or the ending ``.yaml``).

    Raises
    ------
    UserError
        If there is no such suite, or it is not valid.
    """
    path = path_of(name)
    points = [point for point in entry_points() if point.name == name]
    if path is not None:
        for point in points:
            warn_once(f"{told(point)}: suite {name!r} is built in already; the suite is left out")
        return _read(path)
    if len({point.value for point in points}) > 1:
        values = " and ".join(sorted({point.value for point in points}))
        raise UserError(
            f"suite {name!r} is offered by several packages, in {values}; give the path of its file"
        )
    if points:
        return _from_entry_point(points[0])
    raise unknown("suite", name, names())


@dataclass(frozen=True)
class _File:
    """The keys of a suite file."""

    question: str = option(doc="question that the suite answers, in one sentence")
    scales: dict[str, Any] = option(doc="seeds, base and grids of each scale")
    reference: dict[str, Any] = option({}, "labels of the cells that others are compared with")
    name: str | None = option(None, "name of the suite, which must be that of the file")
    one_at_a_time: bool = option(False, "never run two runs at once on a machine: the suite measures time")
    rank_by: str | None = option(None, "metric by which the summary is sorted", choices=("accuracy", "nll"))
    search: dict[str, Any] = option({}, "what bench.tune searches at every scale; a scale's own keys win")


def parse_suite(content: Any, name: str, source: str, path: Path | None = None) -> Suite:
    """Parse a suite.

    Parameters
    ----------
    content
        Content of the file or mapping.
    name
        Name of the suite.
    source
        Where it was read from, for error messages.
    path
        File of the suite, if it has one; chosen settings are read from beside it.

    Raises
    ------
    UserError
        If the content is not valid.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: expected the keys of a suite, got {content!r}")
    if not NAME.fullmatch(name) or name in RESERVED:
        rule = f"lower-case letters, digits, _ and -, and none of {', '.join(RESERVED)}"
        raise UserError(f"{source}: {name!r} is not a valid name of a suite and its folder; valid: {rule}")
    file = parse(_File, content, source)
    if file.name not in (None, name):
        raise UserError(f"{source}: name: {file.name!r} is not the name of the file, {name!r}")
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
    source = from_here(path)
    return parse_suite(read_yaml(source), name or path.stem, str(source), source)


def _from_entry_point(point: importlib.metadata.EntryPoint) -> Suite:
    value, source = loaded(point), told(point)
    if isinstance(value, (str, PathLike)):
        return _read(Path(value), point.name)
    if isinstance(value, Mapping):
        return parse_suite(value, point.name, source)
    raise UserError(f"{source}: expected a path or a mapping, got {value!r}")


def _columns(draft: Draft) -> dict[str, Any]:
    """Return what ``--where`` can compare beside the labels: all settings, also under unambiguous short keys.

    The sparsity is 0 if the method has no such option or none is asked for, as in the table of runs.
    """
    full = draft.settings
    uses = Counter(key.rpartition(".")[2] for key in full)
    short = {leaf: value for key, value in full.items() if uses[leaf := key.rpartition(".")[2]] == 1}
    if uses["sparsity"] <= 1 and short.get("sparsity") is None:
        short["sparsity"] = 0.0
    return full | short
