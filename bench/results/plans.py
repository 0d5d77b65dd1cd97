"""Check, merge and read stored plans.

A plan lists the runs that a suite asks for, so that missing runs can be seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.results.files import StoreError, read_json
from bench.results.run_folder import RUN_ID

#: Version of the format of a plan.
SCHEMA = 1
#: A plan keeps this many command lines, the latest ones.
_MOST_COMMANDS = 50
#: The form of names of suites and scales, which become names of folders and files.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
#: Labels that must be equal for two scores to be comparable.
_SETTING = ("dataset", "network")
#: Names that a suite cannot have: other folders of a results folder, and ``all``, which means every suite.
RESERVED = ("runs", "corrupted", "patches", "reference", "all")


@dataclass(frozen=True)
class Planned:
    """Describe a run that a suite asks for.

    Parameters
    ----------
    run_id, suite, scale
        Id of the run, and names of the suite and the scale that ask for it.
    config_id
        Id of the configuration: the run's settings without the seed.
    label
        Name of the configuration for readers.
    recipe
        Name of the recipe.
    labels
        Short keys and values that set the run apart, ``seed`` included.
    tuned
        Whether a search chose settings of the run; None in older plans, which do not say it.
    sets
        Keys of the sets beside the test part on which the run is to be evaluated (see ``beside``).
    """

    run_id: str
    suite: str
    scale: str
    config_id: str | None
    label: str
    recipe: str | None
    labels: Mapping[str, Any]
    tuned: bool | None = None
    sets: tuple[str, ...] = ()


def check_suite(name: object, where: str = "") -> str:
    """Return ``name`` if it is a valid name of a suite.

    Raises
    ------
    StoreError
        It is not; the message starts with ``where``.
    """
    if isinstance(name, str) and NAME.fullmatch(name) and name not in RESERVED:
        return name
    place = f"{where}: " if where else ""
    raise StoreError(f"{place}{_shown(name)} is not a name for a suite (lower-case letters, digits, _ and -)")


def check_plan(plan: object, where: str) -> dict[str, Any]:
    """Return ``plan`` if it is a plan that this version can read.

    Raises
    ------
    StoreError
        It is not; the message starts with ``where`` and says what is wrong.
    """
    if not isinstance(plan, dict):
        raise StoreError(f"{where}: not a plan")
    schema = plan.get("schema")
    if schema != SCHEMA:
        raise StoreError(f"{where}: schema {_shown(schema)}; this version reads {SCHEMA}")
    check_suite(plan.get("suite"), where)
    scale, cells = plan.get("scale"), plan.get("cells")
    if not isinstance(scale, str) or not NAME.fullmatch(scale):
        raise StoreError(f"{where}: {_shown(scale)} is not a name for a scale")
    if not isinstance(cells, list):
        raise StoreError(f"{where}: cells: expected a list, got {_shown(cells)}")
    for number, cell in enumerate(cells):
        _check_cell(cell, f"{where}: cell {number}")
    return plan


def is_newer(path: Path) -> bool:
    """Tell whether a plan file that cannot be read was written by a later version."""
    try:
        plan = read_json(path)
    except StoreError:
        return False
    schema = plan.get("schema") if isinstance(plan, dict) else None
    return type(schema) is int and schema > SCHEMA


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge an earlier plan into a new one: old cells that ``new`` lacks come first, in their order.

    Two cells with the same run id and label are one cell; the new one takes the place of the old one, and the
    run is evaluated on the sets of both. A label stands for one configuration. If ``new`` has another
    configuration under a label (a search has chosen settings since, or the suite was edited), the old cells
    of that label are left out for all seeds.

    Parameters
    ----------
    old
        The earlier plan; None if there is none.
    new
        A checked plan of the same suite and scale.

    Returns
    -------
    dict
        The merged plan, with the latest 50 command lines of both.
    """
    now = _configurations(new)
    kept = [cell for cell in (old or {}).get("cells", []) if not _is_superseded(cell, now)]
    cells: dict[tuple[Any, str], Mapping[str, Any]] = {}
    for cell in [*kept, *new["cells"]]:
        before = cells.get((cell.get("run_id"), cell["label"]), {})
        sets = {} if not before.get("sets") else {"sets": _joined(before["sets"], cell.get("sets") or [])}
        cells[cell.get("run_id"), cell["label"]] = {**cell, **sets}
    lines = list(dict.fromkeys([*commands(old or {}), *commands(new)]))[-_MOST_COMMANDS:]
    said = {"commands": lines} if len(lines) > 1 else {}
    return {**new, **said, "cells": list(cells.values())}


