"""What all tests share: one thread a process, in CI the same drawn examples every time, and who runs where.

``make test`` spreads the tests over processes (pytest-xdist). Tests that share what is dear to make go to
one of them: those that use a fixture of their module, those of the SLURM cluster, those of the browser.
"""

from __future__ import annotations

import os
import signal

# what is started in the background ignores Ctrl-C, and so would all that tests start and interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# before torch is imported, here or in a process that a test starts: bits must not depend on the cores
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

from tests.fuzzing import TIMES
from tests.slurm_cluster import accounted_cluster, session_cluster  # noqa: F401

settings.register_profile("here", deadline=None)
settings.register_profile("everywhere the same", deadline=None, derandomize=True, database=None)
settings.load_profile("everywhere the same" if os.environ.get("CI") else "here")

#: Tests with one of these marks share a service; they are long, so they begin first.
SERVICES = ("slurm", "browser")
#: More processes than this gain little, and each takes up to a gigabyte.
MOST_PROCESSES = 8


def pytest_xdist_auto_num_workers() -> int:
    """How many ``-n auto`` means: one a core that this process may use, whatever else the machine has."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests go to one process, and which draw at random; put the long groups first.

    So that none of these is left for the end.
    """
    for item in items:
        if (name := group(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(name))
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("fuzz")
        if TIMES > 1:  # as long as it takes
            item.add_marker(pytest.mark.timeout(0), append=False)
    items.sort(key=lambda item: not any(map(item.get_closest_marker, SERVICES)))


def group(item: pytest.Item) -> str | None:
    """What ``item`` shares with others; None where it may run anywhere."""
    if (service := next(filter(item.get_closest_marker, SERVICES), None)) is not None:
        return service
    assert isinstance(item, pytest.Function)
    found = item._fixtureinfo.name2fixturedefs.values()
    shared = any(definitions[-1].scope == "module" for definitions in found)
    return item.path.stem if shared else None
