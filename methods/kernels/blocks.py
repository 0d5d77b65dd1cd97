"""Activations in blocks of 16 examples whose numbers lie side by side: the layout of the kernels.

``Blocks`` replaces a tensor (examples, channels, height, width) or (examples, features) on its way
through a network. The usual operations between layers (normalise, rectify, add, pool, flatten) work in
this layout; every other function receives the plain tensor. The numbers are those of the plain tensor,
and gradients pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from methods.kernels.library import library, pointer, readable
from methods.kernels.normalise import Normalisation

LANES = 16


class Blocks:
    """A tensor in the layout of the kernels.

    Parameters
    ----------
    values
        Tensor (ceil(examples / 16), channels, …, 16), contiguous; lanes beyond the last example are
        zero. Or a batch normalisation that has not been computed yet: an addition and a ReLU that follow
        it are then computed in the same pass.
    examples
        Number of examples.
    """

    def __init__(self, values: torch.Tensor | Normalisation, examples: int) -> None:
        self._values: torch.Tensor | Normalisation | None = values  # None: only the plain tensor is current
        self._plain: torch.Tensor | None = None
        self._version = 0  # version counter of the plain tensor at which both had the same numbers
        self._with_gradients = torch.is_grad_enabled()  # gradient mode of later computations
        self.examples = examples

    @classmethod
    def of(cls, tensor: torch.Tensor | Blocks) -> Blocks:
        """Return ``tensor`` in blocks; a ``Blocks`` is returned as it is."""
        if isinstance(tensor, Blocks):
            return tensor
        return cls(_ToBlocks.apply(tensor), len(tensor))

    def _true_values(self) -> torch.Tensor | Normalisation | None:
        """Return the numbers in the layout; None if the plain tensor was changed in place since."""
        if self._plain is not None and self._plain._version != self._version:
            self._values, self._version = None, self._plain._version
        return self._values

    @property
    def values(self) -> torch.Tensor:
        """The numbers in the layout."""
        values = self._true_values()
        if isinstance(values, torch.Tensor):
            return values
        with torch.set_grad_enabled(self._with_gradients):
            found: torch.Tensor = _ToBlocks.apply(self._plain) if values is None else values.compute()
        self._values = found
        return found

    def waiting(self) -> Normalisation | None:
        """Return the normalisation still to be computed, if the gradient mode allows it; else None."""
        values = self._true_values()
        now = self._with_gradients == torch.is_grad_enabled()
        return values if isinstance(values, Normalisation) and now else None

    @property
    def shape(self) -> torch.Size:
        """Shape of the plain tensor."""
        values = self._true_values()
        if values is None:
            return self.plain().shape
        inner = values.x if isinstance(values, Normalisation) else values
        return torch.Size((self.examples, *inner.shape[1:-1]))

    dtype = torch.float32
    device = torch.device("cpu")

    def plain(self) -> torch.Tensor:
        """Return the plain tensor."""
        if self._plain is None:
            # leave inference mode, because its tensors have no version counter
            with torch.inference_mode(False), torch.set_grad_enabled(self._with_gradients):
                self._plain = _FromBlocks.apply(self.values, self.examples)
            self._version = self._plain._version
        return self._plain

    def _with(self, values: torch.Tensor | Normalisation) -> Blocks:
        return Blocks(values, self.examples)

    def _become(self, other: Blocks) -> Blocks:
        """Take over the contents of ``other``, as functions that work in place do."""
        self._values, self._plain, self._with_gradients = other._values, None, other._with_gradients
        return self

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = _FUNCTIONS.get(func)
        if known is not None:
            first = (kwargs["input"],) if "input" in kwargs else ()  # built-in functions name it so
            rest = {name: value for name, value in kwargs.items() if name != "input"}
            result = known(*first, *args, **rest)
            if result is not NotImplemented:
                return result
        return func(*plain_of(args), **plain_of(kwargs))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.plain(), name)

    def __add__(self, other: Any) -> Any:
        result = _add(self, other)
        return self.plain() + plain_of(other) if result is NotImplemented else result

    __radd__ = __add__

    def __iadd__(self, other: Any) -> Any:
        result = _add(self, other)
        return _in_place("__iadd__")(self, other) if result is NotImplemented else self._become(result)

    def size(self, dim: int | None = None) -> Any:
        """As ``torch.Tensor.size``."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """As ``torch.Tensor.dim``."""
        return len(self.shape)

    def relu(self) -> Blocks:
        """As ``torch.Tensor.relu``."""
        return _relu(self)

    def relu_(self) -> Blocks:
        """As ``torch.Tensor.relu_``."""
        return _relu(self, inplace=True)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        """As ``torch.Tensor.flatten``."""
        result = _flatten(self, start_dim, end_dim)
        return self.plain().flatten(start_dim, end_dim) if result is NotImplemented else result

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        """As ``torch.Tensor.mean``."""
        result = _mean(self, *args, **kwargs)
        return self.plain().mean(*args, **kwargs) if result is NotImplemented else result


def _forward_plain(name: str) -> Callable[..., Any]:
    def operate(self: Blocks, *others: Any) -> Any:
        return getattr(self.plain(), name)(*plain_of(others))

    return operate


def _in_place(name: str) -> Callable[..., Any]:
    def operate(self: Blocks, *others: Any) -> Any:
        getattr(self.plain(), name)(*plain_of(others))
        return self

    return operate


_PLAIN_OPERATORS = (
    "sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul neg abs invert "
    "and or xor getitem len iter contains bool float int eq ne lt le gt ge"
)
for _name in _PLAIN_OPERATORS.split():
    setattr(Blocks, f"__{_name}__", _forward_plain(f"__{_name}__"))
for _name in ["isub", "imul", "itruediv", "ipow", "setitem"]:
    setattr(Blocks, f"__{_name}__", _in_place(f"__{_name}__"))
Blocks.__hash__ = object.__hash__  # type: ignore[method-assign]


def plain_of(value: Any) -> Any:
    """Return ``value`` with every ``Blocks`` in it replaced by its plain tensor."""
    if isinstance(value, Blocks):
        return value.plain()
    if isinstance(value, tuple | list):
        items = [plain_of(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: plain_of(item) for key, item in value.items()}
    return value


# -- the layout -------------------------------------------------------------------------------


class _ToBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plain: torch.Tensor) -> torch.Tensor:
        ctx.examples = len(plain)
        return to_blocks(plain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return from_blocks(grad, ctx.examples)


class _FromBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, examples: int) -> torch.Tensor:
        return from_blocks(values, examples)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return to_blocks(grad), None


def to_blocks(plain: torch.Tensor) -> torch.Tensor:
    """Convert a float32 tensor (N, …) to (ceil(N/16), …, 16); lanes beyond N are zero."""
    plain = plain.contiguous()
    n, rest = len(plain), plain.shape[1:]
    out = plain.new_empty((-(-n // LANES), *rest, LANES))
    library().block(pointer(plain), n, rest.numel(), pointer(out), torch.get_num_threads())
    return out


def from_blocks(values: torch.Tensor, examples: int) -> torch.Tensor:
    """Convert blocks back to a plain tensor of ``examples`` examples; the inverse of ``to_blocks``."""
    values = values.contiguous()
    rest = values.shape[1:-1]
    out = values.new_empty((examples, *rest))
    library().unblock(pointer(values), examples, rest.numel(), pointer(out), torch.get_num_threads())
    return out


# -- functions that keep the layout; they return NotImplemented for arguments they cannot handle --


def _same(*values: Any) -> bool:
    return all(isinstance(value, Blocks) for value in values) and len({v.shape for v in values}) == 1


def _add(x: Any, other: Any, *, alpha: float = 1) -> Any:
    if alpha != 1 or not _same(x, other):
        return NotImplemented
    for one, added in ((x, other), (other, x)):
        pending = one.waiting()
        if pending is not None and pending.residual is None:
            return one._with(pending.plus(added.values))
    return x._with(x.values + other.values)


def _relu(x: Blocks, inplace: bool = False) -> Blocks:
    pending = x.waiting()
    done = x._with(F.relu(x.values) if pending is None else pending.compute(relu=True))
    return x._become(done) if inplace else done


def _elementwise(function: Any) -> Any:
    """Return a version of ``function`` for blocks. It must map 0 to 0, so that empty lanes stay zero."""

    def apply(x: Any, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        if not isinstance(x, Blocks):
            return NotImplemented
        done = x._with(function(x.values, *args, **kwargs))
        return x._become(done) if inplace else done

    return apply


def _hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    if not min_val <= 0 <= max_val:
        return NotImplemented
    return _elementwise(F.hardtanh)(x, min_val, max_val, inplace=inplace)


def _batch_norm(
    x: Any,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if not isinstance(x, Blocks) or x.examples * x.shape[2:].numel() < 2:
        return NotImplemented
    if not training and torch.is_grad_enabled():
        return NotImplemented
    parts = (running_mean, running_var, weight, bias)
    if not all(map(readable, parts)):
        return NotImplemented
    return x._with(Normalisation(x.values, x.examples, *parts, training, momentum, eps))


def _max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if not isinstance(x, Blocks) or x.dim() != 4 or return_indices:
        return NotImplemented
    where = (*_pair(padding), 0), (*_pair(dilation), 1)
    return x._with(F.max_pool3d(x.values, *_windows(kernel_size, stride), *where, ceil_mode))


def _avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    if not isinstance(x, Blocks) or x.dim() != 4:
        return NotImplemented
    size, step = _windows(kernel_size, stride)
    pad = (*_pair(padding), 0)
    return x._with(F.avg_pool3d(x.values, size, step, pad, ceil_mode, count_include_pad, divisor_override))


def _windows(kernel_size: Any, stride: Any) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return size and stride of pooling windows that cover one lane."""
    size = _pair(kernel_size)
    step = size if stride is None or stride == [] else _pair(stride)
    return (*size, 1), (*step, 1)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    if not isinstance(x, Blocks) or x.dim() != 4:
        return NotImplemented
    size = _pair(output_size)
    if size == (1, 1):
        return x._with(x.values.mean((2, 3), keepdim=True))
    if None in size:
        return NotImplemented
    return x._with(F.adaptive_avg_pool3d(x.values, (*size, LANES)))


def _flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    if not isinstance(x, Blocks) or start_dim != 1 or end_dim not in (-1, x.dim() - 1):
        return NotImplemented
    return x._with(x.values.reshape(len(x.values), -1, LANES))


def _mean(x: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    if not isinstance(x, Blocks) or x.dim() != 4 or kwargs or dim is None or isinstance(dim, int):
        return NotImplemented
    if {d % 4 for d in dim} != {2, 3}:
        return NotImplemented
    return x._with(x.values.mean((2, 3), keepdim=keepdim))


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    F.relu: _relu,
    torch.relu: _relu,
    torch.add: _add,
    torch.mean: _mean,
    torch.flatten: _flatten,
    F.batch_norm: _batch_norm,
    F.hardtanh: _hardtanh,
    F.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    F.avg_pool2d: _avg_pool2d,
    torch.max_pool2d: _max_pool2d,
    F.max_pool2d: _max_pool2d,
    **{
        function: _elementwise(function)
        for function in (
            F.relu6, F.leaky_relu, F.hardswish, F.silu, F.gelu, F.dropout, F.tanh, torch.tanh
        )
    },
}  # fmt: skip
