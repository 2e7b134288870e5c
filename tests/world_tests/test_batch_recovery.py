"""A near end that dies while it submits, and a scheduler that is slow, talks nonsense or is asked by many."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import Cancelled, Route, hops
from outrider.batch import BatchJob, State
from outrider.batch.store import Store

Wrap = Callable[[str, str], None]


@pytest.fixture
def route(slurm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Route(hops.slurm())


@pytest.fixture
def wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wrap]:
    """Puts a program of Slurm behind some lines of shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(name: str, lines: str) -> None:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{lines.replace('REAL', f'/usr/bin/{name}')}\n")
        file.chmod(0o755)

    yield put
    for file in folder.iterdir():
        file.unlink()


def known_to_slurm(key: str) -> int:
    told = subprocess.run(
        ["squeue", "-h", "-t", "all", "-o", "%k"], capture_output=True, text=True, check=True
    )
    return told.stdout.split().count(key)


@pytest.mark.parametrize(("before", "after"), [(1.5, 0), (0, 1.5), (0.7, 0.7)])
def test_a_near_end_that_is_killed_in_the_midst_neither_loses_nor_doubles_its_job(
    route: Route, wrap: Wrap, before: float, after: float
) -> None:
    wrap("sbatch", f'sleep {before}; REAL "$@"; s=$?; sleep {after}; exit $s')
    code = "from outrider import Route; Route.parse('slurm').batch(name='killed').submit(pow, 2, 3)"
    near = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 30
    while not Store().rows() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.9)
    near.kill()
    near.wait()
    job = BatchJob.open("killed")
    assert job.result(60) == 8
    assert known_to_slurm(job.key) == 1
    job.clean()


def test_a_job_whose_id_was_never_noted_is_found_by_its_key(route: Route, tmp_path: Path) -> None:
    job = route.batch(hold=True).submit(pow, 2, 3)
    noted = tmp_path / ".outrider" / "spool" / job.key / "job.0"
    ident = job.id
    noted.unlink()
    code = f"from outrider import Route; job = Route.parse('slurm').job({job.key!r}); print(job.id); job.release()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ident
    assert noted.read_text().strip() == ident
    assert job.result(60) == 8
    job.clean()


def test_a_scheduler_that_is_slow_does_not_keep_an_end_from_being_noticed(route: Route, wrap: Wrap) -> None:
    wrap("squeue", 'sleep 30; exec REAL "$@"')
    job = route.submit(pow, 2, 3)
    assert job.result(20) == 8
    job.clean()


@pytest.mark.parametrize(
    "lines",
    [
        "head -c 3000 /dev/urandom",
        "exit 0",
        "echo '1|RUNN'",
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "kill -9 $$",
    ],
)
def test_a_scheduler_that_talks_nonsense_for_a_while_loses_no_job(
    route: Route, wrap: Wrap, lines: str
) -> None:
    wrap("squeue", lines)
    job = route.submit(time.sleep, 7)
    assert not job.wait(1)
    assert job.result(30) is None
    job.clean()


def test_however_many_jobs_are_asked_about_it_is_one_question(
    route: Route, wrap: Wrap, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    jobs = [route.batch(hold=True).submit(abs, number) for number in range(30)]
    wrap("squeue", f'echo asked >>{asked}; exec REAL "$@"')
    started = time.monotonic()
    for _ in range(3):
        assert {job.state for job in jobs} == {State.HELD}
    assert len(asked.read_text().split()) <= 1 + (time.monotonic() - started)
    for job in jobs:
        job.cancel()
    assert all(job.wait(30) for job in jobs)
    for job in jobs:
        job.clean()


def test_an_array_of_many_items(route: Route) -> None:
    jobs = route.map(abs, range(-500, 0), array=True, chunk=25, limit=8)
    assert list(jobs.values(60)) == list(range(500, 0, -1))
    assert jobs.progress() == {State.COMPLETED: 500}
    jobs.clean()


def test_an_array_is_collected_elsewhere_and_ended_by_somebody_else(route: Route) -> None:
    jobs = route.map(time.sleep, [0, 0, 60, 60], array=True)
    code = "import pickle, sys; jobs = pickle.load(sys.stdin.buffer); print([jobs[n].result(60) for n in (0, 1)])"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(jobs), capture_output=True, timeout=90, check=True
    )
    assert done.stdout == b"[None, None]\n"
    subprocess.run(["scancel", jobs[0].id.partition("_")[0]], check=True)
    found = {item.index: type(item.error) for item in jobs.arriving()}
    assert found == {0: type(None), 1: type(None), 2: Cancelled, 3: Cancelled}
    jobs.clean()


def test_an_item_is_cancelled_and_only_what_is_missing_submitted_again(route: Route) -> None:
    jobs = route.batch(hold=True).map(abs, [-1, -2, -3])
    jobs[1].cancel()
    jobs[0].release()
    assert [jobs[0].result(30), str(jobs[1].wait(30))] == [1, "True"]
    assert jobs[1].state is State.CANCELLED
    assert jobs.resubmit() == 1
    assert jobs[1].result(30) == 2
    assert jobs[2].state is State.HELD
    jobs.cancel()
    assert jobs.wait(30)
    jobs.clean()


class Steps:
    """Counts for some seconds, and goes on from where it was asked to stop."""

    def __init__(self) -> None:
        self.reached = self.stops = 0

    def __call__(self, top: int) -> tuple[int, int]:
        while self.reached < top:
            self.reached += 1
            time.sleep(0.1)
        return self.reached, self.stops

    def checkpoint(self, top: int) -> None:
        self.stops += 1


def outcome(job: BatchJob, seconds: float) -> Any:
    """Its result. Whenever it is queued once more, it may start soon: Slurm keeps such a job waiting for two minutes."""
    until = time.monotonic() + seconds
    while not job.wait(0.3):
        assert time.monotonic() < until, job.standing()
        if job.standing().reason == "BeginTime":
            time.sleep(5)  # the first run is being killed still, under the same id
            subprocess.run(["scontrol", "update", f"JobId={job.id}", "StartTime=now"], check=True)
    return job.result()


def test_before_the_time_is_up_a_checkpoint_is_asked_for_and_the_job_goes_on_from_it(route: Route) -> None:
    limited = Route(hops.slurm(time="1m"))
    job = limited.batch(warn=58).submit(Steps(), 620)  # longer than it may take
    reached, stops = outcome(job, 200)
    assert reached == 620
    assert stops >= 1
    job.clean()


def test_a_job_that_is_preempted_goes_on_from_its_checkpoint(route: Route) -> None:
    job = route.submit(Steps(), 60)
    while job.state is not State.RUNNING:
        time.sleep(0.1)
    time.sleep(2)
    subprocess.run(["scontrol", "requeue", job.id], check=True)  # as preemption does
    assert outcome(job, 60) == (60, 1)
    job.clean()


def test_a_job_that_is_submitted_inside_an_element_of_an_array_is_no_element_of_it(
    route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    job = route.submit(pow, 2, 3)
    assert job.result(30) == 8
    job.clean()
