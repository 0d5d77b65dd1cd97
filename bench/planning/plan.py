"""A plan: the cells of one suite at one scale, each a run to train or a pointer to the run that it equals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.experiment import preflight
from bench.experiment.notation import show
from bench.experiment.spec import RunSpec
from bench.results import plans
from methods.base import METHODS
from methods.core.errors import UserError
from methods.core.options import parse

_LONGEST_CHAIN = 10
#: Labels that every cell has, in this order, besides the seed; the others follow.
_IDENTITY = ("method", "recipe", "dataset", "network")
#: Method options that are labels wherever a method has them, whether they vary or not.
_ALWAYS = ("method.sparsity", "method.criterion")


@dataclass(frozen=True)
class Cell:
    """One point of a grid.

    labels: what sets it apart, short key to plain value, ``seed`` included. label: the same as
    text, without the seed, so that cells of one configuration share it.
    omitted: why it is not trained itself; ``alias_of`` is then the run to look at.
    tuned: whether its settings were chosen by a search that is fair to its rivals (``tuned_settings``).
    """

    labels: dict[str, Any]
    label: str
    recipe: str | None
    spec: RunSpec
    omitted: str | None = None
    alias_of: str | None = None
    tuned: bool = False

    @property
    def run_id(self) -> str:
        """The id of the cell's own configuration, trained or not."""
        return self.spec.run_id


@dataclass(frozen=True)
class Plan:
    """The cells of ``suite`` at ``scale``, in order. reference: labels of what comparisons start from.

    one_at_a_time: whether it measures time, so that no two runs may share the machine. rank_by: the
    metric by which a summary is sorted, best first; None: as the suite has them.
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
        """The configuration that each one is compared with, by ``config_id``: see ``planfile.references``."""
        return plans.references(self.to_dict(""))

    @property
    def specs(self) -> list[RunSpec]:
        """The runs to train, each once, in order."""
        return [cell.spec for cell in self.cells if cell.omitted is None]

    def to_dict(self, command: str) -> dict[str, Any]:
        """The plan as its JSON file has it; ``command`` is the line that asked for it."""
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

    written: the full keys that its grid wrote. overridden: those that the command line changed.
    where: the grid, for errors. plain: what it would be without settings that a search chose, where it has
    any. tuned: as of ``Cell``.
    """

    spec: RunSpec
    recipe: str | None
    written: tuple[str, ...]
    overridden: tuple[str, ...]
    where: str
    plain: RunSpec | None = None
    tuned: bool = False

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration under full keys."""
        return self.spec.settings

    @cached_property
    def as_written(self) -> dict[str, Any]:
        """The same without settings that a search chose: what varies is for the suite to say."""
        return self.settings if self.plain is None else self.plain.settings


class Labeller:
    """Names the cells of one expansion by what its grids vary."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        overridden = dict.fromkeys(key for draft in drafts for key in draft.overridden)
        written = dict.fromkeys(key for draft in drafts for key in draft.written if not key.endswith(".name"))
        varying = [key for key in written if _tells(key, drafts)]
        # in the order of the configuration, however they were given: a label is the same in every launch
        order = list(dict.fromkeys(key for draft in drafts for key in draft.settings))
        self._keys = sorted({*varying, *overridden}, key=order.index)
        identities = [self._identity(draft) for draft in drafts]
        self._in_text = [key for key in _IDENTITY[1:] if len({identity[key] for identity in identities}) > 1]
        leaves = {key: key.rpartition(".")[2] for key in [*_ALWAYS, *self._keys]}
        taken = Counter([*_IDENTITY, "seed", *leaves.values()])
        self._short = {key: leaf for key, leaf in leaves.items() if taken[leaf] == 1}

    def labels(self, draft: Draft) -> dict[str, Any]:
        """Identity, sparsity and criterion, what varies, seed; a key the cell lacks is left out."""
        identity = {key: value for key, value in self._identity(draft).items() if value is not None}
        keys = dict.fromkeys([*_ALWAYS, *self._keys])
        settings = {self._short.get(key, key): draft.settings[key] for key in keys if key in draft.settings}
        return {**identity, **settings, "seed": draft.spec.seed}

    def text(self, draft: Draft) -> str:
        """``ssvi criterion=snr sparsity=0.9 recipe=released``: the method and what varies."""
        values = {self._short.get(k, k): draft.settings[k] for k in self._keys if k in draft.settings}
        identity = self._identity(draft)
        values |= {key: identity[key] for key in self._in_text if identity[key] is not None}
        return " ".join([identity["method"], *(f"{key}={show(value)}" for key, value in values.items())])

    @staticmethod
    def _identity(draft: Draft) -> dict[str, Any]:
        spec = draft.spec
        return dict(
            zip(_IDENTITY, (spec.method[0], draft.recipe, spec.dataset[0], spec.network[0]), strict=True)
        )


def _tells(key: str, drafts: Sequence[Draft]) -> bool:
    """Whether ``key`` varies among cells of the same recipe, data set and network, whose names don't say it.

    A method without the option says nothing about it.
    """
    found: dict[tuple[str | None, ...], set[str]] = {}
    for draft in drafts:
        if key in draft.as_written:
            place = draft.recipe, draft.spec.dataset[0], draft.spec.network[0]
            found.setdefault(place, set()).add(show(draft.as_written[key]))
    return any(len(values) > 1 for values in found.values())


def cells(drafts: Iterable[Draft], labeller: Labeller) -> list[Cell]:
    """The cells of ``drafts`` in order, with aliases resolved.

    A configuration that its method declares equivalent to another one points to that one,
    which is planned in front of it when no draft is it. A configuration that an earlier
    draft has already points to that draft; if its labels are the same too, it is left out.
    """
    drafts = list(drafts)
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
        cell = Cell(labels, label, draft.recipe, draft.spec, omitted, alias_of, draft.tuned)
        result.setdefault((cell.run_id, label), cell)
        if omitted is None:
            trained.add(cell.run_id)

    for draft, (target, reason) in zip(drafts, resolved, strict=True):
        run_id = target.run_id
        if reason is not None:
            if run_id not in see:
                stand_in = replace(draft, spec=target)
                see[run_id] = labeller.text(stand_in)
                add(stand_in)
            add(draft, f"{reason}; see {see[run_id]}", run_id)
        elif run_id not in trained:
            add(draft)
        else:
            add(draft, f"the same configuration; see {see[run_id]}", run_id)
    return list(result.values())


def canonical(spec: RunSpec, where: str = "") -> tuple[RunSpec, str | None]:
    """The run to train for ``spec``, and why it is another one (None where it is ``spec`` itself)."""
    reasons: list[str] = []
    while (same := METHODS.get(spec.method[0]).equivalent(spec.method[1])) is not None:
        target = METHODS.get(same.method, where)
        spec = replace(spec, method=(same.method, parse(target.Options, same.options, where)))
        reasons.append(same.reason)
        if len(reasons) > _LONGEST_CHAIN:
            raise RuntimeError(f"{where}: {same.method}.equivalent leads in a circle")
    if spec.training.budget != "epochs" and _epochs(spec, where) == spec.training.epochs:
        reasons.append(f"budget {spec.training.budget} allows it the epochs it has")
        spec = replace(spec, training=replace(spec.training, budget="epochs"))
    return spec, "; ".join(reasons) or None


def _epochs(spec: RunSpec, where: str) -> int:
    try:
        return preflight.budget(spec).epochs
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None
