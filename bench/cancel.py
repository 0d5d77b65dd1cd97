"""Cancel runs: ``python -m bench.cancel --suite criteria_ablation``, or by their ids.

Processes that compute the runs stop within seconds, SLURM jobs with no other runs are cancelled, and waiting
runs are not begun. The same holds for the evaluation of finished runs on sets beside the test part. The next
``bench.grid`` continues them.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.monitoring.cancelling import cancel, is_left, who_computes
from bench.monitoring.progress import Item, items
from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.words import counted


def main(argv: list[str] | None = None) -> int:
    """Cancel the named runs that have not ended yet, and print which were cancelled."""
    parser = cli.parser("bench.cancel", __doc__)
    parser.add_argument("run_ids", nargs="*", metavar="RUN_ID", help="ids of runs, or their first digits")
    parser.add_argument("--suite", help="cancel all runs of this suite")
    parser.add_argument("--scale", help="cancel only runs of this scale")
    cli.add_results(parser)
    arguments = parser.parse_args(argv)
    if bool(arguments.run_ids) == bool(arguments.suite):
        parser.error("give either ids of runs or --suite")
    store = Store(arguments.results)
    if arguments.suite:
        asked = items(store, arguments.suite, arguments.scale)
    else:
        asked = _launched(store, arguments.run_ids)
    left = [item for item in asked if is_left(store, item)]
    trained = {item.run_id for item in left if store.run(item.run_id).is_done()}
    cancelled, still = cancel(store, left, say=print)
    evaluations = sum(item.run_id in trained for item in cancelled)
    also = f", and the evaluation of {counted(evaluations, 'finished run')}" if evaluations else ""
    ended = len(asked) - len(left)
    print(f"{counted(len(cancelled) - evaluations, 'run')} cancelled{also}, {ended} had ended before")
    for item in still:
        print(
            f"{item.run_id}: {who_computes(store, item.run_id)} has not stopped yet; it will at its next step"
        )
    return 0


def _launched(store: Store, written: Iterable[str]) -> list[Item]:
    """Return the runs whose ids are written, whole or by their first digits, each once."""
    known = {item.run_id: item for item in items(store, None, None)}
    run_ids = list(dict.fromkeys(store.full_id(each, known) for each in written))
    for run_id in run_ids:
        if run_id not in known:
            raise StoreError(f"{store.root}: no launched suite has a run {run_id}")
    return [known[run_id] for run_id in run_ids]


if __name__ == "__main__":
    entry(main)
