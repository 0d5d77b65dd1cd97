"""What a person is told while runs are launched, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.cli.live import counted, say
from bench.monitoring.progress import Snapshot
from bench.monitoring.slurm_records import Task
from bench.planning.plan import Plan


def submission_foreseen(runs: int, jobs: int, arrays: int) -> str:
    """What SLURM would be given now."""
    return (
        f"SLURM takes such jobs; submitted now: {counted(runs, 'run')} as {counted(jobs, 'job')} "
        f"in {counted(arrays, 'array')}"
    )


class LaunchMessages:
    """The messages of one launch of ``plan`` into the folder ``results``, printed on ``console``."""

    def __init__(self, console: Console, plan: Plan, results: Path) -> None:
        self._console, self._plan, self._results = console, plan, results

    def say(self, line: str) -> None:
        """Print ``line`` as it is."""
        say(self._console, line)

    def begins(self, before: Snapshot) -> None:
        """Which plan it is, and where its runs stand."""
        self.say(f"{self._plan.suite}, scale {self._plan.scale}: {before.total} runs: {before.counted()}")

    def corrupted(self, run_id: str, fault: str, aside: Path) -> None:
        """A run that can't be trusted was set aside."""
        self.say(f"run {run_id} is corrupted ({fault}); it is in {aside} now and runs again")

    def not_comparable(self, runs: int, ways: Sequence[str]) -> None:
        """Some finished runs were computed in another way, which matters where time is measured."""
        self.say(
            f"their times are not comparable: {runs} of them were computed by other {', '.join(ways)}: "
            "--force measures them again"
        )

    def may_start_anew(self, runs: int) -> None:
        """Some runs were stopped under another ``--execution``."""
        self.say(
            f"{runs} of them were stopped under another --execution: what can't be continued starts anew"
        )

    def beside_a_measurement(self) -> None:
        """Another grid measures time on this machine."""
        self.say("beside this grid another one measures time on this machine: both suffer")

    def fewer_fit(self, fit: int, wanted: int) -> None:
        """Memory allows fewer runs at once than there are cores or GPUs for."""
        self.say(f"memory has room for {fit} runs at once, not for {wanted}; --workers overrules it")

    def not_shared(self, where: str) -> None:
        """The results lie where other nodes do not see them."""
        self.say(f"{self._results.resolve()} is on {where}: other nodes of a cluster will not see it")

    def submitted(self, jobs: Sequence[Task], elsewhere: int) -> None:
        """Which jobs were submitted, and how many runs needed none."""
        if jobs:
            runs = sum(len(task.runs) for task in jobs)
            arrays = sorted({task.job.partition("_")[0] for task in jobs})
            self.say(
                f"submitted {counted(runs, 'run')} as {counted(len(jobs), 'job')} "
                f"({counted(len(arrays), 'array')}: {', '.join(arrays)})"
            )
        if elsewhere:
            self.say(f"in jobs, or computed by others, already: {counted(elsewhere, 'run')}")

    def how_to_follow(self) -> None:
        """The commands that follow and end jobs."""
        self.say(self._how_to_follow())

    def interrupted(self, now: Snapshot, in_jobs: bool) -> None:
        """Ctrl-C or SIGTERM came: where the runs stand, and how they go on."""
        if in_jobs:
            self.say(f"left: {now.counted()}; jobs go on by themselves; {self._how_to_follow()}")
        else:
            self.say(f"stopped: {now.counted()}; the same command goes on from here")

    def _how_to_follow(self) -> str:
        rest = f"--suite {self._plan.suite} --results {self._results}"
        return f"python -m bench.status {rest} --watch follows them, python -m bench.cancel {rest} ends them"
