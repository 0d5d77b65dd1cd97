"""Results folders written by hand: what a run leaves behind, without training anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

METRICS = (
    "accuracy",
    "nll",
    "brier",
    "ece",
    "ece_null",
    "ece_marginal_l2",
    "ece_adaptive",
    "ece_classwise",
    "ece_signed",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "entropy",
    "mutual_information",
    "confidence",
    "entropy_right",
    "entropy_wrong",
    "mutual_information_right",
    "mutual_information_wrong",
    "error_auroc",
    "aurc",
)
#: Of a predictor with temperature scaling.
SCALED = (
    *(name for name in METRICS if not name.startswith("mutual_information")),
    *("temperature", "temperature_spread"),
)
CRITERIA = ("abs_mean", "snr", "mean_abs", "mean_exp", "snr_exp")
LAYERS = ("fc1", "fc2", "classifier")
QUANTILES = [f"{group}_q{q}" for group in ("kept", "removed", "added") for q in (10, 50, 90)]

Files = dict[str, Any]


def identifier(*parts: object) -> str:
    """A run id: 12 hexadecimal digits that depend on ``parts`` alone."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()


def config(seed: int = 0, method: str = "ssvi", epochs: int = 4, **options: Any) -> dict[str, Any]:
    """A resolved configuration; ``options`` are the method's (sparsity and criterion, if it is sparse)."""
    if method == "ssvi":
        options = {"sparsity": 0.9, "criterion": "snr", "addition": "grad_sampled"} | options
    return {
        "schema": 1,
        "dataset": {"name": "digits", "val": 250, "test": 450},
        "network": {"name": "mlp", "hidden": [256, 256]},
        "method": {"name": method, **options, "version": 1},
        "training": {
            "epochs": epochs, "batch_size": 64, "optimiser": "sgd", "lr": 0.05, "lr_scale": None,
            "momentum": 0.9, "weight_decay": 0.0, "schedule": "cosine", "clip_norm": None,
            "budget": "epochs",
        },
        "evaluation": {"samples": 10},
        "protocol": "holdout",
        "precision": "float32",
        "seed": seed,
    }  # fmt: skip


def run_files(
    configuration: dict[str, Any],
    *,
    status: str = "done",
    accuracy: float = 0.95,
    stages: tuple[str, ...] = ("train",),
    updates: int = 3,
) -> Files:
    """The documents and tables of one run, by name; change them before ``write_run``.

    accuracy: of the predictor ``samples`` on the test part after the last stage.
    """
    run_id = identifier(configuration)
    config_id = identifier({key: value for key, value in configuration.items() if key != "seed"})
    epochs, done = configuration["training"]["epochs"], status == "done"
    files: Files = {
        "spec": {"schema": 1, "run_id": run_id, "config_id": config_id, "config": configuration},
        "status": {
            "status": status,
            "error": "loss is nan at step 7 of stage 'train'" if status == "failed" else None,
            "error_kind": "nan" if status == "failed" else None,
            "stage": stages[-1], "stage_index": len(stages) - 1, "stages": len(stages),
            "epoch": epochs, "epochs": epochs, "step": 18 * epochs, "steps": 18 * epochs,
            "val_accuracy": accuracy - 0.01,
            "started_at": "2026-01-02T03:04:05.678+00:00", "updated_at": "2026-01-02T03:04:15.678+00:00",
            "attempt": 1, "host": "node1", "pid": 4242,
        },
        "provenance": {
            "git_sha": "0123abcd", "ssvi_bench_version": "0.1.0", "torch_version": "2.11.0",
            "python_version": "3.12.1", "numpy_version": "2.4.0", "host": "node1", "cpu": "a processor",
            "device": "cpu", "threads": 1, "concurrency": 2, "executor": "local",
            "channels_last": False, "compile": False, "mode": "auto", "kernels": "x86_64_v4 0123456789ab",
            "started_at": "2026-01-02T03:04:05.900+00:00", "affinity": [0, 1], "gpu": None, "slurm": None,
            "memory_bytes": 16 * 2**30, "packages": {}, "earlier": [],
        },
        "history": [
            *_history(stages, epochs),
            *({"stage": stages[0], "epoch": 1 + u, "step": 18 * (1 + u), "split": "train",
               "metric": "iou_final", "value": 0.5 + 0.1 * u} for u in range(updates)),
            *({"stage": stages[0], "epoch": 1 + u, "step": 18 * (1 + u), "split": "train",
               "metric": f"free_energy_{when}", "value": value} for u in range(updates)
              for when, value in (("before", 1.2 - 0.1 * u), ("after", 1.25 - 0.1 * u))),
        ],
        "layers": [
            {"stage": stages[0], "epoch": 1 + u, "step": 18 * (1 + u), "layer": layer, "slots": 1638,
             "replaced": 40 - u, "removed": 40 - u, "iou_previous": 0.95, "iou_initial": 0.9 - 0.1 * u,
             **{column: round(0.1 * i + 0.01 * u, 3) for i, column in enumerate(QUANTILES)},
             "regrown": 3 * u, "age_q50": 18 * u, "removed_age_q50": 9 * u}
            for u in range(updates) for layer in LAYERS
        ],
        "criteria_pairs": [
            {"stage": stages[0], "epoch": 1 + u, "step": 18 * (1 + u), "layer": layer,
             "criterion_used": configuration["method"].get("criterion"),
             "criterion_a": a, "criterion_b": b, "iou": 0.512345678,
             "rank_correlation": -0.25 if b == "snr" else None}
            for u in range(updates) for layer in LAYERS
            for i, a in enumerate(CRITERIA) for b in CRITERIA[i + 1 :]
        ],
    }  # fmt: skip
    if done:
        files["metrics"] = _metrics(stages, accuracy)
        files["costs"] = {
            "params_total": 84490, "params_active": 8889, "density": 0.1, "train_flops": 2.5e11,
            "train_flops_rigl_ratio": 0.12, "stored_nll_change": 0.0002, "energy_joules": 40.5,
            "peak_device_memory_bytes": None,
            "dense_vi_train_flops": 1e12, "deterministic_train_flops": 5e11, "inference_flops": 16384.0,
            "dense_inference_flops": 163840.0, "checkpoint_bytes": 100_000, "dense_vi_bytes": 700_000,
            "deterministic_bytes": 350_000, "train_seconds": 2.0, "evaluation_seconds": 0.5,
            "overhead_seconds": 0.25, "wall_seconds": 2.75, "images_per_second": 12345.6,
            "seconds_per_step": 0.01, "peak_memory_bytes": 400_000_000,
            "epochs_factor": 1.0, "epochs_capped": False, "epochs_total": epochs * len(stages),
            "train_examples": 1097, "test_examples": 450, "test_set": "00c0ffee0000",
            "steps_total": 18 * epochs * len(stages), "events": {"step": 18 * epochs},
            "execution": "sparse", "layers_run": {"0": "sparse"},
        }  # fmt: skip
    return files


