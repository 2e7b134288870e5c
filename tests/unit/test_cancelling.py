"""Cancelling one of many concurrent calls hurts no other."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from outrider import Lost, Route, TimedOut
from outrider.hops import local
from tests.samples import far_work
from tests.unit.test_session import gone, running

HERE = Route(local()).options(show=False)


@pytest.fixture
def seconds():
    """A number of seconds to sleep that is this test's own mark in the process list."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


def test_seven_of_twenty(seconds):
    with HERE.open() as far:
        slow = [far.submit(far_work.slowly, number, 4) for number in range(13)]
        victims = [
            far.submit(time.sleep, 1000),
            far.submit(time.sleep, 1000),
            far.submit(subprocess.run, ["sleep", seconds]),
            far.submit(
                subprocess.run, ["sh", "-c", f"sleep {seconds} & sleep {seconds}"], capture_output=True
            ),
            far.submit(far_work.loop_for, 1000),
            far.submit(far_work.loop_for, 1000),
            far.submit(far_work.prints_for, 1000),
        ]
        deadline = time.monotonic() + 10
        while len(running(f"sleep {seconds}")) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        for future in victims:
            assert future.cancel()
        assert [future.result(30) for future in slow] == list(range(13))
        assert gone(seconds)
        assert far.call(far_work.add, 1) == 1
        deadline = time.monotonic() + 10
        while (left := far.call(far_work.busy_threads)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left


def test_timeouts_in_many_threads_each_hit_their_own_call():
    with HERE.open() as far:
        outcomes: list[str] = []

        def call(number: int) -> None:
            try:
                far.options(timeout=0.3).call(time.sleep, 0 if number % 2 else 1000)
                outcomes.append("value")
            except TimedOut:
                outcomes.append("timed out")

        threads = [threading.Thread(target=call, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(outcomes) == ["timed out"] * 5 + ["value"] * 5
        assert far.call(far_work.add, 1) == 1


def test_a_call_that_is_being_cancelled_never_breaks_the_stream():
    """Interrupted at any point of printing much and returning much: frames stay whole."""
    with HERE.open() as far:
        beside = far.submit(time.sleep, 4)  # the main thread is busy: the others run in threads
        for round_ in range(12):
            futures = [far.submit(far_work.prints_for, 1000) for _ in range(3)]
            time.sleep(0.02 * round_)
            for future in futures:
                future.cancel()
            assert far.call(far_work.add, round_) == round_
        beside.cancel()
        for round_ in range(12):
            future = far.submit(far_work.prints_for, 1000)
            time.sleep(0.02 * round_)
            future.cancel()
            assert far.call(far_work.add, round_) == round_


def test_what_cannot_be_ended_alone_takes_the_far_end_with_it_and_says_the_way_out():
    with HERE.open() as far:
        other = far.submit(time.sleep, 1000)
        time.sleep(0.2)
        with pytest.raises(TimedOut, match="isolate=True"):
            far.options(timeout=0.3).call(far_work.refuses_to_end)
        with pytest.raises(Lost, match=r"would not end.*\n.*isolate=True"):
            other.result(5)
        with pytest.raises(Lost, match="isolate=True"):
            far.call(abs, 1)
    assert not Path(f"/proc/{far.far.pid}").exists()


def test_what_a_cancelled_call_started_is_gone_when_its_cancelling_is_answered(seconds):
    with HERE.open() as far:
        for _ in range(5):
            with pytest.raises(TimedOut):
                far.options(timeout=0.3).call(far_work.starts_and_sleeps, seconds)
            assert not running(f"sleep {seconds}")
            assert far.call(subprocess.run, ["true"]).returncode == 0
