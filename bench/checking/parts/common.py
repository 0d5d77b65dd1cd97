"""Check what all parts of a run promise alike: a name, a version, a docstring, and no draws of their own."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.checking.verdicts import Failed
from methods.core import global_generators


def declared_line(cls: Any) -> str:
    """Return the first line of a class's docstring; raise ``Failed`` if it, name or version are not valid."""
    if not re.fullmatch(r"[a-z0-9_]+", str(cls.name)):
        raise Failed(f"name is {cls.name!r}; valid characters: a to z, 0 to 9 and _")
    if type(cls.version) is not int or cls.version < 1:
        raise Failed(f"version is {cls.version!r}; valid: a whole number from 1 on")
    doc = (vars(cls).get("__doc__") or "").strip()
    if not doc:
        raise Failed(f"{cls.__name__} has no docstring; lists and views show its first line")
    return str(doc.partition("\n")[0])


def require_global_streams_kept(call: Callable[[], object], what: str) -> None:
    """Raise ``Failed`` if ``call`` draws from a global random stream, whose state depends on the past."""
    with global_generators.restored():
        before = _global_streams()
        call()
        after = _global_streams()
    for name, state in before.items():
        if state != after[name]:
            raise Failed(f"{what} draws from the global random stream of {name}, or seeds it")


def _global_streams() -> dict[str, Any]:
    numpys = np.random.get_state(legacy=False)["state"]
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (numpys["key"].tolist(), numpys["pos"]),
        "random": random.getstate(),
    }
