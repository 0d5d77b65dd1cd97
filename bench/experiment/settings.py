"""Settings of a run: the keys of a recipe, and settings under full, short and nested keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.data.base import DATASETS
from bench.networks.base import NETWORKS
from methods.base import METHODS
from methods.core.errors import UserError, unknown
from methods.core.options import names as option_names
from methods.core.options import option
from methods.core.registry import Registry

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


_LEAVES = tuple(option_names(Keys))


_RECIPE: dict[str, type] = {"training": Training, "evaluation": Evaluation}


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
