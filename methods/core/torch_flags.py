"""Set torch's global flags as a run needs them, and restore the caller's afterwards.

torch keeps the arithmetic of float32 in two sets of flags. The newer one is ``fp32_precision``, read here by
the functions that torch's own properties call. The older one is ``allow_tf32`` and the matmul precision.
Reading the older one raises if the two disagree, and ``torch.export`` and ``cudnn.flags`` read it. So both
are set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import backends

#: Where torch keeps ``fp32_precision``. An operation without a value of its own has that of its parent, which
#: comes before it here.
_PARENTS = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_OPERATIONS = tuple((backend, kind) for backend in ("cuda", "mkldnn") for kind in ("matmul", "conv", "rnn"))
_precision: Any = torch._C._get_fp32_precision_getter
_set_precision: Any = torch._C._set_fp32_precision_setter


@contextmanager
def restored() -> Iterator[None]:
    """Restore after the block: arithmetic, determinism of cuDNN, default dtype and number of threads."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic, benchmark = backends.cudnn.deterministic, backends.cudnn.benchmark
    convolutions, products, own = _older_convolutions(), _older_products(), _own_precisions()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        backends.cudnn.deterministic, backends.cudnn.benchmark = deterministic, benchmark
        # the older flags first, because they also set the newer ones
        backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
        for place, value in own.items():
            _set_precision(*place, value)


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Compute in the arithmetic of a run within the block, and restore the caller's.

    Contractions are full float32 on all devices, but TF32 on GPUs for the precision ``tf32``. Kernels of
    cuDNN are deterministic, and new tensors are float32.

    Parameters
    ----------
    precision
        The run's setting ``precision``.
    """
    with restored():
        torch.set_default_dtype(torch.float32)
        backends.cudnn.deterministic, backends.cudnn.benchmark = True, False
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = precision == "tf32"
        for backend, kind in _OPERATIONS:
            lower = precision == "tf32" and backend == "cuda"
            _set_precision(backend, kind, "tf32" if lower else "ieee")
        yield


def _own_precisions() -> dict[tuple[str, str], str]:
    """Return the value of ``fp32_precision`` that each place has itself, not from its parent."""
    own = {}
    for place in _PARENTS:
        own[place] = _precision(*place)
        _set_precision(*place, "none")
    own |= {place: _precision(*place) for place in _OPERATIONS}
    for place in _PARENTS:
        _set_precision(*place, own[place])
    return own


def _older_convolutions() -> bool:
    """Return ``cudnn.allow_tf32``; where reading it raises, the value that disagrees with the newer flag."""
    try:
        return bool(backends.cudnn.allow_tf32)
    except RuntimeError:
        return bool(_precision("cuda", "conv") != "tf32")


def _older_products() -> str:
    """Return the matmul precision; where reading it raises, a value that disagrees with the newer flag."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest" if _precision("cuda", "matmul") == "tf32" else "high"
