"""Check the names and keys that were typed before torch is imported, so that a typo is answered at once.

Names and options of methods, criteria, data sets and networks are read from the source of this package,
without running it. Where they can't be told in this way (another package adds some, or a name is computed),
nothing is refused here: the classes themselves are asked later, and they have the last word on everything.
"""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench import suites
from bench.experiment.notation import parse_overrides, read_yaml
from bench.planning.filters import WHERE, parse_where
from methods.core.errors import unknown

_ROOT = Path(__file__).parents[2]
#: What is chosen by name: its folders, and the group of entry points that other packages use.
_KINDS = {
    "method": (("methods",), "ssvi_bench.methods"),
    "criterion": (("methods/criteria",), "ssvi_bench.criteria"),
    "dataset": (("bench/data", "bench/data/tables"), "ssvi_bench.datasets"),
    "network": (("bench/networks",), "ssvi_bench.networks"),
}
_WORDS = {"dataset": "data set"}
#: Where options are declared, by the section of their keys.
_OPTIONS = {
    "method": ("methods", "methods/families"),
    "dataset": ("bench/data", "bench/data/tables"),
    "network": ("bench/networks",),
}
#: The file of a folder that defines the base class.
_BASE = "base.py"
#: Classes of settings, and how their keys begin.
_SETTINGS = {"Training": "training.", "Evaluation": "evaluation.", "Keys": ""}
_OF_GRIDS = ("recipe", "seeds", "set")


def check(arguments: Namespace) -> None:
    """Check the suite, scale, settings and conditions among the arguments of a command.

    Raises
    ------
    UserError
        If one of them is certainly not valid.
    """
    if "torch" in sys.modules:
        return  # nothing to wait for
    given = vars(arguments)
    if (suite := given.get("suite")) is not None:
        _check_suite(suite, given["scale"])
    settings = parse_overrides(given.get("overrides", ()))
    if "profile" in given:
        settings = {key: value for key, value in settings.items() if not key.startswith("slurm.")}
    _check_settings(settings, "--set")
    _check_columns(given.get("where", ()))


def check_name(kind: str, name: object, where: str = "") -> None:
    """Raise ``UserError`` if there is certainly no ``kind`` (such as ``method``) called ``name``."""
    known = None if "torch" in sys.modules else _names(kind)
    if known is not None and name not in known:
        raise unknown(_WORDS.get(kind, kind), name, known, where)


def _check_suite(suite: str, scale: str) -> None:
    path = suites.path_of(suite)
    if path is None:
        if suite not in suites.names():
            raise unknown("suite", suite, suites.names())
        return
    content = read_yaml(path)
    scales = content.get("scales") if isinstance(content, Mapping) else None
    if not isinstance(scales, Mapping):
        return
    if scale not in scales:
        raise unknown("scale", scale, map(str, scales), str(path))
    block = scales[scale]
    for number, grid in enumerate(block.get("grids") or () if isinstance(block, Mapping) else (), 1):
        if isinstance(grid, Mapping):
            _check_settings(grid, f"{path}: {scale}: grid {number}", _OF_GRIDS)


def _check_settings(settings: Mapping[str, Any], where: str, others: Iterable[str] = ()) -> None:
    """Check the keys of settings, and the names that they choose."""
    for key, value in settings.items():
        section, _, leaf = str(key).partition(".")
        if key not in others:
            _check_key("key", str(key), others, where)
        kind = "criterion" if key in ("criterion", "method.criterion") else section
        if kind in _KINDS and (leaf in ("", "name") or kind == "criterion"):
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and (kind, name) != ("criterion", "all"):
                    check_name(kind, name, where)


def _check_columns(where: Iterable[str]) -> None:
    for condition in parse_where(where):
        if condition.column != "recipe":
            _check_key("column", condition.column, ("recipe",), WHERE)


def _check_key(kind: str, key: str, others: Iterable[str], where: str) -> None:
    keys = _keys()
    if keys is not None and not any(key in (full, full.rpartition(".")[2]) for full in keys):
        raise unknown(kind, key, [*others, *(full for full, is_option in keys.items() if is_option)], where)


@cache
def _names(kind: str) -> list[str] | None:
    """Return the names of a kind; None if the source does not tell them all."""
    folders, group = _KINDS[kind]
    if importlib.metadata.entry_points(group=group):
        return None
    found = []
    for cls in (cls for folder in folders for cls in _classes(folder)):
        for line in cls.body:
            if isinstance(line, ast.Assign) and any(getattr(to, "id", "") == "name" for to in line.targets):
                if not (isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)):
                    return None
                found.append(line.value.value)
    return found


@cache
def _keys() -> dict[str, bool] | None:
    """Return all that may be a full key, and whether it is an option; None if the source does not tell."""
    found = dict.fromkeys(_OPTIONS, True) | {f"{section}.name": True for section in _OPTIONS}
    for cls in _classes("bench/experiment", "settings.py"):
        if (section := _SETTINGS.get(cls.name)) is not None:
            found |= {f"{section}{key}": True for key in _declared(cls)}
    for section, folders in _OPTIONS.items():
        if importlib.metadata.entry_points(group=_KINDS[section][1]):
            return None
        for cls in (cls for folder in folders for cls in _classes(folder)):
            found |= {f"{section}.{key}": True for key, is_option in _declared(cls).items() if is_option}
        # a dataclass of another author may declare an option without the function `option`
        for cls in (cls for folder in folders for cls in _classes(folder, but=_BASE)):
            found = {f"{section}.{key}": False for key in _declared(cls)} | found
    return found


def _classes(folder: str, pattern: str = "*.py", but: str = "") -> Iterator[ast.ClassDef]:
    """Yield the classes that modules of a folder define, also those within other classes."""
    for path in sorted((_ROOT / folder).glob(pattern)):
        if path.name == but:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError):
            continue  # importing it says more
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def _declared(cls: ast.ClassDef) -> dict[str, bool]:
    """Return the annotated attributes of a class, and whether ``option`` makes them."""
    return {
        line.target.id: getattr(getattr(line.value, "func", None), "id", "") == "option"
        for line in cls.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
