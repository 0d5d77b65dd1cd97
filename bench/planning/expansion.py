"""Expand the grids of one scale into drafts of its cells: products of axes, merged settings, checks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bench.experiment import preflight, recipes
from bench.experiment.notation import parse_seeds, show
from bench.experiment.settings import (
    PARTS,
    SECTIONS,
    chosen_names,
    locate,
    open_sections,
    section_keys,
    unflatten,
    valid_keys,
)
from bench.experiment.spec import RunSpec, parse_spec
from bench.planning.plan import Draft, canonical
from bench.planning.tuned_settings import Layer
from bench.planning.tuning_family import family_of
from methods.base import METHODS
from methods.core.errors import UserError, unknown
from methods.core.options import names as option_names
from methods.core.options import option, parse, registries, takes_list
from methods.criteria.base import CRITERIA

OVERRIDES = "--set"
#: The origin of settings from the base and the grids of a suite.
SUITE = "suite"
_RECIPE = "recipe "
#: Method of the members of an ensemble, and its options.
_MEMBER, _MEMBER_OPTIONS = "method.member", "method.member_options"
#: In place of a list of criteria.
ALL = "all"
Seeds = int | str | tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """One scale of a suite: its grids, and the settings that all of them share."""

    seeds: Seeds = option(doc="seeds of every grid that does not set its own")
    grids: tuple[Any, ...] = option(doc="grids; each is the product over its keys with lists")
    base: dict[str, Any] = option({}, "settings of every grid; a list here is one value, not an axis")
    search: dict[str, Any] = option({}, "what bench.tune searches; its keys win over the suite's")


@dataclass(frozen=True)
class _GridKeys:
    """The keys of a grid that are not axes; all other keys are, ``recipe`` included."""

    seeds: Seeds | None = option(None, "seeds that replace the scale's")
    set: dict[str, Any] = option({}, "settings of every cell; a list here is one value, not an axis")


_OWN = tuple(option_names(_GridKeys))


@dataclass
class _Layer:
    """Settings from one place, such as a recipe or a grid, with nested sections written as dotted keys.

    Parameters
    ----------
    settings
        Key to value.
    where
        The place, for error messages.
    origin
        The place, for readers of a plan.
    strict
        Whether every key must be an option of every cell.
    used
        Keys that are an option of some cell so far.
    homes
        Key to full key, in the cell being made now.
    """

    settings: dict[str, Any]
    where: str
    origin: str
    strict: bool = False
    used: set[str] = field(default_factory=set)
    homes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Point:
    """A point of a grid as the suite declares it, without chosen settings and overrides.

    Parameters
    ----------
    recipe
        Name of its recipe, if it has one.
    layers
        Its settings, later ones winning; the last layer is the grid's.
    seeds
        Its seeds; each makes a cell.
    spec
        The run that ``layers`` describe.
    written
        Full keys that the grid writes.
    origins
        Where each of its settings is from, as in ``Cell``.
    """

    recipe: str | None
    layers: list[_Layer]
    seeds: tuple[int, ...]
    spec: RunSpec
    written: tuple[str, ...]
    origins: Mapping[str, str]

    @property
    def where(self) -> str:
        """The grid it is from, for error messages."""
        return self.layers[-1].where


class Expansion:
    """The expansion of one scale into drafts.

    Parameters
    ----------
    scale
        Scale to expand.
    place
        File and scale, for error messages.
    overrides
        Settings that win over all others (``--set``).
    seeds
        Seeds that replace all seeds of the suite (``--seeds``).

    Raises
    ------
    UserError
        If ``overrides`` choose a method.
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
        _check_base(scale.base, f"{place}: base")
        self._base = _Layer(open_sections(scale.base, f"{place}: base"), f"{place}: base", SUITE)
        self._overrides = _Layer(open_sections(overrides, OVERRIDES), OVERRIDES, OVERRIDES)
        if "method.name" in self._overrides.settings:
            raise UserError(f"{OVERRIDES}: the method can't be overridden; choose it by --where method=…")
        self._keys: dict[str, dict[str, None]] = {}

    def declared(self) -> list[Draft]:
        """Return every cell as the suite declares it, without chosen settings and overrides."""
        return [
            Draft(point.spec.with_seed(seed), point.recipe, point.written, (), point.where, point.origins)
            for point in self._points
            for seed in point.seeds
        ]

    def drafts(self, chosen: Mapping[str, Layer] | None = None) -> list[Draft]:
        """Return every cell in order: grid by grid, axis by axis, seeds innermost.

        Parameters
        ----------
        chosen
            Settings that searches chose, by the key of the family. They win over recipe and base, but not
            over what a grid writes.

        Raises
        ------
        UserError
            If a setting is not valid, or a key of the base or the overrides is an option of no cell.
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
            raise UserError(f"{self._place}: grids: no grid has a cell; list at least one grid")
        return points

    def _grid(self, number: int, grid: Any) -> Iterator[_Point]:
        where = f"{self._place}: grid {number}"
        if not isinstance(grid, Mapping):
            raise UserError(f"{where}: expected a mapping, got {grid!r}")
        own = parse(_GridKeys, {key: grid[key] for key in _OWN if key in grid}, where)
        axes = {key: _values(key, value) for key, value in grid.items() if key not in _OWN}
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
            yield self._point(recipe, _Layer(opened, where, SUITE, strict=True), seeds)

    def _point(self, recipe: str | None, grid: _Layer, seeds: tuple[int, ...]) -> _Point:
        layers = _with_recipe(recipe, [self._base, grid], grid.where)
        chosen = chosen_names(self._base.settings) | chosen_names(grid.settings)
        spec, origins = self._parsed(layers, grid.where, lambda: _check_values(self._base, chosen))
        return _Point(recipe, layers, seeds, spec, tuple(grid.homes.values()), origins)

    def _drafts(self, point: _Point, chosen: Mapping[str, Layer]) -> Iterator[Draft]:
        spec, layers, origins = point.spec, point.layers, point.origins
        overridden: tuple[str, ...] = ()
        plain, tuned = None, False
        layer = chosen.get(family_of(spec, point.recipe, point.where).key) if chosen else None
        if layer is not None:
            plain = spec
            layers = [*layers[:-1], _Layer(layer.settings, layer.where, layer.origin), layers[-1]]
            # the cell was valid without the chosen settings, so an error is due to them
            spec, origins = self._parsed(layers, layer.where)
            tuned = layer.fair and not any(key in point.written for key in layer.settings)
        if self._overrides.settings:
            # the cell was valid without the overrides, so an error from here on is due to them
            before = spec.settings
            names = {name: getattr(spec, name)[0] for name in SECTIONS}
            layers = _with_recipe(point.recipe, [*layers, self._overrides], OVERRIDES)
            spec, origins = self._parsed(layers, OVERRIDES, lambda: _check_values(self._overrides, names))
            overridden = _changed(before, spec, self._overrides.homes.values())
            tuned = tuned and all(key.startswith("evaluation.") for key in overridden)
            if layer is not None:
                plain, _ = self._parsed(
                    _with_recipe(point.recipe, [*point.layers, self._overrides], OVERRIDES), OVERRIDES
                )
        draft = Draft(spec, point.recipe, point.written, overridden, point.where, origins, plain, tuned)
        for seed in point.seeds:
            yield replace(draft, spec=spec.with_seed(seed))

    def _parsed(
        self, layers: list[_Layer], where: str, check: Callable[[], None] = lambda: None
    ) -> tuple[RunSpec, dict[str, str]]:
        """Return the run that ``layers`` describe, and from where each of its settings is, by full key.

        ``check`` is called once the keys of the layers are known to be valid.
        """
        merged = self._merge(layers)
        check()
        asked = parse_spec(unflatten(merged), where)
        spec = preflight.with_last_batch(asked, merged)
        return spec, _origins(layers) | ({} if spec == asked else preflight.LAST_BATCH_ORIGIN)

    def _merge(self, layers: list[_Layer]) -> dict[str, Any]:
        """Merge the layers' settings under full keys; later layers win."""
        chosen: dict[str, Any] = {}
        for layer in layers:
            chosen |= chosen_names(layer.settings)
        keys = section_keys(chosen, layers[-1].where)
        for section, options in keys.items():
            self._keys.setdefault(section, {}).update(dict.fromkeys(options))
        merged: dict[str, Any] = {}
        of_recipe: dict[str, Any] = {}
        for layer in layers:
            layer.homes = _homes(layer, keys)
            layer.used |= set(layer.homes)
            found = {home: layer.settings[key] for key, home in layer.homes.items()}
            before = merged.get(_MEMBER)
            if before is not None and found.get(_MEMBER, before) != before:
                # options so far are of another method, but those of the recipe, which is of the last one
                merged.pop(_MEMBER_OPTIONS, None)
                merged |= {home: value for home, value in of_recipe.items() if home == _MEMBER_OPTIONS}
            for home, value in found.items():
                earlier = merged.get(home)
                if isinstance(earlier, Mapping) and isinstance(value, Mapping):
                    value = {**earlier, **value}
                merged[home] = value
            if layer.origin.startswith(_RECIPE):
                of_recipe = dict(merged)
        return merged


