"""Runs with chosen scores, by which claims and findings are tested."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Deviations of three seeds, with mean 0.
NOISE = np.array([-1.0, 0.0, 1.0])


def runs(*configurations, seeds=3, **common):
    """Runs of configurations: each a mapping of columns, with the mean and spread of scores over seeds."""
    rows = []
    for given in configurations:
        own = {
            "method": "ssvi", "recipe": "default", "sparsity": 0.95, "criterion": "snr", "budget": "epochs",
            "accuracy": 0.9, "nll": 0.3, "ece": 0.02, "spread": 0.001, "status": "done", "scale": "demo",
            "dataset": "digits", "network": "mlp", "compression_vs_dense_vi": 13.0, "train_flops_ratio": 0.05,
        } | common | given  # fmt: skip
        own.setdefault("config_id", f"{own['method']} {own['sparsity']} {own['criterion']}")
        own.setdefault("config_label", own["config_id"])
        for seed in range(seeds):
            noise = own["spread"] * NOISE[seed % 3]
            scores = {"accuracy": own["accuracy"] + noise, "nll": own["nll"] - noise}
            rows.append({**own, **scores, "seed": seed, "run_id": f"{own['config_id']} {seed}"})
    return pd.DataFrame(rows).drop(columns="spread")


DENSE = {
    "method": "dense_vi", "sparsity": 0.0, "spread": 0.0, "accuracy": 0.9, "config_id": "dense",
    "compression_vs_dense_vi": 1.0, "train_flops_ratio": 1.0,
}  # fmt: skip
