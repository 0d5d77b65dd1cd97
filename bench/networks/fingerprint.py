"""Describe what a network is apart from its trained weights, to compare one that is built again with it.

A stored model holds parameters and buffers; the network itself is built again. It must be the same one:
the same modules and shapes, and equal buffers and attributes, such as a permutation drawn in ``__init__``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

#: Packages whose modules are described by name and ``extra_repr``, since their attributes differ by version.
_LIBRARIES = ("torch", "torchvision")
#: Attributes that every module has, and those that ``methods.layers.costs.trace`` sets.
_COMMON = {*vars(nn.Module()), "output_positions", "is_called"}
#: What messages say of a network in which ``difference`` found one.
CHANGED = (
    "built again, it is another network (seed the generators that it makes, and raise its version when its "
    "code changes)"
)
#: Relative difference of floating-point contents that counts as equal: machines round functions differently.
_ROUNDING = 1e-4


def fingerprint(network: nn.Module) -> dict[str, list[Any]]:
    """Return a description of a network as built, in plain values.

    Parameters
    ----------
    network
        The network, before a method exchanges its layers.

    Returns
    -------
    dict
        Name of each module to a list: a digest of its structure, whole numbers and texts, and then two
        numbers for each floating-point buffer and attribute: its norm, and its product with a fixed vector.
    """
    return {name or "the network": _described(module) for name, module in network.named_modules()}


def difference(trained: Mapping[str, list[Any]], rebuilt: Mapping[str, list[Any]]) -> str | None:
    """Return in words the first module in which two fingerprints differ; None if they are equal."""
    for name in [*trained, *(name for name in rebuilt if name not in trained)]:
        if name not in trained or name not in rebuilt:
            return f"{name} is only in the network {'as trained' if name in trained else 'built now'}"
        (one, *values), (other, *others) = trained[name], rebuilt[name]
        if one != other or len(values) != len(others):
            return f"{name} has other parts, shapes, buffers or attributes"
        for at in range(0, len(values), 2):
            size = max(values[at], others[at])
            if any(abs(values[at + i] - others[at + i]) > _ROUNDING * size for i in (0, 1)):
                return f"{name} has other numbers in a buffer or attribute"
    return None


def _described(module: nn.Module) -> list[Any]:
    cls, exact, floating = type(module), [], []
    for name, parameter in module.named_parameters(recurse=False):
        exact.append(f"{name} {tuple(parameter.shape)} {parameter.dtype} {parameter.requires_grad}")
    held = dict(module.named_buffers(recurse=False))
    if cls.__module__.partition(".")[0] in _LIBRARIES:
        exact.append(f"{cls.__name__}({module.extra_repr()})")
    else:
        held |= {name: value for name, value in vars(module).items() if name not in _COMMON}
    for name, value in _leaves(held):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
            exact.append(f"{name} {value.shape} {value.dtype}")
            floating += _summary(value)
        elif isinstance(value, np.ndarray):
            exact.append(f"{name} {value.shape} {value.dtype} {hashlib.blake2b(value.tobytes()).hexdigest()}")
        else:
            exact.append(f"{name} {value!r}")
    return [hashlib.blake2b("\n".join(exact).encode(), digest_size=8).hexdigest(), *floating]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays, numbers and texts within ``value`` with their names; leave out other objects."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        yield f"{name} length", len(value)
        for key, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, torch.Tensor):
        floating = value.is_floating_point()
        plain = value.detach().cpu()
        yield name, plain.double().numpy() if floating else plain.resolve_conj().numpy()
    elif isinstance(value, float | np.floating):
        yield name, np.asarray(value, dtype=np.float64)
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
        yield name, np.ascontiguousarray(value)
    elif value is None or isinstance(value, bool | int | str | np.generic):
        yield name, value


def _summary(values: np.ndarray) -> list[float]:
    """Return the norm of an array and its product with the vector cos(0), cos(1), …; not finite is 0."""
    parts = [values.real, values.imag] if values.dtype.kind == "c" else [values]
    flat = np.nan_to_num(
        np.concatenate([part.ravel() for part in parts]).astype(np.float64), posinf=0, neginf=0
    )
    return [math.sqrt(flat @ flat), float(flat @ np.cos(np.arange(flat.size)))]
