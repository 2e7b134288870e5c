"""Ending durable calls that do not want to end, and checkpoints that go wrong, without a scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outrider import Cancelled, Route
from outrider.batch import BatchJob, State
from outrider.batch.schedulers import process


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(process, "GRACE", 1)
    return Route.parse("local")


def deaf(path: str, seconds: float) -> None:
    """Hear no SIGTERM; the pid stands in the file `path`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60; sleep 60"])
    Path(path + ".new").write_text(f"{os.getpid()} {child.pid}")
    Path(path + ".new").rename(path)
    time.sleep(seconds)


def pids_in(path: Path) -> list[int]:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    return [int(word) for word in path.read_text().split()]


def assert_gone(pids: list[int]) -> None:
    until = time.monotonic() + 30
    for pid in pids:
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < until, pid
            time.sleep(0.05)


def test_what_does_not_heed_the_cancelling_is_killed(route: Route, tmp_path: Path) -> None:
    job = route.submit(deaf, str(tmp_path / "pids"), 120)
    pids = pids_in(tmp_path / "pids")
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(60)
    assert_gone(pids)
    job.clean()


def test_an_element_that_does_not_heed_the_cancelling_is_killed_alone(route: Route, tmp_path: Path) -> None:
    jobs = route.batch().map(deaf, [str(tmp_path / "0"), str(tmp_path / "1")], [120, 7], limit=2)
    pids = pids_in(tmp_path / "0")
    others = pids_in(tmp_path / "1")
    jobs[0].cancel()
    with pytest.raises(Cancelled):
        jobs[0].result(60)
    assert_gone(pids)
    assert jobs[1].result(60) is None
    assert_gone(others)
    jobs.clean()


def test_who_cancels_need_not_stay(route: Route, tmp_path: Path) -> None:
    job = route.submit(deaf, str(tmp_path / "pids"), 120)
    pids = pids_in(tmp_path / "pids")
    program = (
        "from outrider import Route\nfrom outrider.batch.schedulers import process\nprocess.GRACE = 1\n"
        f"Route.parse('local').job({job.key!r}).cancel()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert_gone(pids)
    assert job.wait(30)
    assert job.state is State.CANCELLED
    job.clean()


class Stuck:
    """Its checkpoint never ends."""

    def __call__(self, path: str) -> None:
        Path(path).touch()
        time.sleep(120)

    def checkpoint(self, path: str) -> None:
        time.sleep(120)


class Hesitating:
    """Its checkpoint takes a second, and fails."""

    def __call__(self, path: str) -> None:
        Path(path).touch()
        time.sleep(120)

    def checkpoint(self, path: str) -> None:
        Path(path + ".asked").touch()
        time.sleep(1)
        raise OSError("no room")


def appears(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)


def ended(job: BatchJob) -> str:
    """What it says of its end, once there is one."""
    with pytest.raises(Cancelled):
        job.result(60)
    return job.stderr().decode()


def test_a_checkpoint_that_does_not_end_keeps_nobody_from_cancelling(route: Route, tmp_path: Path) -> None:
    job = route.submit(Stuck(), str(tmp_path / "began"))
    appears(tmp_path / "began")
    job.cancel()
    ended(job)
    job.clean()


def test_the_end_that_is_asked_for_during_a_checkpoint_that_fails_is_not_forgotten(
    route: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 3600)
    job = route.submit(Hesitating(), str(tmp_path / "began"))
    appears(tmp_path / "began")
    os.kill(int(job.id.partition(".")[0]), signal.SIGUSR1)  # as a scheduler does when the time is nearly up
    appears(tmp_path / "began.asked")
    job.cancel()
    assert "no room" in ended(job)
    job.clean()
