"""Make plans: the cells of one suite at one scale, each a run to train or a pointer to an equal run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bench.experiment import beside, preflight
from bench.experiment.notation import show
from bench.experiment.settings import APART, Training
from bench.experiment.spec import RunSpec
from bench.monitoring.progress import Item, Progress
from bench.results import plans
from bench.results.store import Store
from methods.base import METHODS
from methods.core.errors import UserError
from methods.core.options import parse

_LONGEST_CHAIN = 10
#: The cap that leaves ids of runs as they are, for runs that it does not concern.
_NO_CAP = Training().budget_cap
#: The origin of settings in which a run differs from the cell that it is trained for, with the same result.
EQUAL = "of an equal cell"
#: Labels that every cell has besides the seed, in this order; other labels follow them.
_IDENTITY = ("method", "recipe", "dataset", "network")
#: Method options that are labels of every method that has them, even if they do not vary.
_ALWAYS = ("method.sparsity", "method.criterion")


@dataclass(frozen=True)
class Cell:
    """One point of a grid.

    Parameters
    ----------
    labels
        What distinguishes the cell from others: short key to plain value, ``seed`` included.
    label
        The same as text, without the seed; cells of one configuration share it.
    recipe
        Name of its recipe, if it has one.
    spec
        The run that the cell describes.
    omitted
        Why the cell is not trained itself; None if it is trained.
    alias_of
        Id of the run to use instead, if the cell is not trained itself.
    tuned
        Whether its settings were chosen by a search that all compared methods had alike (see
        ``tuned_settings``).
    origins
        Where each setting that is not a default is from, by full key: ``suite``, a recipe, the file of tuned
        settings, the command line, or a cell with the same result.
    """

    labels: dict[str, Any]
    label: str
    recipe: str | None
    spec: RunSpec
    omitted: str | None = None
    alias_of: str | None = None
    tuned: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The id of the cell's own configuration, whether it is trained or not."""
        return self.spec.run_id


@dataclass(frozen=True)
class Plan:
    """The cells of a suite at one scale.

    Parameters
    ----------
    suite, scale
        Names of both.
    question
        Question that the suite answers, in one sentence.
    reference
        Labels of the cells that others are compared with.
    cells
        All cells, in order.
    one_at_a_time
        Whether no two runs may share the machine, because the suite measures time.
    rank_by
        Metric by which the summary is sorted, best first; None keeps the order of the suite.
    """

    suite: str
    scale: str
    question: str
    reference: dict[str, Any]
    cells: tuple[Cell, ...]
    one_at_a_time: bool = False
    rank_by: str | None = None

    @property
    def references(self) -> dict[str, str]:
        """The configuration that each one is compared with, by ``config_id`` (see ``plans.references``)."""
        return plans.references(self.to_dict(""))

    @property
    def specs(self) -> list[RunSpec]:
        """The runs to train, each once, in order."""
        return [cell.spec for cell in self.cells if cell.omitted is None]

    def items(self) -> list[Item]:
        """The runs to train, as progress is told of them; each weighs the steps of all its stages."""
        trained = [cell for cell in self.cells if cell.omitted is None]
        return [
            Item(c.run_id, c.label, c.spec.seed, preflight.steps(c.spec), beside.wanted(c.spec))
            for c in trained
        ]

    def statuses(self, store: Store | None) -> dict[str, str]:
        """Where the runs stand, by run id; nothing where there is no results folder yet."""
        return Progress(store, self.items()).statuses() if store else {}

    def to_dict(self, command: str) -> dict[str, Any]:
        """Return the content of the plan's JSON file; ``command`` is the command line that asked for it."""
        cells = [
            {
                "run_id": cell.run_id,
                "config_id": cell.spec.config_id,
                "label": cell.label,
                "recipe": cell.recipe,
                "labels": cell.labels,
                "omitted": cell.omitted,
                "alias_of": cell.alias_of,
                "tuned": cell.tuned,
                "origins": _by_place(cell.origins),
                "sets": list(beside.wanted(cell.spec)),
            }
            for cell in self.cells
        ]
        return {
            "schema": plans.SCHEMA,
            "suite": self.suite,
            "scale": self.scale,
            "question": self.question,
            "reference": self.reference,
            "rank_by": self.rank_by,
            "command": command,
            "cells": cells,
        }


