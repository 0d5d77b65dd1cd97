"""Describe a run as a value: all settings that can change its results, with all defaults, and its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

from bench.experiment.settings import (
    LEAVES,
    PARTS,
    SECTIONS,
    Evaluation,
    Keys,
    Training,
    flatten,
    located,
    unflatten,
)
from methods.core.errors import UserError, unknown
from methods.core.options import hashed_dict, option, parse, recorded_dict, registries, to_dict
from methods.core.options import names as option_names
from methods.core.registry import Registry

#: Version of the layout of configurations.
SCHEMA = 1


@dataclass(frozen=True)
class _Plain(Keys):
    """The sections and keys that do not choose from a registry."""

    training: Training = option(Training())
    evaluation: Evaluation = option(Evaluation())


@dataclass(frozen=True)
class RunSpec:
    """One run.

    Parameters
    ----------
    dataset, network, method
        Pairs of a name and an options object.
    training, evaluation
        Settings of training and evaluation.
    protocol, precision, seed
        See ``settings.Keys``.
    """

    dataset: tuple[str, Any]
    network: tuple[str, Any]
    method: tuple[str, Any]
    training: Training
    evaluation: Evaluation
    protocol: str
    precision: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the whole resolved configuration, as nested plain values."""
        return self._nested(to_dict)

    def record(self) -> dict[str, Any]:
        """Return the configuration as a run stores it: without the settings that are no part of it."""
        return self._nested(recorded_dict)

    def with_seed(self, seed: int) -> RunSpec:
        """Return the same configuration with another seed."""
        other = replace(self, seed=seed)
        # shared by the runs of all seeds, which may be thousands
        vars(other).update(_seedless=self._seedless, _flat=self._flat)
        return other

    def replaced(self, changes: Mapping[str, Any], where: str = "") -> RunSpec:
        """Return this run with other settings.

        Parameters
        ----------
        changes
            Values by full key, such as ``method.criterion``.
        where
            Where they are from, for error messages.

        Raises
        ------
        UserError
            If a key or value is not valid.
        """
        # no versions among the settings: what is chosen anew has its own
        plain: dict[str, Any] = {
            section: {"name": name, **to_dict(options)}
            for section, (name, options) in ((section, getattr(self, section)) for section in SECTIONS)
        }
        plain |= {part: to_dict(getattr(self, part)) for part in PARTS}
        plain |= {leaf: getattr(self, leaf) for leaf in LEAVES}
        return parse_spec(unflatten({**flatten(plain), **changes}), where)

    @property
    def entries(self) -> list[tuple[Registry[Any], Any]]:
        """The data set, network, method and criterion of the run, each with its registry."""
        return [
            found for section in SECTIONS for found in _versioned(section, *getattr(self, section)).values()
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """The whole resolved configuration under full keys. Its values are shared; do not change them."""
        return {**self._flat, "seed": self.seed}

    @cached_property
    def run_id(self) -> str:
        """Hash of the resolved configuration, 12 hexadecimal digits."""
        return _digest({**self._seedless, "seed": self.seed})

    @cached_property
    def config_id(self) -> str:
        """Hash of the resolved configuration without the seed; runs that differ only in the seed share it."""
        return _digest(self._seedless)

    def key(self, *sections: str) -> str:
        """The same text for every run that agrees in ``sections``, such as ``dataset`` or ``protocol``."""
        return json.dumps({section: self._seedless[section] for section in sections}, sort_keys=True)

    @cached_property
    def _seedless(self) -> dict[str, Any]:
        """What is hashed, except the seed."""
        config = self._nested(hashed_dict)
        del config["seed"]
        return config

    @cached_property
    def _flat(self) -> dict[str, Any]:
        return flatten(self.to_dict())

    def _nested(self, plain: Any) -> dict[str, Any]:
        config: dict[str, Any] = {"schema": SCHEMA}
        for section in SECTIONS:
            name, options = getattr(self, section)
            config[section] = {"name": name, **plain(options)}
            own = _version_key(type(options)) if section == "method" else None
            for key, (_, item) in _versioned(section, name, options).items():
                # ids from before anything but methods had a version must stay
                if key == own or item.version != 1:
                    config[section][key] = item.version
        config |= {"training": plain(self.training), "evaluation": plain(self.evaluation)}
        return config | {leaf: getattr(self, leaf) for leaf in LEAVES}


def parse_spec(config: Mapping[str, Any], where: str = "") -> RunSpec:
    """Make a run from its nested configuration; missing keys take their defaults.

    Parameters
    ----------
    config
        The result of ``RunSpec.to_dict``, or less; ``dataset``, ``network`` and ``method`` may be bare names.
    where
        Where it is from, for error messages.

    Raises
    ------
    UserError
        If a key or name is unknown, a value is not valid, or the run was stored at another version of its
        method, criterion, data set or network.
    """
    rest = dict(config)
    stored = "schema" in rest  # a stored run leaves out versions that are 1
    if rest.pop("schema", SCHEMA) != SCHEMA:
        raise UserError(
            f"{where or 'configuration'}: schema {config['schema']!r}; this version reads {SCHEMA}"
        )
    chosen: dict[str, Any] = {}
    for section, registry in SECTIONS.items():
        value = rest.pop(section, None)
        if value is None:
            raise UserError(f"{where or 'configuration'}: missing key {section!r}")
        options = dict(value) if isinstance(value, Mapping) else {"name": value}
        item: Any = registry.get(options.pop("name", None), where)
        valid = option_names(item.Options)
        told = {key: options.pop(key) for key in [*options] if key not in valid and key.endswith("version")}
        chosen[section] = (item.name, parse(item.Options, options, _join(where, section)))
        versions = _versioned(section, *chosen[section])
        if strange := told.keys() - versions.keys():
            raise unknown("key", strange.pop(), valid, _join(where, section))
        for key, (of, entry) in versions.items():
            if (version := told.get(key, 1 if stored else entry.version)) != entry.version:
                raise UserError(
                    f"{located(where)}{of.kind} {entry.name} has version {entry.version}, "
                    f"the run is of {version}"
                )
    known = {*SECTIONS, *PARTS, *LEAVES}
    for key in rest:
        if key not in known:
            raise unknown("key", key, known, where)
    plain = parse(_Plain, rest, where)
    return RunSpec(**chosen, **{field: getattr(plain, field) for field in (*PARTS, *LEAVES)})


def _versioned(section: str, name: str, options: Any) -> dict[str, tuple[Registry[Any], Any]]:
    """Return what ``section`` chooses by name, with its registry, by the key of its version."""
    registry = SECTIONS[section]
    found: dict[str, tuple[Registry[Any], Any]] = {
        _version_key(type(options)): (registry, registry.get(name))
    }
    return found | {_version_key(type(options), key): entry for key, entry in _chosen(options).items()}


def _chosen(options: Any) -> dict[str, tuple[Registry[Any], Any]]:
    """Return what ``options`` choose by name, with its registry, by option; options within options too."""
    found = {}
    for key, of in registries(type(options)).items():
        if (chosen := getattr(options, key)) is not None:
            found[key] = (of, of.get(chosen))
    for field in fields(options):
        if is_dataclass(value := getattr(options, field.name)):
            found |= {f"{field.name}_{key}": entry for key, entry in _chosen(value).items()}
    return found


def _version_key(cls: type, option_name: str = "") -> str:
    """Return the key of a version among the options ``cls``, one that is not an option itself."""
    key = f"{option_name}_version" if option_name else "version"
    return f"entry_{key}" if key in option_names(cls) else key


def _join(where: str, section: str) -> str:
    return f"{where}: {section}" if where else section


def _digest(config: Mapping[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
