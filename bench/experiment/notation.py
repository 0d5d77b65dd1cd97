"""Parse and format settings as people write them: YAML, comma-separated lists, ``key=value``, seeds.

YAML follows the rules of YAML 1.2 (``1e-8`` is a number, ``no`` is a string). A key that appears twice is
an error, and every error is one line with file and line number.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from methods.core.errors import UserError

MOST_SEEDS = 1000
_MERGE = "tag:yaml.org,2002:merge"
_KEY = re.compile(r"[A-Za-z_][\w.]*")
_SEED = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")


def read_yaml(path: Path) -> Any:
    """Read the YAML file ``path``; raise ``UserError`` if it can't be read or is malformed."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML.

    Parameters
    ----------
    text
        The YAML.
    name
        Where it is from; errors are ``UserError`` that begin with this and the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{name}{line}: malformed YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: malformed YAML: {' '.join(str(error).split())}") from None


def split(text: str, separator: str, where: str) -> list[str]:
    """Split ``text`` at each ``separator`` outside brackets and quotes, and strip the parts."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    if quote or depth:
        raise UserError(f"{where}: {text!r} leaves a {'quote' if quote else 'bracket'} open")
    return [part.strip() for part in parts]


def parse_overrides(items: Iterable[str], where: str = "--set") -> dict[str, Any]:
    """Parse settings, as in ``["epochs=5,lr=0.1", "network.hidden=[64, 64]"]``; values are YAML.

    Parameters
    ----------
    items
        Texts, each a comma-separated list of ``key=value``.
    where
        Option of the command line, for error messages.

    Raises
    ------
    UserError
        If an item has another form, or a key is given twice.
    """
    overrides: dict[str, Any] = {}
    for item in items:
        for part in split(item, ",", where):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not value or not _KEY.fullmatch(key):
                raise UserError(f"{where}: {part!r} is not of the form key=value")
            if key in overrides:
                raise UserError(f"{where}: key {key!r} is given twice")
            overrides[key] = parse_yaml(value, f"{where} {key}")
    return overrides


def parse_seeds(value: str | int | Iterable[int], where: str = "--seeds") -> tuple[int, ...]:
    """Parse seeds, in the order written, each once.

    Parameters
    ----------
    value
        ``"0-4"``, ``"0,2,5-7"``, a number or several of these.
    where
        Where it is from, for error messages.

    Raises
    ------
    UserError
        If there is no seed, a part is not a seed or a range, or a range has more than ``MOST_SEEDS`` seeds.
    """
    parts = [str(value)] if isinstance(value, (str, int)) else [str(seed) for seed in value]
    seeds: dict[int, None] = {}
    for part in (piece.strip() for text in parts for piece in text.split(",")):
        match = _SEED.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UserError(f"{where}: {part!r} is not a seed or a range; write seeds as 0-4 or 0,2,5-7")
        if last - first >= MOST_SEEDS:
            raise UserError(f"{where}: {part!r} is more than {MOST_SEEDS} seeds")
        seeds |= dict.fromkeys(range(first, last + 1))
    if not seeds:
        raise UserError(f"{where}: no seed is given")
    return tuple(seeds)


def show(value: Any) -> str:
    """Format a value as YAML, on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(show(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {show(item)}' for key, item in value.items())}}}"
    return str(value)


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` with the scalars of YAML 1.2, which refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} appears twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


_DIGITS, _EXPONENT = list("-+.0123456789"), "[eE][-+]?[0-9]+"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", _DIGITS),
    (
        "float",
        rf"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:{_EXPONENT})?|[-+]?[0-9]+{_EXPONENT}|[-+]?\.inf|\.nan",
        _DIGITS,
    ),
    ("merge", r"<<", ["<"]),
)
# replaces the parent's rules, which read 1:30 and 010 as other numbers and "no" as false
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)
