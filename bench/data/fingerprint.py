"""Name a part of a data set by its content, so that results tell whether they share their examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bench.data.base import Split


def fingerprint(part: Split) -> str:
    """Return 12 hexadecimal digits that stand for the examples of ``part``, in whatever order.

    Parameters
    ----------
    part
        Examples with their labels.
    """
    each = sorted(
        hashlib.blake2b(row + repr(label).encode(), digest_size=8).digest()
        for row, label in zip(row_bytes(part.inputs), part.labels.tolist(), strict=True)
    )
    return hashlib.blake2b(b"".join(each), digest_size=6).hexdigest()


def row_bytes(inputs: torch.Tensor) -> Iterator[bytes]:
    """Yield the bytes of each example of ``inputs`` (N, ...), in order."""
    rows = inputs.detach().reshape(len(inputs), -1).cpu().contiguous().view(torch.uint8).numpy()
    return (row.tobytes() for row in rows)
