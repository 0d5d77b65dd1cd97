"""What all tests share: one thread a process, and in CI the same drawn examples every time."""

from __future__ import annotations

import os

# before torch is imported, here or in a process that a test starts: bits must not depend on the cores
os.environ["OMP_NUM_THREADS"] = "1"

from hypothesis import settings

from tests.slurm_cluster import accounted_cluster, session_cluster  # noqa: F401

settings.register_profile("here", deadline=None)
settings.register_profile("everywhere the same", deadline=None, derandomize=True, database=None)
settings.load_profile("everywhere the same" if os.environ.get("CI") else "here")
