"""How a check ends that does not pass."""

from __future__ import annotations


class Failed(Exception):
    """A promise is not kept; the message says what was found."""


class Skipped(Exception):
    """A promise can't be looked at here; the message says why."""
