"""Hand-made rows of the table ``runs`` and looks, for tests of figures."""

from __future__ import annotations

import pandas as pd

from bench.figures import Look
from bench.reporting.collecting import criterion_styles
from bench.results.tables.columns import kinds

STYLES = {
    name: dict(zip(("label", "hue", "hue_dark", "marker", "dash", "order"), style, strict=True))
    for name, style in {
        "ssvi": ("SSVI", "#414AAF", "#3767DB", "circle", "solid", 0),
        "dense_vi": ("Dense VI", "#3A3A3A", "#E0E0E0", "square", "dash", 10),
        "rigl": ("RigL", "#3099BA", "#32A4A9", "cross", "dot", 60),
    }.items()
}
LOOK = Look("light", STYLES, criterion_styles())


def identifier(number: int) -> str:
    """A run's or configuration's id."""
    return f"{number:012x}"


def runs(*configurations: dict, **common) -> pd.DataFrame:
    """A row a seed of each configuration. Values that are lists are by seed; others hold for all seeds."""
    rows = []
    for number, given in enumerate(configurations):
        known = {**common, **given}
        seeds = max([len(value) for value in known.values() if isinstance(value, list)], default=1)
        for seed in range(seeds):
            own = {key: value[seed] if isinstance(value, list) else value for key, value in known.items()}
            if own.get("seed", seed) is None:
                continue
            label = f"{own.get('method', 'ssvi')} sparsity={own.get('sparsity', 0):g}"
            rows.append(
                {
                    "run_id": identifier(1000 * number + seed), "config_id": identifier(number),
                    "config_label": label, "suite": "given", "scale": "demo", "recipe": "default",
                    "status": "done", "method": "ssvi", "dataset": "digits", "network": "mlp", "seed": seed,
                    "sparsity": 0.0, "ece_null": 0.01, "git_sha": "0a1b2c3", "started_at": "2026-11-01",
                    **own,
                }
            )  # fmt: skip
    frame = pd.DataFrame(rows)
    for column, kind in kinds("runs").items():
        if column not in frame:
            frame[column] = float("nan") if kind in ("number", "integer") else None
    return frame
