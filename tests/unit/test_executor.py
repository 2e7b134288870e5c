"""`Route.executor` does what programs that know `concurrent.futures` expect of any Executor, in both of its shapes."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import Cancelled, ConfigError, Lost, Refused, Route, Unserializable, hops
from outrider.batch import State, watching
from outrider.batch.executors.executor import RouteExecutor
from outrider.batch.executors.pool import PoolBroken, WorkerLost
from tests.samples import pool_work
from tests.world.machine import wait_for

SHAPES = pytest.mark.parametrize("pool", [None, 2], ids=["jobs", "pool"])
WAIT = 60


@pytest.fixture(autouse=True, scope="module")
def _close_the_way_soon() -> Iterator[None]:
    """What is left of a test's jobs here, the way to their submit host, is waited for after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "LINGER", 0.1)
        yield


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Route.parse("local").options(show=False)


@pytest.fixture(params=[None, 2], ids=["jobs", "pool"])
def executor(request: pytest.FixtureRequest, route: Route) -> Iterator[RouteExecutor]:
    made = route.executor(request.param)
    yield made
    made.shutdown(cancel_futures=True)


@pytest.fixture
def warm(route: Route) -> Iterator[RouteExecutor]:
    with route.executor(2) as made:
        yield made


@pytest.fixture
def jobs(route: Route) -> Iterator[RouteExecutor]:
    with route.executor() as made:
        yield made


def script(route_home: Path, text: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    code = f"import sys\nfrom outrider import Route\nfrom tests.samples import pool_work\n{text}"
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "HOME": str(route_home), "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=env,
        timeout=WAIT,
        **changes,
    )


# --- submit -------------------------------------------------------------------------------------------------------


def test_it_is_an_executor_and_its_futures_are_futures(executor: RouteExecutor) -> None:
    assert isinstance(executor, cf.Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, cf.Future)
    assert future.result(WAIT) == 256
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()
    assert future.exception(0) is None


