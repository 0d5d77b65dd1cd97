"""Who works on a run: one claim file a run, created in one step, kept alive by being touched.

Whoever computes a run claims it first: two at once would do no harm, but the work twice.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.results.files import StoreError, read_json, write_json
from bench.results.run_folder import RunFolder

NAME = "claim.json"
#: Seconds between two touches of a claim, and without one until it is void on other machines.
HEARTBEAT, EXPIRY = 20.0, 120.0
# a process's start time is derived from the clock, which may be set meanwhile
_CLOCK_STEP = 2.0
#: Seconds since 1970 that no process started after: what is larger is no time.
_LATEST = 1e11


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one of the same number. job: of SLURM, where it is all of that."""

    host: str
    pid: int
    started: float
    job: str | None = None

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time(), _own_job)

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


def current_job() -> str | None:
    """The job of SLURM that this process is in, as ``squeue`` has it: ``12``, or ``12_3`` of an array."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


_own_job: str | None = None


def work_for_job() -> None:
    """Say that this process is the one that the job of SLURM around it is about.

    A claim of an earlier life of that job is then void. Processes that merely run within a job (a grid in an
    interactive one) have claims like any other's.
    """
    global _own_job
    _own_job = current_job()


class Claim:
    """A run that this process works on, until ``release``."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token

    def beat(self) -> bool:
        """Say that the work goes on; whether it is still this process's to do.

        It is not once another process took the claim over. A claim that vanished or was damaged is nobody's,
        and not brought back.
        """
        found = _read(self.path) or {}
        if _process(found) is not None and found.get("token") != self.token:
            return False
        with contextlib.suppress(OSError):
            os.utime(self.path, follow_symlinks=False)  # a link is not what this process wrote
        return True

    def release(self) -> None:
        """Give the run free, unless another process took it over."""
        if (_read(self.path) or {}).get("token") == self.token:
            self.path.unlink(missing_ok=True)


def acquire(run: RunFolder, over: Container[str] = ()) -> Claim | None:
    """Claim a run; None while another process has it. A claim whose process is gone is taken over.

    over: jobs of SLURM that are known to have ended: their claims on other machines are void at once. An
    earlier life of the own job, which was requeued, is over.
    """
    path, token = run.made() / NAME, secrets.token_hex(8)
    mine = path.with_name(f".{NAME}.{token}")
    write_json(mine, {**asdict(Process.current()), "token": token})
    try:
        now = mine.stat().st_mtime  # the clock of the file system, which dates the other claims
        for _ in range(2):
            # a hard link is created in one step, with its content, and fails where there is one already
            with contextlib.suppress(FileExistsError):
                os.link(mine, path)
                return Claim(path, token)
            if not _remove_void(path, now, over):
                return None
        return None
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        mine.unlink(missing_ok=True)


@contextlib.contextmanager
def held(claim: Claim, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep ``claim`` alive, and release it in the end. ``lost`` is called when another process took it."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            if not claim.beat():
                lost()
                return

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        claim.release()


def holder(run: RunFolder, over: Container[str] = ()) -> Process | None:
    """The process that works on a run, as far as can be told; None if nobody does. over: see ``acquire``."""
    path = run.path / NAME
    found = _read(path)
    return None if found is None or _is_void(path, found, time.time(), over) else _process(found)


def _remove_void(path: Path, now: float, over: Container[str]) -> bool:
    """Whether ``path`` is free now: it was void and is gone, or nothing was there."""
    found = _read(path)
    if found is not None and not _is_void(path, found, now, over):
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
    if aside.is_dir() and not aside.is_symlink():  # which somebody made; no claim is a folder
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    return renamed == found


def _is_void(path: Path, claim: dict[str, Any], now: float, over: Container[str]) -> bool:
    process = _process(claim)
    if process is not None and process.job is not None:
        me = Process.current()
        earlier = process.job == me.job and (process.host, process.pid) != (me.host, me.pid)
        if (earlier or process.job in over) and process.lives() is not True:
            return True
    lives = process.lives() if process else False
    if lives is not None:
        return not lives
    try:
        return now - path.stat().st_mtime > EXPIRY
    except FileNotFoundError:
        return True


def _process(claim: dict[str, Any]) -> Process | None:
    host, pid, started = (claim.get(key) for key in ("host", "pid", "started"))
    job = claim.get("job")
    if not isinstance(host, str) or type(pid) is not int or not 0 < pid < 2**31:
        return None
    if not isinstance(started, int | float) or not 0 <= started < _LATEST:
        return None
    return Process(host, pid, float(started), job if isinstance(job, str) else None)


def _read(path: Path) -> dict[str, Any] | None:
    """What a claim file says; None where there is none; nothing ({}) where it is broken."""
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except StoreError:
        return {} if path.exists() else None
    return found if isinstance(found, dict) else {}
