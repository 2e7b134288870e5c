"""The near end's own life: forks, threads, closing at any time, and the interpreter's end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from outrider import Lost, OutriderError, Refused, Route, TimedOut
from outrider.hops import local
from tests.samples import far_work

HERE = Route(local()).options(show=False)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pid: int, within: float = 8.0) -> bool:
    deadline = time.monotonic() + within
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


# --- forks


def in_child(work) -> str:
    """What `work` returns in a forked child, which then runs its finalizers and exit handlers."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def test_a_forked_child_is_told_to_open_its_own():
    with HERE.open() as far:

        def use() -> str:
            for attempt in (lambda: far.call(abs, -1), lambda: far.run(["true"]), far.ping):
                try:
                    attempt()
                except Refused as error:
                    said = str(error)
            return said

        said = in_child(use)
        assert "belongs to the process that opened it" in said
        assert "hint: open a session of the child's own" in said
        assert far.call(far_work.add, 1) == 1


def test_what_a_forked_child_does_at_its_end_is_nothing_to_the_parents_far_end():
    with HERE.open() as far:
        pending = far.submit(time.sleep, 0.5)

        def end() -> str:
            nonlocal far, pending
            from outrider.near import connection

            far.close()
            connection._close_all()
            del far, pending
            gc.collect()
            return "ended"

        assert in_child(end) == "ended"
        assert pending.result(10) is None
        assert far.call(far_work.add, 1) == 1


def test_a_forked_child_opens_a_session_of_its_own():
    with HERE.open() as far:
        far.submit(far_work.add, 1).result(10)  # the hub runs
        assert in_child(lambda: str(HERE.options(open_timeout=20).call(far_work.add, 20, 22))) == "42"
        assert far.call(far_work.add, 1) == 1


def test_forking_while_other_threads_call():
    with HERE.open() as far:
        stop = threading.Event()
        failures: list[BaseException] = []

        def call() -> None:
            try:
                while not stop.is_set():
                    assert far.call(far_work.add, 20, 22) == 42
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        said = [in_child(lambda: str(far.call(abs, 1))) for _ in range(10)]
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert all(text.startswith("Refused") for text in said)


def test_multiprocessing_by_fork_with_an_open_session():
    with HERE.open() as far:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        assert far.call(far_work.add, 1) == 1


def test_a_child_that_lives_on_does_not_hold_the_far_end():
    """The parent is killed while its child sleeps: the child must not keep the stream open."""
    script = """
        import os, sys, time
        from outrider import Route, local
        far = Route(local()).open()
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        print(far.far.pid, child, flush=True)
        time.sleep(60)
    """
    near = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert near.stdout
    far_pid, child = map(int, near.stdout.readline().split())
    near.kill()
    near.wait()
    near.stdout.close()
    try:
        assert gone(far_pid)
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


# --- threads


