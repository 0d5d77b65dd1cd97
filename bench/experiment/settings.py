"""Define the settings of a run, and convert between nested, dotted and short keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.data.base import DATASETS
from bench.networks.base import NETWORKS
from methods.base import METHODS
from methods.core.errors import UserError, unknown
from methods.core.options import names as option_names
from methods.core.options import option, unhashed
from methods.core.registry import Registry

#: The sections that choose something registered, and its options.
SECTIONS: dict[str, Registry[Any]] = {"dataset": DATASETS, "network": NETWORKS, "method": METHODS}


@dataclass(frozen=True)
class Training:
    """Settings of the training loop."""

    epochs: int = option(40, "passes over the training part", within="[1, inf)")
    batch_size: int = option(64, "examples in a minibatch", within="[1, inf)")
    last_batch: str = option(
        "keep",
        "last minibatch of an epoch if one example is left for it, which batch normalisation can't train on. "
        "keep: it is a minibatch; merge: it joins the one before. Unless set: merge for a run that can't be "
        "trained otherwise, keep for all others",
        choices=("keep", "merge"),
        neutral="keep",
    )
    optimiser: str = option("sgd", "update rule", choices=("sgd", "adam", "adamw", "rmsprop"))
    lr: float = option(0.1, "learning rate of means, biases and normalisation", within="(0, inf)")
    lr_scale: float | None = option(None, "learning rate of posterior scales; null: lr", within="[0, inf)")
    momentum: float = option(0.9, "momentum of sgd and rmsprop", within="[0, 1)")
    weight_decay: float = option(0.0, "L2 decay of all parameters but scales", within="[0, inf)")
    schedule: str = option(
        "cosine", "learning rate over epochs; cosine: falls to 0", choices=("cosine", "constant")
    )
    clip_norm: float | None = option(None, "largest gradient norm; null: no clipping", within="(0, inf)")
    class_weights: str | tuple[float, ...] | None = option(
        None,
        "weight of each class in the cross-entropy, as in torch.nn.CrossEntropyLoss. balanced: examples / "
        "(classes x examples of the class) in the training part, as in scikit-learn; null: all equal",
        within="(0, inf)",
        choices=("balanced",),
        neutral=None,
    )
    label_smoothing: float = option(
        0.0,
        "share of each training target that is spread over all classes, as in torch.nn.CrossEntropyLoss",
        within="[0, 1)",
        neutral=0.0,
    )
    max_steps: int | None = option(
        None,
        "minibatches after which training is cut short, with the schedules of all epochs; null: no limit",
        within="[1, inf)",
        neutral=None,
    )
    budget: str = option(
        "epochs",
        "length of training. epochs: the given epochs; flops: for a sparse method, as many epochs as fit the "
        "training FLOPs of dense VI in the given epochs, at most budget_cap times as many",
        choices=("epochs", "flops"),
        neutral="epochs",
    )
    budget_cap: int = option(
        10,
        "most epochs under budget flops, as a multiple of the given epochs; a very sparse method needs more "
        "than 10 times as many to spend the FLOPs of dense VI, and as much more time",
        within="[1, inf)",
        neutral=10,
    )


@dataclass(frozen=True)
class Evaluation:
    """Settings of the evaluation of a trained network."""

    samples: int = option(10, "posterior samples S averaged by the predictor `samples`", within="[1, inf)")
    stored: str | None = option(
        None,
        "type of the stored model's values; if given, the stored model is scored; null: as trained",
        choices=("float16", "bfloat16"),
        neutral=None,
    )
    ood: str | tuple[str, ...] = option(
        (),
        "sets of inputs of no class to score beside the test part: names, or all that the data set declares. "
        "No part of the run: a finished run is evaluated on sets that it lacks, without training",
        hashed=False,
    )
    shifts: str | tuple[str, ...] = option(
        (),
        "ways in which the test part is shifted, each at severities 1 to 5: names, or all; otherwise as ood",
        hashed=False,
    )


@dataclass(frozen=True)
class Keys:
    """Settings outside the sections."""

    protocol: str = option(
        "holdout",
        "holdout: train without the validation part; refit: also train on it, after choices were made by it",
        choices=("holdout", "refit"),
    )
    precision: str = option(
        "float32",
        "arithmetic. With tf32 and bfloat16, parameters are float32; tf32: contractions on GPUs; bfloat16: "
        "contractions in training (autocast)",
        choices=("float32", "tf32", "bfloat16", "float64"),
    )
    seed: int = option(0, "seed of every random stream", within="[0, inf)")


#: The sections that are settings alone.
PARTS: dict[str, type] = {"training": Training, "evaluation": Evaluation}
#: Full keys of the settings that are no part of a run.
APART = tuple(f"{part}.{name}" for part, cls in PARTS.items() for name in unhashed(cls))
#: The keys that stand in no section.
LEAVES = tuple(option_names(Keys))


def nest(flat: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return a nested configuration from keys that may be dotted or short.

    A short key (``sparsity``, ``epochs``) is looked up in the options of the chosen method, network and data
    set, and in the settings of training and evaluation.

    Parameters
    ----------
    flat
        Key to value.
    where
        Where it is from, for error messages.

    Raises
    ------
    UserError
        If no section or several sections have a key, or a key is given twice.
    """
    opened = open_sections(flat, where)
    keys = section_keys(chosen_names(opened), where)
    full: dict[str, Any] = {}
    for key, value in opened.items():
        home = locate(key, keys, where)
        if home is None:
            raise unknown("key", key, valid_keys(keys), where)
        if home in full:
            raise UserError(f"{located(where)}key {home!r} is given twice")
        full[home] = value
    return unflatten(full)


