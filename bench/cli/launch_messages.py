"""Print the messages of a launch, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from bench.cli.live import say
from bench.monitoring.progress import Snapshot
from bench.monitoring.slurm_records import Task
from bench.planning.plan import Plan
from bench.results.files import shell_path
from bench.results.run_folder import CANCELLED
from bench.results.words import counted


def submission_foreseen(runs: int, jobs: int, arrays: int) -> str:
    """Say in a line of ``--dry-run`` what a launch would submit to SLURM now."""
    return (
        f"SLURM accepts these jobs; a launch would submit {counted(runs, 'run')} as {counted(jobs, 'job')} "
        f"in {counted(arrays, 'array')}"
    )


def evaluation_foreseen(lacking: Iterable[Sequence[str]]) -> list[str]:
    """Say in a line how many finished runs lack evaluation sets, and which; each item is what a run lacks."""
    each = [keys for keys in lacking if keys]
    if not each:
        return []
    keys = ", ".join(dict.fromkeys(key for keys in each for key in keys))
    return [f"{counted(len(each), 'finished run')} to evaluate, without training, on {keys}"]


class LaunchMessages:
    """Printer of the messages of one launch.

    Parameters
    ----------
    console
        Where messages are printed.
    plan
        The plan that is launched.
    results
        The results folder.
    """

    def __init__(self, console: Console, plan: Plan, results: Path) -> None:
        self._console, self._plan, self._results = console, plan, results

    def say(self, line: str) -> None:
        """Print ``line`` as it is."""
        say(self._console, line)

    def begins(self, before: Snapshot) -> None:
        """Say which plan is launched, and how many of its runs have each status."""
        runs = counted(before.total, "run")
        self.say(f"{self._plan.suite}, scale {self._plan.scale}: {runs}: {before.counted()}")

    def evaluates(self, lacking: Iterable[Sequence[str]]) -> None:
        """Say what ``evaluation_foreseen`` says."""
        for line in evaluation_foreseen(lacking):
            self.say(line)

    def not_evaluated(self, reasons: Mapping[str, Mapping[str, str]]) -> None:
        """Say which finished runs were not evaluated on a set, by run id and key, with the reason."""
        runs: dict[tuple[str, str], list[str]] = {}
        for run_id, failed in reasons.items():
            for found in failed.items():
                runs.setdefault(found, []).append(run_id)
        for (key, reason), where in runs.items():
            some = ", ".join(where[:3]) + (", …" if len(where) > 3 else "")
            self.say(f"{counted(len(where), 'run')} not evaluated on {key} ({some}): {reason}")
        if any(reason != CANCELLED for _, reason in runs):
            self.say("--retry-failed tries these sets again")

    def corrupted(self, run_id: str, fault: str, aside: Path) -> None:
        """Say that a corrupted run was set aside."""
        self.say(f"run {run_id} is corrupted ({fault}); it was moved to {aside} and is computed again")

    def not_comparable(self, runs: int, ways: Sequence[str]) -> None:
        """Say that finished runs were computed in another way, in a suite that measures time."""
        self.say(
            f"finished runs whose times are not comparable: {runs}, computed with another {', '.join(ways)}; "
            "--force measures them again"
        )

    def may_start_anew(self, runs: int) -> None:
        """Say that some runs were stopped under another ``--execution``."""
        self.say(
            f"{runs} of them were stopped under another --execution; those that can't be continued start anew"
        )

    def beside_a_measurement(self) -> None:
        """Say that another grid measures time on this machine."""
        self.say("another grid measures time on this machine: this grid slows it, and distorts its times")

    def fewer_fit(self, fit: int, wanted: int) -> None:
        """Say that memory allows fewer runs at once than cores or GPUs do."""
        self.say(
            f"memory has room for {counted(fit, 'run')} at once, not for {wanted}; --workers overrides this"
        )

    def not_shared(self, where: str) -> None:
        """Say that other nodes do not see the results folder."""
        self.say(f"{self._results.resolve()} is on {where}, which other nodes of a cluster do not see")

    def submitted(self, jobs: Sequence[Task], elsewhere: int) -> None:
        """Say which jobs were submitted, and how many runs needed none."""
        if jobs:
            runs = sum(len(task.runs) for task in jobs)
            arrays = sorted({task.job.partition("_")[0] for task in jobs})
            self.say(
                f"submitted {counted(runs, 'run')} as {counted(len(jobs), 'job')} "
                f"({counted(len(arrays), 'array')}: {', '.join(arrays)})"
            )
        if elsewhere:
            self.say(f"already in jobs or computed elsewhere: {counted(elsewhere, 'run')}")

    def how_to_follow(self) -> None:
        """Say which commands follow and cancel jobs."""
        self.say(self._how_to_follow())

    def interrupted(self, now: Snapshot, in_jobs: bool) -> None:
        """Say after Ctrl-C or SIGTERM how many runs have each status, and how they go on."""
        if in_jobs:
            self.say(f"stopped following: {now.counted()}; the jobs go on; {self._how_to_follow()}")
        else:
            self.say(f"stopped: {now.counted()}; the same command goes on from here")

    def _how_to_follow(self) -> str:
        rest = f"--suite {self._plan.suite} --results {shell_path(self._results)}"
        return f"python -m bench.status {rest} --watch follows them, python -m bench.cancel {rest} ends them"
