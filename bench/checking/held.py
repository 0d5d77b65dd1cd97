"""Count the numbers that training keeps from step to step, wherever a method stores them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

#: How many levels of nested objects are searched for tensors.
DEPTH = 8
_SEQUENCES = (list, tuple, set, frozenset, deque)
#: Types that are not searched: they hold no state of a method, or refer to all of the program.
_CLOSED = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType, str, bytes)
#: Attributes that every module has are skipped, because registered tensors are found by their names.
_EMPTY = nn.Module()
#: Attributes of every optimiser that are counted separately or hold only settings.
_OPTIMISERS_OWN = ("state", "param_groups", "defaults")
_LIBRARIES = ("builtins", "numpy", "torch")


def numbers_held(
    module: nn.Module, optimiser: torch.optim.Optimizer, memory: Mapping[str, Any], method: object
) -> dict[str, int]:
    """Count the numbers that are kept from step to step, by what holds them.

    These are parameters and buffers, the optimiser's state and groups, ``Context.memory``, and plain
    attributes of parameters, modules, the optimiser, the method and its classes: tensors, containers of
    tensors, and other objects. A tensor with several names counts once. Gradients do not count, as they are
    not kept.

    Parameters
    ----------
    module, optimiser
        The trained module and its optimiser.
    memory
        ``Context.memory`` of the run.
    method
        The method object.
    """
    roots = [*module.modules(), method, optimiser]
    count, found = _Count(roots), dict[str, int]()

    def add(name: str, value: Any) -> None:
        if numbers := count(value):
            found[name] = found.get(name, 0) + numbers

    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        found[name] = count.own(tensor)
    for name, holder in (*tensors, *module.named_modules()):
        for key, value in _attributes(holder):
            add(f"{name}.{key}".lstrip("."), value)
    for parameter, state in optimiser.state.items():
        for key, value in state.items():
            add(f"optimiser's {key} of {names.get(parameter, 'a parameter that is gone')}", value)
    for group in optimiser.param_groups:
        for key, value in group.items():
            add(f"the optimiser's group's {key}", value if key != "params" else None)
    for key, value in _attributes(optimiser):
        add(f"the optimiser's {key}", value if key not in _OPTIMISERS_OWN else None)
    for key, value in memory.items():
        add(f"memory[{key!r}]", [value])
    for key, value in _attributes(method):
        add(f"the method object's {key}", value)
    for cls in type(method).__mro__:
        for key, value in vars(cls).items():
            add(f"{cls.__name__}.{key}", value)
    return found


def _attributes(holder: object) -> Iterator[tuple[str, Any]]:
    """Yield the plain attributes of an object, slots included; of a module, without those of every module."""
    for key, value in getattr(holder, "__dict__", {}).items():
        if not (isinstance(holder, nn.Module) and key in vars(_EMPTY)):
            yield key, value
    for cls in type(holder).__mro__:
        slots = vars(cls).get("__slots__", ())
        for key in (slots,) if isinstance(slots, str) else slots:
            if key not in ("__dict__", "__weakref__") and hasattr(holder, key):
                yield key, getattr(holder, key)


class _Count:
    """Counts the numbers in values, each object once; a plain number counts only within a container.

    Parameters
    ----------
    known
        Objects that are not entered, because they are counted separately.
    """

    def __init__(self, known: list[Any]) -> None:
        self._seen = {id(value): value for value in known}  # holds the objects, so that no id is used again

    def own(self, tensor: torch.Tensor | np.ndarray) -> int:
        """Return the size of a tensor that was not counted before, without its attributes."""
        if id(tensor) in self._seen:
            return 0
        self._seen[id(tensor)] = tensor
        return tensor.numel() if isinstance(tensor, torch.Tensor) else tensor.size

    def __call__(self, value: Any, depth: int = DEPTH) -> int:
        if value is None or depth == 0 or isinstance(value, (int, float, complex, *_CLOSED)):
            return 0
        if id(value) in self._seen:
            return 0
        if isinstance(value, torch.Tensor | np.ndarray):
            return self.own(value) + self._all(value, depth)
        self._seen[id(value)] = value
        if isinstance(value, (Mapping, *_SEQUENCES)):
            items = value.values() if isinstance(value, Mapping) else value
            return sum(1 if isinstance(item, int | float) else self(item, depth - 1) for item in items)
        if isinstance(value, nn.Module):  # a module that its parent has not registered
            parts = (*value.parameters(recurse=False), *value.buffers(recurse=False), *value.children())
            return sum(self(part, depth - 1) for part in parts) + self._all(value, depth)
        return 0 if type(value).__module__.partition(".")[0] in _LIBRARIES else self._all(value, depth)

    def _all(self, holder: object, depth: int) -> int:
        return sum(self(value, depth - 1) for _, value in _attributes(holder))
