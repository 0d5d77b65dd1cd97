"""A run as a value: everything that defines its science, resolved to the last default, and its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.experiment.settings import _LEAVES, _RECIPE, _SECTIONS, Evaluation, Keys, Training, _at, flatten
from methods.base import METHODS
from methods.core.errors import UserError, unknown
from methods.core.options import hashed_dict, option, parse, to_dict

SCHEMA = 1


@dataclass(frozen=True)
class _Plain(Keys):
    """The sections and keys that are no registry choice."""

    training: Training = option(Training())
    evaluation: Evaluation = option(Evaluation())


@dataclass(frozen=True)
class RunSpec:
    """One run. ``dataset``, ``network`` and ``method`` are pairs of a name and an options object."""

    dataset: tuple[str, Any]
    network: tuple[str, Any]
    method: tuple[str, Any]
    training: Training
    evaluation: Evaluation
    protocol: str
    precision: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The whole resolved configuration, plain and nested."""
        return self._nested(to_dict)

    def with_seed(self, seed: int) -> RunSpec:
        """The same configuration under another seed."""
        other = replace(self, seed=seed)
        # thousands of seeds have one configuration
        vars(other).update(_seedless=self._seedless, _flat=self._flat)
        return other

    @property
    def settings(self) -> dict[str, Any]:
        """The whole resolved configuration under full keys; its values are shared, and not to be changed."""
        return {**self._flat, "seed": self.seed}

    @cached_property
    def run_id(self) -> str:
        """Hash of the resolved configuration: 12 hexadecimal digits."""
        return _digest({**self._seedless, "seed": self.seed})

    @cached_property
    def config_id(self) -> str:
        """Hash of the resolved configuration without the seed: what seeds are collapsed by."""
        return _digest(self._seedless)

    @cached_property
    def _seedless(self) -> dict[str, Any]:
        """What is hashed, but the seed."""
        config = self._nested(hashed_dict)
        del config["seed"]
        return config

    @cached_property
    def _flat(self) -> dict[str, Any]:
        return flatten(self.to_dict())

    def _nested(self, plain: Any) -> dict[str, Any]:
        config: dict[str, Any] = {"schema": SCHEMA}
        for section, registry in _SECTIONS.items():
            name, options = getattr(self, section)
            config[section] = {"name": name, **plain(options)}
            if registry is METHODS:
                config[section]["version"] = METHODS.get(name).version
        config |= {"training": plain(self.training), "evaluation": plain(self.evaluation)}
        return config | {leaf: getattr(self, leaf) for leaf in _LEAVES}


def parse_spec(config: Mapping[str, Any], where: str = "") -> RunSpec:
    """A run from its nested configuration; missing keys take their defaults.

    ``config`` is what ``to_dict`` gives, or less: ``dataset``, ``network`` and ``method``
    may be a bare name. Raises ``UserError`` on an unknown key or name, or a bad value.
    """
    rest = dict(config)
    if rest.pop("schema", SCHEMA) != SCHEMA:
        raise UserError(
            f"{where or 'configuration'}: schema {config['schema']!r}; this version reads {SCHEMA}"
        )
    chosen: dict[str, Any] = {}
    for section, registry in _SECTIONS.items():
        value = rest.pop(section, None)
        if value is None:
            raise UserError(f"{where or 'configuration'}: missing key {section!r}")
        options = dict(value) if isinstance(value, Mapping) else {"name": value}
        item: Any = registry.get(options.pop("name", None), where)
        if registry is METHODS and options.pop("version", item.version) != item.version:
            raise UserError(
                f"{_at(where)}{item.name} is at version {item.version}, the run at {value['version']}"
            )
        chosen[section] = (item.name, parse(item.Options, options, _join(where, section)))
    valid = {*_SECTIONS, *_RECIPE, *_LEAVES}
    for key in rest:
        if key not in valid:
            raise unknown("key", key, valid, where)
    plain = parse(_Plain, rest, where)
    return RunSpec(**chosen, **{field: getattr(plain, field) for field in (*_RECIPE, *_LEAVES)})


def _join(where: str, section: str) -> str:
    return f"{where}: {section}" if where else section


def _digest(config: Mapping[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
