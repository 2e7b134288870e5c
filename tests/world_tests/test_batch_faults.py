"""What goes wrong with submitted calls at night: full disks, large answers, dead connections, wrong clocks, time limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import Cancelled, FarError, Route, RouteError, hops, ssh
from outrider.batch import BatchJob, State
from tests.samples import far_work


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def route(slurm: Any, home: Path) -> Route:
    return Route(hops.slurm()).options(show=False)


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The spool is on a disk of 400 KB."""
    spool = home / ".outrider"
    spool.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", spool], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    yield spool
    subprocess.run(["umount", "-l", spool], check=True)


def until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def test_a_full_disk_at_submission_is_told_and_leaves_nothing(route: Route, small_disk: Path) -> None:
    with pytest.raises(RouteError, match="No space left"):
        route.submit(len, os.urandom(1_000_000))
    assert [path for path in (small_disk / "spool").iterdir() if path.name.startswith("outrider-")] == []
    assert route.submit(abs, -1).result(60) == 1


def test_a_disk_that_is_full_for_the_answer_fails_the_job_with_a_word_of_it(
    route: Route, small_disk: Path
) -> None:
    job = route.submit(os.urandom, 1_000_000)
    with pytest.raises(FarError, match=r"disk of .* is full"):
        job.result(60)


def test_a_large_answer_and_two_who_collect_it(route: Route) -> None:
    job = route.submit(bytes, 500_000_000)
    code = f"from outrider import Route; print(len(Route.parse('slurm').job({job.key!r}).result(120)))"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert len(job.result(120)) == 500_000_000
    assert other.communicate(timeout=120)[0] == b"500000000\n"
    job.clean()


def test_a_job_that_prints_100_mb(route: Route) -> None:
    job = route.submit(far_work.print_lines, 100_000, 1023)
    followed = sum(len(piece) for _, piece in job.follow())
    assert followed == len(job.stdout()) == 102_400_000
    assert job.result(10) is None
    job.clean()


def test_two_threads_and_a_forked_child_wait_for_one_job(route: Route) -> None:
    job = route.submit(time.sleep, 3)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(job.wait(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if not child:
        os._exit(0 if job.wait(30) and job.state is State.COMPLETED else 1)
    for thread in threads:
        thread.join()
    assert found == [True] * 3
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    job.clean()


def test_a_far_clock_that_is_off_by_an_hour(route: Route, home: Path) -> None:
    job = route.submit(time.sleep, 2)
    until(lambda: job.state is State.RUNNING)
    folder = home / ".outrider" / "spool" / job.key
    for path in folder.iterdir():
        hour_ago = path.stat().st_mtime - 3600
        os.utime(path, (hour_ago, hour_ago))
    assert job.result(30) is None
    assert route.job(job.key).result(30) is None
    job.clean()


def test_the_time_limit(slurm: Any, home: Path) -> None:
    job = Route(hops.slurm(time="1m")).submit(time.sleep, 300)
    until(lambda: job.state is State.RUNNING)
    with pytest.raises(FarError, match="TIMEOUT"):
        job.result(150)
    job.clean()


def test_a_node_that_fails(route: Route, slurm: Any) -> None:
    job = route.submit(time.sleep, 60)
    until(lambda: job.state is State.RUNNING)
    subprocess.run(["scontrol", "update", f"NodeName={slurm.node}", "State=DOWN", "Reason=test"], check=True)
    try:
        with pytest.raises(FarError, match="NODE_FAIL"):
            job.result(60)
    finally:
        subprocess.run(["scontrol", "update", f"NodeName={slurm.node}", "State=RESUME"], check=False)
        slurm.wait_until_idle()
    job.clean()


def test_a_dependency_on_what_fails_is_never_started(route: Route) -> None:
    first = route.submit(int, "no number")
    second = route.batch(after=first).submit(abs, -1)
    with pytest.raises(Cancelled, match="Dependency"):
        second.result(60)
    assert isinstance(first.exception(10), ValueError)
    first.clean(), second.clean()


def test_the_connection_dies_while_somebody_waits(slurm: Any, sshd: Any) -> None:
    route = Route(ssh("alpha", config=str(sshd.config)), hops.slurm()).options(show=False)
    job = route.submit(time.sleep, 6)
    threading.Timer(2, subprocess.run, [["pkill", "-KILL", "-f", "sshd: outrider-a@notty"]]).start()
    assert job.result(60) is None
    job.clean()


def test_ctrl_c_ends_the_waiting_and_not_the_job(route: Route) -> None:
    code = (
        "import time; from outrider import Route\n"
        "job = Route.parse('slurm').batch(name='c').submit(time.sleep, 4)\n"
        "print(job.key, flush=True)\n"
        "job.result()\n"
    )
    near = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert near.stdout is not None
    key = near.stdout.readline().decode().strip()
    time.sleep(1)
    near.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in near.communicate(timeout=30)[1]
    assert route.job(key).result(30) is None
    assert isinstance(BatchJob.open("c"), BatchJob)
    route.job(key).clean()


def test_slurm_stops_while_a_job_is_submitted_and_waited_for(route: Route, slurm: Any) -> None:
    job = route.submit(time.sleep, 20)
    until(lambda: job.state is State.RUNNING)
    with slurm.down():
        with pytest.raises(RouteError, match="controller does not answer"):
            route.submit(abs, -1)
        assert not job.wait(1)
    assert job.result(60) is None
    job.clean()
