"""Read what image sets have in common: the folder of their files, and their official parts by torchvision.

The folder is the one in the environment variable ``BENCH_DATA_ROOT``, or ``~/.cache/ssvi-bench/data``;
``python -m bench.download`` puts files there.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.base import Split
from methods.core.errors import UserError


def data_root() -> Path:
    """Return the folder of image sets: ``BENCH_DATA_ROOT``, or ``~/.cache/ssvi-bench/data``."""
    return Path(os.path.expanduser(os.environ.get("BENCH_DATA_ROOT") or "~/.cache/ssvi-bench/data"))


def fetch(source: str, train: bool, download: bool) -> Any:
    """Open one part of torchvision's data set ``source`` and verify its files.

    Raises
    ------
    RuntimeError
        Files are missing or damaged, and ``download`` is false.
    """
    import torchvision.datasets  # imported here since it takes seconds

    part = {"split": "train" if train else "test"} if source == "SVHN" else {"train": train}
    return getattr(torchvision.datasets, source)(data_root(), download=download, **part)


@cache
def official_part(name: str, source: str, train: bool) -> Split:
    """Load the official training or test part in the order of its files: uint8 (N, C, H, W), int64 labels.

    Raises
    ------
    UserError
        Files are missing or damaged.
    """
    try:
        found = fetch(source, train, download=False)
    except RuntimeError:
        raise UserError(
            f"data set {name}: missing or incomplete in {data_root()}; python -m bench.download {name} gets "
            "it, or set BENCH_DATA_ROOT to the folder that has it"
        ) from None
    images = torch.as_tensor(np.asarray(found.data))
    if images.dim() == 3:  # grey images have no axis for colour
        images = images.unsqueeze(1)
    elif source != "SVHN":  # CIFAR stores channels last
        images = images.permute(0, 3, 1, 2)
    labels = found.labels if source == "SVHN" else found.targets
    return Split(images.contiguous(), torch.as_tensor(np.asarray(labels)).long())
