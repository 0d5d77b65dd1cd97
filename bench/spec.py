"""A run as a value: everything that defines its science, resolved to the last default, and its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.data.base import DATASETS
from bench.networks.base import NETWORKS
from methods.base import METHODS
from methods.errors import UserError, unknown
from methods.options import hashed_dict, option, parse, to_dict
from methods.options import names as option_names
from methods.registry import Registry

SCHEMA = 1
_SECTIONS: dict[str, Registry[Any]] = {"dataset": DATASETS, "network": NETWORKS, "method": METHODS}


@dataclass(frozen=True)
class Training:
    """The recipe of the one training loop."""

    epochs: int = option(40, "passes over the training part", within="[1, inf)")
    batch_size: int = option(64, "examples a step", within="[1, inf)")
    optimiser: str = option("sgd", "update rule", choices=("sgd", "adam", "adamw", "rmsprop"))
    lr: float = option(0.1, "learning rate of means, biases and normalisation", within="(0, inf)")
    lr_scale: float | None = option(None, "learning rate of posterior scales; null: as lr", within="[0, inf)")
    momentum: float = option(0.9, "momentum of sgd and rmsprop", within="[0, 1)")
    weight_decay: float = option(0.0, "L2 decay of everything but scales", within="[0, inf)")
    schedule: str = option(
        "cosine", "learning rate over epochs, to 0 for cosine", choices=("cosine", "constant")
    )
    clip_norm: float | None = option(None, "largest gradient norm; null: no clipping", within="(0, inf)")
    max_steps: int | None = option(
        None,
        "minibatches after which training is cut short, its schedules those of the whole; null: none",
        within="[1, inf)",
        neutral=None,
    )
    budget: str = option(
        "epochs",
        "what training may take. epochs: as many as said; flops: of a sparse method as many as fit the "
        "training FLOPs of dense VI in the epochs said, at most 10 times as many",
        choices=("epochs", "flops"),
        neutral="epochs",
    )


@dataclass(frozen=True)
class Evaluation:
    """How a trained network is scored."""

    samples: int = option(10, "posterior samples S averaged by the predictor `samples`", within="[1, inf)")
    stored: str | None = option(
        None,
        "type of the stored model's values, and then it is the stored one that is scored; null: as trained",
        choices=("float16", "bfloat16"),
        neutral=None,
    )


@dataclass(frozen=True)
class Keys:
    """Keys that stand in no section."""

    protocol: str = option(
        "holdout",
        "holdout: train without the validation part; refit: choices were made on it before, train on it too",
        choices=("holdout", "refit"),
    )
    precision: str = option(
        "float32",
        "arithmetic; of float32 parameters tf32: contractions on GPUs, bfloat16: contractions in training "
        "(autocast)",
        choices=("float32", "tf32", "bfloat16", "float64"),
    )
    seed: int = option(0, "seed of every random stream", within="[0, inf)")


@dataclass(frozen=True)
class _Plain(Keys):
    """The sections and keys that are no registry choice."""

    training: Training = option(Training())
    evaluation: Evaluation = option(Evaluation())


_LEAVES = tuple(option_names(Keys))
_RECIPE: dict[str, type] = {"training": Training, "evaluation": Evaluation}


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


def nest(flat: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """A nested configuration from keys that may be dotted or short.

    A short key (``sparsity``, ``epochs``) is looked up in the options of the chosen method,
    network and data set and in the recipe. Raises ``UserError`` when no section or more
    than one has it, or when a key is given twice.
    """
    opened = open_sections(flat, where)
    keys = section_keys(chosen_names(opened), where)
    full: dict[str, Any] = {}
    for key, value in opened.items():
        home = locate(key, keys, where)
        if home is None:
            raise unknown("key", key, valid_keys(keys), where)
        if home in full:
            raise UserError(f"{_at(where)}key {home!r} is given twice")
        full[home] = value
    return unflatten(full)


def open_sections(flat: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """``flat`` with sections written as mappings or bare names opened up into dotted keys."""
    opened: dict[str, Any] = {}
    for key, value in flat.items():
        if key in _SECTIONS and not isinstance(value, Mapping):
            parts = {f"{key}.name": value}
        elif key in _SECTIONS or key in _RECIPE:
            if not isinstance(value, Mapping):
                raise UserError(f"{_at(where)}{key}: expected a mapping, got {value!r}")
            parts = {f"{key}.{leaf}": inner for leaf, inner in value.items()}
        else:
            parts = {key: value}
        for part, inner in parts.items():
            if part in opened:
                raise UserError(f"{_at(where)}key {part!r} is given twice")
            opened[part] = inner
    return opened


def chosen_names(opened: Mapping[str, Any]) -> dict[str, Any]:
    """The names of data set, network and method among opened keys, by section."""
    return {section: opened[f"{section}.name"] for section in _SECTIONS if f"{section}.name" in opened}


def section_keys(names: Mapping[str, Any], where: str = "") -> dict[str, list[str]]:
    """The option names of the recipe and of every section for which ``names`` chooses one."""
    keys = {section: option_names(cls) for section, cls in _RECIPE.items()}
    for section, registry in _SECTIONS.items():
        if section in names:
            item: Any = registry.get(names[section], where)
            keys[section] = option_names(item.Options)
    return keys


def locate(key: str, keys: Mapping[str, Iterable[str]], where: str = "") -> str | None:
    """The full key that ``key`` stands for among ``section_keys``; None where there is none.

    Raises ``UserError`` for a short key that several sections have.
    """
    if key in _LEAVES:
        return key
    section, _, leaf = str(key).partition(".")
    if leaf and (leaf in keys.get(section, ()) or (section in _SECTIONS and leaf == "name")):
        return key
    homes = [section for section, names in keys.items() if key in names]
    if len(homes) > 1:
        raise UserError(
            f"{_at(where)}key {key!r} is ambiguous; write {' or '.join(f'{h}.{key}' for h in homes)}"
        )
    return f"{homes[0]}.{key}" if homes else None


def unflatten(full: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration from full keys."""
    nested: dict[str, Any] = {}
    for key, value in full.items():
        section, _, leaf = key.partition(".")
        if leaf:
            nested.setdefault(section, {})[leaf] = value
        else:
            nested[key] = value
    return nested


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved configuration under full keys; the inverse of ``unflatten``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in _SECTIONS or key in _RECIPE:
            flat |= {f"{key}.{leaf}": inner for leaf, inner in value.items()}
        else:
            flat[key] = value
    return flat


def valid_keys(keys: Mapping[str, Iterable[str]]) -> list[str]:
    """Every key that a configuration with these ``section_keys`` may have, in full."""
    return [
        *_SECTIONS,
        *_LEAVES,
        *(f"{section}.{leaf}" for section, leaves in keys.items() for leaf in leaves),
    ]


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _join(where: str, section: str) -> str:
    return f"{where}: {section}" if where else section


def _digest(config: Mapping[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
