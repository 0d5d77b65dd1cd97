"""Claim runs, so that two processes do not compute the same run.

A claim is a file in the run folder. It is created in one step, and touched regularly as long as its process
works. Two processes on one run would do no harm, but they would do the work twice.
"""

from __future__ import annotations

import contextlib
import functools
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

from bench.results.files import StoreError, WriteError, clock, read_json, write_json
from bench.results.run_folder import RunFolder

NAME = "claim.json"
#: Seconds between two touches of a claim, and seconds without a touch after which other machines ignore it.
HEARTBEAT, EXPIRY = 20.0, 120.0
#: Start times of one process differ by fewer seconds: those since 1970, which the system derives from its
#: clock, and those since the machine was started, which it counts in ticks.
_CLOCK_STEP, _TICK = 2.0, 0.05
#: Seconds after which the clock of the file system is read again.
_CLOCK_SECONDS = 30.0
#: How often a process tries to get its turn at a claim, and the seconds between two tries.
_TURNS, _MOMENT = 200, 0.005
#: Latest valid start time of a process, in seconds since 1970; larger numbers are not times.
_LATEST = 1e11


@dataclass(frozen=True)
class Process:
    """Identify a process, also against a later process with the same id.

    Parameters
    ----------
    host
        Name of the machine.
    pid
        Process id on that machine.
    started
        Start time in seconds since 1970, by the machine's clock.
    job
        SLURM job that exists only for this process; None for a process that merely runs within a job.
    booted
        Time at which the machine was started, by the same clock. If the clock is set later, both times shift
        together. None in claims of versions that did not note it.
    """

    host: str
    pid: int
    started: float
    job: str | None = None
    booted: float | None = None

    @classmethod
    def current(cls) -> Process:
        """Return the process that calls this."""
        me = psutil.Process()
        return cls(socket.gethostname(), me.pid, me.create_time(), _own_job, psutil.boot_time())

    def lives(self) -> bool | None:
        """Tell whether the process runs; None if it is on another machine, where this cannot be seen."""
        if self.host != socket.gethostname():
            return None
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < _CLOCK_STEP
            if not same and self.booted is not None:
                after_boot = found.create_time() - psutil.boot_time()
                same = abs(after_boot - (self.started - self.booted)) < _TICK
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def current_job() -> str | None:
    """Return the SLURM job of this process as ``squeue`` writes it: ``12``, or ``12_3`` in an array."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


_own_job: str | None = None


def work_for_job() -> None:
    """Declare that the SLURM job around this process exists only for this process.

    Claims that the same job made before it was requeued are then void. Do not call this in processes that
    merely run within a job, such as a grid in an interactive job: their claims are like those on any machine.
    """
    global _own_job
    _own_job = current_job()


class Claim:
    """Hold the claim of this process on a run until ``release``."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token

    def beat(self) -> bool:
        """Touch the claim, and tell whether this process may go on.

        It may not if another process has taken the claim over. If the claim has vanished or is damaged, no
        other process holds it, so this process goes on; the claim is not restored.
        """
        found = _read(self.path) or {}
        if _process(found) is not None and found.get("token") != self.token:
            return False
        with contextlib.suppress(OSError):
            os.utime(self.path, follow_symlinks=False)  # a link here is not this claim
        return True

    def release(self) -> None:
        """Remove the claim, unless another process has taken it over."""
        if (_read(self.path) or {}).get("token") == self.token:
            with contextlib.suppress(OSError):  # a folder that cannot be written any more keeps it
                self.path.unlink()


def acquire(run: RunFolder, over: Container[str] = ()) -> Claim | None:
    """Claim a run, taking over a claim whose process is gone.

    Parameters
    ----------
    run
        The folder of the run.
    over
        SLURM jobs that are known to have ended; their claims are void at once, also on other machines. Claims
        that this process's own job made before it was requeued are always void.

    Returns
    -------
    Claim or None
        None if another process works on the run.

    Raises
    ------
    StoreError
        The claim cannot be written.
    """
    path, token = run.made() / NAME, secrets.token_hex(8)
    mine = path.with_name(f".{NAME}.{token}")
    write_json(mine, {**asdict(Process.current()), "token": token})
    try:
        for _ in range(2):
            with contextlib.suppress(FileExistsError):
                _put(mine, path)
                return Claim(path, token)
            if not _remove_void(path, over):
                return None
        return None
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            mine.unlink()


