"""Check whether a method keeps its contract: ``python -m bench.check ssvi``.

The method is trained on small networks for some seconds, and each promise of the contract is checked. A line
for each says pass or FAIL, and what was found or why it failed. The exit status is 1 if a check fails.
Without METHOD, ``--criterion snr`` checks a removal criterion, ``--dataset digits`` a data set, and
``--network cnn`` a network, without training. ``--submission DIR --suite baselines`` checks whether published
tables have the protocol of a suite, all of its seeds, and their provenance (docs/benchmark-card.md).
"""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import arguments as cli
from bench.cli import typed
from bench.cli.entry import entry

if TYPE_CHECKING:
    from bench.checking.verdicts import Verdict

NETWORKS = ("mlp", "cnn", "resnet18")


def main(argv: list[str] | None = None) -> int:
    """Check a method on some networks, or a criterion, data set or network; print a line for each check."""
    parser = cli.parser("bench.check", __doc__)
    parser.add_argument(
        "method", metavar="METHOD", nargs="?", help="a method; `python -m bench.list methods` lists them"
    )
    parser.add_argument(
        "--criterion",
        metavar="NAME",
        help="check a removal criterion instead of a method; `bench.list criteria` lists them",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="check a data set instead of a method; with --network also that network on its inputs",
    )
    parser.add_argument(
        "--network",
        metavar="NETWORK",
        action="append",
        help=f"a network to train METHOD on (default: {', '.join(NETWORKS)}), with inputs that it takes; "
        "repeatable; mlp and cnn are trained for a few epochs, all others for two steps. Without METHOD, the "
        "network itself is checked",
    )
    parser.add_argument(
        "--submission",
        type=cli.path,
        metavar="DIR",
        help="check published tables against the protocol of --suite instead of a method",
    )
    parser.add_argument("--suite", metavar="SUITE", help="suite of a submission: a name, or a path of a file")
    parser.add_argument("--scale", help="scale of a submission (default: demo)")
    cli.add_set(parser)
    arguments = parser.parse_args(argv)
    if arguments.submission is not None:
        others = (
            arguments.method,
            arguments.criterion,
            arguments.dataset,
            arguments.network,
            arguments.overrides,
        )
        if any(others) or arguments.suite is None:
            parser.error("--submission DIR goes with --suite SUITE, and with nothing else but --scale")
        return _submission(arguments)
    if arguments.suite is not None or arguments.scale is not None:
        parser.error("--suite and --scale go with --submission DIR")
    if arguments.criterion is not None:
        if arguments.method is not None or arguments.network or arguments.dataset or arguments.overrides:
            parser.error("--criterion NAME stands alone: no METHOD, --dataset, --network or --set")
        typed.check_name("criterion", arguments.criterion, "--criterion")
        return _criterion(arguments.criterion)
    if arguments.method is None and not arguments.dataset and not arguments.network:
        parser.error(
            "the following arguments are required: METHOD, or --criterion, --dataset or --network NAME"
        )
    if arguments.method is not None and arguments.dataset:
        parser.error("--dataset NAME goes without METHOD; METHOD is trained on it by --set dataset=NAME")
    if arguments.method is not None:
        typed.check_name("method", arguments.method)
    if arguments.dataset is not None:
        typed.check_name("dataset", arguments.dataset, "--dataset")
    for network in arguments.network or ():
        typed.check_name("network", network, "--network")
    typed.check(arguments)
    if arguments.method is None:
        return _parts(arguments)
    return _method(arguments)


# These functions import what they need themselves, so that --help does not load torch.


def _criterion(name: str) -> int:
    """Check a criterion; return the exit status."""
    from bench.checking.parts.criterion import CHECKS, Subject
    from bench.checking.verdicts import examine
    from methods.criteria.base import CRITERIA

    began, cls = time.perf_counter(), CRITERIA.get(name, "--criterion")
    return _summary(name, _printed(examine(CHECKS, Subject(cls), cls)), began)


