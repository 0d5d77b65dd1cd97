"""Define how columns are shown on axes and in tables: name, unit, digits, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from bench.results.tables.columns import SCORES, definitions


@dataclass(frozen=True)
class Axis:
    """Describe how a column is shown.

    Parameters
    ----------
    column
        Name of the column.
    name
        Name for readers.
    factor
        Shown value divided by the stored value.
    digits
        Decimal places of the shown value.
    log
        Whether the axis is logarithmic.
    unit
        Unit of the shown value.
    table
        Section of ``bench/columns.yaml`` that defines the column.
    signed
        Whether values may be negative.
    """

    column: str
    name: str
    factor: float = 1.0
    digits: int = 3
    log: bool = False
    unit: str = ""
    table: str = "runs"
    signed: bool = False

    @property
    def better(self) -> str | None:
        """Return which direction is an improvement: ``higher``, ``lower``, or None for neither."""
        found: str | None = _defined(self.table, self.column)["better"]
        return found

    @property
    def least(self) -> float | None:
        """Return the least possible stored value; None if there is none."""
        return None if self.signed else 0.0

    @property
    def most(self) -> float | None:
        """Return the greatest possible stored value; None if there is none."""
        return 1.0 if self.unit.startswith("%") and not self.signed else None

    @property
    def definition(self) -> str:
        """Return the definition in ``bench/columns.yaml``."""
        return str(_defined(self.table, self.column)["definition"])

    @property
    def step(self) -> str:
        """Return the unit of a difference of shown values: points where values are in per cent."""
        return "points" if self.unit == "%" else self.unit

    @property
    def title(self) -> str:
        """Return the name with its unit and an arrow in the better direction."""
        unit = f" ({self.unit})" if self.unit else ""
        arrow = {"higher": " ↑ better", "lower": " ↓ better"}.get(self.better or "", "")
        return f"{self.name}{unit}{arrow}"


def _defined(table: str, column: str) -> Mapping[str, Any]:
    """Return the entry in ``bench/columns.yaml``."""
    return definitions()[table][column]


_AXES = (
    Axis("accuracy", "accuracy", 100, 2, unit="%"),
    Axis("nll", "NLL", digits=3, unit="nats"),
    Axis("brier", "Brier score", digits=3),
    Axis("ece", "ECE", 100, 2, unit="%"),
    Axis("posterior_gain_nll", "gain in NLL by averaging", digits=4, unit="nats", signed=True),
    Axis("posterior_gain_ece", "gain in ECE by averaging", 100, 2, unit="%", signed=True),
    Axis("sparsity", "sparsity", 100, 1, unit="% removed"),
    Axis("density", "density", 100, 1, log=True, unit="% of weights"),
    Axis("train_flops_ratio", "training FLOPs", digits=3, log=True, unit="of dense VI"),
    Axis("train_seconds", "training time", digits=1, log=True, unit="s"),
    Axis("checkpoint_bytes", "stored model", digits=0, log=True, unit="bytes"),
    Axis("compression_vs_dense_vi", "compression", digits=1, log=True, unit="× smaller than dense VI"),
    Axis("inference_flops_ratio", "inference FLOPs", digits=3, log=True, unit="of dense VI"),
    Axis("step_time_ratio", "measured step time", digits=3, log=True, unit="of dense VI"),
    Axis("peak_memory_ratio", "measured peak memory", digits=3, log=True, unit="of dense VI"),
    Axis("wall_seconds", "time of a run", digits=1, log=True, unit="s"),
    Axis("seconds_per_step", "time of a step", 1000, 2, log=True, unit="ms"),
)
#: Columns that are costs.
COSTS = (
    "compression_vs_dense_vi",
    "density",
    "sparsity",
    "train_flops_ratio",
    "train_seconds",
    "checkpoint_bytes",
)


def ranked_by(plan: Mapping[str, Any]) -> str:
    """Return the score by which a plan ranks configurations; accuracy if it names no known score."""
    named = plan.get("rank_by")
    return named if named in SCORES else SCORES[0]


def ends(mean: pd.Series, half_width: pd.Series, axis: Axis) -> tuple[pd.Series, pd.Series]:
    """Return the lower and upper ends of whiskers in shown values; they end where possible values do.

    Parameters
    ----------
    mean, half_width
        Stored values; a half width that is NaN makes no whiskers.
    axis
        The axis on which they stand.
    """
    half = half_width.fillna(0.0)
    low, high = (mean - half).clip(lower=axis.least), (mean + half).clip(upper=axis.most)
    return low * axis.factor, high * axis.factor


def whiskers(mean: pd.Series, half_width: pd.Series, axis: Axis) -> dict[str, Any]:
    """Return plotly's data of error bars with these ``ends``."""
    low, high = ends(mean, half_width, axis)
    middle = mean * axis.factor
    return {"type": "data", "array": (high - middle).tolist(), "arrayminus": (middle - low).tolist()}


class _Axes(dict[str, Axis]):
    def __missing__(self, column: str) -> Axis:
        raise ValueError(f"no axis shows the column {column!r}; valid: {', '.join(self)}")


@cache
def axes() -> dict[str, Axis]:
    """Return every axis by its column; a column without one is a ``ValueError``."""
    return _Axes({axis.column: axis for axis in _AXES})