def superseded(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return a label under which ``new`` has another configuration than ``old``; None if there is none."""
    now = _configurations(new)
    return next((cell["label"] for cell in old["cells"] if _is_superseded(cell, now)), None)


def commands(plan: Mapping[str, Any]) -> list[str]:
    """Return the command lines that asked for the cells of a plan, oldest first, without invalid ones."""
    found = plan.get("commands")
    lines = [*(found if isinstance(found, list) else []), plan.get("command")]
    return list(dict.fromkeys(line for line in lines if isinstance(line, str) and line))


def planned(plans: Iterable[Mapping[str, Any]]) -> list[Planned]:
    """Return every run that ``plans`` ask for, once per suite and scale, in order, without omitted cells."""
    found: dict[tuple[str, str, str], Planned] = {}
    # each configuration gets the label and `tuned` of its last cell, since launches may differ in these
    labels: dict[tuple[str, str, str], str] = {}
    tuned: dict[tuple[str, str, str], bool | None] = {}
    for plan in plans:
        for cell in plan["cells"]:
            if cell.get("omitted") is None:
                run = Planned(
                    run_id=cell["run_id"],
                    suite=plan["suite"],
                    scale=plan["scale"],
                    config_id=cell.get("config_id"),
                    label=cell["label"],
                    recipe=cell.get("recipe"),
                    labels=cell.get("labels") or {},
                    sets=tuple(key for key in cell.get("sets") or () if isinstance(key, str)),
                )
                found.setdefault((run.suite, run.scale, run.run_id), run)
                labels[_configuration(run)] = run.label
                tuned[_configuration(run)] = cell.get("tuned")
    return [
        replace(run, label=labels[_configuration(run)], tuned=tuned[_configuration(run)])
        for run in found.values()
    ]


def references(plan: Mapping[str, Any]) -> dict[str, str]:
    """Find the reference of each configuration of a plan: the configuration that it is compared with.

    The reference of a configuration has the labels in the plan's ``reference`` and otherwise the labels of
    the configuration (the same sparsity, data set and network, for example). If not exactly one
    configuration fits, it is the only one with the labels in ``reference`` on the same data set and network;
    if there are several of these, the only one of them with the same recipe. A cell that is not trained, as
    it is equal to another one, stands for that one: at sparsity 0, SSVI is dense VI.

    Returns
    -------
    dict
        ``config_id`` of the reference by ``config_id`` of the configuration; configurations without a
        reference are left out.
    """
    wanted = plan.get("reference")
    if not isinstance(wanted, dict) or not wanted:
        return {}
    trained = [cell for cell in plan["cells"] if cell.get("omitted") is None and cell.get("config_id")]
    labels = {cell["config_id"]: _without_seed(cell.get("labels") or {}) for cell in trained}
    recipes = {cell["config_id"]: cell.get("recipe") for cell in trained}
    of_run = {cell["run_id"]: cell["config_id"] for cell in trained}
    candidates: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for cell in plan["cells"]:
        own = _without_seed(cell.get("labels") or {})
        config_id = of_run.get(cell.get("alias_of") or cell.get("run_id"))
        if config_id is not None and wanted.items() <= own.items():
            candidates.setdefault(_setting(own), []).append((own, config_id))
    found: dict[str, str] = {}
    for config_id, own in labels.items():
        here = candidates.get(_setting(own), [])
        nearest = {c for labelled, c in here if {**own, **wanted}.items() <= labelled.items()}
        every = {c for _, c in here}
        recipe = {c for c in every if recipes[c] == recipes[config_id]}
        if chosen := next((some for some in (nearest, every, recipe) if len(some) == 1), None):
            (found[config_id],) = chosen
    return found


def _joined(first: list[Any], second: list[Any]) -> list[Any]:
    """Return the items of both lists, each once; they may be anything, since a plan is read from a file."""
    return first + [item for item in second if item not in first]


def _setting(labels: Mapping[str, Any]) -> str:
    return repr([labels.get(key) for key in _SETTING])


def _without_seed(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in labels.items() if key != "seed"}


def _configurations(plan: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the ids of the configurations of a plan by label."""
    found: dict[str, set[str]] = {}
    for cell in plan["cells"]:
        if config_id := cell.get("config_id"):
            found.setdefault(cell["label"], set()).add(config_id)
    return found


def _is_superseded(cell: Mapping[str, Any], now: Mapping[str, set[str]]) -> bool:
    """Tell whether the new plan has another configuration under the label of ``cell``."""
    config_id = cell.get("config_id")
    return config_id is not None and config_id not in now.get(cell["label"], {config_id})


def _configuration(run: Planned) -> tuple[str, str, str]:
    return run.suite, run.scale, run.config_id or run.run_id


_KINDS: dict[str, tuple[type, ...]] = {
    "label": (str,),
    "recipe": (str, type(None)),
    "labels": (dict, type(None)),
    "omitted": (str, type(None)),
    "tuned": (bool, type(None)),
    "origins": (dict, type(None)),
    "sets": (list, type(None)),
}


def _check_cell(cell: object, where: str) -> None:
    if not isinstance(cell, dict):
        raise StoreError(f"{where}: expected an object, got {_shown(cell)}")
    for key, kinds in _KINDS.items():
        if not isinstance(cell.get(key), kinds):
            raise StoreError(f"{where}: {key}: {_shown(cell.get(key))} is not valid")
    for key in ("run_id", "config_id", "alias_of"):
        value = cell.get(key)
        required = key == "run_id" and cell.get("omitted") is None
        if (required or value is not None) and not (isinstance(value, str) and RUN_ID.fullmatch(value)):
            raise StoreError(f"{where}: {key}: {_shown(value)} is not 12 hexadecimal digits")


def _shown(value: object) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."
