"""The one command: ``ssvi-bench VERB …``, which does what ``python -m bench.VERB …`` does."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from bench.cli.entry import PROGRAM, entry, program
from methods.core.errors import unknown

#: Each verb is the module of that name in this package.
VERBS = {
    "run": "train and score one run in this process",
    "grid": "run a suite: every run that it asks for and that is not done yet",
    "status": "see how far the runs of a results folder are",
    "logs": "show the status of one run, why it failed, and its logs",
    "cancel": "end runs that are being computed, and those that wait",
    "collect": "make the tables of a suite again from its runs",
    "report": "write a suite as Markdown, LaTeX tables and one HTML page",
    "publish": "write the tables of suites without their runs, to give away",
    "tune": "search the settings of every method of a suite alike, on validation data",
    "check": "see whether a method keeps what the benchmark relies on",
    "download": "get a data set that is not embedded",
    "list": "show the suites, methods, data sets, networks, criteria and recipes there are",
    "dashboard": "look at results in a browser",
}

_HELP = """\
usage: {program} VERB [options]

A benchmark for sparse Bayesian neural networks. From nothing to a dashboard:

  {program} list suites                                what there is to run
  {program} run --set method=ssvi,sparsity=0.95        train and score one network: seconds
  {program} grid --suite criteria_ablation --dry-run   every run of a suite, and the time they take
  {program} grid --suite criteria_ablation             compute them: minutes; stopped, it goes on later
  {program} dashboard --results results                look at what was found, in a browser

verbs:
{verbs}

`{program} VERB --help` shows the options of a verb. `python -m bench.VERB` does the same.
"""


def main() -> NoReturn:
    """Run the verb that the command line names; ends the process with its exit status."""
    entry(lambda: _run(sys.argv[1:]))


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        verbs = "\n".join(f"  {verb:<11}{words}" for verb, words in VERBS.items())
        print(_HELP.format(program=program() or PROGRAM, verbs=verbs), end="")
        return 0
    verb, *rest = argv
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    status: int = import_module(f"bench.{verb}").main(rest)
    return status


if __name__ == "__main__":
    main()
