"""Durable calls on a real Slurm, without accounting."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from outrider import Cancelled, FarError, Lost, Route, RouteError, hops, ssh
from outrider.batch import BatchJob, State


@pytest.fixture
def jobs() -> Iterator[list[BatchJob]]:
    made: list[BatchJob] = []
    yield made
    for job in made:
        job.cancel()
        job.clean()


def test_a_call_through_ssh_is_a_job(slurm: Any, sshd: Any, jobs: list[BatchJob]) -> None:
    route = Route(ssh("alpha", config=str(sshd.config)), hops.slurm(memory="50M")).options(show=False)
    job = route.submit(pow, 7, 2)
    jobs.append(job)
    assert route.job(job.key).result(60) == 49
    assert job.id.isdigit()


def test_scancel_by_somebody_else(slurm: Any, jobs: list[BatchJob]) -> None:
    job = Route(hops.slurm()).submit(time.sleep, 60)
    jobs.append(job)
    until = time.monotonic() + 30
    while job.state is not State.RUNNING and time.monotonic() < until:
        time.sleep(0.2)
    subprocess.run(["scancel", job.id], check=True)
    with pytest.raises(Cancelled):
        job.result(30)


def test_a_job_that_is_held_and_cancelled_before_it_starts(slurm: Any, jobs: list[BatchJob]) -> None:
    job = Route(hops.slurm(extra=["--hold"])).submit(abs, -1)
    jobs.append(job)
    assert job.state is State.HELD
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(30)


def test_the_scheduler_refuses_it(slurm: Any) -> None:
    with pytest.raises(RouteError, match="partition"):
        Route(hops.slurm(partition="nowhere")).submit(abs, -1)


def test_what_cannot_start_in_the_job_is_told(slurm: Any, jobs: list[BatchJob]) -> None:
    job = Route(hops.slurm()).options(python="no-such-python").submit(abs, -1)
    jobs.append(job)
    with pytest.raises(FarError, match="127"):
        job.result(60)


def test_a_container_inside_the_job(slurm: Any, docker: Any, jobs: list[BatchJob]) -> None:
    job = Route(hops.slurm(), hops.docker(docker.image)).submit(os.path.exists, "/.dockerenv")
    jobs.append(job)
    assert job.result(60) is True


def test_the_spool_is_deleted_while_the_job_runs(slurm: Any, jobs: list[BatchJob]) -> None:
    job = Route(hops.slurm()).submit(time.sleep, 60)
    until = time.monotonic() + 30
    while job.state is not State.RUNNING and time.monotonic() < until:
        time.sleep(0.2)
    ident = job.id
    job.clean()
    with pytest.raises(Lost, match="folder"):
        job.result(30)
    subprocess.run(["scancel", ident], check=True)


def test_the_controller_is_down_while_a_job_runs(slurm: Any, jobs: list[BatchJob]) -> None:
    job = Route(hops.slurm()).submit(time.sleep, 5)
    jobs.append(job)
    until = time.monotonic() + 30
    while job.state is not State.RUNNING and time.monotonic() < until:
        time.sleep(0.2)
    with slurm.down():
        assert not job.wait(1)
    assert job.result(60) is None


def test_everything_through_ssh_with_docker_inside_the_job(slurm: Any, sshd: Any, docker: Any) -> None:
    # The account at beta may use Docker.
    way = Route(ssh("beta", config=str(sshd.config)), hops.slurm(memory="50M"), hops.docker(docker.image))
    route = way.options(show=False)
    array = route.map(pow, range(4), [2] * 4, array=True, chunk=2)
    made = route.batch(name="made").submit_command(
        "test -e /.dockerenv && echo $NAME; cat", stdin=b"in\n", env={"NAME": "x"}
    )
    after = route.batch(after=made).submit(os.path.exists, "/.dockerenv")
    assert list(array.values(60)) == [0, 1, 4, 9]
    assert made.result(60).text == "x\nin"
    assert after.result(60) is True
    with route.executor(pool=2) as pool:
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    for job in (array, made, after):
        job.clean()


def test_submitted_as_another_user_behind_ssh(slurm: Any, sshd: Any, sudo_rules: Any) -> None:
    hop = hops.sudo("outrider-b", password=lambda: sudo_rules.password)
    route = Route(ssh("alpha", config=str(sshd.config)), hop, hops.slurm()).options(show=False, cwd="/")
    job = route.submit(os.getuid)
    assert job.result(60) == pwd.getpwnam("outrider-b").pw_uid
    assert [str(item.result(60)) for item in route.map(abs, [-1, 2], array=True)] == ["1", "2"]
    job.clean()