def _submission(arguments: Namespace) -> int:
    """Check published tables against the protocol of a suite; return the exit status."""
    from bench.checking.parts.submission import CHECKS, Subject
    from bench.checking.verdicts import examine
    from bench.planning import suite
    from bench.results.store import Store

    began, store = time.perf_counter(), Store(arguments.submission)
    subject = Subject(store, suite.load(arguments.suite).expand(arguments.scale or "demo"))
    return _summary(str(store.root), _printed(examine(CHECKS, subject, Subject)), began)


def _parts(arguments: Namespace) -> int:
    """Check a data set, and networks; return the exit status."""
    from bench.checking.parts import dataset, network
    from bench.checking.parts.inputs import specification
    from bench.checking.verdicts import examine
    from bench.data.base import DATASETS
    from bench.experiment import preflight
    from bench.networks.base import NETWORKS as ALL

    overrides, began = cli.overrides(arguments), time.perf_counter()
    outcomes: Counter[str] = Counter()
    names = [*([arguments.dataset] if arguments.dataset else []), *dict.fromkeys(arguments.network or [])]
    width = max(map(len, names)) + 2
    if arguments.dataset:
        spec = specification(arguments.dataset, None, overrides)
        cls = DATASETS.get(arguments.dataset)
        verdicts = examine(dataset.CHECKS, dataset.Subject(cls, spec.dataset[1]), cls)
        outcomes += _printed(verdicts, f"{arguments.dataset:<{width}}")
    for name in dict.fromkeys(arguments.network or []):
        spec = specification(arguments.dataset, name, overrides)
        plain = ALL.get(name)
        subject = network.Subject(plain, spec.network[1], preflight.task(spec))
        outcomes += _printed(examine(network.CHECKS, subject, plain), f"{name:<{width}}")
    return _summary(", ".join(names), outcomes, began)


def _method(arguments: Namespace) -> int:
    """Check a method on each network; return the exit status."""
    from bench.checking.checks import CHECKS
    from bench.checking.trial import OTHER_SEED, SEED, Trial, refused, specification
    from bench.checking.verdicts import examine
    from methods.base import METHODS
    from methods.core.errors import UserError

    overrides, began = cli.overrides(arguments), time.perf_counter()
    for key in overrides:
        if key == "seed":
            raise UserError(f"--set: seed: the checks choose their own seeds, {SEED} and {OTHER_SEED}")
        if refused(key):
            raise UserError(f"--set: {key}: choose the method by the argument METHOD, networks by --network")
    networks = dict.fromkeys(arguments.network or NETWORKS)
    specs = [specification(arguments.method, network, overrides) for network in networks]
    cls, width = METHODS.get(arguments.method), max(map(len, networks)) + 2
    outcomes: Counter[str] = Counter()
    for spec in specs:
        with tempfile.TemporaryDirectory(prefix="bench.check.") as folder:
            verdicts = examine(CHECKS, Trial(spec, Path(folder)), cls)
            outcomes += _printed(verdicts, f"{spec.network[0]:<{width}}")
    return _summary(arguments.method, outcomes, began)


def _printed(verdicts: Iterable[Verdict], head: str = "") -> Counter[str]:
    """Print a line for each verdict, after ``head``, and return the number of each outcome."""
    outcomes: Counter[str] = Counter()
    for verdict in verdicts:
        outcomes[verdict.outcome] += 1
        print(f"{head}{verdict.outcome:<7}  {verdict.check.name:<11}  {verdict.words}", flush=True)
        if verdict.outcome == "FAIL":
            print(f"{'':<{len(head)}}         {'promise:':<11}  {verdict.check.promise}")
    return outcomes


def _summary(name: str, outcomes: Counter[str], began: float) -> int:
    """Print the number of each outcome and the time taken; return the exit status, 1 if a check failed."""
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("pass", "FAIL", "skipped"))
    print(f"{name}: {counted} in {time.perf_counter() - began:.0f} s")
    return 1 if outcomes["FAIL"] else 0


if __name__ == "__main__":
    entry(main)
