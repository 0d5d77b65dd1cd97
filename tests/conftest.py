"""What all tests share: one thread a process, in CI the same drawn examples every time, and who runs where.

``make test`` spreads the tests over processes (pytest-xdist). Tests that share what is dear to make go to
one of them: those that use a fixture of their module, and those of the browser. A SLURM cluster is up in a
second, so each process has one of its own.
"""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path

# what is started in the background ignores Ctrl-C, and so would all that tests start and interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# before torch is imported, here or in a process that a test starts: bits must not depend on the cores
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.fuzzing import TIMES
from tests.slurm_cluster import accounted_cluster, session_cluster  # noqa: F401

settings.register_profile("here", deadline=None)
settings.register_profile("everywhere the same", deadline=None, derandomize=True, database=None)
settings.load_profile("everywhere the same" if os.environ.get("CI") else "here")

ROOT = Path(__file__).resolve().parent.parent
#: More processes than this gain little, and each takes up to a gigabyte.
MOST_PROCESSES = 8


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many ``-n auto`` means: one a core that this process may use, whatever else the machine has.

    Tests of SLURM wait more than they compute; with them there are two more.
    """
    waiting = 0 if "not slurm" in config.option.markexpr else 2
    return min(len(os.sched_getaffinity(0)) + waiting, MOST_PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Send tests that share something to one process."""
    return Sharing(config, log)


class Sharing(LoadScopeScheduling):
    """Schedules tests by ``group``; ``--dist loadgroup`` does not see marks that are set in this file."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """Return what a test shares with others: a service, the fixtures of its file, or nothing but its id."""
    file = nodeid.partition("::")[0]
    if file == "tests/test_dashboard_browser.py" or nodeid.endswith("_prints_its_figures[dashboard]"):
        return "browser"
    return file if has_module_fixtures(file) else nodeid


@cache
def has_module_fixtures(file: str) -> bool:
    """Tell whether a file of tests has fixtures that its tests share."""
    return 'scope="module"' in (ROOT / file).read_text(encoding="utf-8")


def length(item: pytest.Item) -> int:
    """Return a small number for tests that take long: alone, or together with those of their group."""
    if group(item.nodeid) != item.nodeid:
        return 0 if item.get_closest_marker("browser") else 2
    return 1 if item.get_closest_marker("slurm") else 3 if item.get_closest_marker("slow") else 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that draw at random, and put the longest groups first, so that none ends alone."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("fuzz")
        if TIMES > 1:  # as long as it takes
            item.add_marker(pytest.mark.timeout(0), append=False)
    items.sort(key=length)
