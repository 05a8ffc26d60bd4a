"""Where the ranks of a stage run: this machine, a Slurm cluster, a Ray cluster. Thin: datatrove runs each rank."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from phi3kit.corpus.engine.processes import run_in_processes
from phi3kit.errors import UserError
from phi3kit.families import Executor

WORTH_A_PROCESS = 8 * 2**20  # bytes of input


@final
class Local(Executor):
    """Processes on this machine, one per rank; a worker that dies stops the run at once.

    Args:
        workers: ranks at the same time; null: one per core, where there is enough work to start processes for.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"workers is {workers}; give 1 or more, or null for one per core")
        self.workers = workers

    def run(self, name: str, steps: Sequence[Any], ranks: int, log: Path) -> None:
        """Run the ranks that are not done."""
        from datatrove.executor import LocalPipelineExecutor
        from loguru import logger

        logger.disable("datatrove")  # its console lines; what failed is told by the stage
        executor = LocalPipelineExecutor(pipeline=list(steps), tasks=ranks, workers=1, logging_dir=str(log))
        waiting = executor.get_incomplete_ranks(range(ranks))
        workers = self.workers or (1 if steps[0].stage.bytes < WORTH_A_PROCESS else len(os.sched_getaffinity(0)))
        if min(workers, len(waiting)) <= 1:
            for rank in waiting:
                executor._run_for_rank(rank, local_rank=1)
        else:
            run_in_processes(name, executor, waiting, workers)


@final
class Slurm(Executor):
    """A job array per stage on a Slurm cluster, submitted from here and waited for. The folder must be shared.

    Args:
        partition: where to submit.
        time: limit of each rank, HH:MM:SS.
        workers: ranks at the same time; -1: no limit.
        cpus: per rank.
        gigabytes: of memory, per CPU.
        qos: quality of service; empty: the cluster's default.
        environment: shell command that activates the environment; null: this one's.
        options: further options of sbatch, e.g. account.
        seconds_between_looks: how often to look whether ranks are done.
    """

    def __init__(
        self,
        partition: str,
        time: str = "20:00:00",
        workers: int = -1,
        cpus: int = 1,
        gigabytes: int = 4,
        qos: str = "",
        environment: str | None = None,
        options: Mapping[str, str] | None = None,
        seconds_between_looks: float = 20.0,
    ) -> None:
        self.partition, self.time, self.workers, self.cpus = partition, time, workers, cpus
        self.gigabytes, self.qos, self.options = gigabytes, qos, dict(options or {})
        self.environment = environment if environment is not None else f"source {sys.prefix}/bin/activate"
        self.seconds_between_looks = seconds_between_looks

    def run(self, name: str, steps: Sequence[Any], ranks: int, log: Path) -> None:
        """Submit the ranks that are not done, and wait for them."""
        from datatrove.executor import SlurmPipelineExecutor

        executor = SlurmPipelineExecutor(
            pipeline=list(steps), tasks=ranks, time=self.time, partition=self.partition, workers=self.workers,
            cpus_per_task=self.cpus, mem_per_cpu_gb=self.gigabytes, qos=self.qos, env_command=self.environment,
            sbatch_args=self.options, job_name=f"phi3kit-{name}", logging_dir=str(log.resolve()),
        )  # fmt: skip
        try:
            executor.run()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise UserError(f"sbatch did not take {log / 'launch_script.slurm'}: {error}") from error
        while executor.job_id != -1 and executor.get_incomplete_ranks(range(ranks)):
            if not _in_queue(executor.job_id):
                return  # the store says which rank is missing, and why
            time.sleep(self.seconds_between_looks)


def _in_queue(job: Any) -> bool:
    """Whether Slurm still has a job."""
    asked = subprocess.run(["squeue", "--noheader", "--jobs", str(job)], capture_output=True, text=True)
    return asked.returncode == 0 and bool(asked.stdout.strip())


@final
class Ray(Executor):
    """Tasks on a Ray cluster, or on a Ray started here. The folder must be shared.

    Args:
        workers: ranks at the same time.
        address: of a running cluster; null: start Ray on this machine.
        cpus: per rank.
        gigabytes: of memory, per CPU.
    """

    def __init__(self, workers: int, address: str | None = None, cpus: int = 1, gigabytes: float = 2.0) -> None:
        self.workers, self.address, self.cpus, self.gigabytes = workers, address, cpus, gigabytes

    def run(self, name: str, steps: Sequence[Any], ranks: int, log: Path) -> None:
        """Run the ranks that are not done."""
        try:
            import ray
        except ImportError as error:
            raise UserError(f"the executor Ray needs the package ray ({error}); pip install ray") from error
        from datatrove.executor import RayPipelineExecutor

        if not ray.is_initialized():
            cpus = self.workers * self.cpus if self.address is None else None
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False, num_cpus=cpus)
        RayPipelineExecutor(
            pipeline=list(steps), tasks=ranks, workers=self.workers, cpus_per_task=self.cpus,
            mem_per_cpu_gb=self.gigabytes, logging_dir=str(log.resolve()),
        ).run()  # fmt: skip
