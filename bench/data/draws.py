"""Draw random numbers from the content of examples, for a whole batch at once.

What an example gets depends on the example and on what it is drawn for, not on a state, on the batch or on
the order of examples. The numbers are made by integer arithmetic, and so are the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Keys = NDArray[np.uint64]

# the constants of SplitMix64 (Steele, Lea and Flood 2014)
_STEP, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# Numbers of one purpose lie this far from those of another in the sequence of a key.
_APART = 2**40


def keys(examples: Iterable[bytes], purpose: str) -> Keys:
    """Return one key for each example, from its bytes and from what numbers are drawn for.

    Parameters
    ----------
    examples
        The bytes of each of N examples, as ``bench.data.fingerprint.row_bytes`` yields them.
    purpose
        Any text, such as ``fog 3``.

    Returns
    -------
    ndarray
        Shape (N,).
    """
    start = hashlib.blake2b(purpose.encode() + b"\0", digest_size=8)
    digests = []
    for example in examples:
        here = start.copy()
        here.update(example)
        digests.append(here.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def uniform(keys: Keys, *shape: int, part: int = 0) -> Array:
    """Draw uniform numbers in (0, 1).

    Parameters
    ----------
    keys
        A key for each of N examples.
    *shape
        Shape of the numbers of one example.
    part
        Number of the draw, where several are made from one key; each gives other numbers.

    Returns
    -------
    ndarray
        Shape (N, *shape).
    """
    count = int(np.prod(shape))
    places = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(part * _APART)
    bits = keys[:, None] + places * _STEP  # modulo 2^64
    bits ^= bits >> np.uint64(30)
    bits *= _FIRST
    bits ^= bits >> np.uint64(27)
    bits *= _SECOND
    bits ^= bits >> np.uint64(31)
    found = (bits >> np.uint64(12)).astype(np.float64)  # 52 bits and a half, so that neither end is reached
    found += 0.5
    found *= 2.0**-52
    return found.reshape(len(keys), *shape)


def normal(keys: Keys, *shape: int, part: int = 0) -> Array:
    """Draw standard normal numbers (N, *shape); parameters are those of ``uniform``."""
    from scipy.special import ndtri  # imported here, since every command imports this module

    found: Array = ndtri(uniform(keys, *shape, part=part))
    return found
