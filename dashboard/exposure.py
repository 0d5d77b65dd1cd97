"""Refuse to show results to other machines, or to send usage statistics, unless that was asked for."""

from __future__ import annotations

import ipaddress
import os
import socket

import streamlit as st
from streamlit import config, runtime

_ADDRESS, _STATISTICS = "server.address", "browser.gatherUsageStats"


def refusal() -> str | None:
    """Return in one sentence why nothing may be shown; None if this server may show results.

    ``dashboard/.streamlit/config.toml`` sets both options. A variable of the environment, or a script of
    another folder that imports the app, can override them without the user's knowledge. An address that is
    typed as an option of the command line is asked for.
    """
    # Streamlit's AppTest runs the app without a server, under a mock that isinstance takes for a Runtime
    try:
        server = runtime.get_instance()
    except RuntimeError:  # nothing is served, as where a process imports the app
        return None
    if not issubclass(type(server), runtime.Runtime):
        return None
    address = st.get_option(_ADDRESS)
    if not is_local(address) and not _typed(_ADDRESS):
        return (
            f"Other machines can reach this server (server.address is {address or 'not set'}), so nothing is "
            "shown. Start it by `ssvi-bench dashboard`; if others are to see it, add `--address ADDRESS`."
        )
    if st.get_option(_STATISTICS):
        return (
            "Streamlit sends usage statistics here (browser.gatherUsageStats is true), so nothing is shown. "
            "Start the dashboard by `ssvi-bench dashboard`, which turns them off."
        )
    return None


def is_local(address: str | None) -> bool:
    """Return whether a server that listens on ``address`` can be reached from this machine only.

    Parameters
    ----------
    address
        Name, number or socket file; None or an empty text for all interfaces.
    """
    if not address:
        return False
    if address.startswith("unix:"):
        return True
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(address, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(number.partition("%")[0]).is_loopback for number in found)


def _typed(option: str) -> bool:
    """Return whether ``option`` was an option of the command line and not a variable of the environment."""
    variable = f"STREAMLIT_{option.replace('.', '_').upper()}"
    return config.get_where_defined(option).startswith("command-line") and variable not in os.environ
