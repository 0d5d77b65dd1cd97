"""Train and score one run in this process: ``python -m bench.run --set method=ssvi --set sparsity=0.95``.

It needs neither a suite nor submitit. The run's folder holds its settings, results, costs, model and log. A
finished run is not repeated, and a stopped run goes on from its checkpoint.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.cli import arguments as cli
from bench.cli import typed
from bench.cli.entry import BAD_INPUT, entry
from bench.results import claims
from bench.results.beside import document, evaluated, unevaluated
from bench.results.files import printable
from bench.results.run_folder import RunFolder


def main(argv: list[str] | None = None) -> int:
    """Compute one run in this process and print its scores; return 0 if it is done."""
    parser = cli.parser("bench.run", __doc__)
    cli.add_results(parser)
    cli.add_set(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of all random streams (default: 0)")
    cli.add_execution(parser)
    parser.add_argument("--force", action="store_true", help="compute a finished run again")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be trained and its cost; train nothing",
    )
    arguments = parser.parse_args(argv)
    typed.check(arguments)
    from bench.cli import describe_run
    from bench.experiment import beside, preflight
    from bench.runner import single
    from bench.runner.execute import execute

    execution = cli.execution(arguments)
    settings = {"seed": arguments.seed} | cli.overrides(arguments)
    spec = single.specify(settings, execution.mode, "--set")
    if arguments.dry_run:
        print(describe_run.preview(spec, execution, single.origins(spec, settings, "--set")))
        if (missing := preflight.missing_data([spec])) is not None:
            print(f"cannot start: {missing}")
            return BAD_INPUT
        return 0
    store = single.store_for(spec, arguments.results)
    folder = store.run(spec.run_id)
    claim = single.claim(spec, store, execution.mode, arguments.force, print)
    if claim is None:
        print(f"{spec.run_id} is done already; --force runs it again")
    else:
        with claims.held(claim), _signals() as heard:
            outcome = execute(spec, store, execution, lambda: heard and f"stopped by {heard[0].name}")
        if outcome != "done" and folder.is_done():
            print(
                f"{spec.run_id} is trained; its evaluation was stopped; the same command goes on from there"
            )
            return 128 + heard[0] if heard else 1
        if outcome != "done":
            told = folder.read("status") or {}
            print(f"{spec.run_id} {outcome}: {told.get('error')}")
            if outcome != "failed":
                where = f"step {told.get('step')} of {told.get('steps')} of stage {told.get('stage')!r}"
                print(f"at {where}; the same command goes on from there")
            return 128 + heard[0] if heard else 1  # a shell's status after a signal
    print_scores(folder)
    failures = unevaluated(folder, beside.wanted(spec))
    for key, reason in failures.items():
        print(f"not evaluated on {key}: {printable(reason)}")
    return 1 if failures else 0


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Collect Ctrl-C and SIGTERM in a list within the block; a later Ctrl-C raises ``KeyboardInterrupt``."""
    heard: list[signal.Signals] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard.append(signal.Signals(number))
        if number == signal.SIGINT:
            os.write(2, b"stopping at the next step; Ctrl-C once more ends it at once\n")

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_scores(folder: RunFolder) -> None:
    """Print the scores of a finished run after its last stage, a line for each predictor and part."""
    from bench.results.tables.metrics_reader import VIEW

    rows = [row for row in (folder.read("metrics") or {})["metrics"] if row.get("shift") is None]
    print(f"run {folder.run_id} in {printable(str(folder.path))}")
    scores: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row["stage"] == rows[-1]["stage"] and row["metric"] in VIEW:
            value = "–" if row["value"] is None else f"{row['value']:.4f}"  # such as an infinite NLL
            scores.setdefault((row["predictor"], row["split"]), {})[row["metric"]] = value
    lines: list[tuple[str, ...]] = [("predictor", "part", *VIEW)]
    lines += [(*where, *(found.get(name, "") for name in VIEW)) for where, found in scores.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(" ", *(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print(f"all metrics of all stages: {printable(str(folder.path / 'metrics.json'))}")
    if sets := evaluated(folder.read("status") or {}):
        print(f"evaluated beside the test part on {', '.join(sets)}: {document('SET')} in the same folder")


if __name__ == "__main__":
    entry(main)
