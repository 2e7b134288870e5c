"""Durable calls on a real Flux, where there is one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import Cancelled, Command, FarError, Route, hops
from outrider.batch import BatchJob, State
from outrider.testing import NASTY_WORDS


@pytest.fixture
def route(flux: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Route(hops.flux())


@pytest.fixture
def jobs() -> Iterator[list[BatchJob]]:
    made: list[BatchJob] = []
    yield made
    for job in made:
        job.cancel()
        job.clean()


def reached(job: BatchJob, state: State, within: float = 30) -> bool:
    """Whether the job comes to that state."""
    until = time.monotonic() + within
    while job.state is not state and time.monotonic() < until:
        time.sleep(0.2)
    return job.state is state


def test_calls_and_commands(route: Route, jobs: list[BatchJob]) -> None:
    jobs += [route.submit(pow, 7, 2), route.submit_command(["echo", "{{id}}", "it's"])]
    assert route.job(jobs[0].key).result(60) == 49
    assert jobs[1].result(60).stdout == b"{{id}} it's\n"


@pytest.mark.parametrize("limit", [None, 2])
def test_an_array(route: Route, jobs: list[Any], limit: int | None) -> None:
    array = route.map(abs, range(-5, 0), array=True, limit=limit)
    jobs.append(array)
    assert list(array.values()) == [5, 4, 3, 2, 1]


def test_held_released_and_found_by_its_key(route: Route, jobs: list[BatchJob]) -> None:
    job = route.batch(hold=True, name="a {b} {{c}}\nd").submit(abs, -1)
    jobs.append(job)
    assert reached(job, State.HELD)
    names = subprocess.run(["flux", "jobs", "-n", "-o", "{name}"], capture_output=True, text=True, check=True)
    assert job.key in names.stdout
    job.release()
    assert job.result(30) == 1


def test_who_waits_for_a_job_that_fails(route: Route, jobs: list[BatchJob]) -> None:
    first = route.batch(hold=True).submit(int, "x")
    second = route.batch(after=[first]).submit(abs, -2)
    jobs += [first, second]
    assert reached(second, State.PENDING)
    first.release()
    with pytest.raises((FarError, Cancelled)):
        second.result(30)


def test_cancelled_by_somebody_else(route: Route, jobs: list[BatchJob]) -> None:
    job = route.submit(time.sleep, 60)
    jobs.append(job)
    assert reached(job, State.RUNNING)
    subprocess.run(["flux", "cancel", job.id], check=True)
    with pytest.raises(Cancelled):
        job.result(30)


@pytest.mark.parametrize(
    ("hop", "why"), [({"time": 2}, "TIMEOUT"), ({"cpus": 100_000}, "unsatisfiable")], ids=["time", "cores"]
)
def test_what_it_ends_or_never_starts_is_told(
    route: Route, jobs: list[BatchJob], hop: dict[str, Any], why: str
) -> None:
    job = Route(hops.flux(**hop)).submit(time.sleep, 60)
    jobs.append(job)
    with pytest.raises(FarError, match=why):
        job.result(30)


def test_several_tasks_are_one_far_end(route: Route, jobs: list[BatchJob]) -> None:
    hop = hops.flux(nodes=1, tasks=2)
    assert Route(hop).call(max, 3, 7) == 7
    jobs.append(Route(hop).submit_command(["echo", "once"]))
    assert jobs[0].result(60).stdout == b"once\n"


def test_words_arrive_as_they_are(route: Route) -> None:
    words = ["{{id}}", "{{nope}}", "{cc}", *NASTY_WORDS]
    command = hops.flux().wrap(Command(["printf", r"%s\0", *words]))
    done = subprocess.run([os.fsencode(word) for word in command.argv], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
