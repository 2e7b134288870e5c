"""What the near end calls back: output as it arrives, futures that are done. It may use the session, and may fail."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from outrider import Refused, Route, Session, local
from tests.world.machine import wait_for

HERE = Route(local()).options(show=False, timeout=30)


@pytest.fixture(scope="module")
def far() -> Iterator[Session]:
    with HERE.open() as far:
        yield far


def told(future, work) -> object:
    """What `work` gives, or raises, in a done-callback of `future`."""
    said: list[object] = []
    called = threading.Event()

    def callback(done) -> None:
        try:
            said.append(work())
        except BaseException as error:
            said.append(error)
        called.set()

    future.add_done_callback(callback)
    assert called.wait(20)
    return said[0]


def test_output_may_be_answered_by_a_call(far):
    lengths = []

    def out(name, piece):
        lengths.append(far.call(len, piece))

    for _ in range(20):
        far.options(on_output=out).call(print, "hello")
    assert lengths == [6] * 20
    assert far.run("printf abc; sleep 0.2; printf defg", on_output=out).returncode == 0
    assert lengths[20:] == [3, 4]


def test_pieces_that_come_during_such_a_call_follow_in_order(far):
    got = []

    def out(name, piece):
        got.append(piece)
        far.call(time.sleep, 0.02)
        got.append(piece)

    far.run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.005; done", on_output=out)
    assert got[::2] == got[1::2]
    assert b"".join(got[::2]) == b"1\n2\n3\n4\n5\n6\n"


def test_a_done_callback_may_call(far):
    assert told(far.submit(time.sleep, 0.1), lambda: far.call(len, "abc")) == 3


def test_waiting_for_a_future_in_a_callback_is_refused(far):
    later = far.submit(time.sleep, 1)
    said = told(far.submit(time.sleep, 0.1), later.result)
    assert isinstance(said, Refused)
    assert "must not wait for a future" in str(said)
    assert later.result(20) is None
    within = []

    def out(name, piece):
        future = far.submit(len, piece)
        with pytest.raises(Refused):
            future.result()
        within.append(future)

    far.options(on_output=out).call(print, "hello")
    assert [future.result(20) for future in within] == [6]


def test_cancelling_twice_is_no_error(far):
    future = far.submit(time.sleep, 60)
    assert future.cancel()
    assert future.cancel()
    assert far.call(len, "abc") == 3


def test_exiting_in_a_callback_ends_nobody_elses_work(far):
    def leave(name: str, piece: bytes) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        far.options(on_output=leave).submit(print, "hello").result(20)
    with HERE.open() as other:
        assert other.submit(len, "abc").result(20) == 3
    with pytest.raises(SystemExit):
        far.options(on_output=leave).call(print, "hello")
    assert far.call(len, "abc") == 3
    assert wait_for(
        lambda: not far.connection.under_way(), 10
    )  # what was dropped may be answered after that call


def test_closing_in_a_callback():
    far = HERE.open()
    answer = told(far.submit(time.sleep, 0.1), far.close)
    assert answer is None
    assert far.connection.closed


def test_closing_within_a_signals_handler_while_its_thread_reads():
    far = HERE.open()
    before = signal.signal(signal.SIGALRM, lambda *_: far.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Exception, match="closed"):
            far.call(time.sleep, 60)
    finally:
        signal.signal(signal.SIGALRM, before)
    deadline = time.monotonic() + 20
    while not far.connection._stream.process.stdout.closed and time.monotonic() < deadline:
        time.sleep(0.05)
    assert far.connection._stream.process.stdout.closed


def test_an_input_that_cannot_be_given_leaves_nothing_running(far):
    with pytest.raises(UnicodeEncodeError):
        far.run(["sleep", "60.25"], stdin="\udcff")
    assert far.connection.under_way() == []
    deadline = time.monotonic() + 20
    while far.run(["pgrep", "-fx", "sleep 60.25"]).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
