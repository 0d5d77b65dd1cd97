"""Know the suites by name, and their questions, without importing what they name."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
GROUP = "ssvi_bench.suites"
SCALES = ("demo", "small", "reduced", "paper")
#: How the file of chosen settings beside a suite's file ends.
TUNED = ".tuned.yaml"


def names() -> list[str]:
    """Return the names of all suites, those of other packages included, in alphabetical order."""
    files = {path.stem for path in FOLDER.glob("*.yaml") if not path.name.endswith(TUNED)}
    return sorted(files | {point.name for point in entry_points()})


def questions() -> dict[str, str]:
    """Return the question of each suite that has a file here, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.name.endswith(TUNED):
            continue
        # a line of its own, so that the rest of the file, which takes long, need not be read
        line = re.search(r"^question: *(\S.*)$", path.read_text(errors="replace"), re.MULTILINE)
        if line is not None:
            found[path.stem] = line[1].strip().strip("'\"")
    return found


def entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    """Return the entry points of suites that other packages offer."""
    return importlib.metadata.entry_points(group=GROUP)


def path_of(name: str) -> Path | None:
    """Return the file of the suite ``name``, a name or a path; None if an entry point may have it."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return from_here(Path(os.path.expanduser(name)))
    path = FOLDER / f"{name}.yaml"
    return from_here(path) if path.is_file() else None


def from_here(path: Path) -> Path:
    """Return ``path`` as messages show it: relative to the working folder if it lies within."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
