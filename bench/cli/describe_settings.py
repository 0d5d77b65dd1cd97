"""Describe settings as text: their values, and whether a default, a recipe, a suite or --set gives them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from bench.experiment.notation import show
from bench.experiment.settings import LEAVES, PARTS, SECTIONS
from bench.experiment.spec import RunSpec
from methods.core.options import to_dict

_WIDTH = 100
#: Beginnings of places from which any method may have settings.
_OF_ALL = ("recipe", "suite", "--set")
#: Beginnings of places that win over those before them, but not over tuned settings and the command line.
_WEAKER = ("default", "recipe", "suite")


def describe_settings(runs: Iterable[tuple[RunSpec, Mapping[str, str]]]) -> list[str]:
    """Return lines with every setting of some runs except the seed, by the place that it is from.

    Parameters
    ----------
    runs
        Each run, and where its settings that are not a default are from, by full key.
    """
    values: dict[tuple[str, str], dict[str, None]] = {}
    methods: dict[tuple[str, str], dict[str, None]] = {}
    every: dict[str, None] = {}
    for spec, origins in runs:
        method = spec.method[0]
        every[method] = None
        for key, value in _settings(spec).items():
            place = origins.get(key) or f"default of {_owner(key, spec)}"
            values.setdefault((place, key), {})[show(value)] = None
            methods.setdefault((place, key), {})[method] = None
    blocks: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (place, key), found in values.items():
        of = tuple(methods[place, key])
        # other places, such as a default, say themselves which methods they are of
        named = of if place.startswith(_OF_ALL) and len(of) < len(every) else ()
        blocks.setdefault((place, named), []).append(f"{key.removesuffix('.name')}={'|'.join(found)}")
    lines = ["settings, by where they are from:"]
    for (place, named), words in sorted(blocks.items(), key=lambda block: _strength(block[0][0])):
        of_these = f" for {', '.join(named)}" if named else ""
        head = f"  {place}{of_these}: "
        text = head + ", ".join(words)
        lines += textwrap.wrap(
            text, _WIDTH, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
        )
    return lines


def _strength(place: str) -> int:
    """Return where ``place`` stands among those that win over each other; the last one wins."""
    weaker = [number for number, start in enumerate(_WEAKER) if place.startswith(start)]
    return weaker[0] if weaker else len(_WEAKER) + place.startswith(_OF_ALL)


def _settings(spec: RunSpec) -> dict[str, Any]:
    """Return the settings of a run by full key, without the seed and versions."""
    found = {key: value for key, value in spec.settings.items() if key in LEAVES and key != "seed"}
    for name in SECTIONS:
        chosen, options = getattr(spec, name)
        found |= {f"{name}.name": chosen, **_dotted(name, options)}
    for name in PARTS:
        found |= _dotted(name, getattr(spec, name))
    return found


def _dotted(section: str, options: Any) -> dict[str, Any]:
    return {f"{section}.{key}": value for key, value in to_dict(options).items()}


def _owner(key: str, spec: RunSpec) -> str:
    """Return what declares the default of a setting: ``training``, or the name of a method or network."""
    section, _, leaf = key.partition(".")
    if section in SECTIONS and leaf != "name":
        return str(getattr(spec, section)[0])
    return section if section in PARTS else "a run"