def _with_recipe(name: str | None, layers: list[_Layer], where: str) -> list[_Layer]:
    """Return ``layers``, and before them that of the recipe ``name`` for the method that they choose."""
    others = [layer for layer in layers if not layer.origin.startswith(_RECIPE)]
    if name is None:
        return others
    settings: dict[str, Any] = {}
    for layer in others:
        settings |= layer.settings
    method = METHODS.get(settings["method.name"], where) if "method.name" in settings else None
    member = None
    if method is not None and METHODS in registries(method.Options).values():
        member = settings.get("method.member", settings.get("member"))
    of_member = METHODS.get(member, where) if member is not None else None
    content = recipes.get(name, where).settings(method, of_member)
    return [_Layer(content, f"{_RECIPE}{name}", f"{_RECIPE}{name}"), *others]


def check_networks(drafts: list[Draft]) -> None:
    """Call ``preflight.check`` once for each configuration.

    Raises
    ------
    UserError
        If a configuration cannot run; the message names its grid.
    """
    checked = set()
    for draft in drafts:
        spec, _ = canonical(draft.spec, draft.where)
        # of training only what decides how many steps there are; of evaluation which sets
        length = (
            spec.training.epochs,
            spec.training.batch_size,
            spec.training.last_batch,
            spec.training.class_weights,
            spec.training.max_steps,
            spec.training.budget,
            spec.training.budget_cap,
            spec.evaluation,
        )
        key = (spec.key("dataset", "protocol", "network", "method"), length)
        if key in checked:
            continue
        checked.add(key)
        try:
            preflight.check(spec)
        except UserError as error:
            raise UserError(f"{draft.where}: {error}") from None


