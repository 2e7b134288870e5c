"""The peers of submitted calls, each on the same Slurm, asking it as often as it lets itself be told to.

Each as its own documentation shows. What one cannot do it says in words.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.durable import PATIENCE, one_after_another

PARTITION = "debug"


class Submitit:
    def prepare(self, folder: str) -> None:
        import submitit

        self.executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        self.executor.update_parameters(timeout_min=5, slurm_partition=PARTITION, mem_gb=0.25)

    def one(self) -> float:
        started = time.perf_counter()
        assert self.executor.submit(pow, 7, 1).result() == 7
        return time.perf_counter() - started

    def array(self, count: int) -> float:
        started = time.perf_counter()
        jobs = self.executor.map_array(abs, range(count))
        assert [job.result() for job in jobs] == list(range(count))
        return time.perf_counter() - started


class Executorlib:
    """Files for a job a call, sockets for a pool: "block allocation" in its own words."""

    TEMPLATE = """\
#!/bin/bash
#SBATCH --output=/dev/null
#SBATCH --job-name={{job_name}}
#SBATCH --chdir={{working_directory}}
#SBATCH --partition=debug
#SBATCH --ntasks={{cores}}

{{command}}
"""

    def prepare(self, folder: str) -> None:
        from executorlib import SlurmClusterExecutor

        self.made = SlurmClusterExecutor
        self.folders = (Path(folder) / str(number) for number in itertools.count())

    def executor(self, **options: Any) -> Any:
        resources = {"submission_template": self.TEMPLATE, "cores": 1}
        return self.made(cache_directory=str(next(self.folders)), resource_dict=resources, **options)

    def one(self) -> float:
        # A call that it has seen is answered from its cache: each has an executor, with a cache, of its own.
        with self.executor() as executor:
            started = time.perf_counter()
            assert executor.submit(pow, 7, 1).result(PATIENCE) == 7
            return time.perf_counter() - started

    def pool(self, count: int, warm: int) -> dict[str, Any]:
        started = time.perf_counter()
        options = {"block_allocation": True, "max_workers": 2, "hostname_localhost": True}
        with self.executor(**options) as executor:
            futures = [executor.submit(abs, number) for number in range(count)]
            assert [future.result(PATIENCE) for future in futures] == list(range(count))
            idle = time.perf_counter() - started
            return {
                "idle": idle,
                "warm": one_after_another(lambda: executor.submit(pow, 7, 1).result(), warm),
            }


class Psij:
    """Runs programs, not functions: an interpreter that prints stands for a call. It asks each second, not every 30."""

    def prepare(self, folder: str) -> None:
        import psij
        from psij.executors.batch.slurm import SlurmExecutorConfig

        self.psij, self.folder = psij, Path(folder)
        config = SlurmExecutorConfig(queue_polling_interval=1, initial_queue_polling_delay=0)
        self.executor = psij.JobExecutor.get_instance("slurm", config=config)

    def one(self) -> float:
        psij, output = self.psij, self.folder / "output"
        attributes = psij.JobAttributes(queue_name=PARTITION, duration=timedelta(minutes=5))
        spec = psij.JobSpec(
            executable=sys.executable,
            arguments=["-c", "print(pow(7, 1))"],
            stdout_path=output,
            attributes=attributes,
        )
        started = time.perf_counter()
        job = psij.Job(spec)
        self.executor.submit(job)
        if job.wait(timedelta(seconds=PATIENCE)) is None:
            raise TimeoutError(f"no end within {PATIENCE:g} s")
        assert output.read_text() == "7\n", job.status
        return time.perf_counter() - started


class Parsl:
    """A pool, and nothing else: calls wait for its workers."""

    def prepare(self, folder: str) -> None:
        import parsl

        self.parsl, self.folder = parsl, Path(folder)
        programs = Path(sys.executable).parent  # it looks for its own by PATH, as in an activated environment
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"

    def pool(self, count: int, warm: int) -> dict[str, Any]:
        started = time.perf_counter()
        with self.parsl.load(self.config()):
            absolute, power = self.parsl.python_app(abs), self.parsl.python_app(pow)
            futures = [absolute(number) for number in range(count)]
            assert [future.result(PATIENCE) for future in futures] == list(range(count))
            idle = time.perf_counter() - started
            return {"idle": idle, "warm": one_after_another(lambda: power(7, 1).result(), warm)}

    def config(self) -> Any:
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.launchers import SimpleLauncher
        from parsl.providers import SlurmProvider

        provider = SlurmProvider(
            partition=PARTITION,
            walltime="00:05:00",
            init_blocks=1,
            max_blocks=1,
            exclusive=False,
            launcher=SimpleLauncher(),
        )
        pool = HighThroughputExecutor(
            label="pool", address="127.0.0.1", max_workers_per_node=2, cores_per_worker=1, provider=provider
        )
        return Config(executors=[pool], run_dir=str(self.folder), usage_tracking=0)
