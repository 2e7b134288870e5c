"""Executors on a real Slurm: a job for each call, and warm workers inside one job."""

from __future__ import annotations

import concurrent.futures as cf
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from outrider import Cancelled, Route, hops, ssh
from outrider.batch import State
from outrider.batch.executors.pool import PoolBroken, WorkerLost
from tests.samples import pool_work
from tests.world.machine import wait_for

HERE = Route(hops.slurm()).options(show=False)
WAIT = 60


def test_a_job_for_each_call_through_ssh(slurm: Any, sshd: Any) -> None:
    route = Route(ssh("alpha", config=str(sshd.config)), hops.slurm(memory="50M")).options(show=False)
    with route.executor() as executor:
        futures = [executor.submit(pow, number, 2) for number in range(3)]
        assert [future.result(WAIT) for future in futures] == [0, 1, 4]
        assert all(future.job.state is State.COMPLETED for future in futures)  # type: ignore[attr-defined]


def test_what_waits_to_be_submitted_goes_as_one_array(slurm: Any) -> None:
    with HERE.executor() as executor:
        arrays = list(executor.map(os.getenv, ["SLURM_ARRAY_JOB_ID"] * 5))
        assert len(set(arrays)) == 1
        assert arrays[0] is not None
        tasks = list(executor.map(lambda _: os.environ["SLURM_ARRAY_TASK_ID"], range(5), chunksize=2))
        assert [tasks.count(task) for task in sorted(set(tasks))] == [2, 2, 1]


def test_an_array_in_the_queue_is_cancelled_with_the_executor(slurm: Any) -> None:
    before = slurm.jobs()
    executor = Route(hops.slurm(extra=["--hold"])).executor()
    futures = [executor.submit(abs, -number) for number in range(6)]
    assert futures[-1].job.key  # type: ignore[attr-defined]
    assert slurm.jobs() - before
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert wait_for(lambda: slurm.jobs() <= before, 10)


def test_what_was_cancelled_is_cancelled_before_the_program_ends(slurm: Any) -> None:
    before = slurm.jobs()
    code = (
        "from outrider import Route, slurm\n"
        "executor = Route(slurm(extra=['--hold'])).executor(); future = executor.submit(abs, -1)\n"
        "print(future.job.id); executor.shutdown(wait=False, cancel_futures=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=WAIT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().isdigit()
    assert wait_for(lambda: slurm.jobs() <= before, 5)


def test_a_call_that_waits_in_the_queue_is_cancelled_with_its_job(slurm: Any) -> None:
    with Route(hops.slurm(extra=["--hold"])).executor() as executor:
        future = executor.submit(abs, -1)
        job = future.job  # type: ignore[attr-defined]
        assert job.id in slurm.jobs()
        assert future.cancel()
        assert wait_for(lambda: job.id not in slurm.jobs(), 30)
    assert future.cancelled()


def test_a_job_that_somebody_ends_is_an_error_of_its_future(slurm: Any) -> None:
    with HERE.executor() as executor:
        future = executor.submit(time.sleep, 60)
        assert wait_for(future.running, 30)
        assert not future.cancel()
        subprocess.run(["scancel", future.job.id], check=True)  # type: ignore[attr-defined]
        with pytest.raises(Cancelled):
            future.result(WAIT)


def test_a_pool_is_one_job_and_ends_with_it(slurm: Any) -> None:
    before = slurm.jobs()
    with Route(hops.slurm(cpus=2)).options(show=False).executor(2) as executor:
        assert sorted(executor.map(abs, range(-20, 0))) == list(range(1, 21))
        assert len(set(executor.map(pool_work.spin, [0.4] * 4))) == 2
        assert len(slurm.jobs() - before) == 1
        assert executor.submit(os.getenv, "SLURM_CPUS_PER_TASK").result(WAIT) == "2"
    assert wait_for(lambda: slurm.jobs() <= before, 10)


def test_a_pool_through_ssh(slurm: Any, sshd: Any) -> None:
    route = Route(ssh("alpha", config=str(sshd.config)), hops.slurm()).options(show=False)
    with route.executor(2) as executor:
        assert sorted(executor.map(abs, range(-20, 0))) == list(range(1, 21))


def test_a_pool_in_a_container_inside_the_job(slurm: Any, docker: Any) -> None:
    route = Route(hops.slurm(), hops.docker(docker.image))
    with route.options(show=False).executor(2) as executor:
        assert list(executor.map(os.path.exists, ["/.dockerenv"] * 3)) == [True] * 3


def test_in_a_job_of_several_tasks_each_worker_is_a_step(slurm: Any, docker: Any) -> None:
    before = slurm.jobs()
    with (
        Route(hops.slurm(tasks=2))
        .options(show=False, cwd="/usr", env={"COLOUR": "red"})
        .executor(2) as executor
    ):
        got = list(executor.map(lambda _: (time.sleep(0.3), pool_work.where()), range(8)))
        found = {place for _, place in got}
        assert len(found) == 2
        assert len({step for step, *_ in found}) == 2
        assert {(cwd, colour) for _, cwd, colour in found} == {("/usr", "red")}
        assert len(slurm.jobs() - before) == 1
    assert wait_for(lambda: slurm.jobs() <= before, 10)
    route = Route(hops.slurm(tasks=2), hops.docker(docker.image)).options(show=False, env={"COLOUR": "red"})
    with route.executor(2) as executor:
        assert executor.submit(os.path.exists, "/.dockerenv").result(WAIT) is True
        assert executor.submit(os.getenv, "COLOUR").result(WAIT) == "red"
    assert wait_for(lambda: slurm.jobs() <= before, 10)


def test_the_pools_job_is_cancelled_by_somebody(slurm: Any) -> None:
    with HERE.executor(1) as executor:
        ident = executor.submit(os.getenv, "SLURM_JOB_ID").result(WAIT)
        runs, waits = executor.submit(time.sleep, 60), executor.submit(os.getenv, "SLURM_JOB_ID")
        assert wait_for(runs.running, 10)
        subprocess.run(["scancel", str(ident)], check=True)
        with pytest.raises(WorkerLost, match="the job that held its worker is gone"):
            runs.result(WAIT)
        again = waits.result(WAIT)
        assert again is not None
        assert again != ident


def test_nothing_of_a_pool_outlives_its_program(slurm: Any, census: Any) -> None:
    before = slurm.jobs()
    code = (
        "import os, time; from outrider import Route, slurm\n"
        "pool = Route(slurm()).executor(2); pool.submit(abs, -1).result()\n"
        "futures = [pool.submit(time.sleep, 600) for _ in range(3)]; time.sleep(0.5); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=WAIT, check=False).returncode == -9
    assert wait_for(lambda: slurm.jobs() <= before, 20)
    census.assert_nothing_left()


def test_slurm_refuses_the_pools_job(slurm: Any) -> None:
    with Route(hops.slurm(partition="nowhere")).executor(2) as executor:
        future = executor.submit(abs, -1)
        with pytest.raises(PoolBroken, match="partition"):
            future.result(WAIT)
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(abs, -1)


def test_a_pool_in_the_queue_is_given_up(slurm: Any) -> None:
    before = slurm.jobs()
    executor = Route(hops.slurm(extra=["--hold"])).executor(2)
    future = executor.submit(abs, -1)
    assert wait_for(lambda: bool(slurm.jobs() - before), 20)
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()
    assert wait_for(lambda: slurm.jobs() <= before, 10)
