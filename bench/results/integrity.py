"""Seal finished runs: record the size and digest of every file of a run, and check them later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from bench.results import beside
from bench.results.files import StoreError, WriteError, opened
from bench.results.run_folder import CANCEL, RunFolder

#: Files whose names start with one of these do not belong to a finished run and are not sealed.
_PASSING = (".", "status.json", "claim.json", CANCEL, "checkpoint.", "run.log")
#: Larger files are refused. A stored model may be larger than the files that tables are made of.
_MAX_BYTES = 2**36
_TRIES = 20

#: Size in bytes and digest of each file, by name.
Digests = dict[str, tuple[int, str]]


def seal(run: RunFolder, write_tables: Callable[[], None], done: Callable[[Digests], None]) -> None:
    """Mark a run done: record the size and digest of every file in its status.

    If a claim was lost, a second process may compute the same run and write incomplete tables at any time.
    Therefore the tables are written again first, and everything is repeated if a file changed before the
    status was written.

    Parameters
    ----------
    run
        The folder of the run.
    write_tables
        Writes the complete tables of the run.
    done
        Writes the status ``done`` with the digests that it is given.

    Raises
    ------
    WriteError
        Files changed during each of 20 attempts.
    """
    for _ in range(_TRIES):
        write_tables()
        try:
            before = _stamps(run)
            done(digests(run))
            if _stamps(run) == before:
                return
        except FileNotFoundError:  # the other process is replacing a file at this moment
            continue
    raise WriteError(f"cannot write {run.path}: another process keeps writing there")


def is_sealed(run: RunFolder) -> bool:
    """Tell whether a run is done and its files have the recorded sizes and digests.

    Files of evaluation sets are left out: another process may be adding some.
    """
    try:
        status = run.read("status") or {}
        if status.get("status") != "done":
            return False
        files = {name: entry for name, entry in status["files"].items() if not beside.is_of_set(name)}
        return files == {name: list(digest) for name, digest in digests(run).items()}
    except (AttributeError, FileNotFoundError, KeyError, StoreError):
        return False


def forget_damaged_sets(run: RunFolder) -> bool:
    """Take evaluation sets whose files are missing or damaged out of the seal of a finished run.

    Returns
    -------
    bool
        Whether there were any. The run is sound without them, and is evaluated on them again.
    """
    status = beside.finished(run) or {}
    try:
        sets = {name: found for name, found in written_files(status).items() if beside.is_of_set(name)}
    except StoreError:
        return False
    damaged = {beside.key_of_file(name) for name, sealed in sets.items() if not _has(run, name, sealed)}
    kept = {name: found for name, found in status.get("files", {}).items() if name not in sets}
    kept |= {name: list(found) for name, found in sets.items() if beside.key_of_file(name) not in damaged}
    if damaged:
        run.write("status", {**status, "files": kept})
    return bool(damaged)


def _has(run: RunFolder, name: str, sealed: tuple[int, str]) -> bool:
    """Tell whether a file of a run has the size and digest with which it was sealed."""
    try:
        return digest(run, name) == sealed
    except (OSError, StoreError):
        return False


def require_files(run: RunFolder, status: Mapping[str, Any]) -> None:
    """Raise ``StoreError`` if a file that a finished run wrote is missing or has another size.

    ``status`` is the document of the run. Digests are not compared, which would take long: those of the files
    that tables are made of are checked when these are read.
    """
    written = written_files(status)
    for name in ("spec.json", "metrics.json"):
        if written and name not in written:
            raise StoreError(f"status.json: done, but the run wrote no {name}")
    for name, (size, _) in written.items():
        try:
            found = os.lstat(run.path / name).st_size
        except OSError:
            raise StoreError(f"{name}: missing, although the run wrote it") from None
        if found != size:
            raise StoreError(f"{name}: {found} bytes; the run wrote {size}")


def written_files(status: Mapping[str, Any]) -> Digests:
    """Return size in bytes and digest of each file that a finished run wrote, by name.

    It is empty for runs of older versions, which did not record them.

    Raises
    ------
    StoreError
        The record in ``status`` is not valid.
    """
    found: Digests = {}
    files = status.get("files", {})
    if not isinstance(files, dict):
        raise StoreError(f"status.json: files: expected an object, got {repr(files)[:60]}")
    for name, entry in files.items():
        where = f"status.json: files: {name[:60]!r}"
        if os.path.basename(name) != name or name in ("", ".", "..") or "\0" in name:
            raise StoreError(f"{where} is not a name of a file")
        match entry:
            case [int(size), str(digest)] if size is not True and size is not False:
                found[name] = size, digest
            case _:
                raise StoreError(f"{where}: expected bytes and a digest, got {repr(entry)[:60]}")
    return found


def digests(run: RunFolder) -> Digests:
    """Compute size in bytes and BLAKE2b digest (128 bits, hexadecimal) of each file of a finished run.

    Left out are the status (it stores the digests), the log (another process may append to it), hidden
    files, files that exist only while the run is computed (claim, checkpoints, request to cancel), and files
    of evaluation sets, which are added later one by one (see ``digest``).
    """
    return {name: digest(run, name) for name in _contents(run)}


def digest(run: RunFolder, name: str) -> tuple[int, str]:
    """Compute size in bytes and BLAKE2b digest (128 bits, hexadecimal) of one file of a run."""
    with opened(run.path / name, _MAX_BYTES) as file:
        found = hashlib.blake2b(digest_size=16)
        while chunk := file.read(2**20):
            found.update(chunk)
        return file.tell(), found.hexdigest()


def _stamps(run: RunFolder) -> dict[str, tuple[int, ...]]:
    """Return size, time and inode of each file; they differ after a file was written again."""
    stats = {name: os.lstat(run.path / name) for name in _contents(run)}
    return {name: (found.st_size, found.st_mtime_ns, found.st_ino) for name, found in stats.items()}


def _contents(run: RunFolder) -> list[str]:
    with os.scandir(run.path) as entries:
        files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    return sorted(name for name in files if not name.startswith(_PASSING) and not beside.is_of_set(name))
