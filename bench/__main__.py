"""Run any command of the benchmark by its verb: ``ssvi-bench VERB …`` equals ``python -m bench.VERB …``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from bench.cli.entry import PROGRAM, entry, program
from methods.core.errors import unknown

#: Verbs and what they do; each verb is the name of a module in this package.
VERBS = {
    "run": "train and score one run in this process",
    "grid": "run a suite: all its runs that are not done yet",
    "evaluate": "evaluate finished runs on sets beside their test part, without training",
    "status": "show the progress of the runs in a results folder",
    "logs": "show the status of one run, why it failed, and its logs",
    "cancel": "cancel running and waiting runs",
    "collect": "write the tables of a suite from its runs",
    "report": "report a suite as Markdown, LaTeX tables and one HTML page",
    "publish": "copy the tables of suites, without their runs, to share them",
    "tune": "search settings on validation data, with as many trials for every method",
    "check": "check whether a method, criterion, data set or network keeps its contract",
    "download": "download a data set that is not included",
    "list": "list suites, methods, data sets, networks, criteria, recipes and settings",
    "dashboard": "look at results in a browser",
}

_HELP = """\
usage: {program} VERB [options]

A benchmark for sparse Bayesian neural networks. From nothing to a dashboard:

  {program} list suites                                list the suites
  {program} run --set method=ssvi,sparsity=0.95        train and score one network (seconds)
  {program} grid --suite criteria_ablation --dry-run   show the runs of a suite and the time they take
  {program} grid --suite criteria_ablation             compute them (minutes); if stopped, repeat it to go on
  {program} dashboard --results results                look at the results in a browser

verbs:
{verbs}

`{program} VERB --help` shows the options of a verb. `python -m bench.VERB` does the same.
"""


def main() -> NoReturn:
    """Run the verb named on the command line, and end the process with its exit status."""
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