def test_any_name_is_free_for_a_keyword(executor: RouteExecutor) -> None:
    given = executor.submit(pool_work.capture, 1, self=2, fn=3, args=4, kwargs=5, pool=6).result(WAIT)
    assert given == ((1,), {"self": 2, "fn": 3, "args": 4, "kwargs": 5, "pool": 6})
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(fn=abs, arg=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not a function"):
        executor.submit(3)  # type: ignore[arg-type]


def test_what_a_call_raises_is_raised_with_its_far_traceback(executor: RouteExecutor) -> None:
    future = executor.submit(pool_work.fail, 1)
    with pytest.raises(ValueError, match="no good") as caught:
        future.result(WAIT)
    assert future.exception() is caught.value
    told = "".join(traceback.format_exception(caught.value))
    assert "in fail" in told
    assert 'raise ValueError("no good")' in told
    assert "raised at the far end" in told


def test_what_cannot_travel_fails_its_own_call_only(executor: RouteExecutor) -> None:
    bad, good = executor.submit(id, threading.Lock()), executor.submit(abs, -3)
    with pytest.raises(Exception, match="cannot travel"):
        bad.result(WAIT)
    assert good.result(WAIT) == 3
    assert executor.submit(threading.Lock).exception(WAIT) is not None


def test_lambdas_and_closures_travel(executor: RouteExecutor) -> None:
    shift = 5
    assert executor.submit(lambda x: x + shift, 2).result(WAIT) == 7


def test_a_callback_has_the_future_and_may_submit(executor: RouteExecutor) -> None:
    got: list[Any] = []
    more: list[cf.Future[int]] = []
    both = threading.Event()

    def called(future: cf.Future[int]) -> None:
        got.append(future.result(0))
        more.append(executor.submit(abs, -9))
        both.set()

    future = executor.submit(abs, -7)
    future.add_done_callback(called)
    assert both.wait(WAIT)
    assert got == [7]
    assert more[0].result(WAIT) == 9
    future.add_done_callback(called)  # it is done: called at once
    assert got == [7, 7]
    assert more[1].result(WAIT) == 9


def test_a_callback_that_raises_disturbs_nobody(
    executor: RouteExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(abs, -7)
    future.add_done_callback(lambda _: pool_work.fail())
    assert future.result(WAIT) == 7
    assert executor.submit(abs, -8).result(WAIT) == 8
    assert "calling callback" in caplog.text


def test_many_threads_may_submit(route: Route) -> None:
    got: list[int] = []

    def some(first: int) -> None:
        futures = [executor.submit(abs, -number) for number in range(first, first + 10)]
        got.extend(future.result(WAIT) for future in futures)

    with route.executor(2) as executor:
        threads = [threading.Thread(target=some, args=(first,)) for first in range(0, 80, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(got) == list(range(80))


# --- map ----------------------------------------------------------------------------------------------------------


def test_map_gives_values_in_the_order_of_the_items(executor: RouteExecutor) -> None:
    found = executor.map(pool_work.nap, [0.6, 0.0, 0.1], "abc")
    assert list(found) == ["a", "b", "c"]
    assert list(executor.map(pow, range(3), itertools.repeat(2))) == [0, 1, 4]
    assert list(executor.map(abs, [])) == []


@pytest.mark.parametrize("chunksize", [1, 3, 10])
def test_map_in_chunks_is_map(executor: RouteExecutor, chunksize: int) -> None:
    found = executor.map(pow, range(7), range(7), chunksize=chunksize)
    assert list(found) == list(map(pow, range(7), range(7)))
    assert list(executor.map(lambda x: x + 1, range(3), chunksize=chunksize)) == [1, 2, 3]
    found = executor.map(pool_work.capture, [1, 2, 3], chunksize=chunksize)
    assert list(found) == [((x,), {}) for x in (1, 2, 3)]


def test_one_item_that_cannot_travel_fails_alone(executor: RouteExecutor) -> None:
    found = executor.map(id, [1, threading.Lock(), 3])
    assert isinstance(next(found), int)
    with pytest.raises(Unserializable):
        next(found)


def test_map_takes_a_chunksize_of_at_least_one(executor: RouteExecutor) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        executor.map(abs, [1], chunksize=0)


def test_map_raises_what_an_item_raises_at_its_turn(executor: RouteExecutor) -> None:
    found = executor.map(divmod, [1, 1, 1], [1, 0, 1])
    assert next(found) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_map_submits_all_at_once(warm: RouteExecutor, tmp_path: Path) -> None:
    found = warm.map(pool_work.touch, [str(tmp_path / name) for name in "abc"])
    assert wait_for(lambda: all((tmp_path / name).exists() for name in "abc"), WAIT)
    assert list(found) == [None] * 3


def test_the_time_of_map_is_for_all_of_it(executor: RouteExecutor, tmp_path: Path) -> None:
    open_after = tmp_path / "go"
    list(executor.map(abs, [1]))  # it is warm
    found = executor.map(pool_work.until, [os.devnull, str(open_after)], timeout=3)
    try:
        assert next(found) is None
        with pytest.raises(cf.TimeoutError):
            next(found)
    finally:
        open_after.touch()


def test_leaving_map_early_cancels_the_rest(route: Route, tmp_path: Path) -> None:
    with route.executor(1) as executor:
        found = executor.map(pool_work.touch, [str(tmp_path / str(number)) for number in range(200)])
        next(found)
        del found
    assert len(list(tmp_path.iterdir())) < 200


# --- wait, as_completed, asyncio ------------------------------------------------------------------------------------


def test_wait_for_the_first_for_an_error_and_for_all(executor: RouteExecutor, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = executor.submit(pool_work.until, str(go))
    quick = executor.submit(abs, -1)
    done, left = cf.wait([slow, quick], WAIT, cf.FIRST_COMPLETED)
    assert (done, left) == ({quick}, {slow})
    bad = executor.submit(pool_work.fail)
    done, left = cf.wait([slow, bad], WAIT, cf.FIRST_EXCEPTION)
    assert (done, left) == ({bad}, {slow})
    assert cf.wait([slow, quick], 0.1) == ({quick}, {slow})
    go.touch()
    assert cf.wait([slow, bad, quick], WAIT) == ({slow, bad, quick}, set())


def test_as_completed_gives_them_as_they_end(executor: RouteExecutor, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow, quick = executor.submit(pool_work.until, str(go), 1), executor.submit(abs, -2)
    got = []
    for future in cf.as_completed([slow, quick, quick], WAIT):
        got.append(future.result())
        go.touch()
    assert got == [2, 1]


def test_as_completed_within_a_time(executor: RouteExecutor, tmp_path: Path) -> None:
    go = tmp_path / "go"
    future = executor.submit(pool_work.until, str(go))
    with pytest.raises(cf.TimeoutError):
        list(cf.as_completed([future], 0.2))
    go.touch()
    future.result(WAIT)


def test_a_cancelled_future_counts_as_done_for_who_waits(route: Route, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with route.executor(1) as executor:
        first = executor.submit(pool_work.until, str(go))
        second = executor.submit(abs, -1)
        threading.Timer(0.2, second.cancel).start()
        assert cf.wait([second], WAIT).done == {second}
        assert list(cf.as_completed([second], 1)) == [second]
        go.touch()
    assert first.done()


def test_futures_can_be_awaited(executor: RouteExecutor) -> None:
    async def main() -> None:
        assert await executor.submit(abs, -4) == 4
        with pytest.raises(ValueError, match="no good"):
            await executor.submit(pool_work.fail)
        assert await asyncio.gather(*[executor.submit(abs, -number) for number in range(3)]) == [0, 1, 2]
        assert await asyncio.get_running_loop().run_in_executor(executor, abs, -5) == 5
        assert await asyncio.wrap_future(executor.submit(abs, -6)) == 6

    asyncio.run(main())


def test_an_await_that_is_cancelled_cancels_what_has_not_begun(route: Route, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with route.executor(1) as executor:

        async def main() -> None:
            first = executor.submit(pool_work.until, str(go))
            second = executor.submit(abs, -1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(second, 0.3)
            assert second.cancelled()
            go.touch()
            assert await first is None

        asyncio.run(main())


# --- cancel -------------------------------------------------------------------------------------------------------


def test_cancel_before_it_begins_and_not_after(route: Route, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    with route.executor(1) as executor:
        runs = executor.submit(pool_work.begun, str(started), str(go))
        waits = executor.submit(pool_work.touch, str(tmp_path / "never"))
        assert wait_for(started.exists, WAIT)
        assert runs.running()
        assert not runs.cancel()
        assert waits.cancel()
        assert waits.cancel()
        assert waits.cancelled()
        with pytest.raises(cf.CancelledError):
            waits.result(0)
        go.touch()
        assert runs.result(WAIT) is None
    assert not (tmp_path / "never").exists()


def test_a_call_is_cancelled_before_its_job_is_submitted(jobs: RouteExecutor, tmp_path: Path) -> None:
    futures = [jobs.submit(pool_work.touch, str(tmp_path / str(number))) for number in range(12)]
    assert futures[-1].cancel()
    with pytest.raises(cf.CancelledError):
        futures[-1].job  # type: ignore[attr-defined] # noqa: B018
    assert all(future.result(WAIT) is None for future in futures[:-1])
    assert not (tmp_path / "11").exists()


def test_a_job_that_runs_is_not_cancelled_by_its_future_but_by_itself(jobs: RouteExecutor) -> None:
    future = jobs.submit(time.sleep, 60)
    job = future.job  # type: ignore[attr-defined]
    assert wait_for(future.running, WAIT)
    assert not future.cancel()
    job.cancel()
    with pytest.raises(Cancelled):
        future.result(WAIT)


def test_shutdown_may_cancel_what_has_not_begun(route: Route, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    executor = route.executor(1)
    futures = [executor.submit(pool_work.begun, str(started), str(go))]
    assert wait_for(started.exists, WAIT)
    futures += [executor.submit(abs, -number) for number in range(20)]
    threading.Timer(0.2, go.touch).start()
    executor.shutdown(cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False] + 20 * [True]
    assert futures[0].result(0) is None


# --- shutdown -----------------------------------------------------------------------------------------------------


def test_nothing_is_taken_after_shutdown(executor: RouteExecutor) -> None:
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [-1])


@SHAPES
def test_what_was_submitted_before_shutdown_is_done(route: Route, pool: int | None) -> None:
    with route.executor(pool) as executor:
        futures = [executor.submit(abs, -number) for number in range(5)]
    assert all(future.done() for future in futures)
    assert [future.result(0) for future in futures] == list(range(5))


@SHAPES
def test_shutdown_need_not_wait(route: Route, pool: int | None, tmp_path: Path) -> None:
    go = tmp_path / "go"
    executor = route.executor(pool)
    found = executor.map(pool_work.until, [str(go)] * 3, [1, 2, 3])
    started = time.monotonic()
    executor.shutdown(wait=False)
    assert time.monotonic() - started < 5
    go.touch()
    assert list(found) == [1, 2, 3]
    executor.shutdown(wait=True)


def test_a_callback_may_shut_its_executor_down_but_not_wait_for_that(executor: RouteExecutor) -> None:
    told: list[BaseException | None] = []
    called = threading.Event()

    def end(_: cf.Future[int]) -> None:
        try:
            executor.shutdown()
        except RuntimeError as error:
            told.append(error)
        executor.shutdown(wait=False)
        called.set()

    future = executor.submit(pool_work.nap, 0.5)
    future.add_done_callback(end)
    assert called.wait(WAIT)
    assert len(told) == 1


@SHAPES
def test_an_executor_that_is_dropped_does_what_it_was_given_and_ends(route: Route, pool: int | None) -> None:
    executor = route.executor(pool)
    futures = [executor.submit(abs, -number) for number in range(3)]
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    assert [future.result(WAIT) for future in futures] == [0, 1, 2]
    # What is left of it (threads, processes) would fail this test.


@SHAPES
def test_the_program_ends_once_its_calls_are_done(tmp_path: Path, pool: int | None) -> None:
    text = f"""
executor = Route.parse("local").options(show=False).executor({pool})
executor.submit(pool_work.nap, 0.5, "apple").add_done_callback(lambda future: print(future.result()))
"""
    done = script(tmp_path, text)
    assert (done.stdout, done.stderr, done.returncode) == ("apple\n", "", 0)


@SHAPES
def test_nothing_is_taken_when_the_program_ends(tmp_path: Path, pool: int | None) -> None:
    text = f"""
import atexit
executor = Route.parse("local").options(show=False).executor({pool})

@atexit.register
def late():
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print(error)

print(executor.submit(abs, -1).result())
"""
    done = script(tmp_path, text)
    assert done.stdout == "1\ncannot schedule new futures after interpreter shutdown\n"
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_jobs_of_an_executor_that_was_left_outlive_the_program(tmp_path: Path, route: Route) -> None:
    text = """
executor = Route.parse("local").options(show=False).executor()
future = executor.submit(pool_work.until, sys.argv[1], "late")
executor.shutdown(wait=False)
print(future.job.key)
"""
    go = tmp_path / "go"
    code = f"import sys; sys.argv.append({str(go)!r})\n{text}"
    done = script(tmp_path, code)
    assert (done.stderr, done.returncode) == ("", 0)
    job = route.job(done.stdout.strip())
    assert job.state is State.RUNNING
    go.touch()
    assert job.result(WAIT) == "late"


def test_ctrl_c_within_the_block_cancels_what_has_not_begun(route: Route, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    futures: list[cf.Future[Any]] = []

    def body(executor: RouteExecutor) -> None:
        futures.append(executor.submit(pool_work.begun, str(started), str(go)))
        assert wait_for(started.exists, WAIT)
        futures.append(executor.submit(abs, -1))
        threading.Timer(0.3, go.touch).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), route.executor(1) as executor:
        body(executor)
    assert [future.cancelled() for future in futures] == [False, True]


@SHAPES
def test_an_executor_without_calls_costs_nothing(route: Route, pool: int | None) -> None:
    before = threading.active_count()
    with route.options(python="no-such-python").executor(pool):
        assert threading.active_count() == before


# --- what is kept -------------------------------------------------------------------------------------------------


def test_arguments_and_values_are_let_go_of(executor: RouteExecutor) -> None:
    gc.disable()
    try:
        payload = pool_work.Payload()
        gone = weakref.ref(payload)
        future = executor.submit(payload.method)
        del payload
        assert future.result(WAIT) == "done"
        assert wait_for(lambda: gone() is None, 5)
        future = executor.submit(pool_work.Payload)
        value = weakref.ref(future.result(WAIT))
        assert value() is not None
        del future
        assert wait_for(lambda: value() is None, 5)
    finally:
        gc.enable()


def test_an_error_makes_no_circle(executor: RouteExecutor) -> None:
    gc.collect()
    gc.disable()
    try:
        payload = pool_work.Payload()
        gone = weakref.ref(payload)
        future = executor.submit(payload.fails)
        del payload
        assert isinstance(future.exception(WAIT), ZeroDivisionError)
        kept = weakref.ref(future)
        del future
        assert wait_for(lambda: gone() is None and kept() is None, 5)
    finally:
        gc.enable()


def test_map_lets_go_of_what_was_taken(warm: RouteExecutor) -> None:
    gc.disable()
    try:
        for chunksize in (1, 3):
            found = warm.map(_payload, range(6), chunksize=chunksize)
            for value in found:
                gone = weakref.ref(value)
                del value
                assert wait_for(lambda gone=gone: gone() is None, 5)  # type: ignore[misc]
    finally:
        gc.enable()


def _payload(_: int) -> pool_work.Payload:  # type: ignore[name-defined]
    return pool_work.Payload()


def test_a_forked_child_is_refused(warm: RouteExecutor) -> None:
    assert warm.submit(abs, -1).result(WAIT) == 1
    pid = os.fork()
    if not pid:
        try:
            warm.submit(abs, -1)
        except Refused:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert warm.submit(abs, -2).result(WAIT) == 2


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_future_has_its_job_and_leaves_no_files(route: Route, tmp_path: Path) -> None:
    with route.executor() as executor:
        future = executor.submit(print, "hello")
        assert future.job.key.startswith("outrider-")  # type: ignore[attr-defined]
        assert future.result(WAIT) is None
        assert future.job.stdout() == b"hello\n"  # type: ignore[attr-defined]
        assert future.job.state is State.COMPLETED  # type: ignore[attr-defined]
    assert list((tmp_path / ".outrider" / "spool").iterdir()) == []


def test_the_way_to_the_submit_host_may_break(jobs: RouteExecutor, tmp_path: Path) -> None:
    go = tmp_path / "go"
    futures = [jobs.submit(pool_work.until, str(go), number) for number in range(2)]
    assert wait_for(futures[1].running, WAIT)
    session = futures[0].job._watcher._session  # type: ignore[attr-defined]
    os.kill(session.far.pid, signal.SIGKILL)
    go.touch()
    assert [future.result(WAIT) for future in futures] == [0, 1]


def test_jobs_have_the_batchs_name(route: Route) -> None:
    with route.batch(name="train").executor() as executor:
        assert executor.submit(abs, -1).job.name == "train"  # type: ignore[attr-defined]


def test_a_job_that_could_not_be_submitted_says_so(route: Route) -> None:
    with route.executor() as executor:
        future = executor.submit(id, threading.Lock())
        with pytest.raises(Unserializable):
            future.result(WAIT)
        with pytest.raises(Unserializable):
            future.job  # type: ignore[attr-defined] # noqa: B018


# --- a pool -------------------------------------------------------------------------------------------------------


def test_workers_are_warm_and_few(warm: RouteExecutor) -> None:
    first = warm.submit(pool_work.who).result(WAIT)
    assert {warm.submit(pool_work.who).result(WAIT) for _ in range(10)} == {first}
    assert len(set(warm.map(lambda _: pool_work.slow_who(), range(6)))) == 2


def test_workers_compute_side_by_side(route: Route) -> None:
    with route.executor(2) as executor:
        assert len(set(executor.map(pool_work.spin, [0.4] * 4))) == 2


def test_an_initializer_is_called_once_in_each_worker(route: Route) -> None:
    with route.executor(2, initializer=pool_work.remember, initargs=("a", 1)) as executor:
        assert executor.submit(pool_work.remembered).result(WAIT) == ["a", 1]
        assert executor.submit(pool_work.remembered).result(WAIT) == ["a", 1]


def test_an_initializer_that_fails_breaks_the_pool(route: Route) -> None:
    with route.executor(2, initializer=pool_work.fail) as executor:
        futures = [executor.submit(abs, -1) for _ in range(3)]
        for future in futures:
            with pytest.raises(cf.BrokenExecutor, match="initializer failed: no good") as caught:
                future.result(WAIT)
            assert isinstance(caught.value, PoolBroken)
        with pytest.raises(PoolBroken):
            executor.submit(abs, -1)


def test_what_cannot_be_opened_breaks_the_pool_with_its_reason(route: Route) -> None:
    with route.options(python="no-such-python").executor(2) as executor:
        future = executor.submit(abs, -1)
        with pytest.raises(PoolBroken, match="no-such-python"):
            future.result(WAIT)
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(abs, -1)


def test_a_lost_worker_fails_what_ran_there_alone_and_is_replaced(
    warm: RouteExecutor, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    before = set(warm.map(lambda _: pool_work.slow_who(), range(4)))
    stays = warm.submit(pool_work.until, str(go), "stays")
    lost = warm.submit(os._exit, 3)
    with pytest.raises(cf.BrokenExecutor) as caught:
        lost.result(WAIT)
    assert isinstance(caught.value, WorkerLost)
    assert isinstance(caught.value, Lost)
    assert "status 3" in str(caught.value)
    assert warm.submit(abs, -3).result(WAIT) == 3
    go.touch()
    assert stays.result(WAIT) == "stays"
    after = set(warm.map(lambda _: pool_work.slow_who(), range(4)))
    assert len(after) == 2
    assert len(after & before) == 1
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), WorkerLost)


def test_a_worker_that_dies_between_calls_costs_no_call(route: Route) -> None:
    with route.executor(1) as executor:
        pid = executor.submit(pool_work.who).result(WAIT)
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not Path(f"/proc/{pid}").exists(), 5)
        assert executor.submit(pool_work.who).result(WAIT) != pid


def test_each_call_that_kills_its_worker_fails_alone(route: Route) -> None:
    with route.executor(2) as executor:
        futures = [executor.submit(os._exit, 1) for _ in range(5)]
        assert all(isinstance(future.exception(WAIT), WorkerLost) for future in futures)
        assert executor.submit(abs, -1).result(WAIT) == 1


def test_a_lost_job_fails_what_ran_in_it_and_the_rest_gets_another(route: Route, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    with route.executor(1) as executor:
        worker = executor.submit(pool_work.who).result(WAIT)
        head = executor.submit(os.getppid).result(WAIT)
        runs = executor.submit(pool_work.begun, str(started), str(go))
        waits = executor.submit(pool_work.who)
        assert wait_for(started.exists, WAIT)
        os.kill(head, signal.SIGKILL)
        with pytest.raises(WorkerLost, match="the job that held its worker is gone"):
            runs.result(WAIT)
        assert waits.result(WAIT) != worker
        go.touch()


@pytest.mark.parametrize("starts", [2, 3])
def test_a_worker_that_cannot_be_had_is_done_without(route: Route, tmp_path: Path, starts: int) -> None:
    """A python that starts so many times only: the first far end, a worker, and a second worker or none."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nls {tmp_path}/start.* 2>/dev/null | wc -l | grep -qx "[{starts}-9]" && exit 1\n'
        f'touch {tmp_path}/start.$$\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    with route.options(python=str(python)).executor(2) as executor:
        assert list(executor.map(pool_work.nap, [0.2] * 6, range(6))) == list(range(6))
        if starts == 3:  # both workers end: none is left, and none can be had
            lost = [executor.submit(os._exit, 1) for _ in range(6)]
            errors = [future.exception(WAIT) for future in lost]
            assert [type(error) for error in errors].count(WorkerLost) == 2
            assert all(isinstance(error, (WorkerLost, PoolBroken)) for error in errors)


def test_a_job_that_was_of_no_use_is_not_asked_for_again(route: Route) -> None:
    with route.executor(2) as executor:
        futures = [executor.submit(pool_work.kill_parent) for _ in range(8)]
        errors = [future.exception(WAIT) for future in futures]
        assert isinstance(errors[0], WorkerLost)
        assert all(isinstance(error, (WorkerLost, PoolBroken)) for error in errors)
        assert isinstance(errors[-1], PoolBroken)
        assert "SIGKILL" in str(errors[-1])


def test_a_pool_is_given_up_while_it_waits_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = tmp_path / "srun"
    waiting.write_text("#!/bin/sh\necho 'srun: job 7 queued and waiting for resources' >&2\nexec sleep 600\n")
    waiting.chmod(0o755)
    executor = Route(hops.slurm(program=str(waiting))).executor(2)
    future = executor.submit(abs, -1)
    time.sleep(0.3)
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_options_hold_in_workers(tmp_path: Path, route: Route) -> None:
    (tmp_path / "inner").mkdir()
    far = route.options(cwd=str(tmp_path / "inner"), env={"COLOUR": "red"}, open_files=77)
    with far.executor(1) as executor:
        assert executor.submit(os.getcwd).result(WAIT) == str(tmp_path / "inner")
        assert executor.submit(os.getenv, "COLOUR").result(WAIT) == "red"
        import resource

        assert executor.submit(resource.getrlimit, resource.RLIMIT_NOFILE).result(WAIT)[0] == 77


def test_what_makes_no_sense_is_refused(route: Route) -> None:
    for pool in (0, -1, 2.5, True, "2"):
        with pytest.raises(ConfigError, match="pool"):
            route.executor(pool)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="initializer"):
        route.executor(initializer=abs)
    with pytest.raises(TypeError):
        route.executor(2, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no worker can stay"):
        Route.parse("local | sandbox").executor(2)
