"""Escape texts from results, which are data, so that Markdown shows them literally."""

from __future__ import annotations

import re

#: Characters with a meaning in Markdown.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~$:^=&])")
#: Those of them that do more than bold, code and paragraphs.
_LIVELY = re.compile(r"([\[\]<>!|~$^&]|:(?=\w+[:\[]))")
#: Texts that Markdown turns into links although nothing marks them as such.
_LINKS = re.compile(r"(://|www(?=\.)|@)", re.IGNORECASE)
_JOINER = "\u2060"  # has no width


def plain(text: object) -> str:
    """Escape ``text`` so that Markdown shows it literally and makes no links of it."""
    return _MARKDOWN.sub(r"\\\1", _unlinked(str(text)))


def restrained(text: str) -> str:
    """Escape our own Markdown with texts from results in it; only bold, code and paragraphs keep working."""
    return _LIVELY.sub(r"\\\1", _unlinked(text))


def _unlinked(text: str) -> str:
    return _LINKS.sub(lambda found: f"{found[0][0]}{_JOINER}{found[0][1:]}{_JOINER}", text)
