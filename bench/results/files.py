"""Reading and writing the small files of a results folder.

Whatever another process may read is written under a temporary name in the same folder and
renamed, so a reader sees the old file or the new one. Nothing is fsynced: after a power cut
the last files of a run may be lost or empty, which reading reports and the launcher repairs
by running again; a killed process loses nothing that was written.

A results folder may come from elsewhere. Reading follows no link, opens regular files only,
refuses sizes no run produces, and turns every fault into a ``StoreError`` that names the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

#: Larger files are refused; the largest that a run writes are far smaller.
MAX_BYTES = 512 * 2**20
#: The same for a document of JSON, of which a byte can take dozens in memory.
MAX_DOCUMENT = 64 * 2**20
#: Of the end of a log so much is read.
_TAIL_BYTES = 2**16

#: How the names of files end that are being written, and how long nobody takes to write one.
_TEMPORARY, _LEFT_SECONDS = ".tmp", 3600.0

# No link is followed, and opening a named pipe does not wait for its other end.
_GUARDS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class StoreError(Exception):
    """A results folder that cannot be read or written as asked; the message is one line."""


class WriteError(StoreError):
    """A file that can't be written now, for a reason that lies in the disk or its permissions."""


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` in one step, once the block has ended without an error.

    A link at ``path`` is replaced, not followed. keep: where what was at ``path`` goes. Raises
    ``WriteError`` where it can't be written; then everything is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")
    file = None
    try:
        with open(temporary, "xb") as plain:
            file = _Noted(plain)
            yield cast(BinaryIO, file)
        if keep is not None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, keep)
        os.replace(temporary, path)
    except Exception as error:
        # torch tells of a write that failed in words of its own
        cause = file.error if file is not None and file.error is not None else error
        if not isinstance(cause, OSError):
            raise
        raise WriteError(f"cannot write {path}: {cause.strerror or cause}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class _Noted:
    """A file for writing that remembers which error it had."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step. Raises as ``replacing``."""
    with replacing(path) as file:
        file.write(data)


def append_text(path: Path, text: str) -> None:
    """Add ``text`` to the end of a file, which is made where there is none."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _GUARDS
    try:
        with open(os.open(path, flags, 0o666), "ab", buffering=0) as file:
            _checked_size(file.fileno(), path, MAX_BYTES)
            file.write(text.encode(errors="replace"))
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from None


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left in ``folder`` long ago."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_SECONDS:
                        os.unlink(entry.path)


def check_writable(folder: Path) -> None:
    """``StoreError`` where files can't be created in ``folder``: permissions don't tell, so it tries."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time, where the file system has locks. The file ``path`` is made, or left as it is."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _GUARDS, 0o666)
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror or error}") from None
    with open(descriptor, "ab") as file:
        _checked_size(descriptor, path, MAX_BYTES)
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def opened(path: Path, limit: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """A regular file of at most ``limit`` bytes, open for reading. Raises ``FileNotFoundError``, else
    ``StoreError``.
    """
    try:
        with open(os.open(path, os.O_RDONLY | _GUARDS), "rb", buffering=0) as file:
            _checked_size(file.fileno(), path, limit)
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from None


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes | None:
    """The content of a regular file of at most ``limit`` bytes; None where there is no file."""
    try:
        with opened(path, limit) as file:
            return file.read()
    except FileNotFoundError:
        return None


def to_json(obj: Any, where: str) -> str:
    """``obj`` as one line of standard JSON; NaN and infinities, which JSON has not, become null.

    Half a surrogate pair (names of files that are not UTF-8 have such) becomes ``?``.
    """
    try:
        try:
            text = json.dumps(obj, allow_nan=False)
        except ValueError:
            text = json.dumps(_without_nan(obj), allow_nan=False)
        if "\\ud" in text:
            whole = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace")
            text = json.dumps(json.loads(whole))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{where}: cannot be written as JSON: {error}") from None
    return text


def parse_json(data: bytes, where: str) -> Any:
    """The value that ``data`` holds; ``StoreError`` naming ``where`` unless it is standard JSON."""
    try:
        text = data.decode()
        obj = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text or "\\uD" in text:  # half a surrogate pair is no text that can be stored again
            json.dumps(obj, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not JSON: {error}") from None
    return obj


def write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` to ``path`` atomically; NaN and infinities become null."""
    write_bytes(path, to_json(obj, str(path)).encode() + b"\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file; ``StoreError`` naming the file when it is missing or broken."""
    data = read_bytes(path, MAX_DOCUMENT)
    if data is None:
        raise StoreError(f"{path}: no such file")
    return parse_json(data, str(path))


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log that are not empty; none where there is none."""
    with contextlib.suppress(OSError, StoreError), opened(log) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL_BYTES, 0))
        text = file.read(_TAIL_BYTES).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-lines:]
    return []


def printable(text: str) -> str:
    """``text`` on one line, without what would steer a terminal: files may come from elsewhere."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def complete_lines(data: bytes) -> bytes:
    """``data`` up to its last newline: what follows is a row whose writer was killed."""
    return data[: data.rfind(b"\n") + 1]


def parse_rows(data: bytes, where: str) -> list[dict[str, Any]]:
    """The rows of JSON lines, one object a line; an unfinished last line is no row.

    Anything else that is not an object raises ``StoreError`` naming ``where`` and the line.
    """
    rows = []
    for number, line in enumerate(complete_lines(data).split(b"\n")[:-1], start=1):
        row = parse_json(line, f"{where} line {number}")
        if not isinstance(row, dict):
            raise StoreError(f"{where} line {number}: not a row")
        rows.append(row)
    return rows


def _checked_size(descriptor: int, path: Path, limit: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path}: not a regular file")
    if found.st_size > limit:
        raise StoreError(f"{path}: {found.st_size} bytes; the limit is {limit}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not standard")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
