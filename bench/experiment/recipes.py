"""Read recipes: named blocks of training and method options in ``bench/experiment/recipes.yaml``.

A recipe holds only what differs from the defaults that the options declare. Its ``method`` options go to
every method that has them, so one recipe serves dense and sparse methods; its ``methods`` options go to one
method. Settings of a suite or the command line win over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.experiment.notation import read_yaml
from bench.experiment.settings import Evaluation, Training
from methods.base import METHODS
from methods.core.errors import UserError, unknown
from methods.core.options import names as option_names
from methods.core.options import option, parse

PATH = Path(__file__).with_name("recipes.yaml")


@dataclass(frozen=True)
class Recipe:
    """One recipe; its keys are checked when it is read, its values when it is applied."""

    doc: str = option(doc="what the recipe is for, in one sentence")
    training: dict[str, Any] = option({}, "settings of the training loop")
    evaluation: dict[str, Any] = option({}, "settings of the evaluation")
    method: dict[str, Any] = option({}, "options of every method that has them")
    methods: dict[str, Any] = option({}, "options of single methods, by name; they win over `method`")

    def settings(self, method: object = None) -> dict[str, Any]:
        """Return all settings under full keys (``method.prior_std``).

        Parameters
        ----------
        method
            Name of the method; options of this method alone are included.
        """
        options = self.method | (self.methods.get(method, {}) if isinstance(method, str) else {})
        sections = {"training": self.training, "evaluation": self.evaluation, "method": options}
        return {
            f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()
        }


def names() -> list[str]:
    """Return the names of the recipes, in the order of the file."""
    return list(_all())


def get(name: str, where: str = "") -> Recipe:
    """Return the recipe ``name``; raise ``UserError`` with the valid names if there is none."""
    found = _all()
    if not isinstance(name, str) or name not in found:
        raise unknown("recipe", name, found, where)
    return found[name]


@cache
def _all() -> dict[str, Recipe]:
    return read(PATH)


def read(path: Path) -> dict[str, Recipe]:
    """Read the recipes of the file ``path``; raise ``UserError`` if it has an unknown key."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping from names to recipes, got {content!r}")
    recipes = {}
    for name, block in content.items():
        recipe = recipes[str(name)] = parse(Recipe, block, f"{path}: {name}")
        _check_keys(recipe.training, option_names(Training), f"{path}: {name}: training")
        _check_keys(recipe.evaluation, option_names(Evaluation), f"{path}: {name}: evaluation")
        of_all = {method: option_names(METHODS.get(method).Options) for method in METHODS.names()}
        known = {key for options in of_all.values() for key in options}
        _check_keys(recipe.method, known, f"{path}: {name}: method")
        _check_keys(recipe.methods, of_all, f"{path}: {name}: methods")
        for method, options in recipe.methods.items():
            where = f"{path}: {name}: methods: {method}"
            if not isinstance(options, Mapping):
                raise UserError(f"{where}: expected a mapping, got {options!r}")
            _check_keys(options, of_all[method], where)
    return recipes


def _check_keys(given: Iterable[str], valid: Iterable[str], where: str) -> None:
    for key in given:
        if key not in valid:
            raise unknown("key", key, valid, where)