def test_many_threads_on_one_session(tmp_path):
    """32 threads mix calls, commands, files, futures, timeouts and cancels; each gets its own answers and nobody else's."""
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)

    def one(far, rng: random.Random, number: int) -> None:
        what = rng.randrange(7)
        if what == 0:
            assert far.call(far_work.add, number, 1) == number + 1
        elif what == 1:
            assert far.run(["cat"], stdin=b"%d" % number).stdout == b"%d" % number
        elif what == 2:
            folder = tmp_path / str(number)
            folder.mkdir()
            assert far.put(tmp_path / "file", folder / "copy") == 1
            assert (folder / "copy").read_bytes() == content
        elif what == 3:
            assert far.submit(far_work.add, number, 2).result(60) == number + 2
        elif what == 4:
            with pytest.raises(TimedOut):
                far.options(timeout=0.05).call(far_work.loop_for, 60)
        elif what == 5:
            future = far.submit(far_work.loop_for, 60)
            assert future.cancel()
        else:
            payload = bytes([number % 256]) * 400_000
            assert far.call(bytes, payload) == payload

    failures: list[BaseException] = []

    def work(far, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for turn in range(6):
                one(far, rng, seed * 1000 + turn)
        except BaseException as error:
            failures.append(error)

    with HERE.open() as far:
        threads = [threading.Thread(target=work, args=(far, seed)) for seed in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert not failures, failures
        assert far.call(far_work.add, 1) == 1


# --- closing


def test_closing_from_many_threads_while_calls_are_under_way():
    far = HERE.open()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            far.call(time.sleep, 60)
        except OutriderError as error:
            raised.append(error)

    callers = [threading.Thread(target=call) for _ in range(6)]
    future = far.submit(time.sleep, 60)
    for thread in callers:
        thread.start()
    time.sleep(0.5)
    closers = [threading.Thread(target=far.close) for _ in range(6)]
    for thread in closers:
        thread.start()
    for thread in [*closers, *callers]:
        thread.join(20)
    assert len(raised) == 6
    assert all(isinstance(error, Lost) and "is closed" in str(error) for error in raised)
    assert len({id(error) for error in raised}) == 6  # a traceback of its own for each
    with pytest.raises(Lost, match="is closed"):
        future.result(5)
    far.close()
    assert gone(far.far.pid)


def test_closing_in_a_signal_handler_while_this_thread_waits():
    far = HERE.open()
    before = signal.signal(signal.SIGUSR1, lambda *_: far.close())
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Lost, match="is closed"):
            far.call(time.sleep, 60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert gone(far.far.pid)


def test_closing_while_a_thread_is_stuck_in_sending():
    """A far end that is stopped takes nothing: the pipe is full, and the sender holds the writing lock."""
    far = HERE.open()
    os.kill(far.far.pid, signal.SIGSTOP)
    raised: list[BaseException] = []

    def send() -> None:
        try:
            far.call(len, bytes(50_000_000))
        except OutriderError as error:
            raised.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.5)
    started = time.monotonic()
    far.close()
    sender.join(10)
    assert not sender.is_alive()
    assert time.monotonic() - started < 15
    assert isinstance(raised[0], Lost)
    assert gone(far.far.pid)
    assert far.connection._stream.process.returncode != -signal.SIGKILL  # it was asked to end, and heard it


@pytest.mark.leaks("the far end is ended by a finalizer, a moment later")
def test_a_session_that_was_dropped_ends_its_far_end():
    opened = [HERE.open()]
    pid = opened[0].far.pid

    def drop() -> None:
        opened.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="was never closed"):
        drop()
    assert gone(pid)


# --- the interpreter's end


ENDINGS = {
    "an open session": "",
    "many open sessions": "more = [Route(local()).open() for _ in range(5)]",
    "running submits": "futures = [far.submit(time.sleep, 600) for _ in range(5)]",
    "a daemon thread in a call": (
        "threading.Thread(target=far.call, args=(time.sleep, 600), daemon=True).start(); time.sleep(0.3)"
    ),
    "a stopped far end": "os.kill(far.far.pid, signal.SIGSTOP)",
    "a stopped far end and submits": (
        "f = far.submit(time.sleep, 600); time.sleep(0.3); os.kill(far.far.pid, signal.SIGSTOP)"
    ),
    "a stopped far end and a full pipe": (
        "os.kill(far.far.pid, signal.SIGSTOP)\n"
        "threading.Thread(target=far.call, args=(len, bytes(50_000_000)), daemon=True).start(); time.sleep(0.5)"
    ),
    "a command with children": (
        "threading.Thread(target=far.run, args=('sleep 600 & sleep 600',), daemon=True).start(); time.sleep(0.5)"
    ),
    "an exception": "raise SystemExit(0)",
    "closed in an exit handler": "import atexit; atexit.register(far.close); atexit.register(far.close)",
    "closed in a finalizer": "class Holder:\n  def __del__(self): far.close()\nholder = Holder()",
    "a closed session": "far.close()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends_soon_and_leaves_nothing(ending):
    script = (
        "import os, signal, sys, threading, time\nfrom outrider import Route, local\n"
        "far = Route(local()).options(show=False).open()\nprint(far.far.pid, flush=True)\n" + ENDINGS[ending]
    )
    mark = f"OUTRIDER_TEST_{random.randrange(10**9)}"
    near = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, mark: "1"},
    )
    started = time.monotonic()
    try:
        _, said = near.communicate(timeout=25)
    finally:
        near.kill()
    assert near.returncode == 0, said
    if "thread" not in ENDINGS[ending].lower():  # one in a daemon thread may tell of the session's end
        assert not said
    assert time.monotonic() - started < 20
    deadline = time.monotonic() + 10
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def marked(mark: str) -> list[int]:
    """Processes that inherited `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes() and alive(int(process.name)):
                found.append(int(process.name))
        except OSError:
            pass
    return found
