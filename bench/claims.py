"""Who works on a run: one claim file a run, created in one step, kept alive by being touched.

Whoever computes a run claims it first: two at once would both append to its tables.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.files import StoreError, read_json, write_json
from bench.folder import RunFolder

NAME = "claim.json"
#: Seconds between two touches of a claim, and without one until it is void on other machines.
HEARTBEAT, EXPIRY = 20.0, 120.0
# a process's start time is derived from the clock, which may be set meanwhile
_CLOCK_STEP = 2.0


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one that got the same number."""

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def lives(self) -> bool | None:
        """Whether it runs; None for a process of another machine, where that can't be seen."""
        if self.host != socket.gethostname():
            return None
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < _CLOCK_STEP
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Claim:
    """A run that this process works on, until ``release``."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token

    def beat(self) -> None:
        """Say that the work goes on. A claim that was taken over meanwhile stays the other's."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Give the run free, unless another process took it over."""
        if (_read(self.path) or {}).get("token") == self.token:
            self.path.unlink(missing_ok=True)


def acquire(run: RunFolder) -> Claim | None:
    """Claim a run; None while another process has it. A claim whose process is gone is taken over."""
    path, token = run.path / NAME, secrets.token_hex(8)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {run.path}: {error.strerror or error}") from None
    mine = path.with_name(f".{NAME}.{token}")
    write_json(mine, {**asdict(Process.current()), "token": token})
    try:
        now = mine.stat().st_mtime  # the clock of the file system, which dates the other claims
        for _ in range(2):
            # a hard link is created in one step, with its content, and fails where there is one already
            with contextlib.suppress(FileExistsError):
                os.link(mine, path)
                return Claim(path, token)
            if not _remove_void(path, now):
                return None
        return None
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        mine.unlink(missing_ok=True)


@contextlib.contextmanager
def held(claim: Claim) -> Iterator[None]:
    """Keep ``claim`` alive, and release it in the end."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            claim.beat()

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        claim.release()


def holder(run: RunFolder) -> Process | None:
    """The process that works on a run, as far as can be told; None when nobody does."""
    path = run.path / NAME
    found = _read(path)
    return None if found is None or _is_void(path, found, time.time()) else _process(found)


def _remove_void(path: Path, now: float) -> bool:
    """Whether ``path`` is free now: it was void and is gone, or nothing was there."""
    found = _read(path)
    if found is not None and not _is_void(path, found, now):
        return False
    # rename decides between several that find it void; what was renamed may be newer than what was read
    aside = path.with_name(f".{NAME}.void-{secrets.token_hex(8)}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    renamed = _read(aside)
    if renamed != found:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)
    return renamed == found


def _is_void(path: Path, claim: dict[str, Any], now: float) -> bool:
    process = _process(claim)
    lives = process.lives() if process else False
    if lives is not None:
        return not lives
    try:
        return now - path.stat().st_mtime > EXPIRY
    except FileNotFoundError:
        return True


def _process(claim: dict[str, Any]) -> Process | None:
    host, pid, started = (claim.get(key) for key in ("host", "pid", "started"))
    if isinstance(host, str) and type(pid) is int and 0 < pid < 2**31 and isinstance(started, int | float):
        return Process(host, pid, float(started))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """What a claim file says; None where there is none; nothing ({}) where it is broken."""
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except StoreError:
        return {} if path.exists() else None
    return found if isinstance(found, dict) else {}
