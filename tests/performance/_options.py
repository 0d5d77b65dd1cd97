"""What all scripts of this folder share: the option ``--smoke``."""

from __future__ import annotations

import argparse
from typing import Any


def parsed(parser: argparse.ArgumentParser, **tiny: Any) -> argparse.Namespace:
    """The arguments; with ``--smoke``, which this adds, ``tiny`` takes the place of defaults.

    The tests run every script of this folder so, to see that it still gets to its end.
    """
    parser.add_argument(
        "--smoke", action="store_true", help="everything once, as small as it gets: its figures mean nothing"
    )
    if parser.parse_known_args()[0].smoke:
        parser.set_defaults(**tiny)
    return parser.parse_args()