@dataclass(frozen=True)
class Draft:
    """A cell as its grid wrote it, before labels and aliases.

    Parameters
    ----------
    spec
        The run that the cell describes.
    recipe
        Name of its recipe, if it has one.
    written
        Full keys that the grid writes.
    overridden
        Full keys whose values the command line changed.
    where
        The grid, for error messages.
    origins
        See ``Cell``.
    plain
        The run without the settings that a search chose; None if there are no such settings.
    tuned
        See ``Cell``.
    """

    spec: RunSpec
    recipe: str | None
    written: tuple[str, ...]
    overridden: tuple[str, ...]
    where: str
    origins: Mapping[str, str]
    plain: RunSpec | None = None
    tuned: bool = False

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration under full keys."""
        return self.spec.settings

    @cached_property
    def as_written(self) -> dict[str, Any]:
        """The same without the settings that a search chose; only the suite decides what varies."""
        return self.settings if self.plain is None else self.plain.settings


class Labeller:
    """Labels the cells of one expansion by what its grids vary."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        overridden = dict.fromkeys(key for draft in drafts for key in draft.overridden)
        written = dict.fromkeys(key for draft in drafts for key in draft.written if not key.endswith(".name"))
        varying = [key for key in written if _tells(key, drafts)]
        # labels follow the order of the configuration, so that the order of arguments does not change them
        order = list(dict.fromkeys(key for draft in drafts for key in draft.settings))
        # configurations do not differ in the settings that are no part of a run
        self._keys = sorted({*varying, *overridden} - {*APART}, key=order.index)
        identities = [self._identity(draft) for draft in drafts]
        self._in_text = [key for key in _IDENTITY[1:] if len({identity[key] for identity in identities}) > 1]
        leaves = {key: key.rpartition(".")[2] for key in [*_ALWAYS, *self._keys]}
        taken = Counter([*_IDENTITY, "seed", *leaves.values()])
        self._short = {key: leaf for key, leaf in leaves.items() if taken[leaf] == 1}

    def labels(self, draft: Draft) -> dict[str, Any]:
        """Return the labels of a cell: identity, sparsity and criterion, what varies, seed.

        Options that the cell's method does not have are left out.
        """
        identity = {key: value for key, value in self._identity(draft).items() if value is not None}
        settings = self._settings(draft, dict.fromkeys([*_ALWAYS, *self._keys]))
        return {**identity, **settings, "seed": draft.spec.seed}

    def text(self, draft: Draft) -> str:
        """Return the method and what varies, as ``ssvi criterion=snr sparsity=0.9 recipe=released``."""
        values = self._settings(draft, self._keys)
        identity = self._identity(draft)
        values |= {key: identity[key] for key in self._in_text if identity[key] is not None}
        return " ".join([identity["method"], *(f"{key}={show(value)}" for key, value in values.items())])

    def _settings(self, draft: Draft, keys: Iterable[str]) -> dict[str, Any]:
        """Return those of ``keys`` that the cell has, under short names; a sparsity of null asks for none."""
        settings = draft.settings
        return {
            self._short.get(key, key): settings[key]
            for key in keys
            if key in settings and not (key in _ALWAYS and settings[key] is None)
        }

    @staticmethod
    def _identity(draft: Draft) -> dict[str, Any]:
        spec = draft.spec
        return dict(
            zip(_IDENTITY, (spec.method[0], draft.recipe, spec.dataset[0], spec.network[0]), strict=True)
        )


