"""Checkpoints: written under another name, then renamed; read without executing anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, nested) so that readers see all of it or the old one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, device: str = "cpu") -> dict[str, Any]:
    """What ``save`` wrote; nothing in the file is executed (``weights_only``)."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
