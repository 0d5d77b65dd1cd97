"""Load the compiled kernels: choose the build that this machine can run, and declare its functions.

The kernels are compiled when the package is installed (``setup.py``), once for each of ``LEVELS``. If
there is no build that this machine can run, ``absent`` returns the reason, and layers are computed densely.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

from methods.kernels.digest import digest

_HERE = Path(__file__).parent
_KNOWN = (torch.float32, torch.int32, torch.int64)
_AGAIN = "install this package again (in a checkout: make clean, then make)"
#: Instruction set of the build to load, by torch's name for the capability of the machine.
LEVELS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3"}


class Cut(ctypes.Structure):
    """The structure ``cut`` of contraction.h."""

    _fields_ = (
        ("rows", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("blocks", ctypes.c_int32),
        ("slab", ctypes.c_int32 * 2),
    )


class Layer(ctypes.Structure):
    """The structure ``layer`` of contraction.h; ``plan`` fills in the fields after ``dilation``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("in_channels", "out_channels")),
        *((name, ctypes.c_int32 * 2) for name in ("in_size", "kernel", "stride", "padding", "dilation")),
        ("out_size", ctypes.c_int32 * 2),
        ("phases", ctypes.c_int32),
        ("phase_size", ctypes.c_int32 * 2),
        ("low", ctypes.c_int32 * 2),
        ("direct", ctypes.c_int32),
        ("forward_rows", ctypes.c_int32),
        ("backward_rows", ctypes.c_int32),
        ("forward", Cut),
        ("backward", Cut),
    )


class Pattern(ctypes.Structure):
    """The structure ``pattern`` of contraction.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("starts", "offsets", "slots"))


class Normalised(ctypes.Structure):
    """The structure ``shape`` of normalise.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("blocks", "channels", "positions")),
        ("last_lanes", ctypes.c_int32),
        ("relu", ctypes.c_int32),
        ("epsilon", ctypes.c_float),
    )


_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_COUNT, _FLOAT, _SEED = ctypes.c_int32, ctypes.c_float, ctypes.c_uint64
#: Types of the result and of the arguments of each function.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "plan": (_INT, (_POINTER,)),
    "arrange": (_INT, (_POINTER, _POINTER, _COUNT, _POINTER, _POINTER)),
    "forward": (
        _INT,
        (*[_POINTER] * 2, _COUNT, _LONG, *[_POINTER] * 4, _FLOAT, _SEED, *[_POINTER] * 2, _INT),
    ),
    "backward": (_INT, (*[_POINTER] * 2, _COUNT, _LONG, *[_POINTER] * 8, _INT)),
    "block": (None, (_POINTER, _LONG, _LONG, _POINTER, _INT)),
    "unblock": (None, (_POINTER, _LONG, _LONG, _POINTER, _INT)),
    "normalise": (None, (*[_POINTER] * 8, _INT, _INT)),
    "normalise_backward": (None, (*[_POINTER] * 11, _INT)),
    "variance": (None, (_LONG, _INT, *[_POINTER] * 2, _INT)),
    "variance_backward": (None, (_LONG, _INT, *[_POINTER] * 3, _INT)),
    "kl": (ctypes.c_double, (_LONG, _INT, *[_POINTER] * 2, ctypes.c_double, _INT)),
    "kl_backward": (None, (_LONG, _INT, *[_POINTER] * 2, _FLOAT, _FLOAT, *[_POINTER] * 2, _INT)),
    "largest": (_INT, (_POINTER, _LONG, _LONG, _POINTER, _INT)),
    "threefry_2x32": (None, (_POINTER, ctypes.c_uint32, ctypes.c_uint32)),
    "standard_normals": (None, (_SEED, _LONG, _LONG, _POINTER)),
    "source_digest": (ctypes.c_char_p, ()),
}


def absent() -> str | None:
    """Return why there are no kernels on this machine, in one line; None if there are."""
    found = _load()
    return found if isinstance(found, str) else None


def library() -> Any:
    """Return the library of compiled functions.

    Raises
    ------
    RuntimeError
        If there are no kernels on this machine.
    """
    found = _load()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


@cache
def _load() -> ctypes.CDLL | str:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in LEVELS or platform.system() != "Linux":
        set_to = os.environ.get("ATEN_CPU_CAPABILITY")
        why = f" (ATEN_CPU_CAPABILITY={set_to})" if set_to else ""
        return f"sparse kernels need Linux and AVX2 or AVX-512, not {platform.system()} and {capability}{why}"
    path = file_of(LEVELS[capability])
    if not path.exists():
        told = path.with_name("missing.txt")
        reason = " ".join(told.read_text().split()) if told.exists() else _AGAIN
        return f"sparse kernels are not compiled ({path.name} is missing): {reason}"
    if lacking := _lacking(capability):
        return f"sparse kernels need the instructions {' '.join(sorted(lacking))}, which this processor hides"
    told = path.with_suffix(".sha256")  # loading an incomplete file would kill the process
    if not told.exists() or told.read_text().strip() != hashlib.sha256(path.read_bytes()).hexdigest():
        return f"sparse kernels ({path.name}) are damaged: {_AGAIN}"
    try:
        functions = ctypes.CDLL(str(path))
    except OSError as error:
        return f"sparse kernels can't be loaded: {' '.join(str(error).split())}"
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(functions, name, None)
        if function is None:
            return _stale(path)
        function.restype, function.argtypes = result, arguments
    if functions.source_digest().decode() != digest(_HERE / "source"):
        return _stale(path)
    return functions


def _lacking(capability: str) -> set[str]:
    """Return the instructions that a build may use and the processor does not list.

    torch does not check all of them, and a virtual machine may hide some. The result is empty if
    ``/proc/cpuinfo`` cannot be read.
    """
    needed = {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
    if capability == "AVX512":
        needed |= {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), None)
    return set() if flags is None else needed - set(flags)


def build() -> str | None:
    """Return which build runs here, instruction set and digest of the source; None if there is none."""
    found = _load()
    if isinstance(found, str):
        return None
    return f"{LEVELS[torch.backends.cpu.get_cpu_capability()]} {found.source_digest().decode()[:12]}"


def _stale(path: Path) -> str:
    return f"sparse kernels ({path.name}) are older than their source: {_AGAIN}"


def file_of(level: str, folder: Path = _HERE) -> Path:
    """Return the path of the build for an instruction set."""
    return folder / "compiled" / f"{level}.so"


def readable(tensor: torch.Tensor | None) -> bool:
    """Return whether kernels can read a tensor: float32, contiguous, on the CPU. None counts as readable."""
    return tensor is None or (tensor.dtype == torch.float32 and tensor.is_cpu and tensor.is_contiguous())


def pointer(tensor: torch.Tensor | None) -> int | None:
    """Return the address of a tensor's numbers, or None for None; the tensor must outlive the call.

    Raises
    ------
    TypeError
        If the tensor is not contiguous, not on the CPU or of a type that kernels do not know.
    """
    if tensor is None:
        return None
    if not (tensor.is_contiguous() and tensor.is_cpu and tensor.dtype in _KNOWN):
        raise TypeError(f"kernels can't read {tensor.dtype} {tuple(tensor.shape)}, strides {tensor.stride()}")
    return tensor.data_ptr()
