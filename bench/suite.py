"""Suites: an experiment as data, and its expansion into a plan.

A suite is a YAML file in ``bench/suites/``, a file or mapping that a package offers under
the entry-point group ``ssvi_bench.suites``, or any file given by its path. Its name is the
file's (or the entry point's). ::

    question: Which criterion should choose the weights to remove?   # one sentence
    reference: {method: ssvi, criterion: abs_mean}     # labels of what comparisons start from
    one_at_a_time: false                               # true: runs never share the machine, for timing
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
``bench/recipes.yaml``. Later wins: recipe, ``base``, grid, ``--set``. A grid's keys must
fit every one of its cells; the others' apply to the cells that have such an option.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from bench.expansion import Expansion, Scale, check_networks
from bench.filters import parse_where, select
from bench.notation import read_yaml
from bench.plan import Cell, Draft, Labeller, Plan, canonical, cells
from bench.planfile import NAME, RESERVED
from methods.errors import UserError, unknown
from methods.options import option, parse

__all__ = ["Cell", "Plan", "Scale", "Suite", "load", "names"]

FOLDER = Path(__file__).with_name("suites")
GROUP = "ssvi_bench.suites"
SCALES = ("demo", "small", "paper")


@dataclass(frozen=True)
class Suite:
    """A suite as read. ``source`` says where from, for error messages.

    one_at_a_time: whether its runs must not share the machine, because their times are what it asks about.
    """

    name: str
    source: str
    question: str
    reference: dict[str, Any]
    scales: dict[str, Scale]
    one_at_a_time: bool = False

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
        ``bench.filters``. seeds: in place of all seeds of the suite.
        """
        if scale not in self.scales:
            raise unknown("scale", scale, self.scales, self.source)
        place = f"{self.source}: {scale}"
        drafts = Expansion(self.scales[scale], place, overrides or {}, seeds).drafts()
        labeller = Labeller(drafts)
        rows = [_columns(draft) | labeller.labels(draft) for draft in drafts]
        if not overrides:  # which may well set aside what the suite varies
            self._check_reference(drafts, rows, place)
        kept = list(itertools.compress(drafts, select(rows, parse_where(where))))
        check_networks(kept)
        found = tuple(cells(kept, labeller))
        return Plan(self.name, scale, self.question, self.reference, found, self.one_at_a_time)

    def _check_reference(self, drafts: list[Draft], rows: list[dict[str, Any]], place: str) -> None:
        trained = [row for draft, row in zip(drafts, rows, strict=True) if canonical(draft.spec)[1] is None]
        if not any(all(row.get(key) == value for key, value in self.reference.items()) for row in trained):
            raise UserError(
                f"{place}: no cell that is trained has the labels of the reference, {self.reference}"
            )


def names() -> list[str]:
    """The suites of this package and of others, alphabetically."""
    return sorted({path.stem for path in FOLDER.glob("*.yaml")} | {point.name for point in _entry_points()})


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


def parse_suite(content: Any, name: str, source: str) -> Suite:
    """The suite ``name`` from the content of its file; ``source`` stands in error messages."""
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
    return Suite(name, source, file.question, file.reference, scales, file.one_at_a_time)


def _read(path: Path, name: str | None = None) -> Suite:
    here = Path.cwd()
    source = path.relative_to(here) if path.is_relative_to(here) else path
    return parse_suite(read_yaml(source), name or path.stem, str(source))


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
