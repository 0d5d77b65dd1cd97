"""Cancel runs: ``python -m bench.cancel --suite criteria_ablation``, or by their ids.

Processes that compute the runs stop within seconds, SLURM jobs with no other runs are cancelled, and waiting
runs are not begun. The next ``bench.grid`` continues them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.monitoring import retries, slurm_commands, slurm_queue
from bench.monitoring.progress import items
from bench.monitoring.slurm_queue import Sight
from bench.results import claims
from bench.results.files import StoreError, printable
from bench.results.run_folder import CANCELLED
from bench.results.store import Store

#: What those who compute get to stop by themselves.
_PATIENCE_SECONDS, _POLL_SECONDS = 10.0, 0.2


def main(argv: list[str] | None = None) -> int:
    """Cancel what is not settled of the runs that were named, and say what became of them."""
    parser = cli.parser("bench.cancel", __doc__)
    parser.add_argument("run_ids", nargs="*", metavar="RUN_ID", help="ids of runs to cancel")
    parser.add_argument("--suite", help="cancel all runs of this suite")
    parser.add_argument("--scale", help="cancel only runs of this scale")
    cli.add_results(parser)
    arguments = parser.parse_args(argv)
    if bool(arguments.run_ids) == bool(arguments.suite):
        parser.error("give either ids of runs or --suite")
    store = Store(arguments.results)
    if arguments.suite:
        asked = [item.run_id for item in items(store, arguments.suite, arguments.scale)]
    else:
        asked = list(dict.fromkeys(arguments.run_ids))
        _require_known(store, asked)
    left = [run_id for run_id in asked if not store.run(run_id).is_settled()]
    cancelled, still = cancel(store, left)
    print(f"{len(cancelled)} runs cancelled, {len(asked) - len(left)} were settled before")
    for run_id in still:
        print(f"{run_id}: {_who(store, run_id)} has not stopped yet; it will at its next step")
    return 0


def cancel(store: Store, run_ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Cancel ``run_ids``; returns those that are, and those whose process has not stopped yet."""
    left = list(run_ids)
    for run_id in left:
        store.run(run_id).ask_cancel()
    sight = _sight(store)
    _cancel_jobs(store, sight, left)
    deadline, forced = time.monotonic() + _PATIENCE_SECONDS, False
    done: list[str] = []
    while left:
        for run_id in left:
            retries.blame(store, run_id, "cancelled", CANCELLED, "", over=sight.ended)
        settled = {run_id for run_id in left if store.run(run_id).is_settled()}
        for run_id in settled:
            store.run(run_id).forget_cancel()
        done += [run_id for run_id in left if run_id in settled]
        left = [run_id for run_id in left if run_id not in settled]
        if time.monotonic() > deadline:
            if forced or not (sight := _sight(store)).live:
                break
            # what does not look for its end (a long evaluation, say) is ended with its job
            _cancel_jobs(store, sight, left, at_work=True)
            deadline, forced = time.monotonic() + _PATIENCE_SECONDS, True
        if left:
            sight = _sight(store) if forced else sight
            time.sleep(_POLL_SECONDS)
    return done, left


def _sight(store: Store) -> Sight:
    """What SLURM says; nothing, with a note, where it can't be asked."""
    try:
        return slurm_queue.look(store.root)
    except slurm_commands.SlurmError as error:
        print(f"jobs of SLURM can't be cancelled: {error}")
        return Sight()


def _cancel_jobs(store: Store, sight: Sight, run_ids: Iterable[str], at_work: bool = False) -> None:
    """Cancel the jobs that have nothing else to do: those that wait, and if asked for those ``at_work``."""
    asked = set(run_ids)
    jobs_now = {task.job: (task, state) for task, state in sight.live.values()}
    slurm_commands.cancel(
        job
        for job, (task, state) in jobs_now.items()
        if (state.waits or at_work)
        and asked.intersection(task.runs)
        and all(run_id in asked or store.run(run_id).is_settled() for run_id in task.runs)
    )


def _require_known(store: Store, run_ids: Iterable[str]) -> None:
    known = {item.run_id for item in items(store, None, None)}
    for run_id in run_ids:
        store.run(run_id)  # whether it is an id
        if run_id not in known:
            raise StoreError(f"{store.root}: no suite has a run {run_id}")


def _who(store: Store, run_id: str) -> str:
    found = claims.holder(store.run(run_id))
    return f"process {found.pid} on {printable(found.host)}" if found else "its process"


if __name__ == "__main__":
    entry(main)