def _by_place(origins: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of ``origins`` by the place that they are from."""
    found: dict[str, list[str]] = {}
    for key, place in origins.items():
        found.setdefault(place, []).append(key)
    return found


def _tells(key: str, drafts: Sequence[Draft]) -> bool:
    """Return whether ``key`` varies among cells that have the same recipe, data set and network.

    Methods without the option are ignored.
    """
    found: dict[tuple[str | None, ...], set[str]] = {}
    for draft in drafts:
        if key in draft.as_written:
            place = draft.recipe, draft.spec.dataset[0], draft.spec.network[0]
            found.setdefault(place, set()).add(show(draft.as_written[key]))
    return any(len(values) > 1 for values in found.values())


def cells(drafts: Iterable[Draft], labeller: Labeller) -> list[Cell]:
    """Make the cells of ``drafts`` in order, and resolve aliases.

    If a method declares a configuration equivalent to another one, the cell points to that one; if no draft
    has it, it is planned just before the cell. If an earlier draft has the same configuration, the cell
    points to that draft; if its labels are the same too, the cell is left out. A run is evaluated on the sets
    that any of its drafts asks for.
    """
    drafts = _evaluated_alike(list(drafts))
    resolved = [canonical(draft.spec, draft.where) for draft in drafts]
    see: dict[str, str] = {}
    for draft, (_, reason) in zip(drafts, resolved, strict=True):
        if reason is None:
            see.setdefault(draft.spec.run_id, labeller.text(draft))
    result: dict[tuple[str, str], Cell] = {}
    trained: set[str] = set()

    def add(draft: Draft, omitted: str | None = None, alias_of: str | None = None) -> None:
        label = labeller.text(draft)
        labels = labeller.labels(draft)
        settings = draft.settings
        origins = {key: place for key, place in draft.origins.items() if key in settings}
        cell = Cell(labels, label, draft.recipe, draft.spec, omitted, alias_of, draft.tuned, origins)
        result.setdefault((cell.run_id, label), cell)
        if omitted is None:
            trained.add(cell.run_id)

    for draft, (target, reason) in zip(drafts, resolved, strict=True):
        run_id = target.run_id
        if reason is not None:
            if run_id not in see:
                stand_in = replace(draft, spec=target, origins=_of_stand_in(draft, target))
                see[run_id] = labeller.text(stand_in)
                add(stand_in)
            add(draft, f"{reason}; see {see[run_id]}", run_id)
        elif run_id not in trained:
            add(draft)
        else:
            add(draft, f"the same configuration; see {see[run_id]}", run_id)
    return list(result.values())


def _evaluated_alike(drafts: list[Draft]) -> list[Draft]:
    """Return ``drafts``, in which all that are trained as one run ask for the same evaluation sets."""
    if not any(draft.spec.evaluation.ood or draft.spec.evaluation.shifts for draft in drafts):
        return drafts
    runs: dict[str, list[Draft]] = {}
    for draft in drafts:
        runs.setdefault(canonical(draft.spec, draft.where)[0].run_id, []).append(draft)
    found: dict[int, Draft] = {}
    for same in runs.values():
        ood, shifts = beside.united(draft.spec for draft in same)
        for draft in same:
            evaluation = replace(draft.spec.evaluation, ood=ood, shifts=shifts)
            found[id(draft)] = replace(draft, spec=replace(draft.spec, evaluation=evaluation))
    return [found[id(draft)] for draft in drafts]


def _of_stand_in(draft: Draft, target: RunSpec) -> dict[str, str]:
    """Return the origins of the settings of ``target``, which stands for ``draft``."""
    before, after = draft.settings, target.settings
    changed = [key for key in after if key in before and before[key] != after[key]]
    return {**draft.origins, **dict.fromkeys(changed, EQUAL)}


def canonical(spec: RunSpec, where: str = "") -> tuple[RunSpec, str | None]:
    """Return the run to train for ``spec``, and the reason if that is another run.

    Parameters
    ----------
    spec
        Run as a grid describes it.
    where
        The grid, for error messages.

    Returns
    -------
    tuple
        The run, and why it stands for ``spec``; None if it is ``spec`` itself.
    """
    reasons: list[str] = []
    while (same := METHODS.get(spec.method[0]).equivalent(spec.method[1])) is not None:
        target = METHODS.get(same.method, where)
        spec = replace(spec, method=(same.method, parse(target.Options, same.options, where)))
        reasons.append(same.reason)
        if len(reasons) > _LONGEST_CHAIN:
            raise RuntimeError(f"{where}: {same.method}.equivalent leads in a circle")
    training = spec.training
    if training.budget != "epochs" and _epochs(spec, where) == training.epochs:
        reasons.append(f"budget {training.budget} allows it the epochs it has")
        training = replace(training, budget="epochs", budget_cap=_NO_CAP)
    elif training.budget == "epochs" and training.budget_cap != _NO_CAP:
        reasons.append("budget epochs has no cap")
        training = replace(training, budget_cap=_NO_CAP)
    spec = replace(spec, training=training)
    return spec, "; ".join(reasons) or None


def _epochs(spec: RunSpec, where: str) -> int:
    try:
        return preflight.budget(spec).epochs
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None
