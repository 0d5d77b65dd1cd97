"""Submit runs to SLURM: in as few arrays as the site allows, with several minutes of runs in each job."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import submitit

from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from bench.launching.process import blocked, thread_limits
from bench.launching.slurm_job import work
from bench.launching.slurm_profile import Profile
from bench.launching.worker import Order
from bench.monitoring import launch_files, slurm_commands, slurm_records
from bench.monitoring.slurm_commands import SlurmError
from bench.monitoring.slurm_records import Task
from bench.results.files import StoreError, printable

#: Least and most expected time of a job's runs together. A job needs seconds to start, so very short jobs
#: waste time.
_LEAST_SECONDS, _WANTED_SECONDS = 60.0, 600.0
_LONGEST_NAME = 60
#: Words in SLURM's messages when there are too many jobs, or an array is too large.
_LIMIT = re.compile(r"limit|policy|array", re.IGNORECASE)


class Submission:
    """Submits the jobs of one launch.

    Parameters
    ----------
    results
        Results folder.
    profile
        Options of the jobs.
    execution
        How runs are computed.
    suite, scale
        Names that identify the jobs in ``squeue``.
    seconds
        Returns the expected seconds of a run.

    Attributes
    ----------
    launch
        Folder of the launch; None before the first job.
    refusal
        Why SLURM took only some of the jobs; empty if it took all.
    """

    def __init__(
        self,
        results: Path,
        profile: Profile,
        execution: Execution,
        suite: str,
        scale: str,
        seconds: Callable[[RunSpec], float],
    ) -> None:
        self._results, self._profile, self._seconds = results.resolve(), profile, seconds
        self._execution = replace(execution, executor="slurm", concurrency=1 if profile.exclusive else None)
        self._options = profile.sbatch() | {
            "job-name": f"{suite}"[:_LONGEST_NAME],
            "comment": printable(f"ssvi-bench {suite} {scale} results={self._results}")[:200],
            # if a node fails, or a job of higher priority takes its place, SLURM starts the job again
            "requeue": True,
        }
        self._site = slurm_commands.site()
        self._most = self._site.most_tasks
        self.launch: Path | None = None
        self.refusal = ""
        self._number = 0

    def submit(self, specs: Sequence[RunSpec]) -> list[Task]:
        """Submit jobs that compute ``specs``, and record them.

        SLURM may accept some arrays and refuse the next, for example because of a limit on jobs in the queue;
        ``refusal`` then says why.

        Returns
        -------
        list
            The jobs that SLURM accepted.

        Raises
        ------
        SlurmError
            If SLURM accepts no job.
        """
        self.refusal = ""
        parts = self.parts(specs)
        tasks: list[Task] = []
        while len(tasks) < len(parts):
            try:
                tasks += self._submit_array(parts[len(tasks) : len(tasks) + self._most])
            except SlurmError as error:
                # SLURM accepts or refuses a whole array; a smaller one may be within the limits
                if self._most > 1 and _LIMIT.search(str(error)):
                    self._most = max(min(self._most, len(parts) - len(tasks)) // 2, 1)
                    continue
                if not tasks:
                    raise
                self.refusal = str(error)
                break
        self._most = self._site.most_tasks
        return tasks

    def shape(self, specs: Sequence[RunSpec]) -> tuple[int, int]:
        """Return the number of jobs, and of arrays, for ``specs`` on this site."""
        jobs = len(self.parts(specs))
        return jobs, math.ceil(jobs / self._most)

    def parts(self, specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
        """Divide ``specs``, in order, into the lists of the jobs."""
        if (size := self._profile.runs_per_job) is not None:
            return [list(specs[start : start + size]) for start in range(0, len(specs), size)]
        seconds = [self._seconds(spec) for spec in specs]
        share = sum(seconds) / self._profile.array_parallelism
        # at most a third of the time limit, so that a wrong expectation does not cause a requeue
        wanted = min(max(share, _LEAST_SECONDS), _WANTED_SECONDS, self._profile.time_seconds / 3)
        parts: list[list[RunSpec]] = []
        filled = wanted
        for spec, expected in zip(specs, seconds, strict=True):
            if filled + expected > wanted:
                parts.append([])
                filled = 0.0
            parts[-1].append(spec)
            filled += expected
        return parts

    def _submit_array(self, parts: Sequence[Sequence[RunSpec]]) -> list[Task]:
        if self.launch is None:
            self.launch = launch_files.new(self._results)
        orders = []
        for part in parts:
            self._number += 1
            orders.append(self._order(part, self._number))
        executor = submitit.SlurmExecutor(launch_files.logs(self.launch), python=self._profile.python)
        executor.update_parameters(
            time=max(self._profile.time_seconds // 60, 1),
            signal_delay_s=self._profile.signal_seconds,
            setup=[*self._exports(), *self._profile.setup],
            array_parallelism=self._profile.array_parallelism,
            stderr_to_stdout=True,
            # since SLURM 22.05, srun does not inherit this from the job
            srun_args=[f"--cpus-per-task={self._profile.cpus}"],
            wckey=None,
            additional_parameters={key.replace("-", "_"): value for key, value in self._options.items()},
        )
        try:
            # no Ctrl-C between submitting and recording, since every job in the queue must be recorded;
            # messages of sbatch are caught here and raised below
            quietly = contextlib.redirect_stderr(io.StringIO())
            with _outside_of_any_job(), blocked(signal.SIGINT, signal.SIGTERM), quietly:
                jobs = executor.map_array(work, orders)
                tasks = [
                    Task(job.job_id, order.number, tuple(spec.run_id for spec in part), self.launch)
                    for job, order, part in zip(jobs, orders, parts, strict=True)
                ]
                slurm_records.write(self.launch, tasks)
        except StoreError:
            slurm_commands.cancel({job.job_id.partition("_")[0] for job in jobs})
            raise
        except Exception as error:  # errors of submitit, or of its call of sbatch
            slurm_records.remove_orphans(self.launch)
            if self._number == len(parts):
                launch_files.tidy(self.launch)
                self.launch = None
            self._number -= len(parts)
            said = [line.strip() for line in str(error).splitlines() if "error:" in line]
            raise SlurmError(f"sbatch: {said[-1] if said else ' '.join(str(error).split())[-300:]}") from None
        return tasks

    def _order(self, specs: Sequence[RunSpec], number: int) -> Order:
        return Order(
            number=number,
            results=str(self._results),
            configs=tuple(spec.to_dict() for spec in specs),
            execution=self._execution,
            folder=str(self.launch),
        )

    def _exports(self) -> list[str]:
        """Return shell lines that set environment variables of a job, as some sites do not pass them on."""
        variables = thread_limits(self._execution.threads)
        if root := os.environ.get("BENCH_DATA_ROOT"):
            variables["BENCH_DATA_ROOT"] = str(Path(os.path.expanduser(root)).resolve())
        return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


@contextlib.contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hide the surrounding job, if there is one: a job submitted from within it would inherit from it."""
    conf = os.environ.get("SLURM_CONF")
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    with submitit.helpers.clean_env():
        if conf is not None:
            os.environ["SLURM_CONF"] = conf
        yield
