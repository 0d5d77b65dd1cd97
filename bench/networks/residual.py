"""What residual networks share: stages of blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn


def stages(
    block: Callable[[int, int, int], nn.Module], inside: int, widths: Sequence[int], counts: Sequence[int]
) -> OrderedDict[str, nn.Module]:
    """``stage1``, ``stage2``, …: so many blocks of so many channels each, on an input of ``inside`` channels.

    block: makes one from channels in, channels out and stride. Every stage but the first halves the image.
    """
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (outside, count) in enumerate(zip(widths, counts, strict=True)):
        blocks = []
        for number in range(count):
            blocks.append(block(inside, outside, 2 if stage and not number else 1))
            inside = outside
        found[f"stage{stage + 1}"] = nn.Sequential(*blocks)
    return found
