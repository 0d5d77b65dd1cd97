"""Packages of others, installed for a test: in a folder of their own, without the network or an installer."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path


def install(source: Path, site: Path) -> None:
    """Build the package whose ``pyproject.toml`` is in ``source``, which gets build products, into ``site``.

    It is a wheel of Python files, and unpacking it is what an installer would do.
    """
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
