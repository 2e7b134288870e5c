"""Generators as a call's value: items come as they are made there, and it ends when nobody wants more."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from pathlib import Path

import pytest

from outrider import FarError, Route, TimedOut
from outrider.far import wire
from outrider.hops import local
from tests.samples import far_work

HERE = Route(local()).options(show=False)
AHEAD = wire.WINDOW // wire.OVERHEAD


@pytest.fixture(scope="module")
def far():
    with HERE.open() as session:
        yield session


def count(stop, path=None):
    """Notes in a file how far it came, and that it was ended."""
    try:
        for number in range(stop):
            if path is not None:
                Path(path).write_text(str(number))
            yield number
        return "all"
    finally:
        if path is not None:
            Path(path).write_text(Path(path).read_text() + " ended")


async def acount(stop, path):
    try:
        for number in range(stop):
            await asyncio.sleep(0)
            Path(path).write_text(str(number))
            yield number
    finally:
        await asyncio.sleep(0)
        Path(path).write_text(Path(path).read_text() + " ended")


def text_of(path, ends, within=5.0):
    deadline = time.monotonic() + within
    while not (path.exists() and path.read_text().endswith(ends)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.read_text()


def test_items_come_in_order_and_the_return_value_at_the_end(far):
    items = far.call(count, 1000)
    assert [next(items) for _ in range(1000)] == list(range(1000))
    with pytest.raises(StopIteration) as ended:
        next(items)
    assert ended.value.value == "all"
    assert list(items) == []
    assert far.call(far_work.add, 1) == 1


def test_items_come_while_the_next_are_being_made(far):
    def slowly():
        yield time.time()
        time.sleep(1)
        yield time.time()

    items = far.call(slowly)
    first = next(items)
    assert time.time() - first < 0.9
    assert next(items) - first >= 1


@pytest.mark.parametrize("trust", ["pickle", "data"])
def test_an_endless_generator_does_not_run_away_and_ends_when_closed(tmp_path, trust):
    mark = tmp_path / "mark"
    with HERE.options(trust=trust).open() as far:
        items = far.call(count, 10**9, str(mark))
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        time.sleep(0.3)
        ahead = int(mark.read_text())
        assert ahead <= 3 + AHEAD
        items.close()
        assert mark.read_text().endswith(" ended"), "its `finally` has run once close() returns"
        items.close()
        with pytest.raises(StopIteration):
            next(items)
        assert far.call(far_work.add, 1) == 1


def test_leaving_the_loop_and_forgetting_it_ends_it_too(far, tmp_path):
    for number in far.call(count, 10**9, str(tmp_path / "mark")):
        if number == 5:
            break
    gc.collect()
    assert text_of(tmp_path / "mark", "ended").endswith("ended")
    assert far.call(far_work.add, 1) == 1


def test_closing_one_that_is_in_the_midst_of_making_an_item(far, tmp_path):
    def waits(path):
        try:
            yield 1
            time.sleep(1000)
        finally:
            Path(path).write_text("ended")

    with far.call(waits, str(tmp_path / "mark")) as items:
        assert next(items) == 1
    assert (tmp_path / "mark").read_text() == "ended"
    assert far.call(far_work.add, 1) == 1


def test_what_it_raises_comes_in_its_place(far):
    def breaks():
        yield 1
        yield 2
        raise far_work.Trouble("in the midst", 3)

    items = far.call(breaks)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(far_work.Trouble, match="in the midst") as caught:
        next(items)
    assert "in breaks" in "\n".join(caught.value.__notes__)
    assert list(items) == []
    with HERE.options(trust="data").open() as untrusted:
        items = untrusted.call(breaks)
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(FarError, match="in the midst"):
            next(items)


def test_an_item_that_cannot_travel_is_told_in_its_place(far, tmp_path):
    def locks(path):
        try:
            yield 1
            yield threading.Lock()
        finally:
            Path(path).write_text("ended")

    items = far.call(locks, str(tmp_path / "mark"))
    assert next(items) == 1
    with pytest.raises(TypeError, match="lock"):
        next(items)
    assert (tmp_path / "mark").read_text() == "ended"


def test_what_its_finally_raises_is_raised_by_close(far):
    def refuses():
        try:
            yield 1
        finally:
            raise LookupError("while ending")

    items = far.call(refuses)
    next(items)
    with pytest.raises(LookupError, match="while ending"):
        items.close()


def test_asynchronous_generators(far, tmp_path):
    assert list(far.call(acount, 500, str(tmp_path / "all"))) == list(range(500))
    assert (tmp_path / "all").read_text() == "499 ended"
    items = far.call(acount, 10**9, str(tmp_path / "some"))
    assert next(items) == 0
    items.close()
    assert (tmp_path / "some").read_text().endswith(" ended")
    assert far.call(far_work.add, 1) == 1


def test_an_asynchronous_generator_s_other_tasks_go_on_while_it_waits(far):
    async def ticks():
        beats = []

        async def beat():
            while True:
                await asyncio.sleep(0.01)
                beats.append(1)

        task = asyncio.create_task(beat())
        while not task.done():
            yield len(beats)

    items = far.call(ticks)
    before = next(items)
    time.sleep(0.5)
    assert [next(items) for _ in range(2 * AHEAD)][-1] > before + 5
    items.close()


def test_several_at_once_and_calls_between(far):
    streams = [far.call(count, 300) for _ in range(5)]
    sums = [0] * 5
    for _ in range(300):
        for index, items in enumerate(streams):
            sums[index] += next(items)
        assert far.call(far_work.add, 1) == 1
    assert sums == [sum(range(300))] * 5
    assert [list(items) for items in streams] == [[]] * 5


def test_one_of_several_is_closed_and_the_others_go_on(far, tmp_path):
    streams = [far.call(count, 200, str(tmp_path / str(n))) for n in range(4)]
    assert [next(items) for items in streams] == [0] * 4
    streams[2].close()
    assert (tmp_path / "2").read_text().endswith("ended")
    for index in (0, 1, 3):
        assert list(streams[index]) == list(range(1, 200))


def test_submit_and_map_give_generators_too(far):
    assert list(far.submit(count, 3).result(10)) == [0, 1, 2]
    assert [list(items) for items in far.map(count, [1, 2, 3])] == [[0], [0, 1], [0, 1, 2]]


def test_what_it_prints_arrives_before_the_item(tmp_path):
    told = []

    def speaks():
        for number in range(3):
            print("making", number)
            yield number

    with HERE.options(on_output=lambda name, piece: told.append(piece)).open() as far:
        for number in far.call(speaks):
            assert f"making {number}\n".encode() in b"".join(told)
    assert b"".join(told) == b"making 0\nmaking 1\nmaking 2\n"


def test_the_time_is_for_each_item(tmp_path):
    def slow(path):
        try:
            for pause in (0.3, 0.3, 0.3, 100):
                time.sleep(pause)
                yield pause
        finally:
            Path(path).write_text("ended")

    with HERE.options(timeout=0.9).open() as far:
        items = far.call(slow, str(tmp_path / "mark"))
        assert [next(items) for _ in range(3)] == [0.3] * 3
        with pytest.raises(TimedOut, match=r"0\.9 s"):
            next(items)
        assert (tmp_path / "mark").read_text() == "ended"
        assert list(items) == []
        assert far.call(far_work.add, 1) == 1


def test_a_single_call_s_session_stays_until_its_generator_ends():
    items = HERE.call(count, 3)
    session = items._session
    assert list(items) == [0, 1, 2]
    assert session.connection.closed
    items = HERE.call(count, 10**9)
    next(items)
    session = items._session
    del items
    gc.collect()
    deadline = time.monotonic() + 5
    while not session.connection.closed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert session.connection.closed


def test_large_items_in_both_kinds_of_trust():
    def blobs():
        for number in range(4):
            yield bytes([number]) * (3 << 20)

    for trust in ("pickle", "data"):
        with HERE.options(trust=trust).open() as far:
            assert [blob[0] for blob in far.call(blobs)] == [0, 1, 2, 3]


def test_invoke_says_that_a_generator_s_object_cannot_come_back(far):
    with pytest.raises(TypeError, match=r"call\(obj\.method\)"):
        far.invoke(Numbers(), "numbers")
    assert list(far.call(Numbers().numbers)) == [1, 2]


class Numbers:
    def numbers(self):
        yield 1
        yield 2


def test_a_lost_far_end_is_told_where_the_next_item_is_awaited():
    from outrider import Lost

    def dies():
        import os

        yield 1
        os._exit(3)

    items = HERE.call(dies)
    assert next(items) == 1
    with pytest.raises(Lost):
        next(items)
