"""Identify the code in use: its git commit, and how its files differ from that commit.

Nothing is written to the repository, not even to its index: it may belong to somebody else, be read-only,
or be in use.
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

#: Files and folders of the repository that can change a result.
CODE = ("bench", "methods", "pyproject.toml", "setup.py")
#: Largest patch, in bytes, that is kept; of a larger one only the digest is kept.
MOST_BYTES = 2**20

_SECONDS = 20.0
# Git refuses repositories of other users by default; here it is safe, since their code already runs.
_GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true")
# options that make the text of the patch independent of the user's configuration
_DIFF = (
    "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative",
    "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0", "-O/dev/null",
    "--diff-algorithm=myers", "--indent-heuristic", "--ignore-submodules=all",
)  # fmt: skip


@dataclass(frozen=True)
class Code:
    """The code in use.

    Parameters
    ----------
    commit
        Its commit, 40 hexadecimal digits.
    patch
        Uncommitted changes, for ``git apply``; None if they are not known.
    """

    commit: str
    patch: bytes | None

    @property
    def digest(self) -> str:
        """8 hexadecimal digits that identify the changes; empty if they are not known."""
        return "" if self.patch is None else hashlib.blake2b(self.patch, digest_size=4).hexdigest()

    @property
    def name(self) -> str:
        """The value of the column ``git_sha``."""
        return self.commit if self.patch == b"" else f"{self.commit}+{self.digest}"

    def keep(self, root: Path) -> None:
        """Write the changes to the folder ``patches`` of the results folder ``root``, unless they are there.

        Several processes may do so at once. Raises ``StoreError`` if the folder can't be written.
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
    """Return the code in use, as it is when this is first called; None outside a checkout of this repository.

    New files count as changes, files that git ignores do not.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        top, commit = _git(root, "rev-parse", "--show-toplevel", "HEAD").decode().splitlines()
        if Path(top).resolve() != root:  # installed inside another repository
            return None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    try:
        return Code(commit, _changes(root))
    except (OSError, subprocess.SubprocessError):
        return Code(commit, None)


def git_sha() -> str | None:
    """Return the name of the code in use, as in the column ``git_sha``; None if it is not known."""
    found = code()
    return None if found is None else found.name


def _changes(root: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        # new files are noted in a copy of the index, so that the patch contains them; noting a file makes
        # git write an (empty) object, which goes to this folder too
        index, objects = (
            root / _git(root, "rev-parse", "--git-path", name).decode().rstrip("\n")
            for name in ("index", "objects")
        )
        shutil.copyfile(index, Path(folder) / "index")
        apart = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            # in quotes, because git would split the path at a colon
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{objects.resolve()}"',
        }
        there = [name for name in CODE if (root / name).exists()]
        _git(root, "add", "--intent-to-add", "--", *there, **apart)
        return _git(root, "diff", *_DIFF, "HEAD", "--", *CODE, **apart)


def _git(root: Path, *command: str, **variables: str) -> bytes:
    # these variables are left out because, within a git hook, they name another repository
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
