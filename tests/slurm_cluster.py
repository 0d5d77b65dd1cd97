"""A throw-away SLURM cluster for tests: real daemons, one node of 4 claimed CPUs, taken down at the end.

``cluster`` is one for the whole session, without accounting; ``accounted_cluster`` is one with it, for a
single test. While they are up, ``SLURM_CONF`` names them, so SLURM's commands and whoever calls these speak
to them. Where SLURM can't be had, tests that ask for it skip themselves; in CI they fail.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "slurm" / "cluster"
CPUS = 4
#: States of a job that is over.
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY")


class Unavailable(Exception):
    """No cluster could be started; the message is one line."""


class Row(NamedTuple):
    """A job as squeue shows it. reason: the text ``None`` if there is none; node: empty while it waits."""

    state: str
    reason: str
    node: str


class Cluster:
    """A running cluster. folder: all of its files; node: the name of its only node."""

    def __init__(self, accounting: str = "none") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-test-"))
        self.environment = {
            **os.environ,
            "SLURM_TEST_DIR": str(self.folder),
            "SLURM_TEST_CPUS": str(CPUS),
            "SLURM_TEST_ACCOUNTING": accounting,
            "SLURM_CONF": str(self.configuration),
        }
        try:
            self.up()
        except Unavailable:
            self.down()
            raise
        self.node = self.run("sinfo", "--noheader", "--Node", "--format=%N").split()[0]

    @property
    def configuration(self) -> Path:
        """The path that ``SLURM_CONF`` must have."""
        return self.folder / "etc" / "slurm.conf"

    def up(self) -> str:
        """Start all daemons that do not run; return the output of the script."""
        done = subprocess.run(
            [SCRIPTS / "up.sh"], env=self.environment, capture_output=True, text=True, timeout=100
        )
        if done.returncode:
            told = [line for line in done.stderr.splitlines() if line.startswith("slurm cluster: ")]
            raise Unavailable(told[0] if told else f"slurm cluster: {done.stderr.strip()[-200:]}")
        return done.stdout

    def down(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        subprocess.run(
            [SCRIPTS / "down.sh", "--purge"],
            env=self.environment,
            capture_output=True,
            timeout=100,
            check=True,
        )
        shutil.rmtree(self.folder, ignore_errors=True)  # the script leaves a folder in which nothing came up

    def daemons(self) -> dict[str, int]:
        """PIDs of the daemons by name; of several, the one that was started last."""
        lines = (self.folder / "run" / "pids").read_text().splitlines()
        return {name: int(pid) for name, pid, _ in map(str.split, lines)}

    def run(self, *command: str) -> str:
        """Run a command against this cluster; return its output."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def scontrol(self, *arguments: str) -> str:
        """Return the output of ``scontrol``."""
        return self.run("scontrol", *arguments)

    def submit(self, line: str, *options: str) -> str:
        """Submit a job that runs a line of shell; return its number."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", line)

    def squeue(self) -> dict[str, Row]:
        """Return all jobs since the cluster started, ended ones included, by id (``12_3`` in an array)."""
        text = self.run("squeue", "--states=all", "--array", "--noheader", "--format=%i|%T|%r|%N")
        rows = (line.split("|", 3) for line in text.splitlines())
        return {job: Row(state, reason, node) for job, state, reason, node in rows}

    def wait_for(self, job: str, states: Collection[str] = OVER, seconds: float = 60) -> Row:
        """Wait until the job is in one of ``states``; raise an error after ``seconds``."""
        wanted = (states,) if isinstance(states, str) else states
        deadline = time.monotonic() + seconds
        while (row := self.squeue()[job]).state not in wanted:
            assert time.monotonic() < deadline, f"job {job} is {row}, not {wanted}, after {seconds} s"
            time.sleep(0.1)
        return row

    def stop_controller(self) -> None:
        """End slurmctld; jobs go on, commands fail until ``start_controller``."""
        pid = self.daemons()["slurmctld"]
        subprocess.run(["kill", "-TERM", str(pid)], check=True)
        deadline = time.monotonic() + 20
        while lives(pid):
            assert time.monotonic() < deadline, "slurmctld does not end"
            time.sleep(0.05)

    def start_controller(self) -> None:
        """Start slurmctld again, with the jobs that it knew."""
        self.up()

    def restart_controller(self) -> None:
        """Stop and start slurmctld."""
        self.stop_controller()
        self.start_controller()


def lives(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def running(accounting: str = "none") -> Iterator[Cluster]:
    """Yield a running cluster that ``SLURM_CONF`` names; without one skip the test, or fail it in CI."""
    try:
        cluster = Cluster(accounting)
    except Unavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(cluster.configuration))
            yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session", name="cluster")
def session_cluster() -> Iterator[Cluster]:
    """A cluster for all tests of the session; each must leave no job behind and no daemon stopped."""
    with running() as found:
        yield found


@pytest.fixture
def accounted_cluster() -> Iterator[Cluster]:
    """A cluster with accounting (slurmdbd), for one test."""
    with running("slurmdbd") as found:
        yield found
