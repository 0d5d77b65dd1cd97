"""Name a file or folder of the user by its content: run ids depend on what is in it, not on where it lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.data.base import DatasetOptions
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class FileOptions(DatasetOptions):
    """Options of data of the user. The digest is computed when a path is given without it."""

    path: str = option("", "the file or folder; it is not part of the run id", hashed=False)
    digest: str = option(
        "", "digest of the content, which is part of the run id; computed if it is not given"
    )

    def __post_init__(self) -> None:
        if self.path and not self.digest:
            object.__setattr__(self, "digest", self.content(Path(os.path.expanduser(self.path))))

    def content(self, path: Path) -> str:
        """Return the digest of what is at ``path``."""
        raise NotImplementedError

    def found(self, name: str) -> Path:
        """Return the path, after comparing its content with the digest.

        Parameters
        ----------
        name
            Name of the data set, for messages.

        Raises
        ------
        UserError
            No path is set, or the content is not that of the run.
        """
        if not self.path:
            raise UserError(f"data set {name}: dataset.path is not set; it names the data")
        path = Path(os.path.expanduser(self.path))
        if (now := self.content(path)) != self.digest:
            raise UserError(
                f"data set {name}: {path}: the content has changed: its digest is {now}, the run is of "
                f"{self.digest}"
            )
        return path


def digest(parts: Iterable[bytes]) -> str:
    """Return 16 hexadecimal digits that stand for a sequence of byte strings."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()
