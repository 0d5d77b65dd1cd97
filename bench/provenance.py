"""Where a result comes from: code, versions, machine."""

from __future__ import annotations

import platform
import socket
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.execution import Execution
from methods.kernels import library


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def provenance(execution: Execution) -> dict[str, Any]:
    """Code, versions and machine of a run that starts here and now."""
    return {
        "git_sha": git_sha(),
        "ssvi_bench_version": package_version(),
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
        "host": socket.gethostname(),
        "cpu": cpu_model(),
        "device": execution.device,
        "threads": torch.get_num_threads(),
        "concurrency": execution.concurrency,
        "channels_last": execution.channels_last,
        "compile": execution.compile,
        "mode": execution.mode,
        "kernels": library.build(),
        "executor": execution.executor,
        "started_at": now(),
    }


@cache
def git_sha() -> str | None:
    """The commit of the code in use, with ``+`` when its files differ from it; None outside a checkout.

    A file that was added to ``bench`` or ``methods`` is such a difference, tracked or not.
    """
    root = Path(__file__).resolve().parent.parent
    commands = (
        ["rev-parse", "--show-toplevel"],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--", "bench", "methods"],
    )
    try:
        top, sha, changes = (
            subprocess.run(
                ["git", *command], cwd=root, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if Path(top).resolve() != root:  # installed inside a repository of somebody else's
        return None
    return sha + ("+" if changes else "")


@cache
def package_version() -> str | None:
    """The installed version of this package, None when it is used without being installed."""
    try:
        return version("ssvi-bench")
    except PackageNotFoundError:
        return None


@cache
def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
