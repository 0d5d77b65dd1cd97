"""The code in use: its commit, and how its files differ from it.

Nothing is written to the repository, its index included: it may be another's, read-only, or in use.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.results.files import StoreError, WriteError, write_bytes

#: What decides a result, of all files of the repository.
CODE = ("bench", "methods", "pyproject.toml", "setup.py")
#: Of the changes, larger ones only the digest is kept.
MOST_BYTES = 2**20

_SECONDS = 20.0
# The repository may be another user's, which git refuses otherwise; its code is run already.
_GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true")
# the same text whatever the user's configuration says
_DIFF = (
    "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative",
    "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0", "-O/dev/null",
    "--diff-algorithm=myers", "--indent-heuristic", "--ignore-submodules=all",
)  # fmt: skip


@dataclass(frozen=True)
class Code:
    """commit: 40 hexadecimal digits. patch: the uncommitted changes, for ``git apply``; None: not known."""

    commit: str
    patch: bytes | None

    @property
    def digest(self) -> str:
        """8 hexadecimal digits of the changes, nothing where they can't be told."""
        return "" if self.patch is None else hashlib.blake2b(self.patch, digest_size=4).hexdigest()

    @property
    def name(self) -> str:
        """The column ``git_sha``."""
        return self.commit if self.patch == b"" else f"{self.commit}+{self.digest}"

    def keep(self, root: Path) -> None:
        """Write the changes to ``patches`` of the results folder ``root``, unless they are there.

        Several at once do no harm. Raises ``StoreError``.
        """
        if not self.patch:
            return
        folder = root / "patches"
        path = folder / f"{self.digest}.diff"
        if folder.is_symlink():
            raise StoreError(f"{folder}: is a link")
        if path.is_file():
            return
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {folder}: {error.strerror or error}") from None
        write_bytes(path, self.patch if len(self.patch) <= MOST_BYTES else self._too_large())

    def _too_large(self) -> bytes:
        size = len(self.patch or b"")
        return (
            f"# {size} bytes of changes to {self.commit}: more than the {MOST_BYTES} that are kept\n".encode()
        )


@cache
def code() -> Code | None:
    """The code in use, once and for all when it is asked first; None outside a checkout of ours.

    Files that were added are changes, those that git ignores are none.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        top, commit = _git(root, "rev-parse", "--show-toplevel", "HEAD").decode().splitlines()
        if Path(top).resolve() != root:  # installed inside a repository of somebody else's
            return None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    try:
        return Code(commit, _changes(root))
    except (OSError, subprocess.SubprocessError):
        return Code(commit, None)


def git_sha() -> str | None:
    """The name of the code in use, as in the column of that name."""
    found = code()
    return None if found is None else found.name


def _changes(root: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        # a copy of the index, in which files that were added are noted so that the difference shows them;
        # to note one git writes an object, the empty one
        index, objects = (
            root / _git(root, "rev-parse", "--git-path", name).decode().rstrip("\n")
            for name in ("index", "objects")
        )
        shutil.copyfile(index, Path(folder) / "index")
        apart = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            # quoted, as a colon would divide it
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{objects.resolve()}"',
        }
        there = [name for name in CODE if (root / name).exists()]
        _git(root, "add", "--intent-to-add", "--", *there, **apart)
        return _git(root, "diff", *_DIFF, "HEAD", "--", *CODE, **apart)


def _git(root: Path, *command: str, **variables: str) -> bytes:
    # in a hook of git these name another repository
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        [*_GIT, *command],
        cwd=root,
        env=environment | variables,
        capture_output=True,
        check=True,
        timeout=_SECONDS,
    )
    return done.stdout