def _values(key: str, written: Any) -> list[Any]:
    """Return the values of an axis; ``criterion: all`` means every criterion, those of plug-ins too."""
    if key in ("criterion", "method.criterion") and written == ALL:
        return CRITERIA.names()
    return written if isinstance(written, list) else [written]


def _check_base(base: Mapping[str, Any], where: str) -> None:
    """Raise ``UserError`` if the base of a scale has a key that belongs in its grids."""
    for key in ("recipe", *_OWN):
        if key in base:
            place = "in the scale or in a grid" if key == "seeds" else "in a grid"
            raise UserError(f"{where}: {key!r} belongs {place}")


def _check_values(layer: _Layer, chosen: Mapping[str, Any]) -> None:
    """Raise ``UserError`` if a list stands for one value in a layer that has no axes."""
    for key, home in layer.homes.items():
        section, _, leaf = home.partition(".")
        if isinstance(layer.settings[key], list) and not _takes_list(section, leaf, chosen):
            raise UserError(
                f"{layer.where}: {key}: {show(layer.settings[key])} is a list, which is an axis only in "
                "a grid; write it there, or one value here"
            )


def _takes_list(section: str, leaf: str, chosen: Mapping[str, Any]) -> bool:
    if section in PARTS:
        return takes_list(PARTS[section], leaf)
    return leaf not in ("", "name") and takes_list(SECTIONS[section].get(chosen[section]).Options, leaf)


def _origins(layers: list[_Layer]) -> dict[str, str]:
    """Return from which of the layers just merged each setting is, by full key."""
    return {home: layer.origin for layer in layers for home in layer.homes.values()}


def _homes(layer: _Layer, keys: Mapping[str, Any]) -> dict[str, str]:
    homes: dict[str, str] = {}
    for key in layer.settings:
        home = locate(key, keys, layer.where)
        if home is None:
            if layer.strict:
                raise unknown("key", key, ["recipe", *_OWN, *valid_keys(keys)], layer.where)
            continue
        if home == "seed":
            raise UserError(f"{layer.where}: seed is not a setting; use `seeds` in a suite, or --seeds")
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
