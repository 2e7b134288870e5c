"""The far end itself, where much happens at once or something runs out: no call suffers for another."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outrider import FarError, OutriderError, Route, TimedOut
from outrider.hops import local, tempdir
from tests.samples import far_work
from tests.unit.test_session import gone
from tests.world.fixtures import find_python

HERE = Route(local()).options(show=False, timeout=20)
EMPTY = {"calls": 1, "cancelled": 0, "interrupt": 0, "unsent": 0, "owners": 1, "starting": 0}
"""What a far end remembers where one call is under way."""


@pytest.fixture
def seconds():
    """A number of seconds to sleep that is this test's own mark in the process list."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


@pytest.mark.parametrize("version", ["3.8", "3.9"])
def test_an_old_python_starts_everything_beside_a_busy_call(version, tmp_path):
    """Their own modules look for some of other systems, and whoever reads the stream cannot ask for them."""
    route = HERE.options(python=find_python(version))
    with route.open() as far:
        busy = far.submit(time.sleep, 1000)
        time.sleep(0.1)
        assert far.run(["echo", "hi"]).stdout == b"hi\n"
        busy.cancel()
    with route.open() as far:
        busy = far.submit(time.sleep, 1000)
        time.sleep(0.1)
        assert far.options(isolate=True).call(far_work.add, 1, 2) == 3
        (tmp_path / "here").write_text("text")
        far.put(tmp_path / "here", tmp_path / "there")
        assert (tmp_path / "there").read_text() == "text"
        busy.cancel()


def test_cancelling_takes_no_exit_status_from_who_waits_for_it():
    with HERE.open() as far:
        far.call(far_work.start_ending_with, 7)
        with pytest.raises(TimedOut):
            far.options(timeout=0.3).call(far_work.starts_and_loops, "1000")
        with pytest.raises(TimedOut):
            far.run(["sleep", "1000"], timeout=0.1)
        assert far.call(far_work.wait_for_it) == 7


def test_cancelling_a_command_takes_no_exit_status_from_isolated_calls():
    with HERE.open() as far, ThreadPoolExecutor(1) as threads:

        def cancel_a_stubborn_command():
            with pytest.raises(TimedOut):
                far.run("trap '' TERM; while :; do sleep 0.05; done", timeout=0.1)

        cancelling = threads.submit(cancel_a_stubborn_command)
        alone = far.options(isolate=True)
        while not cancelling.done():
            assert alone.call(far_work.add, 1, 2) == 3
        cancelling.result()


def test_what_follows_a_command_never_overtakes_its_start():
    """Another thread reads what the main thread is to deal with, while that is starting the command."""
    with HERE.open() as far:
        far.call(far_work.start_slowly, 0.05)
        first = far.submit(time.sleep, 0.3)
        reads = far.submit(far_work.asks_for, 1000)
        first.result()
        for number in range(20):
            text = b"%d" % number * 100_000
            assert far.run(["cat"], stdin=text).stdout == text
            with pytest.raises(TimedOut):
                far.run(["sleep", "1000"], timeout=0.02)
            with pytest.raises(TimedOut):
                far.options(isolate=True, timeout=0.01).call(time.sleep, 1000)
        assert reads.cancel()
        assert far.call(far_work.add, 1, 2) == 3


def test_commands_and_isolated_calls_start_while_another_call_imports():
    """Whoever asks for a module holds importlib's lock for all, which starting them needs too."""
    for _ in range(10):
        with HERE.open() as far:
            first = far.submit(time.sleep, 0.1)
            asks = far.submit(far_work.asks_for, 1000)
            first.result()
            assert far.run(["echo", "hi"], tty=(24, 80)).stdout == b"hi\r\n"
            assert far.options(isolate=True).call(far_work.add, 1, 2) == 3
            asks.cancel()


def test_one_call_after_the_other_runs_in_the_main_thread():
    """Also where the next call is there before the thread that sent the last answer runs again."""
    with HERE.open() as far:
        far.call(far_work.keep_computing)
        # On a machine that is busy with other things, the main thread may not get to run in time.
        assert sum(far.call(far_work.is_main_thread_after, 0.03) for _ in range(120)) >= 118


def test_where_no_thread_can_be_started_a_call_or_command_fails_alone(seconds):
    with HERE.open() as far:
        far.call(time.sleep, 0.2)
        far.call(far_work.few_threads)
        calls = [far.submit(far_work.slowly, number, 1) for number in range(8)]
        with pytest.raises(OutriderError, match=r"can't start new thread|temporarily"):
            far.run(["sleep", seconds], stdin=b"text")
        assert gone(seconds)
        failed = []
        for number, call in enumerate(calls):
            try:
                assert call.result() == number
            except FarError as error:
                failed.append(str(error))
        assert 0 < len(failed) < 8
        assert all("can't start new thread" in words and "hint: " in words for words in failed)
        assert far.call(far_work.under_way)["calls"] == 1
        with pytest.raises(TimedOut):
            far.options(timeout=0.2).call(time.sleep, 1000)
        assert far.call(far_work.add, 1, 2) == 3


def test_nothing_is_remembered_of_calls_that_were_cancelled():
    with HERE.open() as far:
        beside = far.submit(time.sleep, 1000)
        time.sleep(0.2)
        for number in range(100):
            call = far.submit(far_work.loop_for, 0.001 * (number % 4))
            time.sleep(0.001 * (number % 3))
            call.cancel()
        beside.cancel()
        until = time.monotonic() + 10
        while (left := far.call(far_work.under_way)) != EMPTY and time.monotonic() < until:
            time.sleep(0.1)
        assert left == EMPTY


def test_a_forked_child_of_a_call_is_no_far_end():
    with Route(local(), tempdir()).options(show=False, timeout=20).open() as far:
        folder = far.call(far_work.where)
        beside = far.submit(time.sleep, 1000)
        for main in (False, True):
            if main:
                beside.cancel()
                time.sleep(0.1)
            assert far.call(far_work.ends_a_forked_child) == (-signal.SIGTERM, True)
            assert [far.call(far_work.comes_back_twice, number) for number in range(3)] == [0, 1, 2]
            assert "import it before the fork" in far.call(far_work.imports_in_a_forked_child)
            assert far.call(far_work.where) == folder
            assert Path(folder).exists()
    assert not Path(folder).exists()


def test_what_forked_children_print_goes_through_their_parent_alone():
    with HERE.open() as far, ThreadPoolExecutor(1) as threads:
        printing = threads.submit(
            lambda: [far.call(far_work.prints_in_forked_children, 2000) for _ in range(3)]
        )
        while not printing.done():
            assert len(far.call(bytes, 4_000_000)) == 4_000_000
        assert printing.result() == [[0, 0]] * 3


def test_orphans_that_have_ended_are_collected_and_nothing_else():
    with HERE.open() as far:
        far.call(time.sleep, 0.3)
        child = far.call(far_work.fork_ending_with, 9)
        far.call(far_work.start_ending_with, 7)
        for _ in range(10):
            far.call(far_work.leave_an_orphan)
        assert far.run("sleep 0.05 >/dev/null 2>&1 &").returncode == 0
        time.sleep(0.3)
        until = time.monotonic() + 10
        while (left := far.call(far_work.zombies)) > 2 and time.monotonic() < until:
            time.sleep(0.3)
        assert left == 2
        assert far.call(far_work.wait_for_it) == 7
        assert far.call(far_work.status_of, child) == 9
