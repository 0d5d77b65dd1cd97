"""What can stand on an axis or in a column: names for readers, factors, digits, which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.results.tables.columns import definitions


@dataclass(frozen=True)
class Axis:
    """A column of ``runs`` as views show it.

    name: for readers; factor: shown value over stored value, digits of the shown one; log: whether it
    spans orders of magnitude; unit: behind the number; table: where it is defined, if not in ``runs``.
    """

    column: str
    name: str
    factor: float = 1.0
    digits: int = 3
    log: bool = False
    unit: str = ""
    table: str = "runs"

    @property
    def better(self) -> str | None:
        """``higher``, ``lower``, or None where neither is an improvement."""
        found: str | None = _defined(self.table, self.column)["better"]
        return found

    @property
    def definition(self) -> str:
        """What it is, as ``bench/columns.yaml`` has it."""
        return str(_defined(self.table, self.column)["definition"])

    @property
    def title(self) -> str:
        """The name with its unit, and an arrow to where it is better."""
        unit = f" ({self.unit})" if self.unit else ""
        arrow = {"higher": " ↑ better", "lower": " ↓ better"}.get(self.better or "", "")
        return f"{self.name}{unit}{arrow}"


@cache
def _defined(table: str, column: str) -> Mapping[str, Any]:
    """What ``bench/columns.yaml`` says: kept, as reading it takes milliseconds and axes are asked often."""
    return definitions()[table][column]


_AXES = (
    Axis("accuracy", "accuracy", 100, 2, unit="%"),
    Axis("nll", "NLL", digits=3, unit="nats"),
    Axis("brier", "Brier score", digits=3),
    Axis("ece", "ECE", 100, 2, unit="%"),
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
#: What is scored, and what it costs.
SCORES = ("accuracy", "nll", "brier", "ece")
COSTS = ("compression_vs_dense_vi", "sparsity", "train_flops_ratio", "train_seconds", "checkpoint_bytes")


def ranked_by(plan: Mapping[str, Any]) -> str:
    """The score that a plan ranks configurations by; accuracy where it names none that there is."""
    named = plan.get("rank_by")
    return named if named in SCORES else SCORES[0]


@cache
def axes() -> dict[str, Axis]:
    """Every one, by column."""
    return {axis.column: axis for axis in _AXES}
