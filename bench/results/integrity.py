"""The end of a run: its status says ``done``, and by size and digest which files it consists of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from bench.results.files import StoreError, WriteError, opened
from bench.results.run_folder import CANCEL, RunFolder

#: How the names of files begin that a finished run does not consist of.
_PASSING = (".", "status.json", "claim.json", CANCEL, "checkpoint.", "run.log")
#: A model may be larger than what tables are made of.
_MAX_BYTES = 2**36
_TRIES = 20

Digests = dict[str, tuple[int, str]]


def seal(run: RunFolder, write_tables: Callable[[], None], done: Callable[[Digests], None]) -> None:
    """Have ``done`` write the status, with the digests of what lies in the folder then.

    Another process may be at the same run, where a claim was lost, and anywhere in it: what it wrote into
    tables meanwhile is only part of them. So ``write_tables`` writes them first, and all is done again where
    a file was exchanged before the status was there.
    """
    for _ in range(_TRIES):
        write_tables()
        try:
            before = _stamps(run)
            done(digests(run))
            if _stamps(run) == before:
                return
        except FileNotFoundError:  # exchanged at this very moment
            continue
    raise WriteError(f"cannot write {run.path}: another process goes on writing there")


def is_sealed(run: RunFolder) -> bool:
    """Whether a run is done and its files are those that it says it wrote."""
    try:
        status = run.read("status") or {}
        if status.get("status") != "done":
            return False
        return status.get("files") == {name: list(digest) for name, digest in digests(run).items()}
    except (FileNotFoundError, StoreError):
        return False


def digests(run: RunFolder) -> Digests:
    """Bytes and BLAKE2b digest (128 bits, in hexadecimal) of each file that a finished run consists of.

    That is every regular file but the status, which they are for, the log, to which another process may add,
    what is gone when the run is over, and hidden ones.
    """
    found = {}
    for name in _contents(run):
        with opened(run.path / name, _MAX_BYTES) as file:
            digest = hashlib.blake2b(digest_size=16)
            while chunk := file.read(2**20):
                digest.update(chunk)
            found[name] = file.tell(), digest.hexdigest()
    return found


def _stamps(run: RunFolder) -> dict[str, tuple[int, ...]]:
    """What differs when one of the files was written again."""
    stats = {name: os.lstat(run.path / name) for name in _contents(run)}
    return {name: (found.st_size, found.st_mtime_ns, found.st_ino) for name, found in stats.items()}


def _contents(run: RunFolder) -> list[str]:
    with os.scandir(run.path) as entries:
        files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    return sorted(name for name in files if not name.startswith(_PASSING))
