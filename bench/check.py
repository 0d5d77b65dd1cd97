"""Check whether a method keeps its contract: ``python -m bench.check ssvi``, or yours by its name.

The method is trained on small networks for some seconds, and each promise of the contract is checked. A line
for each says pass or FAIL, and what was found or why it failed. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.cli import arguments as cli
from bench.cli.entry import entry

NETWORKS = ("mlp", "cnn", "resnet18")


def main(argv: list[str] | None = None) -> int:
    """Check one method on some networks, and print a line a check."""
    parser = cli.parser("bench.check", __doc__)
    parser.add_argument(
        "method", metavar="METHOD", help="its name; `python -m bench.list methods` lists them"
    )
    parser.add_argument(
        "--network",
        metavar="NETWORK",
        action="append",
        help=f"a network to train it on; repeatable (default: {', '.join(NETWORKS)}); mlp and cnn train "
        "for a few epochs, all others for two steps",
    )
    cli.add_set(parser)
    arguments = parser.parse_args(argv)

    # imported here, so that --help does not wait for torch
    from bench.checking.checks import examine
    from bench.checking.trial import OTHER_SEED, SEED, Trial, refused, specification
    from methods.core.errors import UserError

    overrides, began = cli.overrides(arguments), time.perf_counter()
    for key in overrides:
        if key == "seed":
            raise UserError(f"--set: seed: the checks choose their own seeds, {SEED} and {OTHER_SEED}")
        if refused(key):
            raise UserError(f"--set: {key}: the method is the argument, and networks are chosen by --network")
    networks = dict.fromkeys(arguments.network or NETWORKS)
    specs = [specification(arguments.method, network, overrides) for network in networks]
    outcomes: Counter[str] = Counter()
    width = max(map(len, networks))
    for spec in specs:
        with tempfile.TemporaryDirectory(prefix="bench.check.") as folder:
            for verdict in examine(Trial(spec, Path(folder))):
                outcomes[verdict.outcome] += 1
                head = f"{verdict.network:<{width}}  {verdict.outcome:<7}  {verdict.check.name:<11}"
                print(f"{head}  {verdict.words}", flush=True)
                if verdict.outcome == "FAIL":
                    print(f"{'':<{width}}           {'promise:':<11}  {verdict.check.promise}")
    seconds = time.perf_counter() - began
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("pass", "FAIL", "skipped"))
    print(f"{arguments.method}: {counted} in {seconds:.0f} s")
    return 1 if outcomes["FAIL"] else 0


if __name__ == "__main__":
    entry(main)
