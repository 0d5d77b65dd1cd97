"""From the grids of one scale to drafts of its cells: products, layers of settings, their checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bench.experiment import preflight, recipes
from bench.experiment.notation import parse_seeds
from bench.experiment.settings import chosen_names, locate, open_sections, section_keys, unflatten, valid_keys
from bench.experiment.spec import RunSpec, parse_spec
from bench.planning.plan import Draft, canonical
from bench.planning.tuned_settings import Layer
from bench.planning.tuning_family import family_of
from methods.core.errors import UserError, unknown
from methods.core.options import names as option_names
from methods.core.options import option, parse

OVERRIDES = "--set"
Seeds = int | str | tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """One scale of a suite: what all its grids share, and the grids."""

    seeds: Seeds = option(doc="seeds of every grid that has none of its own")
    grids: tuple[Any, ...] = option(doc="each the product over its list-valued keys")
    base: dict[str, Any] = option({}, "settings of every grid; lists are values here")
    search: dict[str, Any] = option({}, "what bench.tune searches; keys of it win over the suite's")


@dataclass(frozen=True)
class _GridKeys:
    """The keys of a grid that are no axis; ``recipe`` and all others are."""

    seeds: Seeds | None = option(None, "in place of the scale's")
    set: dict[str, Any] = option({}, "settings whose lists are values")


_OWN = tuple(option_names(_GridKeys))


@dataclass
class _Layer:
    """Settings of one origin, sections opened.

    strict: every key must fit every cell. used: keys that fitted some cell. homes: the full
    keys they stand for in the cell at hand.
    """

    settings: dict[str, Any]
    where: str
    strict: bool = False
    used: set[str] = field(default_factory=set)
    homes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Point:
    """A point of a grid as the suite declares it: ``spec`` is that of ``layers``, the grid's the last."""

    recipe: str | None
    layers: list[_Layer]
    seeds: tuple[int, ...]
    spec: RunSpec
    written: tuple[str, ...]

    @property
    def where(self) -> str:
        """Its grid."""
        return self.layers[-1].where


