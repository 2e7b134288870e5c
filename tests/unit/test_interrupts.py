"""Ctrl-C at any moment: the session stays whole, or has ended and says so; nobody waits for ever."""

from __future__ import annotations

import operator
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from outrider import Route, Session, local
from tests.interrupts import interrupted

HERE = Route(local()).options(show=False, timeout=60)


def small(far: Session) -> object:
    return far.call(operator.add, 1, 2)


def large(far: Session) -> object:
    return far.call(operator.mul, bytearray(300_000), 2), far.call(operator.mul, b"a" * 300_000, 2)


def output(far: Session) -> object:
    return far.run(["sh", "-c", "cat; seq 5"], stdin=b"input", on_output=lambda *_: None)


def background(far: Session) -> object:
    return far.submit(operator.add, 1, 2).result()


def items(far: Session) -> object:
    return list(far.call(iter, range(3)))


@contextmanager
def another_thread(far: Session) -> Iterator[list[BaseException]]:
    """One that calls all the time, and ends at its first error."""
    wrong: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set() and not wrong:
            number += 1
            try:
                assert far.options(timeout=20).call(operator.add, number, 1) == number + 1
            except BaseException as error:
                wrong.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(("work", "step"), [(small, 1), (large, 4), (output, 3), (background, 1), (items, 1)])
def test_ctrl_c_anywhere_leaves_the_session_whole(work: Callable[[Session], object], step: int):
    with HERE.open() as far:
        work(far)
        at, through = random.randint(1, step), 0  # of long work, another part each time
        with another_thread(far) as wrong:
            while (
                through < 3
            ):  # which thread reads what differs each time, and so does how much this one does
                through = 0 if interrupted(at, lambda: work(far)) else through + 1
                assert far.options(timeout=20).call(operator.add, at, 1) == at + 1
                assert not wrong
                at += step
        assert at > 15 or sys.version_info >= (3, 13)  # which tells tracers of fewer points
        assert far.connection.under_way() == []
