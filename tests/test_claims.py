"""Who works on a run: one process at a time, until it lets go, dies or falls silent."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import psutil
import pytest

from bench.launching.prepare import make_way
from bench.monitoring.progress import Item, Progress
from bench.results import claims
from bench.results.claims import EXPIRY, HEARTBEAT, Process, acquire, holder
from bench.results.files import StoreError, remove_leftovers
from bench.results.run_folder import RunFolder
from bench.results.store import Store

#: Claims what it can of the runs in argv[2:], the next one every millisecond from the moment that it
#: reads, says what it got, and lives on.
RACER = """
import sys, time
from pathlib import Path
from bench.results.claims import acquire
from bench.results.run_folder import RunFolder
print("ready", flush=True)
start, got = float(sys.stdin.readline()), []
for i, run_id in enumerate(sys.argv[2:]):
    while time.time() < start + i / 1000:
        pass
    if acquire(RunFolder(Path(sys.argv[1]) / run_id)):
        got.append(run_id)
print(*got, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "runs" / "0123456789ab")


def write_claim(run, **fields):
    """The claim of this process, or of the one that ``fields`` describe."""
    run.path.mkdir(parents=True, exist_ok=True)
    path = run.path / claims.NAME
    path.write_text(json.dumps({**asdict(Process.current()), "token": "another", **fields}))
    return path


