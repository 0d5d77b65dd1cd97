"""Define families: the cells of a suite that share one search of settings, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.data.base import DATASETS
from bench.experiment import recipes
from bench.experiment.notation import show
from bench.experiment.spec import RunSpec
from bench.networks.base import NETWORKS
from bench.planning.plan import canonical
from methods.base import METHODS
from methods.core.options import REQUIRED, describe, parse, to_dict
from methods.core.registry import Registry


@dataclass(frozen=True)
class Family:
    """A method with its recipe, data set and network.

    Sparsity, criterion and budget are not part of a family: its settings are tuned once for all of them.
    Ensembles of different members are different families.

    Parameters
    ----------
    recipe
        Name of the recipe, if there is one.
    dataset, network
        Name and options of each.
    method
        Name of the method.
    variant
        Options named in ``Method.variants`` that differ from their defaults, by name.
    """

    recipe: str | None
    dataset: tuple[str, Any]
    network: tuple[str, Any]
    method: str
    variant: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> str:
        """A text that is the same for equal families. (Options need not be hashable.)"""
        return repr(self)

    @property
    def rivals(self) -> str:
        """A text that is the same for families that differ only in the method."""
        return repr((self.recipe, self.dataset, self.network))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; options of data set and network only where they differ from the default."""
        return {
            "method": {"name": self.method, **dict(self.variant)} if self.variant else self.method,
            "recipe": self.recipe,
            "dataset": _short(*self.dataset),
            "network": _short(*self.network),
        }

    def __str__(self) -> str:
        plain = self.to_dict()
        parts = [_words(plain["dataset"]), _words(plain["network"])]
        if self.recipe is not None:
            parts.append(f"recipe {self.recipe}")
        return f"{_words(plain['method'])} ({', '.join(parts)})"


def family_of(spec: RunSpec, recipe: str | None, where: str = "") -> Family:
    """Return the family of a cell.

    A cell that equals another run has that run's family: SSVI at sparsity 0 belongs to dense VI's.
    """
    run = canonical(spec, where)[0]
    return Family(recipe, run.dataset, run.network, run.method[0], _variant(*run.method))


def parse_family(plain: Mapping[str, Any], where: str) -> Family:
    """Return the family that ``Family.to_dict`` wrote as ``plain``.

    Raises
    ------
    UserError
        If a name, recipe or option does not exist.
    """
    if plain["recipe"] is not None:
        recipes.get(plain["recipe"], where)
    dataset = _long(DATASETS, plain["dataset"], where)
    network = _long(NETWORKS, plain["network"], where)
    if isinstance(plain["method"], str):
        return Family(plain["recipe"], dataset, network, METHODS.get(plain["method"], where).name)
    method = _long(METHODS, plain["method"], where)
    return Family(plain["recipe"], dataset, network, method[0], _variant(*method))


def _variant(method: str, options: Any) -> tuple[tuple[str, Any], ...]:
    defaults = {info.name: info.default for info in describe(type(options))}
    chosen = {key: getattr(options, key) for key in METHODS.get(method).variants}
    return tuple((key, value) for key, value in chosen.items() if value != defaults[key])


def _short(name: str, options: Any) -> str | dict[str, Any]:
    defaults = {info.name: info.default for info in describe(type(options))}
    changed = {
        key: value
        for key, value in to_dict(options).items()
        if defaults[key] is REQUIRED or defaults[key] != getattr(options, key)
    }
    return {"name": name, **changed} if changed else name


def _long(registry: Registry[Any], plain: str | Mapping[str, Any], where: str) -> tuple[str, Any]:
    options = {"name": plain} if isinstance(plain, str) else dict(plain)
    item = registry.get(options.pop("name", ""), where)
    return item.name, parse(item.Options, options, f"{where}: {registry.kind} {item.name}")


def _words(plain: str | dict[str, Any]) -> str:
    if isinstance(plain, str):
        return plain
    return " ".join([plain["name"], *(f"{key}={show(v)}" for key, v in plain.items() if key != "name")])
