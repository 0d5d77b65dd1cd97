"""Read and write the small files of a results folder safely.

A file that another process may read is written under a temporary name in the same folder and then renamed,
so that a reader sees either the old file or the new one. Files are not fsynced: after a power cut the last
files of a run may be lost or empty. Reading reports this, and the launcher repairs it by running the run
again. A killed process loses nothing that it has written.

A results folder may come from somebody else. Reading follows no links, opens regular files only, refuses
files larger than any run produces, and turns every fault into a ``StoreError`` that names the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

#: Larger files are refused. The largest that a run writes are far smaller.
MAX_BYTES = 512 * 2**20
#: The limit for JSON documents, where one byte of the file can take dozens of bytes in memory.
MAX_DOCUMENT = 64 * 2**20
#: The last lines of a log are searched in this many bytes at its end.
_TAIL_BYTES = 2**16

#: Suffix of files that are being written. Files with it that are older than this are left over from a crash.
_TEMPORARY, _LEFT_SECONDS = ".tmp", 3600.0

# Links are not followed, and opening a named pipe does not wait for its other end.
_GUARDS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class StoreError(Exception):
    """Report a results folder that cannot be read or written as asked; the message is one line.

    Parameters
    ----------
    message
        The message.
    name, there
        A name that was asked for and is not there, and the names that are; commands say which is meant.
    """

    def __init__(self, message: str, name: object = None, there: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.name, self.there = name, tuple(there)


def not_launched(root: Path, what: str, name: object, there: Iterable[str]) -> StoreError:
    """Return the error for a suite or scale that was not launched in the results folder ``root``."""
    known = tuple(there)
    listed = ", ".join(known) or "none"
    return StoreError(f"{root}: no {what} {name} was launched; there are: {listed}", name, known)


class WriteError(StoreError):
    """Report a file that cannot be written because of the disk or its permissions."""


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Open a new file that replaces ``path`` in one step when the block ends without an error.

    A link at ``path`` is replaced, not followed.

    Parameters
    ----------
    path
        The file to replace.
    keep
        Where the previous file at ``path`` is moved; it is lost if this is None.

    Raises
    ------
    WriteError
        The file cannot be written; ``path`` is then unchanged.
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
        # torch hides the operating system's error behind one of its own
        cause = file.error if file is not None and file.error is not None else error
        if not isinstance(cause, OSError):
            raise
        raise WriteError(f"cannot write {path}: {cause.strerror or cause}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class _Noted:
    """Wrap a file for writing and remember its first error."""

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
    """Replace ``path`` by ``data`` in one step; raises ``WriteError`` as ``replacing`` does."""
    with replacing(path) as file:
        file.write(data)


def append_text(path: Path, text: str) -> None:
    """Append ``text`` to a file; make the file if it is missing."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _GUARDS
    try:
        with open(os.open(path, flags, 0o666), "ab", buffering=0) as file:
            _checked_size(file.fileno(), path, MAX_BYTES)
            file.write(text.encode(errors="replace"))
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from None


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files older than an hour, which killed processes have left in ``folder``."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(_TEMPORARY):
                with contextlib.suppress(OSError, StoreError):
                    age = clock(folder) - entry.stat(follow_symlinks=False).st_mtime_ns
                    if age > _LEFT_SECONDS * 1e9:
                        os.unlink(entry.path)


def clock(folder: Path) -> int:
    """Return the time now by the clock of a folder's file system, in nanoseconds since 1970.

    The age of a file is told by this clock, since a network file system dates files by its server's clock,
    from which the clock of this machine may differ. A file is made and removed to read it.

    Raises
    ------
    WriteError
        No file can be made in ``folder``.
    """
    probe = folder / f".clock.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}"
    try:
        with open(probe, "xb") as file:
            os.utime(file.fileno())  # as claims are touched
            now = os.fstat(file.fileno()).st_mtime_ns
        probe.unlink()
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {error.strerror or error}") from None
    return now


def check_writable(folder: Path) -> None:
    """Raise ``StoreError`` if no file can be created in ``folder``.

    It creates one and removes it, since permissions do not tell (network mounts, root).
    """
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time run the block, by a lock on the file ``path``, which is made if missing.

    File systems without locks let all processes through.
    """
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
    """Open a regular file of at most ``limit`` bytes for reading.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StoreError
        The file cannot be read, is not a regular file, or is too large.
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
    """Return the content of a regular file of at most ``limit`` bytes; None if there is no file.

    Raises
    ------
    StoreError
        The file cannot be read, is not a regular file, or is too large.
    """
    try:
        with opened(path, limit) as file:
            return file.read()
    except FileNotFoundError:
        return None


def to_json(obj: Any, where: str) -> str:
    """Convert ``obj`` to one line of standard JSON; NaN and infinities, which JSON lacks, become null.

    Half a surrogate pair, as in file names that are not UTF-8, becomes ``?``.

    Parameters
    ----------
    obj
        The value.
    where
        Start of the message of an error: the file or field that is written.

    Raises
    ------
    StoreError
        JSON cannot represent ``obj``.
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
    """Parse standard JSON.

    Raises
    ------
    StoreError
        ``data`` is not standard JSON (which has no NaN and no infinity); the message starts with ``where``.
    """
    try:
        text = data.decode()
        obj = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text or "\\uD" in text:  # text with half a surrogate pair cannot be stored again
            json.dumps(obj, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not JSON: {error}") from None
    return obj


def write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` to ``path`` atomically; NaN and infinities become null."""
    write_bytes(path, to_json(obj, str(path)).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises
    ------
    StoreError
        The file is missing or broken; the message names it.
    """
    data = read_bytes(path, MAX_DOCUMENT)
    if data is None:
        raise StoreError(f"{path}: no such file")
    return parse_json(data, str(path))


def tail(log: Path, lines: int) -> list[str]:
    """Return the last ``lines`` non-empty lines of a log; an empty list if it cannot be read."""
    with contextlib.suppress(OSError, StoreError), opened(log) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL_BYTES, 0))
        text = file.read(_TAIL_BYTES).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-lines:]
    return []


def printable(text: str) -> str:
    """Put ``text`` on one line and replace control characters, which could steer the reader's terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def shell_path(path: str | Path) -> str:
    """Write a path for a command that readers paste into a shell (bash, zsh) and run.

    Characters that no terminal shows, and bytes that are not UTF-8, are written as ``$'\\n'`` does. A path
    that begins like an option or like a home folder gets ``./`` in front.
    """
    text = os.fspath(path)
    text = f"./{text}" if text.startswith(("-", "~")) else text
    if text.isprintable():
        return shlex.quote(text)
    parts = (
        c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))
        for c in text.replace("\\", "\\\\").replace("'", "\\'")
    )
    return f"$'{''.join(parts)}'"


def complete_lines(data: bytes) -> bytes:
    """Return ``data`` up to its last newline; bytes after it belong to a row whose writer was killed."""
    return data[: data.rfind(b"\n") + 1]


def parse_rows(data: bytes, where: str) -> list[dict[str, Any]]:
    """Parse JSON lines, one object a line; an unfinished last line is left out.

    Raises
    ------
    StoreError
        A complete line is not a JSON object; the message names ``where`` and the line.
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