class Expansion:
    """One expansion of one scale. ``place`` is the file and the scale, for error messages.

    overrides: settings that win over all others (``--set``). seeds: in place of all seeds of the suite.
    """

    def __init__(
        self,
        scale: Scale,
        place: str,
        overrides: Mapping[str, Any] | None = None,
        seeds: str | None = None,
    ) -> None:
        overrides = overrides or {}
        self._scale, self._place, self._seeds = scale, place, seeds
        self._base = _Layer(open_sections(scale.base, f"{place}: base"), f"{place}: base")
        self._overrides = _Layer(open_sections(overrides, OVERRIDES), OVERRIDES)
        if "method.name" in self._overrides.settings:
            raise UserError(f"{OVERRIDES}: a method is chosen by --where method=…, not overridden")
        self._keys: dict[str, dict[str, None]] = {}

    def declared(self) -> list[Draft]:
        """Every cell as the suite declares it, without chosen settings and overrides."""
        return [
            Draft(point.spec.with_seed(seed), point.recipe, point.written, (), point.where)
            for point in self._points
            for seed in point.seeds
        ]

    def drafts(self, chosen: Mapping[str, Layer] | None = None) -> list[Draft]:
        """Every cell in order: grid by grid, axis by axis, seeds innermost.

        chosen: settings that searches chose, by the key of the family. They win over recipe and base,
        not over what a grid writes.
        """
        drafts = [draft for point in self._points for draft in self._drafts(point, chosen or {})]
        for layer in (self._base, self._overrides):
            for key in layer.settings:
                if key not in layer.used:
                    raise unknown("key", key, valid_keys(self._keys), layer.where)
        return drafts

    @cached_property
    def _points(self) -> list[_Point]:
        points = [
            point for number, grid in enumerate(self._scale.grids, 1) for point in self._grid(number, grid)
        ]
        if not points:
            raise UserError(f"{self._place}: no grid has a cell")
        return points

    def _grid(self, number: int, grid: Any) -> Iterator[_Point]:
        where = f"{self._place}: grid {number}"
        if not isinstance(grid, Mapping):
            raise UserError(f"{where}: expected a mapping, got {grid!r}")
        own = parse(_GridKeys, {key: grid[key] for key in _OWN if key in grid}, where)
        axes = {k: v if isinstance(v, list) else [v] for k, v in grid.items() if k not in _OWN}
        if self._seeds is not None:
            seeds = parse_seeds(self._seeds)
        else:
            seeds = parse_seeds(self._scale.seeds if own.seeds is None else own.seeds, f"{where}: seeds")
        for key, values in axes.items():
            if not values:
                raise UserError(f"{where}: {key}: an empty list leaves no cell")
        for point in itertools.product(*axes.values()):
            settings = dict(zip(axes, point, strict=True))
            recipe = settings.pop("recipe", None)
            opened = _disjoint(open_sections(settings, where), open_sections(own.set, f"{where}: set"), where)
            yield self._point(recipe, _Layer(opened, where, strict=True), seeds)

    def _point(self, recipe: str | None, grid: _Layer, seeds: tuple[int, ...]) -> _Point:
        layers = [self._base, grid]
        if recipe is not None:
            layers.insert(0, _Layer(recipes.get(recipe, grid.where).settings(), f"recipe {recipe}"))
        spec = parse_spec(unflatten(self._merge(layers)), grid.where)
        return _Point(recipe, layers, seeds, spec, tuple(grid.homes.values()))

    def _drafts(self, point: _Point, chosen: Mapping[str, Layer]) -> Iterator[Draft]:
        spec, layers = point.spec, point.layers
        overridden: tuple[str, ...] = ()
        plain, tuned = None, False
        layer = chosen.get(family_of(spec, point.recipe, point.where).key) if chosen else None
        if layer is not None:
            plain = spec
            layers = [*layers[:-1], _Layer(layer.settings, layer.where), layers[-1]]
            # it was valid without them, so that an error is theirs
            spec = parse_spec(unflatten(self._merge(layers)), layer.where)
            tuned = layer.fair and not any(key in point.written for key in layer.settings)
        if self._overrides.settings:
            # parsed once without them, so that an error from here on is theirs
            before = spec.settings
            spec = parse_spec(unflatten(self._merge([*layers, self._overrides])), OVERRIDES)
            overridden = _changed(before, spec, self._overrides.homes.values())
            tuned = tuned and all(key.startswith("evaluation.") for key in overridden)
            if layer is not None:
                plain = parse_spec(unflatten(self._merge([*point.layers, self._overrides])), OVERRIDES)
        draft = Draft(spec, point.recipe, point.written, overridden, point.where, plain, tuned)
        for seed in point.seeds:
            yield replace(draft, spec=spec.with_seed(seed))

    def _merge(self, layers: list[_Layer]) -> dict[str, Any]:
        """The layers' settings under full keys, later ones winning."""
        chosen: dict[str, Any] = {}
        for layer in layers:
            chosen |= chosen_names(layer.settings)
        keys = section_keys(chosen, layers[-1].where)
        for section, options in keys.items():
            self._keys.setdefault(section, {}).update(dict.fromkeys(options))
        merged: dict[str, Any] = {}
        for layer in layers:
            layer.homes = _homes(layer, keys)
            layer.used |= set(layer.homes)
            merged |= {home: layer.settings[key] for key, home in layer.homes.items()}
        return merged


def check_networks(drafts: list[Draft]) -> None:
    """``blueprint.check`` for each configuration once; raises ``UserError`` naming the grid."""
    checked = set()
    for draft in drafts:
        spec, _ = canonical(draft.spec, draft.where)
        length = spec.training.epochs, spec.training.batch_size, spec.training.max_steps, spec.training.budget
        key = repr((spec.dataset, spec.network, spec.method, length))
        if key in checked:
            continue
        checked.add(key)
        try:
            preflight.check(spec)
        except UserError as error:
            raise UserError(f"{draft.where}: {error}") from None


def _homes(layer: _Layer, keys: Mapping[str, Any]) -> dict[str, str]:
    homes: dict[str, str] = {}
    for key in layer.settings:
        home = locate(key, keys, layer.where)
        if home is None:
            if layer.strict:
                raise unknown("key", key, ["recipe", *_OWN, *valid_keys(keys)], layer.where)
            continue
        if home == "seed":
            raise UserError(f"{layer.where}: seeds are chosen by `seeds` in a suite and by --seeds")
        if home in homes.values():
            raise UserError(f"{layer.where}: key {home!r} is given twice")
        homes[key] = home
    return homes


def _disjoint(first: dict[str, Any], second: dict[str, Any], where: str) -> dict[str, Any]:
    for key in second:
        if key in first:
            raise UserError(f"{where}: key {key!r} is given twice")
    return first | second


def _changed(before: Mapping[str, Any], spec: RunSpec, keys: Any) -> tuple[str, ...]:
    after = spec.settings
    return tuple(key for key in keys if key not in before or before[key] != after[key])
