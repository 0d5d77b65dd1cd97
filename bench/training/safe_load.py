"""Files of ``torch.save`` that may come from elsewhere or be damaged: looked through before torch reads them.

torch follows links, ignores checksums, unpacks what is compressed, and makes whatever tensor the
pickle asks for. Here a file is a regular one of limited size, its entries are stored as they are, their
checksums are right, and what it holds is no larger than itself: tensors, numbers, strings, lists and dicts.
"""

from __future__ import annotations

import errno
import io
import math
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bench.results.files import MAX_BYTES, opened

#: What unpickling and unpacking raise depends on what the bytes happen to say.
_UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
    MemoryError,
)


#: Bytes of a number, by torch's names for what holds them.
_WIDTHS = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


class Damaged(Exception):
    """The file is cut short, changed, or none that is read here; the message says why, in a few words."""


def read(path: Path, device: str = "cpu", limit: int = MAX_BYTES) -> dict[str, Any]:
    """The dict that a file holds, its tensors on ``device``; nothing in it is executed.

    Raises ``FileNotFoundError``, ``Damaged``, and ``StoreError`` where the file can't be read, is none, or
    is larger than ``limit`` bytes.
    """
    with opened(path, limit) as file:
        try:
            _look_through(file)
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
        except OSError as error:
            if error.errno == errno.EINVAL:  # of a part that would lie before the beginning
                raise Damaged("its parts are not where it says") from None
            raise
        except _UNREADABLE as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise
            raise Damaged(_line(error)) from None
    if not isinstance(content, dict):
        raise Damaged(f"it holds a {type(content).__name__}")
    return content


def _look_through(file: BinaryIO) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Damaged("it is compressed")
        if any(entry.external_attr & 0xFFFF for entry in entries):
            raise Damaged("a part is called a folder")  # which torch would not read, but make up
        if sum(entry.file_size for entry in entries) > size:
            raise Damaged("its parts overlap")
        if (wrong := archive.testzip()) is not None:
            raise Damaged(f"the checksum of {wrong[:60]} differs")
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
        for entry in entries:
            if entry.filename.endswith("/data.pkl"):
                _look_into(archive.read(entry), sizes, size)


def _look_into(data: bytes, sizes: dict[str, int], limit: int) -> None:
    """Go through a pickle: first its operations, none of which may be about more than there is, then what
    they make.
    """
    for operation, argument, _ in pickletools.genops(data):
        if "PUT" in operation.name and isinstance(argument, int) and argument > len(data):
            raise Damaged("its pickle numbers more than it has")
    _Inspection(io.BytesIO(data), sizes, limit).load()


class _Part:
    """What stands for a tensor, or for its storage of so many bytes, while a file is looked through."""

    def __init__(self, *_: Any) -> None:
        self.bytes = 0

    def __setstate__(self, state: Any) -> None:
        pass


class _Inspection(pickle.Unpickler):
    """Goes through a pickle without making anything of it; ``Damaged`` where there is more than tensors."""

    def __init__(self, file: BinaryIO, sizes: dict[str, int], limit: int) -> None:
        super().__init__(file)
        self._sizes, self._limit = sizes, limit

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
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
        # numbers that are the same may be stored once: a tensor can have more of them than its data
        if math.prod(shape) > self._limit:
            raise Damaged(f"a tensor of {math.prod(shape)} numbers in a file of {self._limit} bytes")
        return _Part()


def _line(error: BaseException) -> str:
    if isinstance(error, zipfile.BadZipFile) and "not a zip file" in str(error):
        return "it is cut short, or no archive"
    first = str(error).strip().partition("\n")[0]
    return first[:200] or type(error).__name__