@contextlib.contextmanager
def held(claim: Claim, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Touch ``claim`` regularly during the block and release it afterwards.

    Parameters
    ----------
    claim
        A claim of this process.
    lost
        Called once, from another thread, when another process has taken the claim over.
    """
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
    """Return the process that works on a run, as far as this machine can see; None if no process does.

    Parameters
    ----------
    run
        The folder of the run.
    over
        SLURM jobs that are known to have ended, as in ``acquire``.
    """
    path = run.path / NAME
    found = _read(path)
    return None if found is None or _is_void(path, found, over) else _process(found)


def _remove_void(path: Path, over: Container[str]) -> bool:
    """Remove a void claim, and tell whether ``path`` is free now."""
    try:
        with _turn(path):
            found = _read(path)
            if found is not None and not _is_void(path, found, over):
                return False
            # nobody else removes claims meanwhile, so this is still the one that was read
            if path.is_dir() and not path.is_symlink():  # made by hand, since claims are files
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            return True
    except FileExistsError:
        return False


def _put(file: Path, path: Path) -> None:
    """Give ``file`` the name ``path`` in one step, with its content; ``FileExistsError`` if that is taken."""
    try:
        os.link(file, path)
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # not every file system has hard links
    with _turn(path):  # a rename would replace a file at ``path``
        if os.path.lexists(path):
            raise FileExistsError(path)
        os.rename(file, path)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; ``FileExistsError`` if another one stays in it."""
    turn = path.with_name(f".{NAME}.turn")
    with contextlib.suppress(FileNotFoundError):
        if _now(path.parent.parent) - turn.lstat().st_mtime > EXPIRY:  # its process was killed
            turn.unlink()
    for left in reversed(range(_TURNS)):  # others are in it for a moment only
        try:
            os.close(os.open(turn, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if not left:
                raise
            time.sleep(_MOMENT)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            turn.unlink()


def _is_void(path: Path, claim: dict[str, Any], over: Container[str]) -> bool:
    """Tell whether the process of a claim is gone, or shows no sign of life on another machine."""
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
        age = _now(path.parent.parent) - path.lstat().st_mtime
    except FileNotFoundError:
        return True
    if age < -EXPIRY:
        # a time in the future tells no age, so that the age is counted from now; a live process beats again
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)
    return age > EXPIRY


def _now(runs: Path) -> float:
    """Return the time in seconds by the clock that dates the claims in the folder ``runs``."""
    now = time.monotonic()
    return now + _ahead(runs, int(now // _CLOCK_SECONDS))


@functools.lru_cache(maxsize=8)
def _ahead(runs: Path, period: int) -> float:
    """Return by how many seconds the file system's clock is ahead of this process's own.

    A live view asks for many claims several times a second, so the clock is read once in each ``period``.
    """
    try:
        return clock(runs) / 1e9 - time.monotonic()
    except WriteError:  # a reader without the right to write there has only its own clock
        return time.time() - time.monotonic()


def _process(claim: dict[str, Any]) -> Process | None:
    """Return the process that a claim names; None if the claim is broken."""
    host, pid, job = (claim.get(key) for key in ("host", "pid", "job"))
    started, booted = (_time(claim.get(key)) for key in ("started", "booted"))
    if not isinstance(host, str) or type(pid) is not int or not 0 < pid < 2**31 or started is None:
        return None
    return Process(host, pid, started, job if isinstance(job, str) else None, booted)


def _time(value: Any) -> float | None:
    """Return a time in seconds since 1970; None if ``value`` is not one."""
    return float(value) if isinstance(value, int | float) and 0 <= value < _LATEST else None


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a claim file; None if there is no file, ``{}`` if it is broken."""
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except StoreError:
        return {} if path.exists() else None
    return found if isinstance(found, dict) else {}
