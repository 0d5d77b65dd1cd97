"""The one exception that means "the user can mend this", as against a bug."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and the valid choices.

    Commands print it without a traceback and exit with status 2.
    """


def unknown(kind: str, name: object, valid: Iterable[str], where: str = "") -> UserError:
    """A ``UserError`` for a name that is not one of ``valid``; ``where`` says where it stood."""
    place = f"{where}: " if where else ""
    return UserError(f"{place}unknown {kind} {name!r}; valid: {', '.join(sorted(valid)) or '(none)'}")
