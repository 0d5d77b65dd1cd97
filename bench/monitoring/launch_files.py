"""Find and remove the files of a launch: workers' notes, submitit's files and logs.

They lie in ``RESULTS.jobs/<launch>/``, beside the results folder ``RESULTS``; ``root`` has the exception.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from bench.results.files import StoreError, read_json

#: Paths that SLURM, submitit and a batch script take as they are.
_PLAIN = re.compile(r"""[^%\\'"\x00-\x1f\x7f\ud800-\udfff]+""")


def root(results: Path) -> Path:
    """Return the folder of all launches. It lies beside the results folder to keep submitit's files out.

    SLURM and submitit replace parts of a path such as ``%j``, and a batch script cannot name every path. The
    launches of such a results folder are in the user's home.
    """
    folder = results.resolve()
    if _PLAIN.fullmatch(str(folder)):
        return folder.with_name(f"{folder.name}.jobs")
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return Path.home() / ".cache" / "ssvi-bench" / "jobs" / digest


def new(results: Path) -> Path:
    """Make a new folder for a launch; raise ``StoreError`` if that fails."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
    folder = root(results) / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None
    return folder


def every(results: Path) -> list[Path]:
    """Return the folders of launches, oldest first, without links, since files in them may be removed."""
    return [path for path in sorted(root(results).glob("*")) if path.is_dir() and not path.is_symlink()]


def note(launch: Path, number: int) -> Path:
    """Return the path of the note in which worker ``number`` writes its state (see ``worker.Note``)."""
    return launch / f"worker-{number}.json"


def read_note(path: Path) -> dict[str, Any]:
    """Read the note of a worker; an empty dict if it wrote none or the note is damaged."""
    with contextlib.suppress(StoreError):
        found = read_json(path)
        return found if isinstance(found, dict) else {}
    return {}


def logs(launch: Path) -> Path:
    """Return the folder of submitit's files, which include the logs."""
    return launch / "submitit"


def tidy(launch: Path) -> None:
    """Remove the files of a launch."""
    shutil.rmtree(launch, ignore_errors=True)
    with contextlib.suppress(OSError):
        launch.parent.rmdir()
