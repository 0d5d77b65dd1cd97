"""Plans as the store keeps them: what was asked for, so that what is missing can be seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.results.files import StoreError, read_json
from bench.results.run_folder import RUN_ID

SCHEMA = 1
#: Lines of a plan that are kept, the latest ones.
_MOST_COMMANDS = 50
#: Suites and scales name folders and files.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
#: Labels of what makes scores of different runs not comparable.
_SETTING = ("dataset", "network")
#: Folders of a results folder that are no suite; ``all`` means every suite to commands.
RESERVED = ("runs", "corrupted", "patches", "reference", "all")


@dataclass(frozen=True)
class Planned:
    """A run that a suite asks for, with what the plan alone says of it; ``tuned`` is None in older plans."""

    run_id: str
    suite: str
    scale: str
    config_id: str | None
    label: str
    recipe: str | None
    labels: Mapping[str, Any]
    tuned: bool | None = None


def check_suite(name: object, where: str = "") -> str:
    """``name`` if it can name a suite; ``StoreError`` otherwise."""
    if isinstance(name, str) and NAME.fullmatch(name) and name not in RESERVED:
        return name
    place = f"{where}: " if where else ""
    raise StoreError(f"{place}{_shown(name)} is no name for a suite (lower-case letters, digits, _ and -)")


def check_plan(plan: object, where: str) -> dict[str, Any]:
    """``plan`` if it is one that this version reads; ``StoreError`` saying what is wrong otherwise."""
    if not isinstance(plan, dict):
        raise StoreError(f"{where}: not a plan")
    schema = plan.get("schema")
    if schema != SCHEMA:
        raise StoreError(f"{where}: schema {_shown(schema)}; this version reads {SCHEMA}")
    check_suite(plan.get("suite"), where)
    scale, cells = plan.get("scale"), plan.get("cells")
    if not isinstance(scale, str) or not NAME.fullmatch(scale):
        raise StoreError(f"{where}: {_shown(scale)} is no name for a scale")
    if not isinstance(cells, list):
        raise StoreError(f"{where}: cells: expected a list, got {_shown(cells)}")
    for number, cell in enumerate(cells):
        _check_cell(cell, f"{where}: cell {number}")
    return plan


def is_newer(path: Path) -> bool:
    """Whether a plan that cannot be read is one of a later version."""
    try:
        plan = read_json(path)
    except StoreError:
        return False
    schema = plan.get("schema") if isinstance(plan, dict) else None
    return type(schema) is int and schema > SCHEMA


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """``new`` with the cells of ``old`` that it has not, in front and in their order.

    Cells are the same when run id and label are; the new one then stands in the old one's place. A label
    stands for one configuration: where ``new`` has another one under a label (settings were chosen since, or
    the suite was edited), the old cells of that label, whatever their seeds, are left out.
    """
    now: dict[str, set[str]] = {}
    for cell in new["cells"]:
        if config_id := cell.get("config_id"):
            now.setdefault(cell["label"], set()).add(config_id)
    kept = [cell for cell in (old or {}).get("cells", []) if not _is_superseded(cell, now)]
    cells = {(cell.get("run_id"), cell["label"]): cell for cell in [*kept, *new["cells"]]}
    lines = list(dict.fromkeys([*commands(old or {}), *commands(new)]))[-_MOST_COMMANDS:]
    said = {"commands": lines} if len(lines) > 1 else {}
    return {**new, **said, "cells": list(cells.values())}


def commands(plan: Mapping[str, Any]) -> list[str]:
    """The lines that asked for the cells of a plan, oldest first; what is no line of text is none."""
    found = plan.get("commands")
    lines = [*(found if isinstance(found, list) else []), plan.get("command")]
    return list(dict.fromkeys(line for line in lines if isinstance(line, str) and line))


def planned(plans: Iterable[Mapping[str, Any]]) -> list[Planned]:
    """Every run that ``plans`` ask for, once a suite and scale, in their order; omitted cells are none."""
    found: dict[tuple[str, str, str], Planned] = {}
    # the latest, whatever was launched when: one label a configuration, and whether its settings were chosen
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
                )
                found.setdefault((run.suite, run.scale, run.run_id), run)
                labels[_configuration(run)] = run.label
                tuned[_configuration(run)] = cell.get("tuned")
    return [
        replace(run, label=labels[_configuration(run)], tuned=tuned[_configuration(run)])
        for run in found.values()
    ]


def references(plan: Mapping[str, Any]) -> dict[str, str]:
    """The configuration that each one of a plan is compared with, by ``config_id``; those that have one.

    It has the labels of the plan's ``reference`` and, beside these, its own (the same sparsity, recipe, data
    and network); where no single one does, it is the one with the labels of ``reference`` on the same data
    and network, in the same recipe where there are several.
    """
    wanted = plan.get("reference")
    if not isinstance(wanted, dict) or not wanted:
        return {}
    cells = [cell for cell in plan["cells"] if cell.get("omitted") is None and cell.get("config_id")]
    labels = {cell["config_id"]: _without_seed(cell.get("labels") or {}) for cell in cells}
    recipes = {cell["config_id"]: cell.get("recipe") for cell in cells}
    candidates: dict[str, list[str]] = {}
    for config_id, own in labels.items():
        if wanted.items() <= own.items():
            candidates.setdefault(_setting(own), []).append(config_id)
    found: dict[str, str] = {}
    for config_id, own in labels.items():
        here = candidates.get(_setting(own), [])
        nearest = [c for c in here if {**own, **wanted}.items() <= labels[c].items()]
        recipe = [c for c in here if recipes[c] == recipes[config_id]]
        if chosen := next((some for some in (nearest, here, recipe) if len(some) == 1), None):
            found[config_id] = chosen[0]
    return found


def _setting(labels: Mapping[str, Any]) -> str:
    return repr([labels.get(key) for key in _SETTING])


def _without_seed(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in labels.items() if key != "seed"}


def _is_superseded(cell: Mapping[str, Any], now: Mapping[str, set[str]]) -> bool:
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
