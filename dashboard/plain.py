"""Words of results in Markdown: data, shown as they are."""

from __future__ import annotations

import re

#: Characters that Markdown gives a meaning: results are data, and shown as they are.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~$:^=&])")
#: Of these, those that are more than bold, code and paragraphs.
_LIVELY = re.compile(r"([\[\]<>!|~$^&]|:(?=\w+[:\[]))")
#: What is made a link though nothing marks it.
_LINKS = re.compile(r"(://|www(?=\.)|@)", re.IGNORECASE)
_JOINER = "\u2060"  # has no width


def plain(text: object) -> str:
    """``text`` such that Markdown shows it as it is, and makes no link of it."""
    return _MARKDOWN.sub(r"\\\1", _unlinked(str(text)))


def restrained(text: str) -> str:
    """Markdown of ours with words of results in it: bold, code and paragraphs are left, and nothing else."""
    return _LIVELY.sub(r"\\\1", _unlinked(text))


def _unlinked(text: str) -> str:
    return _LINKS.sub(lambda found: f"{found[0][0]}{_JOINER}{found[0][1:]}{_JOINER}", text)
