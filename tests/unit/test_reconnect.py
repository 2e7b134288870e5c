"""A session whose stream breaks is opened again, and repeats what was declared harmless to repeat, nothing else."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import outrider
from outrider import ConfigError, Lost, OutriderError, Refused, Route, TimedOut, idempotent
from outrider.hops import local
from tests.samples import far_work, lasting_work
from tests.unit.test_near_end import gone

HERE = Route(local()).options(show=False, reconnect=3)
BOUND = 30.0


def kill(far, after: float = 0.0) -> None:
    pid = far.far.pid
    if after:
        threading.Timer(after, os.kill, (pid, signal.SIGKILL)).start()
    else:
        os.kill(pid, signal.SIGKILL)


def runs(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_until(condition, what: str = "it") -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come"
        time.sleep(0.02)


def test_an_idempotent_call_is_repeated(tmp_path):
    with HERE.open() as far:
        first = far.far.pid
        assert far.call(lasting_work.die_at_first, str(tmp_path / "runs")) == 7
        assert far.far.pid != first
        assert far.call(os.getpid) == far.far.pid
        assert gone(first)
    assert runs(tmp_path / "runs") == 2


def test_without_the_option_nothing_is_repeated(tmp_path):
    with Route(local()).options(show=False).open() as far, pytest.raises(Lost):
        far.call(lasting_work.die_at_first, str(tmp_path / "runs"))
    assert runs(tmp_path / "runs") == 1


def test_what_was_not_declared_is_lost_and_the_session_goes_on(tmp_path):
    path = str(tmp_path / "runs")
    with HERE.open() as far:
        future = far.submit(lasting_work.sleep_and_note, path, 60)
        wait_until(lambda: runs(tmp_path / "runs"))
        kill(far)
        with pytest.raises(Lost, match="nothing says that it may run twice") as caught:
            future.result(BOUND)
        assert "@outrider.idempotent" in caught.value.hint
        assert "local" in str(caught.value)
        assert far.call(max, 3, 7) == 7
    assert runs(tmp_path / "runs") == 1


def test_the_option_declares_calls_methods_and_commands(tmp_path):
    with HERE.open() as far:
        again = far.options(idempotent=True)
        kill(far, 0.5)
        assert again.call(time.sleep, 1.5) is None
        kill(far, 0.5)
        done = again.run(f"echo begun; cat; echo x >> {tmp_path}/runs; sleep 1.5", stdin=b"input\n")
        assert done.text == "begun\ninput"
        assert (tmp_path / "runs").read_text() == "x\nx\n"
        kill(far, 0.5)
        counter = lasting_work.Counter()
        assert again.invoke(counter, "slowly", 1.5) == 1
        assert counter.count == 1


def test_futures_that_nobody_waits_for_are_repeated_with_the_arguments_of_then(tmp_path):
    values = bytearray(b"a" * 300_000)
    told = threading.Event()
    with HERE.open() as far:
        future = far.submit(lasting_work.die_at_first, str(tmp_path / "runs"), memoryview_free(values))
        future.add_done_callback(lambda _: told.set())
        values[:] = b"b" * 300_000
        assert told.wait(BOUND)
        assert future.result() == b"a" * 300_000


def memoryview_free(values: bytearray) -> object:
    """An argument that is written to the pipe as it lies."""
    import pickle

    class Buffer:
        def __reduce_ex__(self, protocol):
            return bytes, (pickle.PickleBuffer(values),)

    return Buffer()


def test_many_threads_lose_nothing(tmp_path):
    results: list[object] = []

    def work(number: int, far) -> None:
        steps = range(number * 100, number * 100 + 20)
        results.extend(far.call(functools.partial(idempotent(lasting_work.abs_of), -step)) for step in steps)

    with HERE.options(reconnect=20).open() as far:
        threads = [threading.Thread(target=work, args=(number, far)) for number in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.3)
            kill(far)
        for thread in threads:
            thread.join(BOUND)
    assert sorted(results) == [number * 100 + step for number in range(6) for step in range(20)]


def test_output_of_a_repeated_call_is_that_of_its_last_run(tmp_path):
    with HERE.open() as far:
        done = far.call_detailed(lasting_work.prints_and_dies, str(tmp_path / "runs"))
        assert done.stdout == b"run 2\n"


def test_a_call_that_kills_each_far_end_is_given_up(tmp_path):
    with HERE.options(reconnect=2).open() as far, pytest.raises(Lost):
        far.call(lasting_work.always_die, str(tmp_path / "runs"))
    assert runs(tmp_path / "runs") == 3


def test_a_generator_that_has_begun_is_lost(tmp_path):
    with HERE.open() as far:
        items = far.call(lasting_work.numbers, str(tmp_path / "runs"))
        assert next(items) == 1
        wait_until(lambda: runs(tmp_path / "runs"))
        kill(far)
        with pytest.raises(Lost, match="taken already"):
            next(items)
        assert far.call(max, 3, 7) == 7


def test_an_idle_session_is_opened_again_when_it_is_used():
    with HERE.open() as far:
        kill(far)
        assert gone(far.far.pid, BOUND)
        assert far.options(idempotent=True).call(max, 3, 7) == 7
        kill(far)
        assert far.ping() < BOUND


def test_commands_files_and_modules_work_on_the_new_far_end(tmp_path):
    (tmp_path / "here").write_text("content")
    with HERE.open() as far:
        assert far.run(["echo", "one"]).text == "one"
        assert far.call(far_work.add, 1) == 1
        far.put(tmp_path / "here", tmp_path / "first")
        kill(far)
        assert far.ping() < BOUND
        assert far.run(["echo", "two"]).text == "two"
        assert far.call(far_work.add, 1) == 1
        far.put(tmp_path / "here", tmp_path / "second")
        assert (tmp_path / "second").read_text() == "content"


@pytest.mark.parametrize("more", [{"trust": "data"}, {"isolate": True}, {"open_files": 200}])
def test_with_other_options(tmp_path, more):
    with HERE.options(**more).open() as far:
        pid = far.far.pid
        kill(far, 0.5)
        assert far.call(lasting_work.slow, str(tmp_path / "runs"), 1.5) == 2
        assert far.far.pid != pid
        if "open_files" in more:
            assert far.call(lasting_work.open_files)[0] == 200


def test_a_far_end_that_falls_silent_is_exchanged(tmp_path):
    with HERE.options(heartbeat=0.5, patience=3).open() as far:
        first = far.far.pid
        threading.Timer(0.3, os.kill, (first, signal.SIGSTOP)).start()
        assert far.call(lasting_work.slow, str(tmp_path / "runs"), 1.5) == 2
        assert gone(first)
        future = far.submit(time.sleep, 600)
        os.kill(far.far.pid, signal.SIGSTOP)
        with pytest.raises(Lost, match="nothing was heard"):
            future.result(BOUND)


def broken_route(tmp_path: Path, **options) -> Route:
    """A route by an interpreter that can be taken away."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return HERE.options(python=str(python), **options)


