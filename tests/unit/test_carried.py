"""A far end whose stream another session carries."""

from __future__ import annotations

import os
import signal
import time

import pytest

import outrider
from outrider.errors import Lost, OutriderError
from outrider.near.carried import CarriedOpening
from outrider.near.connection import Connection
from outrider.options import Options
from outrider.route import Route
from outrider.session import Session
from tests.samples import far_work

HERE = Route()


def carried(outer: Session, **options: object) -> Session:
    settings = Options().changed({"show": False, **options})
    attempt = CarriedOpening(outer, HERE, settings, {})
    return Session(HERE, settings, Connection(HERE, settings, attempt))


@pytest.fixture
def outer():
    with HERE.options(show=False).open() as session:
        yield session


def test_calls_commands_and_files_within(outer, tmp_path):
    with carried(outer) as inner:
        assert inner.far.pid not in (outer.far.pid, os.getpid())
        assert inner.call(far_work.add, 1, 2) == 3
        assert inner.run(["cat"], stdin=b"x" * 3_000_000).stdout == b"x" * 3_000_000
        (tmp_path / "here").write_bytes(os.urandom(5_000_000))
        inner.put(tmp_path / "here", tmp_path / "there")
        inner.get(tmp_path / "there", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()
        assert outer.call(far_work.add, 2, 2) == 4
    assert inner.connection.process.poll() == 0
    assert outer.call(far_work.add, 2, 3) == 5


def test_one_that_nobody_reads_holds_up_no_other(outer):
    with carried(outer) as inner, carried(outer) as other:
        busy = inner.submit(far_work.prints_for, 60)
        for number in range(50):
            assert other.call(far_work.add, number, 1) == number + 1
        busy.cancel()


def test_its_end_is_told(outer):
    inner = carried(outer)
    waiting = inner.submit(time.sleep, 60)
    outer.run(["kill", "-9", str(inner.far.pid)])
    with pytest.raises(Lost, match="SIGKILL"):
        waiting.result(20)
    inner.close()


def test_it_ends_with_the_session_that_carries_it():
    with HERE.options(show=False).open() as outer:
        inner = carried(outer)
        pid = inner.far.pid
        waiting = inner.submit(time.sleep, 60)
    with pytest.raises(OutriderError):
        waiting.result(20)
    inner.close()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


def test_what_cannot_start_says_so(outer):
    with pytest.raises(outrider.RouteError):
        carried(outer, python="no-such-python")
    assert outer.call(far_work.add, 1, 1) == 2


def test_a_far_end_that_hangs_is_ended(outer):
    inner = carried(outer)
    os.kill(inner.far.pid, signal.SIGSTOP)
    inner.close()
    assert inner.connection.process.poll() is not None
