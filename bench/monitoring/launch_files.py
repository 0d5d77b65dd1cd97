"""The files of a launch, ``RESULTS.jobs/<launch>/``: notes of its workers, submitit's files, logs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from bench.results.files import StoreError, read_json


def root(results: Path) -> Path:
    """Where launches have their files: beside the results folder, in which nothing of submitit's may lie."""
    folder = results.resolve()
    return folder.with_name(f"{folder.name}.jobs")


def new(results: Path) -> Path:
    """A new folder for a launch; ``StoreError`` where it can't be made."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
    folder = root(results) / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None
    return folder


def every(results: Path) -> list[Path]:
    """The folders of launches, oldest first; a link is none, as files are written and removed there."""
    return [path for path in sorted(root(results).glob("*")) if path.is_dir() and not path.is_symlink()]


def note(launch: Path, number: int) -> Path:
    """The file in which worker ``number`` of a launch says what it is at, see ``worker.Note``."""
    return launch / f"worker-{number}.json"


def read_note(path: Path) -> dict[str, Any]:
    """What a worker said last; nothing where it did not come so far, or its note is damaged."""
    with contextlib.suppress(StoreError):
        found = read_json(path)
        return found if isinstance(found, dict) else {}
    return {}


def logs(launch: Path) -> Path:
    """Where submitit has its files, the logs among them."""
    return launch / "submitit"


def tidy(launch: Path) -> None:
    """Remove the files of a launch."""
    shutil.rmtree(launch, ignore_errors=True)
    with contextlib.suppress(OSError):
        launch.parent.rmdir()