def test_a_route_that_cannot_be_opened_again_is_lost_with_the_reason(tmp_path):
    with broken_route(tmp_path, reconnect=2).open() as far:
        future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 600)
        wait_until(lambda: runs(tmp_path / "runs"))
        (tmp_path / "python3").unlink()
        kill(far)
        with pytest.raises(Lost, match="could not be opened again"):
            future.result(BOUND)
        with pytest.raises(Lost, match="could not be opened again"):
            far.call(max, 3, 7)
    assert runs(tmp_path / "runs") == 1


def test_it_comes_back_with_a_route_that_comes_back(tmp_path):
    with broken_route(tmp_path, reconnect=50).open() as far:
        future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 0.5)
        wait_until(lambda: runs(tmp_path / "runs"))
        (tmp_path / "python3").rename(tmp_path / "aside")
        kill(far)
        time.sleep(1)
        threading.Timer(0.5, (tmp_path / "aside").rename, (tmp_path / "python3",)).start()
        assert far.call(max, 3, 7) == 7  # waited for the stream, was never sent before, needs no declaration
        assert future.result(BOUND) == 2


def hanging_route(tmp_path: Path, **options) -> Route:
    """A route whose interpreter, once `hang` is there, never greets, and says which process it is."""
    python = tmp_path / "python3"
    hang = f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 654321"
    python.write_text(f'#!/bin/sh\n[ -e {tmp_path}/hang ] && {{ {hang}; }}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return HERE.options(python=str(python), **options)


def hanging(tmp_path: Path) -> int:
    """The process that a hanging route waits for."""
    wait_until((tmp_path / "pid").exists)
    return int((tmp_path / "pid").read_text())


def test_timeouts_hold_while_the_route_is_being_opened(tmp_path):
    with hanging_route(tmp_path).open() as far:
        future = far.options(timeout=2).submit(lasting_work.slow, str(tmp_path / "runs"), 600)
        wait_until(lambda: runs(tmp_path / "runs"))
        (tmp_path / "hang").touch()
        kill(far)
        started = time.monotonic()
        with pytest.raises(TimedOut):
            future.result(BOUND)
        with pytest.raises(TimedOut):
            far.options(timeout=0.5).call(max, 3, 7)
        assert time.monotonic() - started < BOUND / 2
        pid = hanging(tmp_path)
    assert gone(pid)


def test_closing_while_the_route_is_being_opened(tmp_path):
    far = hanging_route(tmp_path).open()
    future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 600)
    wait_until(lambda: runs(tmp_path / "runs"))
    (tmp_path / "hang").touch()
    kill(far)
    pid = hanging(tmp_path)
    caught: list[BaseException] = []

    def call() -> None:
        try:
            far.call(lasting_work.slow, str(tmp_path / "runs"))
        except OutriderError as error:
            caught.append(error)

    waiting = threading.Thread(target=call)
    waiting.start()
    time.sleep(0.2)
    started = time.monotonic()
    far.close()
    assert time.monotonic() - started < BOUND / 2
    waiting.join(BOUND)
    with pytest.raises(Lost, match="closed"):
        future.result(BOUND)
    assert isinstance(caught[0], Lost)
    assert gone(pid)
    with pytest.raises(Lost, match="closed"):
        far.call(max, 3, 7)


