"""Calls in processes of their own: ended alone and at once, told apart exactly, and answered for when they crash."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time

import pytest

from outrider import FarError, Route, TimedOut
from outrider.hops import local
from tests.samples import far_work
from tests.unit.test_session import gone, running

HERE = Route(local()).options(show=False, isolate=True)


@pytest.fixture(scope="module")
def far():
    with HERE.open() as session:
        yield session


@pytest.fixture
def seconds():
    """A number of seconds to sleep that is this test's own mark in the process list."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


def test_each_call_has_a_process_of_its_own(far):
    pids = {far.call(os.getpid) for _ in range(3)}
    assert len(pids) == 3
    assert far.far.pid not in pids
    assert not any(running(f"^{pid}$") for pid in pids)


def test_nothing_comes_back_but_the_answer(far):
    far.call(far_work.remember, "once")
    assert far.call(far_work.remembered) is None


def test_what_the_far_end_has_imported_is_there(far):
    plain = far.options(isolate=False)
    plain.call(far_work.remember, "for all")
    assert far.call(far_work.remembered) == "for all"
    plain.call(far_work.remember, None)


def test_modules_are_served_to_the_call(tmp_path, monkeypatch):
    (tmp_path / "isolated_top.py").write_text(
        "def run():\n    import isolated_deep\n    return isolated_deep.VALUE\n"
    )
    (tmp_path / "isolated_deep.py").write_text("VALUE = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import isolated_top

    with HERE.open() as far:
        assert far.call(isolated_top.run) == 42
        assert far.call(lambda: __import__("isolated_deep").VALUE) == 42
        assert "isolated_deep" not in far.options(isolate=False).call(lambda: list(sys.modules))


def test_invoke_brings_the_state_back(far):
    lab = far_work.Lab()
    assert far.invoke(lab, "run", 7) is lab
    assert lab.results == [7]
    assert not hasattr(lab, "scratch")


def test_exceptions_keep_their_type(far):
    with pytest.raises(far_work.Trouble) as caught:
        far.call(far_work.raises, "why")
    assert caught.value.code == 7


def test_coroutines_and_large_answers_and_arguments(far):
    assert far.call(far_work.later, "value") == "value"
    payload = os.urandom(3_000_000)
    assert far.call(bytes, payload) == payload
    assert far.call(bytearray, payload) == payload


def test_generators_come_item_by_item_with_credit(far):
    items = iter(far.call(far_work.many_items, 60, 100_000))
    assert [len(item) for item in items] == [100_000] * 60
    endless = iter(far.call(far_work.many_items, 10**9, 1000))
    assert len(next(endless)) == 1000
    endless.close()
    assert far.call(abs, -1) == 1


def test_output_is_told_apart_exactly_even_past_python(far):
    futures, printed = [], {}
    for number in range(5):
        printed[number] = bytearray()
        session = far.options(on_output=lambda name, piece, number=number: printed[number].extend(piece))
        futures.append(session.submit(far_work.prints_past_python, f"n{number}"))
    for future in futures:
        future.result(30)
    for number in range(5):
        words = bytes(printed[number]).split()
        assert sorted(words) == sorted(
            [b"python-n%d" % number, b"child-n%d" % number, b"raw-n%d" % number] * 3
        )


def test_it_is_ended_at_once_even_in_c_code_that_holds_the_interpreter(far):
    """pow() of such numbers takes minutes and lets nothing else run in its process."""
    beside = far.submit(far_work.slowly, 7, 1.5)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        far.options(timeout=0.5).call(pow, 3, 10**9)
    assert time.monotonic() - started < 1.5
    assert beside.result(10) == 7


def test_what_it_started_ends_with_it(far, seconds):
    with pytest.raises(TimedOut):
        far.options(timeout=0.7).call(far_work.starts_and_sleeps, seconds)
    assert gone(seconds, within=1)
    far.call(far_work.start_daemons, seconds)
    assert gone(seconds, within=1)


def test_cancelling_before_it_has_begun(far):
    for _ in range(10):
        assert far.submit(time.sleep, 1000).cancel()
    assert far.call(abs, -1) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (far_work.crash, "SIGSEGV"),
        (far_work.kill_itself, "SIGKILL"),
        (far_work.abort, "SIGABRT"),
        (far_work.leave, "status 3"),
    ],
    ids=lambda item: getattr(item, "__name__", item),
)
def test_how_it_died_is_told(far, how, said):
    with pytest.raises(FarError, match=said) as caught:
        far.call(how)
    if said == "SIGKILL":
        assert "memory" in caught.value.hint
    if said == "SIGSEGV":
        assert "in crash" in caught.value.far_stderr  # where it was, by faulthandler
    assert far.call(abs, -1) == 1


def test_sys_exit_is_an_exception(far):
    with pytest.raises(FarError, match="SystemExit: 5"):
        far.call(sys.exit, 5)


def test_a_fork_that_comes_back_from_the_call_answers_only_once(far):
    assert far.call(far_work.forks_and_returns) in ("parent", "child")
    assert far.call(abs, -1) == 1


def test_calls_run_side_by_side(far):
    started = time.monotonic()
    futures = [far.submit(time.sleep, 1) for _ in range(8)]
    for future in futures:
        future.result(20)
    assert time.monotonic() - started < 4


def test_beside_a_main_thread_that_is_busy(far):
    busy = far.options(isolate=False).submit(far_work.loop_for, 1.5)
    assert far.call(abs, -1) == 1
    assert not busy.done()
    busy.result(20)


def test_many_from_many_threads(far):
    failures = []

    def work(seed):
        try:
            for turn in range(5):
                assert far.call(far_work.add, seed, turn) == seed + turn
                assert far.run(["cat"], stdin=b"%d" % turn).stdout == b"%d" % turn
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert far.call(os.listdir, "/proc/self/fd")
    assert len(far.options(isolate=False).call(os.listdir, "/proc/self/fd")) < 40


def test_a_killed_far_end_takes_its_isolated_calls_along(seconds):
    far = HERE.open()
    future = far.submit(subprocess.run, ["sleep", seconds])
    deadline = time.monotonic() + 10
    while not running(seconds) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(far.far.pid, 9)
    with pytest.raises(Exception, match=r"SIGKILL|gone"):
        future.result(10)
    assert gone(seconds)
    far.close()


def test_an_untrusted_far_end_may_isolate_too():
    with HERE.options(trust="data").open() as far:
        assert far.call(sorted, [3, 1, 2]) == [1, 2, 3]
        with pytest.raises(FarError, match="SIGKILL"):
            far.call(far_work.kill_itself)
