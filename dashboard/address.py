"""Keep choices in the address, so that a view is a link, and tell what an address asks for in vain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

_NOTES = "address-notes"


def begin() -> None:
    """Start a new page, of which nothing has been told yet."""
    st.session_state[_NOTES] = []


def notes() -> list[str]:
    """Return what readers must know: values that this view does not have, and so does not show."""
    return list(st.session_state[_NOTES])


def here() -> dict[str, list[str]]:
    """Return what the address of this page says, all values by name."""
    return {name: st.query_params.get_all(name) for name in st.query_params}


def one_of(label: str, options: Sequence[str], key: str, first: str) -> str:
    """Show a choice that is always in the address, also where it is the default.

    Parameters
    ----------
    label
        Name of the choice.
    options
        Names to choose from; not empty.
    key
        Name in the address.
    first
        The default.

    Returns
    -------
    str
        The chosen option.
    """
    asked, written = st.query_params.get(key), f"{key}-address"
    if asked is not None and asked != st.session_state.get(written):  # opened, or gone back to
        if asked in options:
            st.session_state[key] = asked
        else:
            _tell(label, [asked])
    elif (before := st.session_state.get(key)) is not None and before not in options:
        _tell(label, [before])
    if st.session_state.get(key) not in options:
        st.session_state[key] = first
    chosen = str(st.selectbox(label, options, key=key))
    st.session_state[written] = st.query_params[key] = chosen
    return chosen


def some_of(
    label: str,
    options: Sequence[str],
    key: str,
    shown: Callable[[str], str] = str,
    empty: str = "all",
    **more: Any,
) -> list[str]:
    """Show a choice of any number of values, which are in the address.

    Parameters
    ----------
    label
        Name of the choice.
    options
        Values to choose from. If there are fewer than two, nothing is shown.
    key
        Name in the address.
    shown
        Gives the name of a value.
    empty
        What is read where nothing is chosen.
    **more
        Passed on to ``streamlit.multiselect``.

    Returns
    -------
    list of str
        The chosen values.
    """
    names = {shown(option) for option in options} if len(options) > 1 else set()
    before = st.session_state.get(key)
    if before is None:
        _tell(label, [asked for asked in st.query_params.get_all(key) if asked not in names])
    elif lost := [value for value in before if value not in options]:
        _tell(label, list(map(shown, lost)))
        st.session_state[key] = [value for value in before if value in options]
    if len(options) < 2:
        return []
    return list(
        st.multiselect(
            label, options, key=key, format_func=shown, placeholder=empty, bind="query-params", **more
        )
    )


def _tell(label: str, values: Sequence[str]) -> None:
    if values:
        st.session_state[_NOTES].append(f"{label}: there is no {', '.join(values)} here.")
