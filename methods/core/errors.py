"""Errors that a user can correct, as opposed to bugs."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Signals bad input. The message is one line: what is wrong, where, and the valid choices.

    Commands print the message without a traceback and exit with status 2.
    """


def unknown(kind: str, name: object, valid: Iterable[str], where: str = "") -> UserError:
    """Return a ``UserError`` for a name that is not valid.

    Parameters
    ----------
    kind
        What the name stands for, for example ``"method"``.
    name
        The name that was given.
    valid
        All valid names.
    where
        Place at which the name was given, for the message.
    """
    place = f"{where}: " if where else ""
    return UserError(f"{place}unknown {kind} {name!r}; valid: {', '.join(sorted(valid)) or '(none)'}")
