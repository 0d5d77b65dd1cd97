"""Find the settings that the configurations of a suite differ in, and name them for readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

_PREFIX = "config."
#: What runs differ in besides the settings that a reader would vary.
_NOT_VARIED = ("method.name", "method.version", "seed", "recipe")
#: Names of settings for readers.
_NAMES = {
    "dataset.train": "training examples",
    "method.added_scale": "scale of new slots",
    "method.added_state": "optimiser state of new slots",
    "method.criterion": "removal criterion",
    "method.initial_std": "initial scale",
    "method.kl_factor": "κ, factor of the KL term",
    "method.kl_shape": "shape of the KL warm-up",
    "method.kl_warmup": "share of epochs in the KL warm-up",
    "method.lam": "λ of the exponential criteria",
    "method.mean_init": "initial means",
    "method.prior_std": "prior scale",
    "method.replace_every": "M, minibatches between updates",
    "method.replace_fraction": "α, share of slots replaced at first",
    "method.replace_schedule": "schedule of the share replaced",
    "method.replace_until": "share of training with updates",
    "method.subspace_init": "first subspace",
    "training.lr": "learning rate",
    "training.lr_scale": "factor of the learning rate of scales",
}


def setting_name(setting: str) -> str:
    """Return the name for readers of a setting such as ``method.replace_every``."""
    return _NAMES.get(setting, setting.rpartition(".")[2].replace("_", " "))


@dataclass(frozen=True)
class Response:
    """Configurations that differ in one setting only.

    Parameters
    ----------
    setting
        Full key of the setting.
    method
        Method of all of them.
    others
        Values of the other settings that the suite varies, by key.
    config_ids
        Configurations by the value of the setting, in its order.
    """

    setting: str
    method: str
    others: dict[str, Any]
    config_ids: dict[Any, str]


def varied(runs: pd.DataFrame) -> list[Response]:
    """Find the settings that ``runs`` vary, and for each the configurations that differ in nothing else.

    Settings that always change together with another one are found under the first of them.
    """
    table = runs[runs["status"] == "done"].drop_duplicates("config_id")
    chosen = varied_columns(table)
    values = {column: [_plain(value) for value in table[column]] for column in chosen}
    methods, ids = table["method"].astype(str).tolist(), table["config_id"].astype(str).tolist()
    responses = []
    for column in chosen:
        rest = [other for other in chosen if other != column]
        groups: dict[tuple[Any, ...], dict[Any, str]] = {}
        for row, method in enumerate(methods):
            key = (method, *(values[other][row] for other in rest))
            groups.setdefault(key, {}).setdefault(values[column][row], ids[row])
        for (method, *others), found in groups.items():
            if len(found) > 1:
                told = {o.removeprefix(_PREFIX): v for o, v in zip(rest, others, strict=True)}
                responses.append(Response(column.removeprefix(_PREFIX), method, told, _sorted(found)))
    return responses


def varied_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of settings in which configurations of one method differ.

    ``table`` has a row for each configuration. A setting that a method does not have is no difference between
    configurations of that method.
    """
    methods = table["method"].astype(str).tolist()
    return [
        column
        for column in map(str, table)
        if column.startswith(_PREFIX) and column.removeprefix(_PREFIX) not in _NOT_VARIED
        if any(len(set(part)) > 1 for part in _by(methods, [_plain(v) for v in table[column]]).values())
    ]


def _by(keys: list[str], values: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, value in zip(keys, values, strict=True):
        found.setdefault(key, []).append(value)
    return found


def _sorted(found: dict[Any, str]) -> dict[Any, str]:
    """Return the values in order: numbers by size, others as they came."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
        return dict(sorted(found.items()))
    return found


def _plain(value: Any) -> Any:
    """Return a value of a column as one that can be compared; None where there is none."""
    if value is None or value is pd.NA or value != value:
        return None
    return (
        value.item()
        if hasattr(value, "item")
        else value
        if isinstance(value, (str, int, float))
        else str(value)
    )
