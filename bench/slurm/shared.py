"""Whether a folder can be one that the nodes of a cluster share, as far as this machine can tell."""

from __future__ import annotations

import contextlib
from pathlib import Path

#: File systems that live in one machine's memory.
_OWN = ("tmpfs", "ramfs", "devtmpfs")
_FOR_A_WHILE = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


def not_shared(folder: Path) -> str | None:
    """What ``folder`` lies on where that is this machine's alone; None where it may be shared."""
    path = folder.resolve()
    with contextlib.suppress(OSError):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        # of mounts at one place the last is seen
        found = {Path(mount[1]): mount[2] for mount in mounts if len(mount) > 2}
        kind = next((found[parent] for parent in (path, *path.parents) if parent in found), "")
        if kind in _OWN:
            return f"a {kind} of this machine"
    return next((f"{place} of this machine" for place in _FOR_A_WHILE if path.is_relative_to(place)), None)