def write_run(root: Path, files: Files) -> str:
    """Write what ``run_files`` gave as a run folder of the results folder ``root``; returns the run id."""
    run_id: str = files["spec"]["run_id"]
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, list):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return run_id


def cell(configuration: dict[str, Any], recipe: str | None = "default", **fields: Any) -> dict[str, Any]:
    """The cell of a plan for a configuration; ``fields`` (omitted, alias_of, label…) replace its own."""
    method = configuration["method"]
    varied = {key: method[key] for key in ("sparsity", "criterion") if key in method}
    labels = {"method": method["name"], "dataset": configuration["dataset"]["name"]}
    return {
        "run_id": identifier(configuration),
        "config_id": identifier({key: value for key, value in configuration.items() if key != "seed"}),
        "label": " ".join([method["name"], *(f"{key}={value}" for key, value in varied.items())]),
        "recipe": recipe,
        "labels": {**labels, **varied, "seed": configuration["seed"]},
        "omitted": None,
        "alias_of": None,
    } | fields


def plan(
    cells: list[dict[str, Any]], suite: str = "criteria_ablation", scale: str = "demo"
) -> dict[str, Any]:
    """A plan with ``cells``."""
    return {
        "schema": 1,
        "suite": suite,
        "scale": scale,
        "question": "Which criterion removes the right weights?",
        "reference": {"method": "ssvi", "criterion": "snr"},
        "command": f"python -m bench.grid --suite {suite}",
        "cells": cells,
    }


def _history(stages: tuple[str, ...], epochs: int) -> list[dict[str, Any]]:
    rows = []
    for stage in stages:
        for epoch in range(1, epochs + 1):
            here = {"stage": stage, "epoch": epoch, "step": 18 * epoch}
            train = {"loss": 2.3 / epoch, "kl": 1e5, "kl_weight": 4e-5, "lr": 0.05, "seconds": 0.04}
            val = {"accuracy": 1 - 0.9 / epoch, "nll": 2.0 / epoch}
            for split, values in (("train", train), ("val", val)):
                rows += [{**here, "split": split, "metric": m, "value": value} for m, value in values.items()]
    return rows


def _metrics(stages: tuple[str, ...], accuracy: float) -> dict[str, Any]:
    """Every figure differs between stages, predictors and splits, so that a wrong choice shows."""
    metrics, calibration, curve, ended = [], [], [], []
    for number, stage in enumerate(stages):
        ended.append(
            {"stage": stage, "stage_index": number, "density": 0.1, "params_active": 2000,
             "epochs_total": 20 * (number + 1), "steps_total": 360 * (number + 1),
             "train_flops": 1e9 * (number + 1)}
        )  # fmt: skip
        for predictor in ("mean", "mean+temperature", "samples", "samples+temperature"):
            taken = SCALED if "+temperature" in predictor else METRICS
            for split, n in (("val", 250), ("test", 450)):
                here = {"stage": stage, "predictor": predictor, "split": split}
                lowered = 0.1 * (stage != stages[-1]) + 0.02 * predictor.startswith("mean")
                lowered += 0.01 * (split == "val") + 0.005 * predictor.endswith("+temperature")
                for i, metric in enumerate(taken):
                    value = accuracy - lowered if metric == "accuracy" else 0.01 * (i + 1) + lowered
                    plain = {"shift": None, "severity": None, "metric": metric, "value": value, "n": n}
                    metrics.append({**here, **plain})
                for b in range(15):
                    calibration.append(
                        {**here, "bin": b, "lower": b / 15, "upper": (b + 1) / 15, "count": 24 if b else 0,
                         "confidence": (b + 0.5) / 15 if b else None, "accuracy": b / 15 if b else None}
                    )  # fmt: skip
                for part in range(1, 21):
                    curve.append({**here, "coverage": part / 20, "risk": lowered * part / 20})
    return {"metrics": metrics, "calibration": calibration, "selective": curve, "stages": ended}
