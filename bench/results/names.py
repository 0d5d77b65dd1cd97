"""Name configurations in words: ``ssvi sparsity=0.95 budget=flops`` is ``SSVI · 95 % · equal FLOPs``.

Labels are what commands select by; names are what people read, in figures, tables, pages and summaries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Symbols by which papers name settings, by the last part of the key.
SYMBOLS = {"kl_factor": "κ", "lam": "λ", "replace_every": "M", "replace_fraction": "α"}
#: What stands between the parts of a name.
BETWEEN = " · "
_SETTING = re.compile(r"(?<!\S)([\w.]{1,200})=(\[[^\]]*\]|\{[^}]*\}|\S+)")
_BUDGETS = {"epochs": "equal epochs", "flops": "equal FLOPs"}

Styles = Mapping[str, Mapping[str, Any]]


def settings(label: str) -> dict[str, str]:
    """Return the settings in a label, as texts by name, in their order."""
    return dict(_SETTING.findall(label))


def remainder(label: str) -> str:
    """Return what of a label is neither its method nor a setting."""
    return _head(label).partition(" ")[2]


def variant(label: str) -> str:
    """Return the parts of a label besides method and sparsity: ``criterion=snr budget=flops``."""
    return " ".join(f"{name}={value}" for name, value in settings(label).items() if name != "sparsity")


def in_words(label: str, methods: Styles, criteria: Styles) -> str:
    """Return the name of a configuration: its method, its sparsity, then its other settings.

    Parameters
    ----------
    label
        Value of the column ``config_label``; what is no setting of it is kept as it is.
    methods, criteria
        Styles by name, as ``Store.read_styles`` returns them; those without one go by their own name.
    """
    method, _, rest = _head(label).partition(" ")
    named = " ".join(part for part in (_labelled(method, methods), rest) if part)
    return BETWEEN.join([named, *parts(settings(label), criteria)])


def parts(found: Mapping[str, str], criteria: Styles) -> list[str]:
    """Return settings in the words that people use, sparsity first; a sparsity of 0 needs none."""
    share = sparsity(found["sparsity"]) if "sparsity" in found else ""
    # a budget in epochs has no cap
    silent = {"sparsity", "budget_cap"} if found.get("budget") == "epochs" else {"sparsity"}
    others = [word(name, value, criteria) for name, value in found.items() if name not in silent]
    return [share, *others] if share else others


def sparsity(value: float | str) -> str:
    """Return a sparsity in words, ``95 %``; nothing for 0, which the name of a dense method tells."""
    try:
        share = float(value)
    except ValueError:
        return f"sparsity {value}"
    return f"{100 * share:g} %" if share > 0 else ""


def setting(name: str, value: str) -> str:
    """Return a setting by its symbol, or by its name in words: ``κ 0.1``, ``prior std 0.5``."""
    return f"{SYMBOLS.get(name.rpartition('.')[2], name.replace('_', ' '))} {value}"


def word(name: str, value: str, criteria: Styles) -> str:
    """Return a setting in the words that people use: ``equal FLOPs``, ``by snr``, ``κ 0.1``."""
    if name == "sparsity":
        return sparsity(value) or "0 %"
    if name == "budget":
        return _BUDGETS.get(value, f"budget {value}")
    if name in ("dataset", "network"):
        return value
    return f"by {_labelled(value, criteria)}" if name == "criterion" else setting(name, value)


def _head(label: str) -> str:
    return " ".join(_SETTING.sub("", label).split())


def _labelled(name: str, styles: Styles) -> str:
    return str(styles.get(name, {}).get("label", name))
