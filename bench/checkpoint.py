"""Checkpoints: written under another name, then renamed; read without executing anything."""

from __future__ import annotations

import errno
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

#: What ``load`` raises for a file that is damaged, or holds something else than ``save`` was meant for.
UNREADABLE = (EOFError, LookupError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)


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
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # of a file cut short, where torch seeks before its beginning
            raise EOFError("the file ends too soon") from error
        raise
    return state


def why(error: BaseException) -> str:
    """Why a file could not be read (one of ``UNREADABLE``), in one short line."""
    text = str(error)
    if found := re.search(r"Unsupported global: GLOBAL (\S+)", text):
        return f"it holds a {found[1]}"
    if found := re.search(r"WeightsUnpickler error: ([^\n]+)", text):
        text = found[1]
    first = text.strip().partition("\n")[0]
    return first[:200] or type(error).__name__