def open_sections(flat: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return ``flat`` with dotted keys: sections given as a mapping or a bare name are opened.

    Raises
    ------
    UserError
        If a section is not a mapping, or a key is given twice.
    """
    opened: dict[str, Any] = {}
    for key, value in flat.items():
        if key in SECTIONS and not isinstance(value, Mapping):
            parts = {f"{key}.name": value}
        elif key in SECTIONS or key in PARTS:
            if not isinstance(value, Mapping):
                raise UserError(f"{located(where)}{key}: expected a mapping, got {value!r}")
            parts = {f"{key}.{leaf}": inner for leaf, inner in value.items()}
        else:
            parts = {key: value}
        for part, inner in parts.items():
            if part in opened:
                raise UserError(f"{located(where)}key {part!r} is given twice")
            opened[part] = inner
    return opened


def chosen_names(opened: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of data set, network and method among opened keys, by section."""
    return {section: opened[f"{section}.name"] for section in SECTIONS if f"{section}.name" in opened}


def section_keys(names: Mapping[str, Any], where: str = "") -> dict[str, list[str]]:
    """Return the option names by section: of training and evaluation, and of each section named in ``names``.

    Raises
    ------
    UserError
        If there is no data set, network or method of that name.
    """
    keys = {section: option_names(cls) for section, cls in PARTS.items()}
    for section, registry in SECTIONS.items():
        if section in names:
            item: Any = registry.get(names[section], where)
            keys[section] = option_names(item.Options)
    return keys


def locate(key: str, keys: Mapping[str, Iterable[str]], where: str = "") -> str | None:
    """Return the full key that ``key`` stands for; None if there is none.

    Parameters
    ----------
    key
        Short or full key.
    keys
        Option names by section, from ``section_keys``.
    where
        Where the key is from, for error messages.

    Raises
    ------
    UserError
        If several sections have a short key.
    """
    if key in LEAVES:
        return key
    section, _, leaf = str(key).partition(".")
    if leaf and (leaf in keys.get(section, ()) or (section in SECTIONS and leaf == "name")):
        return key
    homes = [section for section, names in keys.items() if key in names]
    if len(homes) > 1:
        raise UserError(
            f"{located(where)}key {key!r} is ambiguous; write {' or '.join(f'{h}.{key}' for h in homes)}"
        )
    return f"{homes[0]}.{key}" if homes else None


def unflatten(full: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested configuration from full keys."""
    nested: dict[str, Any] = {}
    for key, value in full.items():
        section, _, leaf = key.partition(".")
        if leaf:
            nested.setdefault(section, {})[leaf] = value
        else:
            nested[key] = value
    return nested


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration under full keys; the inverse of ``unflatten``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in SECTIONS or key in PARTS:
            flat |= {f"{key}.{leaf}": inner for leaf, inner in value.items()}
        else:
            flat[key] = value
    return flat


def valid_keys(keys: Mapping[str, Iterable[str]]) -> list[str]:
    """Return every full key that a configuration with these ``section_keys`` may have."""
    return [
        *SECTIONS,
        *LEAVES,
        *(f"{section}.{leaf}" for section, leaves in keys.items() for leaf in leaves),
    ]


def located(where: str) -> str:
    """How an error message begins that says where the input stood, if that is known."""
    return f"{where}: " if where else ""