def silent_for(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def race(folder, run_ids, racers, before=""):
    """What each of ``racers`` processes got, reaching for each run at one moment and outliving the race.

    before: code that each of them executes first.
    """
    command = [sys.executable, "-c", before + RACER, str(folder), *run_ids]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(racers)
    ]
    try:
        assert [process.stdout.readline() for process in started] == ["ready\n"] * racers
        start = time.time() + 0.05
        for process in started:
            process.stdin.write(f"{start}\n")
            process.stdin.flush()
        return [process.stdout.readline().split() for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def names(count):
    return [f"{i:012x}" for i in range(count)]


# -- one at a time --------------------------------------------------------------------------


def test_of_several_processes_exactly_one_gets_a_run(tmp_path):
    won = race(tmp_path, names(200), racers=3)
    assert sorted(run_id for got in won for run_id in got) == names(200)


def test_of_two_that_find_a_dead_claim_exactly_one_takes_it_over(tmp_path):
    for run_id in names(200):
        write_claim(RunFolder(tmp_path / run_id), started=1.0)
    won = race(tmp_path, names(200), racers=2)
    assert sorted(run_id for got in won for run_id in got) == names(200)


def test_a_run_that_this_process_has_is_not_given_out_again(run):
    assert acquire(run) is not None
    assert acquire(run) is None


def test_a_released_run_can_be_claimed_and_nothing_is_left_of_the_claim(run):
    acquire(run).release()
    assert list(run.path.iterdir()) == []
    assert acquire(run) is not None


def test_nothing_but_the_claim_is_left_by_those_who_got_none(run):
    acquire(run)
    for _ in range(3):
        acquire(run)
    assert [path.name for path in run.path.iterdir()] == [claims.NAME]


def test_the_holder_is_named(run):
    assert holder(run) is None
    claim = acquire(run)
    assert holder(run) == Process.current()
    claim.release()
    assert holder(run) is None


# -- file systems without hard links --------------------------------------------------------


def without_links(monkeypatch, number=errno.EPERM):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_runs_are_claimed_where_there_are_no_hard_links(run, number, monkeypatch):
    without_links(monkeypatch, number)
    claim = acquire(run)
    assert holder(run) == Process.current()
    assert acquire(run) is None
    assert [path.name for path in run.path.iterdir()] == [claims.NAME]
    claim.release()
    assert list(run.path.iterdir()) == []
    write_claim(run, started=1.0)
    assert acquire(run) is not None


@pytest.mark.parametrize("dead", [False, True])
def test_of_several_processes_exactly_one_gets_a_run_without_hard_links(tmp_path, dead):
    for run_id in names(200) if dead else ():
        write_claim(RunFolder(tmp_path / run_id), started=1.0)
    refused = f"import os\ndef refuse(*_):\n    raise OSError({errno.EPERM}, 'no')\nos.link = refuse\n"
    won = race(tmp_path, names(200), racers=3, before=refused)
    assert sorted(run_id for got in won for run_id in got) == names(200)


def test_a_process_that_was_killed_while_it_claimed_does_not_hold_a_run_for_ever(run, monkeypatch):
    without_links(monkeypatch)
    turn = run.made() / f".{claims.NAME}.turn"
    turn.touch()
    assert acquire(run) is None
    silent_for(turn, EXPIRY + 5)
    assert acquire(run) is not None


# -- owners of this machine -----------------------------------------------------------------


@pytest.fixture
def other():
    """Another process of this machine, ended and reaped by ``kill`` and ``wait``."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def claim_of(process, run):
    return write_claim(run, pid=process.pid, started=psutil.Process(process.pid).create_time())


def test_a_claim_of_a_live_process_holds_however_old_it_is(run, other):
    silent_for(claim_of(other, run), 10 * EXPIRY)
    assert acquire(run) is None
    assert holder(run).pid == other.pid


def test_a_claim_of_a_dead_process_is_taken_over(run, other):
    claim_of(other, run)
    other.kill()
    other.wait()
    assert holder(run) is None
    assert acquire(run) is not None
    assert holder(run) == Process.current()


def test_a_process_that_is_dead_and_not_yet_reaped_is_dead(run, other):
    claim_of(other, run)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(other.pid).status() == psutil.STATUS_ZOMBIE
    assert acquire(run) is not None


def test_a_later_process_with_the_same_number_is_not_the_owner(run, other):
    write_claim(run, pid=other.pid, started=psutil.Process(other.pid).create_time() - 3600)
    assert holder(run) is None
    assert acquire(run) is not None


# -- owners of other machines ---------------------------------------------------------------


def test_whether_a_process_of_another_machine_lives_cannot_be_seen():
    assert replace(Process.current(), host="another.machine").lives() is None


@pytest.mark.parametrize(("silent", "held"), [(HEARTBEAT, True), (EXPIRY - 5, True), (EXPIRY + 5, False)])
def test_another_machines_claim_holds_until_it_was_silent_for_too_long(run, silent, held):
    silent_for(write_claim(run, host="another.machine"), silent)
    assert (holder(run) is not None) == held
    assert (acquire(run) is None) == held


def test_a_beat_keeps_a_claim_alive(run):
    claim = acquire(run)
    write_claim(run, host="another.machine", token=claim.token)
    silent_for(claim.path, EXPIRY + 5)
    claim.beat()
    assert acquire(run) is None


def test_several_beats_fit_into_the_time_until_expiry():
    assert 3 * HEARTBEAT < EXPIRY


# -- clocks ---------------------------------------------------------------------------------


def clock_of_this_machine(monkeypatch, ahead):
    """Set the clock of this machine, but not that of the file system, ``ahead`` seconds forward."""
    seconds, nanoseconds = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: seconds() + ahead)
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + int(ahead * 1e9))


@pytest.mark.parametrize("ahead", [-86_400, -300, 300, 86_400])
def test_the_age_of_a_claim_is_told_by_the_clock_of_the_file_system(run, ahead, monkeypatch):
    path = write_claim(run, host="another.machine")
    clock_of_this_machine(monkeypatch, ahead)
    assert holder(run) is not None
    assert acquire(run) is None
    then = path.stat().st_mtime - EXPIRY - 5
    os.utime(path, (then, then))
    assert holder(run) is None
    assert acquire(run) is not None


@pytest.mark.parametrize("ahead", [-300, 300])
def test_a_clock_that_is_wrong_neither_calls_a_live_run_preempted_nor_forces_it_away(
    tmp_path, ahead, monkeypatch
):
    store = Store(tmp_path, create=True)
    run = store.run("0123456789ab")
    run.write("status", {"status": "running"})
    write_claim(run, host="another.machine")
    clock_of_this_machine(monkeypatch, ahead)
    assert Progress(store, [Item(run.run_id, "a run")]).statuses() == {run.run_id: "running"}
    forced = SimpleNamespace(force=True, retry_failed=False)
    make_way(store, [SimpleNamespace(run_id=run.run_id)], forced, pytest.fail)
    assert (run.path / claims.NAME).exists()


@pytest.mark.parametrize("ahead", [300, 86_400 * 365])
def test_a_claim_from_the_future_holds_for_as_long_as_one_of_now(run, ahead):
    """The clock of the file system was set back: whether the process lives shows at its next beat."""
    path = write_claim(run, host="another.machine")
    silent_for(path, -ahead)
    assert holder(run) is not None
    assert abs(path.stat().st_mtime - time.time()) < 5
    silent_for(path, EXPIRY + 5)
    assert holder(run) is None


@pytest.mark.skipif(sys.platform != "linux", reason="it replaces how psutil finds the start of Linux")
@pytest.mark.parametrize("step", [-300, 300])
def test_a_process_lives_on_when_the_clock_of_its_machine_is_set(run, other, step, monkeypatch):
    path = claim_of(other, run)
    booted = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: booted + step)
    assert holder(run).pid == other.pid
    assert acquire(run) is None
    # a later process with the same number, after the machine was started again
    path.write_text(json.dumps({**json.loads(path.read_text()), "booted": booted - 3600}))
    assert holder(run) is None


def test_files_left_over_are_told_by_the_clock_of_the_file_system(tmp_path, monkeypatch):
    young, old = (tmp_path / f".{name}.tmp" for name in ("young", "old"))
    young.touch()
    old.touch()
    silent_for(old, 3605)
    clock_of_this_machine(monkeypatch, 86_400)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [young.name]


# -- what was taken over --------------------------------------------------------------------


def test_who_lost_a_run_does_not_release_the_others_claim(run):
    lost = acquire(run)
    claim_now = write_claim(run, token="of the next")
    lost.release()
    assert claim_now.exists()


def test_a_beat_does_not_bring_a_claim_back(run):
    claim = acquire(run)
    claim.release()
    claim.beat()
    assert not claim.path.exists()


# -- broken claims --------------------------------------------------------------------------

GARBAGE = {
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "torn": b'{"host": "a", "pid',
    "a list": b"[1, 2]",
    "a number": b"7",
    "no fields": b"{}",
    "a process number that is none": b'{"host": "HOST", "pid": -1, "started": 1.0, "token": "t"}',
    "a huge process number": b'{"host": "HOST", "pid": 99999999999999999999, "started": 1.0, "token": "t"}',
    "a process number that is text": b'{"host": "HOST", "pid": "1", "started": 1.0, "token": "t"}',
    "a start that is text": b'{"host": "HOST", "pid": 1, "started": "then", "token": "t"}',
    "a host that is a number": b'{"host": 5, "pid": 1, "started": 1.0, "token": "t"}',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_broken_claim_is_nobodys_and_is_taken_over(run, name):
    run.path.mkdir(parents=True)
    path = run.path / claims.NAME
    path.write_bytes(GARBAGE[name].replace(b"HOST", Process.current().host.encode()))
    assert holder(run) is None
    assert acquire(run) is not None
    assert json.loads(path.read_bytes())["pid"] == os.getpid()
    assert [found.name for found in run.path.iterdir()] == [claims.NAME]


def test_a_link_in_place_of_a_claim_is_replaced_and_what_it_points_to_is_left_alone(run, tmp_path):
    target = tmp_path / "target"
    for content in (None, "{}"):
        if content is not None:
            target.write_text(content)
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / claims.NAME).symlink_to(target)
        claim = acquire(run)
        assert claim is not None and not claim.path.is_symlink()
        assert (target.read_text() if target.exists() else None) == content
        claim.release()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*runs/0123456789ab: Not a directory"):
        acquire(RunFolder(tmp_path / "runs" / "0123456789ab"))
