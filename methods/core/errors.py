"""Errors that a user can correct, as opposed to bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: How like a valid name a name must be to be taken for it: the ratio of ``difflib``.
_LIKE = 0.6


class UserError(Exception):
    """Signals bad input. The message is one line: what is wrong, where, and the valid choices.

    Commands print the message without a traceback and exit with status 2.
    """


def unknown(kind: str, name: object, valid: Iterable[str], where: str = "") -> UserError:
    """Return a ``UserError`` for a name that is not valid: with the valid names like it first, then with all.

    Parameters
    ----------
    kind
        What the name stands for, for example ``"method"``.
    name
        The name that was given.
    valid
        All valid names. Full keys (``training.lr``) are listed by section.
    where
        Place at which the name was given, for the message.
    """
    place, known = f"{where}: " if where else "", sorted(valid)
    return UserError(f"{place}unknown {kind} {name!r}{meant(name, known)}; valid: {_by_section(known)}")


def meant(name: object, valid: Iterable[str]) -> str:
    """Return `` (did you mean 'ssvi'?)`` with the valid name most like ``name``; empty if none is like it.

    A short key is compared with the last parts of full keys.
    """
    typed, known = str(name), list(valid)
    section, _, leaf = typed.rpartition(".")
    keys = {key.rpartition(".")[2].lower(): key for key in known if section in ("", key.rpartition(".")[0])}
    if not keys:  # the section is not one either
        keys, leaf = {key.lower(): key for key in known}, typed
    close = difflib.get_close_matches(leaf.lower(), keys, n=1, cutoff=_LIKE)
    # where only full keys are valid, a short one is like itself
    found = [keys[word] if section or word == typed else keys[word].rpartition(".")[2] for word in close]
    return f" (did you mean {found[0]!r}?)" if found else ""


def _by_section(names: list[str]) -> str:
    """List names: those without a section first, then each section with its keys."""
    sections: dict[str, list[str]] = {}
    for name in names:
        section, _, leaf = name.rpartition(".")
        sections.setdefault(section, []).append(leaf)
    lists = [
        f"{section}: {', '.join(keys)}" if section else ", ".join(keys)
        for section, keys in sorted(sections.items())
    ]
    return "; ".join(lists) or "(none)"
