"""Read files of ``torch.save`` that may be damaged or come from somebody else, checking them before torch.

torch follows links, ignores checksums, decompresses entries, and makes any tensor that the pickle asks for.
This module accepts only regular files of limited size whose entries are uncompressed and have correct
checksums. Their content is tensors, numbers, text, bytes, and lists, tuples, sets and dicts of these, and is
no larger than the file.
"""

from __future__ import annotations

import errno
import io
import math
import pickle
import pickletools
import zipfile
import zlib
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bench.results.files import MAX_BYTES, opened

#: Exceptions that unpickling and unpacking raise for damaged bytes.
_UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
    MemoryError,
)


#: Bytes of a number, by the name of torch's storage class.
_WIDTHS = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


class Damaged(Exception):
    """Report a file that is cut short, changed or not accepted; the message says why in a few words."""


def read(path: Path, device: str = "cpu", limit: int = MAX_BYTES) -> dict[str, Any]:
    """Read the dict in a file without executing anything.

    Parameters
    ----------
    path
        The file.
    device
        Device of the tensors.
    limit
        Largest size of the file in bytes.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    Damaged
        The content is not accepted.
    StoreError
        The file cannot be read, is not a regular file, or is too large.
    """
    with opened(path, limit) as file:
        try:
            _look_through(file)
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
        except OSError as error:
            if error.errno == errno.EINVAL:  # an entry claims to start before the beginning of the file
                raise Damaged("its parts are not at the places that it records") from None
            raise
        except _UNREADABLE as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise
            raise Damaged(_line(error)) from None
    if not isinstance(content, dict):
        raise Damaged(f"it holds a {type(content).__name__}")
    return content


def why_not_storable(value: Any) -> str | None:
    """Return in a few words why ``read`` would not return what ``torch.save`` wrote; None if it would."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        _look_through(buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except (*_UNREADABLE, pickle.PicklingError, Damaged) as error:
        return _line(error)
    return None


def _look_through(file: BinaryIO) -> None:
    """Raise ``Damaged`` unless the zip archive and the pickles in it are acceptable."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Damaged("it is compressed")
        if any(entry.external_attr & 0xFFFF for entry in entries):
            raise Damaged("a part is called a folder")  # torch would return invented data for it
        if sum(entry.file_size for entry in entries) > size:
            raise Damaged("its parts overlap")
        if (wrong := archive.testzip()) is not None:
            raise Damaged(f"the checksum of {wrong[:60]} differs")
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
        for entry in entries:
            if entry.filename.endswith("/data.pkl"):
                _look_into(archive.read(entry), sizes, size)


def _look_into(data: bytes, sizes: dict[str, int], limit: int) -> None:
    """Check a pickle: first that no operation refers to more than there is, then the objects it makes."""
    for operation, argument, _ in pickletools.genops(data):
        if "PUT" in operation.name and isinstance(argument, int) and argument > len(data):
            raise Damaged("its pickle refers to more objects than it has")
    _Inspection(io.BytesIO(data), sizes, limit).load()


class _Part:
    """Stand for a tensor or its storage, with the size in bytes, while a file is checked."""

    def __init__(self, *_: Any) -> None:
        self.bytes = 0

    def __setstate__(self, state: Any) -> None:
        pass


class _Inspection(pickle.Unpickler):
    """Go through a pickle without making its objects; raise ``Damaged`` if it holds other than plain data."""

    def __init__(self, file: BinaryIO, sizes: dict[str, int], limit: int) -> None:
        super().__init__(file)
        self._sizes, self._limit = sizes, limit

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "collections", "Counter":
                return Counter
            case "builtins" | "__builtin__", "set":
                return set
            case "builtins" | "__builtin__", "complex":
                return complex
            case "builtins" | "__builtin__", "bytearray":
                return _bytearray
            case "_codecs", "encode":  # bytes, in the old pickle that torch writes
                return lambda text, _: str(text).encode("latin1")
            case "torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor_v3":
                return self._tensor
            case "torch._utils", "_rebuild_parameter":
                return lambda tensor, *_: tensor
            case "torch", "Size":
                return tuple
            case "torch", "device":
                return _Part
            case (("torch" | "torch.storage"), _) if name in _WIDTHS:
                return _WIDTHS[name]
            case "torch", _ if isinstance(dtype := getattr(torch, name, None), torch.dtype):
                return dtype
        raise Damaged(f"it holds a {module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> _Part:
        _, width, key, _, count = pid
        part = _Part()
        part.bytes = self._sizes[f"data/{key}"]
        if count * width != part.bytes:
            raise Damaged(f"tensor data {str(key)[:20]} has {part.bytes} bytes, not {count * width}")
        return part

    def _tensor(self, storage: _Part, offset: int, shape: tuple[int, ...], *_: Any) -> _Part:
        # a tensor with stride 0 repeats stored numbers, so it can have more numbers than its storage
        if math.prod(shape) > self._limit:
            raise Damaged(f"a tensor of {math.prod(shape)} numbers in a file of {self._limit} bytes")
        return _Part()


def _bytearray(*content: Any) -> bytearray:
    if any(isinstance(part, int) for part in content):  # a length, which could be any
        raise Damaged("it holds bytes by their number alone")
    return bytearray(*content)


def _line(error: BaseException) -> str:
    if isinstance(error, zipfile.BadZipFile) and "not a zip file" in str(error):
        return "it is cut short, or not an archive"
    first = str(error).strip().partition("\n")[0]
    return first[:200] or type(error).__name__
