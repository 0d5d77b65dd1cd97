"""Record where a result comes from: code, versions, machine and job."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from bench.results import run_folder
from bench.results.files import StoreError
from bench.results.run_folder import RunFolder
from bench.results.store import Store
from bench.runner.git_state import code
from methods.core.registry import IMPORT_ERRORS
from methods.kernels import library

#: Most earlier attempts at a run that are recorded.
MOST_EARLIER = 20

_EARLIER = ("started_at", "host", "git_sha", "torch_version", "device")
_LONGEST = 200
_SLURM = {
    "job_id": "SLURM_JOB_ID",
    "array_job_id": "SLURM_ARRAY_JOB_ID",
    "array_task_id": "SLURM_ARRAY_TASK_ID",
    "restarts": "SLURM_RESTART_COUNT",
    "nodes": "SLURM_JOB_NODELIST",
    "partition": "SLURM_JOB_PARTITION",
    "cpus_per_task": "SLURM_CPUS_PER_TASK",
}
#: File in which NVIDIA's driver states its version.
DRIVER = Path("/proc/driver/nvidia/version")


def provenance(spec: RunSpec, execution: Execution, store: Store) -> dict[str, Any]:
    """Return code, versions and machine of a run that starts, or continues, in this process.

    Uncommitted changes of the code are saved in the folder ``patches`` of the results folder. Earlier
    attempts at the run are listed under ``earlier``, the latest last.

    Parameters
    ----------
    spec
        The run.
    execution
        How it is computed.
    store
        Results folder.

    Raises
    ------
    StoreError
        If the results folder can't be written.
    """
    ours = code()
    if ours is not None:
        ours.keep(store.root)
    return {
        "git_sha": None if ours is None else ours.name,
        "ssvi_bench_version": package_version(),
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
        "packages": packages(spec),
        "host": socket.gethostname(),
        "cpu": cpu_model(),
        "affinity": affinity(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": execution.device,
        "gpu": gpu(execution.device),
        "threads": torch.get_num_threads(),
        "concurrency": execution.concurrency,
        "channels_last": execution.channels_last,
        "compile": execution.compile,
        "mode": execution.mode,
        "kernels": library.build(),
        "executor": execution.executor,
        "slurm": slurm(os.environ),
        "started_at": run_folder.timestamp(),
        "earlier": earlier(store.run(spec.run_id)),
    }


def packages(spec: RunSpec) -> dict[str, str]:
    """Return the versions of other packages that provide parts of the run, by name.

    Parts are the method, its criterion, the data set and the network.
    """
    found: dict[str, str] = {}
    for registry, item in spec.entries:
        if not registry.is_own(item):
            group = entry_points(group=registry.group)
            points = [point for point in group if _gives(point, item.__module__, item.name)]
            found |= {point.dist.name: point.dist.version for point in points if point.dist is not None}
    return found


def _gives(point: EntryPoint, module: str, name: str) -> bool:
    # the entry point's module may import the class from another module, so the class itself is compared
    try:
        item = point.load()
    except IMPORT_ERRORS:  # another plug-in, which is left out
        return False
    return (getattr(item, "__module__", None), getattr(item, "name", None)) == (module, name)


def affinity() -> list[int] | None:
    """Return the numbers of the cores that this process may use; None if the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def gpu(device: str) -> dict[str, Any] | None:
    """Return name, memory in bytes, driver and CUDA version of a GPU; None for the CPU."""
    if not device.startswith("cuda"):
        return None
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "driver": driver(),
        "cuda": torch.version.cuda,
    }


def driver() -> str | None:
    """Return the version of NVIDIA's driver; None if it is not known."""
    try:
        told = re.search(r"Kernel Module\D* (\d+(\.\d+)+) ", DRIVER.read_text().replace("x86_64", ""))
    except OSError:
        return None
    return told[1] if told else None


def slurm(environment: Mapping[str, str]) -> dict[str, int | str | None] | None:
    """Return the SLURM job of a process with this environment; None outside a job.

    Its keys are ``job_id array_job_id array_task_id restarts nodes partition cpus_per_task``; a value is
    None if SLURM did not set it.
    """
    if not environment.get("SLURM_JOB_ID"):
        return None
    told = {key: environment.get(name) for key, name in _SLURM.items()}
    told["restarts"] = told["restarts"] or "0"  # SLURM does not set it before a job is restarted
    return {key: int(text) if text and text.isdecimal() else text for key, text in told.items()}


def earlier(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the attempts so far, in short form, from a run's ``provenance.json``; none if it is broken."""
    try:
        last = folder.read("provenance")
    except StoreError:
        return []
    if last is None:
        return []
    before = last.get("earlier")
    attempts = [*(before if isinstance(before, list) else []), last]
    return [_brief(attempt) for attempt in attempts[-MOST_EARLIER:] if isinstance(attempt, dict)]


def _brief(attempt: Mapping[str, Any]) -> dict[str, Any]:
    job = attempt.get("slurm")
    return {
        **_short(attempt, _EARLIER),
        "slurm": _short(job, tuple(_SLURM)) if isinstance(job, dict) else None,
    }


def _short(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``keys`` that this program may have written."""
    found = {key: document.get(key) for key in keys}
    return {key: value for key, value in found.items() if isinstance(value, int | str) and _fits(value)}


def _fits(value: int | str) -> bool:
    return len(value) < _LONGEST if isinstance(value, str) else abs(value) < 2**63


@cache
def package_version() -> str | None:
    """Return the installed version of this package; None if it is not installed."""
    try:
        return version("ssvi-bench")
    except PackageNotFoundError:
        return None


@cache
def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