def test_a_cancelled_future_is_not_repeated(tmp_path):
    with hanging_route(tmp_path).open() as far:
        future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 600)
        wait_until(lambda: runs(tmp_path / "runs"))
        (tmp_path / "hang").touch()
        kill(far)
        pid = hanging(tmp_path)
        assert future.cancel()
        (tmp_path / "hang").unlink()
        os.kill(pid, signal.SIGTERM)
        assert far.call(max, 3, 7) == 7
        assert runs(tmp_path / "runs") == 1


CTRL_C = """
import os, sys, signal, threading, time
from tests.unit.test_reconnect import hanging_route, lasting_work, kill, wait_until, hanging
from pathlib import Path
folder = Path(sys.argv[1])
far = hanging_route(folder).open()
def interrupt():
    wait_until(lambda: (folder / "runs").exists())
    (folder / "hang").touch()
    kill(far)
    hanging(folder)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    far.call(lasting_work.slow, str(folder / "runs"), 600)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("last", ["far.close()", "", "far.connection._mender = None"])
def test_ctrl_c_and_the_interpreters_end_while_it_is_being_opened(tmp_path, last):
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C + last, tmp_path],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == b"interrupted\n"
    assert gone(hanging(tmp_path))


def test_a_forked_child_leaves_it_alone(tmp_path):
    with hanging_route(tmp_path).open() as far:
        future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 1)
        wait_until(lambda: runs(tmp_path / "runs"))
        (tmp_path / "hang").touch()
        kill(far)
        pid = hanging(tmp_path)
        child = os.fork()
        if not child:
            try:
                far.call(max, 3, 7)
            except Refused:
                far.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        (tmp_path / "hang").unlink()
        os.kill(pid, signal.SIGTERM)
        assert future.result(BOUND) == 2


def test_a_dropped_session_is_closed():
    far = HERE.open()
    pid = far.far.pid
    kill(far)
    with pytest.raises(Lost):
        far.call(time.sleep, 1)
    again = far.call(os.getpid)
    assert again != pid
    held = [far]
    del far
    with pytest.warns(ResourceWarning, match="never closed"):
        drop(held)
    assert gone(again, BOUND)


def drop(held: list[object]) -> None:
    held.clear()
    gc.collect()


def test_what_can_be_declared():
    assert outrider.idempotent is idempotent
    with pytest.raises(ConfigError, match="cannot be marked"):
        idempotent(abs)
    for wrong in (-1, 1.5, True, "3"):
        with pytest.raises(ConfigError, match="reconnect"):
            HERE.options(reconnect=wrong)
    with HERE.open() as far, pytest.raises(ConfigError, match="settled"):
        far.options(reconnect=1)
