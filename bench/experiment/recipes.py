"""Read recipes: named blocks of training and method options in ``bench/experiment/recipes.yaml``.

A recipe holds only what differs from the defaults that the options declare. Its ``method`` options are
those that methods share (``methods/families``). Each goes to every method that inherits it as it is, so one
recipe serves dense and sparse methods. Its ``methods`` options go to the method that is named, and to methods
that derive from it and inherit the option as it is. A method that declares an option, or declares it again
with a default of its own, keeps its default unless the recipe names the method. A recipe names only methods
that its source published: what a method declares is from the method's own source, which no other recipe
contradicts. Settings of a suite or the command line win over a recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.experiment.notation import read_yaml
from bench.experiment.settings import Evaluation, Training
from methods.base import METHODS, Method
from methods.core.errors import UserError, unknown
from methods.core.options import declared_by, option, parse
from methods.core.options import names as option_names

PATH = Path(__file__).with_name("recipes.yaml")
#: Beginning of the modules that declare the options which methods share.
_SHARED = "methods.families."


@dataclass(frozen=True)
class Recipe:
    """One recipe; its keys are checked when it is read, its values when it is applied."""

    doc: str = option(doc="what the recipe is for, in one sentence")
    training: dict[str, Any] = option({}, "settings of the training loop")
    evaluation: dict[str, Any] = option({}, "settings of the evaluation")
    method: dict[str, Any] = option({}, "shared options, for every method that inherits them as they are")
    methods: dict[str, Any] = option({}, "options of single methods, by name; they win over `method`")
    published: dict[str, Any] = option(
        {}, "the methods of its source, and what it did that is no setting; `bench.list` compares"
    )

    def settings(
        self, method: type[Method] | None = None, member: type[Method] | None = None
    ) -> dict[str, Any]:
        """Return the settings under full keys (``method.prior_std``).

        Parameters
        ----------
        method
            The method that they are for; by default all shared options are returned, and none of single
            methods.
        member
            Method of its members, if it is an ensemble; they get the options that it has alone.
        """
        options = self.method if method is None else self._options(method)
        if member is not None and (of_member := dict(self._options(member))):
            if "sparsity" in of_member:  # an ensemble has its members' sparsity itself
                options = options | {"sparsity": of_member.pop("sparsity")}
            options = options | {"member_options": of_member}
        sections = {"training": self.training, "evaluation": self.evaluation, "method": options}
        return {
            f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()
        }

    def _options(self, method: type[Method]) -> dict[str, Any]:
        """Return the options that the recipe sets for ``method``."""
        found = {key: value for key, value in self.method.items() if _is_shared(method.Options, key)}
        for name, options in self.methods.items():
            named = METHODS.get(name)
            if method is not named and issubclass(method, named):
                found |= {key: value for key, value in options.items() if _as_in(named, method, key)}
        return found | self.methods.get(method.name, {})


def _is_shared(options: type, key: str) -> bool:
    """Return whether the class ``options`` has the option ``key`` as methods share it."""
    declaring = declared_by(options, key)
    return declaring is not None and declaring.__module__.startswith(_SHARED)


def _as_in(named: type[Method], method: type[Method], key: str) -> bool:
    """Return whether ``method`` has the option ``key`` as ``named`` declares it."""
    return declared_by(method.Options, key) is declared_by(named.Options, key)


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
        shared = {
            key for method, keys in of_all.items() for key in keys
            if _is_shared(METHODS.get(method).Options, key)
        }  # fmt: skip
        _check_keys(recipe.method, shared, f"{path}: {name}: method")
        _check_keys(recipe.methods, of_all, f"{path}: {name}: methods")
        for method, options in recipe.methods.items():
            where = f"{path}: {name}: methods: {method}"
            if not isinstance(options, Mapping):
                raise UserError(f"{where}: expected a mapping, got {options!r}")
            _check_keys(options, of_all[method], where)
            if method not in (sources := recipe.published.get("methods", ())):
                raise UserError(
                    f"{where}: the recipe's source did not publish this method, which keeps what it "
                    f"declares; valid: methods under `published: methods` ({', '.join(sources) or 'none'})"
                )
    return recipes


def _check_keys(given: Iterable[str], valid: Iterable[str], where: str) -> None:
    for key in given:
        if key not in valid:
            raise unknown("key", key, valid, where)
