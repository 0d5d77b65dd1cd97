"""Show results in a browser: ``python -m bench.dashboard --results DIR``.

It starts the Streamlit app of this package and prints its address. Ctrl-C ends it. Only this machine can
reach it, unless ``--address`` names another of its addresses; there is no password. Nothing is sent anywhere.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from bench.cli import arguments as cli
from bench.cli.entry import entry, interrupt
from bench.results.store import Store
from methods.core.errors import UserError

#: Time that Streamlit has to close its connections.
_GRACE_SECONDS = 5.0
#: Variables that would say the same as options which are always given; the app takes them for not asked for.
_OVERRIDDEN = ("STREAMLIT_SERVER_ADDRESS", "STREAMLIT_BROWSER_GATHER_USAGE_STATS")


def main(argv: list[str] | None = None) -> int:
    """Serve the dashboard until it is interrupted, and return Streamlit's exit status."""
    parser = cli.parser("bench.dashboard", __doc__)
    parser.add_argument(
        "--results",
        type=cli.path,
        metavar="DIR",
        nargs="+",
        action="extend",
        default=[],
        help="results folders, shown together (default: results, or the reference results of a clone while "
        "there are no runs)",
    )
    parser.add_argument(
        "--port", type=cli.positive, metavar="N", help="port on this machine to listen on (default: 8501)"
    )
    parser.add_argument(
        "--address",
        default="localhost",
        help="address of this machine to listen on; 0.0.0.0 lets all machines of the network read results "
        "(default: localhost)",
    )
    arguments = parser.parse_args(argv)
    for folder in arguments.results:
        Store(folder)  # raises an error if the folder is not a results folder
    command = [sys.executable, "-m", "streamlit", "run", str(_app())]
    command += ["--server.address", arguments.address, "--browser.gatherUsageStats", "false"]
    command += ["--server.port", str(arguments.port)] if arguments.port else []
    # a name that begins with a dash would be an option
    folders = [f"./{folder}" if folder.startswith("-") else folder for folder in arguments.results]
    command += ["--", *(word for folder in folders for word in ("--results", folder))]
    environment = {key: value for key, value in os.environ.items() if key not in _OVERRIDDEN}
    signal.signal(signal.SIGTERM, interrupt)
    with subprocess.Popen(command, env=environment) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
            process.kill()
            raise
    return status if status >= 0 else 128 - status  # a shell's status after a signal


def _app() -> Path:
    """Return the path of the app, installed beside this package; raise ``UserError`` without Streamlit."""
    if importlib.util.find_spec("streamlit") is None:
        raise UserError("the dashboard needs Streamlit: pip install 'ssvi-bench[dashboard]'")
    return Path(__file__).resolve().parents[1] / "dashboard" / "app.py"


if __name__ == "__main__":
    entry(main)
