"""Build stages of residual blocks, which several networks share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn


def stages(
    block: Callable[[int, int, int], nn.Module], inside: int, widths: Sequence[int], counts: Sequence[int]
) -> OrderedDict[str, nn.Module]:
    """Build ``stage1``, ``stage2``, …, sequences of residual blocks; all but the first halve the image.

    Parameters
    ----------
    block
        Makes a block from its input channels, output channels and stride.
    inside
        Channels of the input of the first stage.
    widths
        Output channels of each stage.
    counts
        Number of blocks of each stage.
    """
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (outside, count) in enumerate(zip(widths, counts, strict=True)):
        blocks = []
        for number in range(count):
            blocks.append(block(inside, outside, 2 if stage and not number else 1))
            inside = outside
        found[f"stage{stage + 1}"] = nn.Sequential(*blocks)
    return found
