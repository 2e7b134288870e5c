"""Heartbeats: a far end or a near end that is silent for too long is given up; one that is only busy is not."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from outrider import ConfigError, Lost, Route
from outrider.far import wire
from outrider.hops import local
from outrider.near.heartbeat import told
from outrider.options import Options
from tests.unit.test_near_end import gone
from tests.unit.test_session import running

BEAT = 0.7
HERE = Route(local()).options(show=False, heartbeat=BEAT)
BOUND = 30.0
"""Seconds within which what takes three intervals must be over, on a machine that is busy."""


@pytest.fixture
def seconds():
    """A number of seconds to sleep that is this test's own mark in the process list."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


def compute(duration: float) -> int:
    until = time.monotonic() + duration
    steps = 0
    while time.monotonic() < until:
        steps += 1
    return steps


def sleep_with_the_gil(duration: int) -> int:
    ctypes.PyDLL(None).sleep(duration)
    return duration


def stop(pid: int, after: float = 0.0) -> None:
    threading.Timer(after, os.kill, (pid, signal.SIGSTOP)).start()


def pings(far) -> list[int]:
    """Kinds of what is sent from now on; the list grows."""
    kinds: list[int] = []
    link = far.connection._link
    post = link.post

    def noted(kind, *rest):
        kinds.append(kind)
        post(kind, *rest)

    link.post = noted
    return kinds


def test_a_stopped_far_end_fails_what_waits_and_leaves_nothing(seconds):
    far = HERE.open()
    child = far.submit(subprocess.run, ["sleep", seconds])
    futures = [far.submit(time.sleep, 600) for _ in range(2)]
    while not running(seconds):
        time.sleep(0.05)
    stop(far.far.pid, 0.3)
    started = time.monotonic()
    with pytest.raises(Lost, match=r"nothing was heard for 2\.1 s") as caught:
        far.call(time.sleep, 600)
    assert time.monotonic() - started < BOUND
    assert "local" in str(caught.value)
    assert "isolate=True" in caught.value.hint
    for future in (child, *futures):
        with pytest.raises(Lost, match="nothing was heard"):
            future.result(BOUND)
    with pytest.raises(Lost, match="nothing was heard"):
        far.call(abs, 1)
    far.close()
    assert gone(far.far.pid)
    deadline = time.monotonic() + BOUND
    while running(seconds) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(seconds)


def test_futures_that_nobody_waits_for_are_lost_too():
    with HERE.open() as far:
        told_of = threading.Event()
        future = far.submit(time.sleep, 600)
        future.add_done_callback(lambda _: told_of.set())
        stop(far.far.pid)
        assert told_of.wait(BOUND)
        assert isinstance(future.exception(), Lost)


def test_an_idle_far_end_that_stops_is_found_before_it_is_needed():
    with HERE.open() as far:
        stop(far.far.pid)
        assert gone(far.far.pid, BOUND)
        with pytest.raises(Lost, match="nothing was heard"):
            far.call(abs, 1)


def test_a_far_end_that_was_stopped_for_less_goes_on():
    with HERE.open() as far:
        future = far.submit(time.sleep, 4 * BEAT)
        os.kill(far.far.pid, signal.SIGSTOP)
        time.sleep(BEAT)
        os.kill(far.far.pid, signal.SIGCONT)
        assert future.result(BOUND) is None


@pytest.mark.parametrize("work", [time.sleep, compute])
def test_a_busy_far_end_is_alive(work):
    with HERE.open() as far:
        kinds = pings(far)
        far.call(work, 6 * BEAT)
        assert wire.PING in kinds
        assert far.call(abs, -1) == 1


def test_an_isolated_call_that_holds_the_gil_is_alive():
    with HERE.options(isolate=True).open() as far:
        kinds = pings(far)
        assert far.call(sleep_with_the_gil, 5) == 5
        assert wire.PING in kinds


def test_a_call_that_holds_the_gil_is_waited_for_without_heartbeats_only():
    with Route(local()).options(show=False).open() as far:
        assert far.call(sleep_with_the_gil, 3) == 3
    with (
        pytest.raises(Lost, match="nothing was heard") as caught,
        Route(local()).options(show=False, heartbeat=0.4).open() as far,
    ):
        far.call(sleep_with_the_gil, 20)
    assert "isolate=True" in caught.value.hint


def test_a_callback_here_that_takes_its_time_is_no_silence():
    def slow(*_) -> None:
        time.sleep(5 * BEAT)

    with HERE.options(on_output=slow, show=True).open() as far:
        assert far.call(eval, "(print('x'), __import__('time').sleep(1), 7)[-1]") == 7


def test_without_heartbeats_nothing_is_sent():
    with Route(local()).options(show=False).open() as far:
        kinds = pings(far)
        far.call(time.sleep, 1.5)
        assert wire.PING not in kinds


NEAR = """
import sys, time
from outrider import Route
from outrider.hops import local
far = Route(local()).options(show=False, heartbeat=0.3, patience=2).open()
futures = [far.submit(time.sleep, 600)] if sys.argv[1] == "busy" else []
if sys.argv[1] == "busy":
    import subprocess
    futures.append(far.submit(subprocess.run, ["sleep", sys.argv[2]]))
print(far.far.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_a_far_end_whose_near_end_is_stopped_ends(state, seconds):
    near = subprocess.Popen([sys.executable, "-c", NEAR, state, seconds], stdout=subprocess.PIPE, text=True)
    try:
        assert near.stdout
        pid = int(near.stdout.readline())
        time.sleep(3)
        os.kill(pid, 0)  # a near end that is only idle is heard
        if state == "busy":
            assert running(f"sleep {seconds}")
        near.send_signal(signal.SIGSTOP)
        assert is_over(pid, BOUND)
        assert not running(f"sleep {seconds}")
    finally:
        near.kill()
        near.communicate()


def is_over(pid: int, within: float) -> bool:
    """Whether a process ends; its parent is stopped, and so does not take note."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_what_the_far_end_is_told():
    assert told(Options()) is None
    assert told(Options(heartbeat=1)) == [1.0, 60]
    assert told(Options(heartbeat=10)) == [10.0, 20]
    assert told(Options(heartbeat=2, patience=30)) == [2.0, 15]


@pytest.mark.parametrize(
    "wrong", [{"heartbeat": 0}, {"heartbeat": -1}, {"patience": 60}, {"heartbeat": 10, "patience": 20}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError):
        Route(local()).options(**wrong)


def test_heartbeats_are_settled_when_a_far_end_is_opened():
    with HERE.open() as far, pytest.raises(ConfigError, match="settled"):
        far.options(heartbeat=None)
