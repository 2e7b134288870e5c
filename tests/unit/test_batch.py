"""Durable calls without a scheduler: a process of its own on this machine, collected by whoever has its key."""

from __future__ import annotations

import asyncio
import functools
import marshal
import math
import os
import pickle
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from outrider import Cancelled, ConfigError, FarError, Lost, Route, RouteError, TimedOut
from outrider.batch import BatchJob, State, spool
from outrider.far import loader, spooling
from tests.samples import far_work, pool_work


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Route.parse("local")


def test_a_value_and_what_was_printed(route: Route) -> None:
    job = route.submit(print, "hello")
    assert job.result(30) is None
    assert job.stdout() == b"hello\n"
    assert job.state is State.COMPLETED


def test_what_the_call_raises_is_raised(route: Route) -> None:
    job = route.submit(math.sqrt, -1)
    with pytest.raises(ValueError, match="math domain error"):
        job.result(30)
    assert isinstance(job.exception(), ValueError)
    assert job.state is State.FAILED


def test_modules_of_ones_own_come_along(route: Route) -> None:
    assert route.submit(far_work.add, 5, b=2).result(30) == 7


def test_an_element_that_ends_leaves_the_others_processes_alone(route: Route) -> None:
    jobs = route.map(far_work.returncode_of, [["sleep", "0.2"], ["sleep", "2"], ["sleep", "2"]], array=True)
    assert list(jobs.values(60)) == [0, 0, 0]
    jobs.clean()


@pytest.mark.parametrize("kept", [b"", b"half of one", zlib.compress(marshal.dumps({"start": "exit(9)"}))])
def test_what_is_kept_of_a_far_end_in_jobs_is_made_anew_if_it_is_not_whole(
    route: Route, tmp_path: Path, kept: bytes
) -> None:
    assert route.submit(pow, 7, 2).result(30) == 49
    (compiled,) = (tmp_path / ".outrider").glob("compiled-*")
    good = compiled.read_bytes()
    assert b"codes" in zlib.decompress(good)
    compiled.write_bytes(kept)
    assert route.submit(pow, 7, 2).result(30) == 49
    assert compiled.read_bytes() == good


def test_a_job_in_another_python_takes_the_sources(route: Route, python38: str) -> None:
    start, calls = spool.packed(route, {}, route.settings, [[(pow, (7, 2), {})]], False)
    there = subprocess.run(
        [python38, "-c", loader.LOADER],
        input=spooling.compiled(start) + calls[0],
        stdout=subprocess.PIPE,
        check=True,
    )
    told = spool.AnswerReader(1 << 20, lambda *_: None)
    told.feed(there.stdout)
    (answer,) = told.answers.values()
    assert spool.value_of(answer, route.settings, "here", b"") == 49


def test_another_process_collects_it(route: Route) -> None:
    job = route.submit(pow, 7, 2)
    code = f"from outrider import Route; print(Route.parse('local').job({job.key!r}).result(30))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "49\n"
    assert pickle.loads(pickle.dumps(job)).result(30) == 49


def test_a_large_answer_and_much_output(route: Route) -> None:
    job = route.submit(print, "x" * 3_000_000)
    assert job.wait(60)
    assert len(job.stdout()) == 3_000_001
    assert route.submit(bytes, 20_000_000).result(60) == bytes(20_000_000)


def test_time_is_up_and_the_job_goes_on_until_it_is_cancelled(route: Route) -> None:
    job = route.submit(time.sleep, 60)
    with pytest.raises(TimedOut, match="still running"):
        job.result(0.5)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(30)
    assert job.state is State.CANCELLED


def test_a_job_that_is_killed_is_lost_and_no_hang(route: Route) -> None:
    job = route.submit(time.sleep, 5)
    os.kill(int(job.id.partition(".")[0]), 9)
    with pytest.raises(Lost, match="does not know"):
        job.result(30)


def test_a_spool_that_is_gone_is_told(route: Route) -> None:
    job = route.submit(abs, -1)
    assert job.result(30) == 1
    job.clean()
    with pytest.raises(Lost, match="folder"):
        route.job(job.key).result(30)


def test_what_cannot_be_submitted_is_refused_at_once(route: Route) -> None:
    with pytest.raises(TypeError, match="not a function"):
        route.submit(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="uri"):
        Route.parse("local | flux(uri=ssh://a/b)").submit(abs, -1)


def test_a_generator_cannot_come_back(route: Route) -> None:
    with pytest.raises(TypeError, match="submit what returns a list"):
        route.submit(far_work.many_items, 3, 4)
    with pytest.raises(TypeError, match="return a list"):
        route.submit(functools.partial(iter_of, 3)).result(30)


def iter_of(count: int) -> Any:
    return (number for number in range(count))


def test_an_untrusted_end_is_read_as_plain_data_only(route: Route) -> None:
    far = route.options(trust="data")
    assert far.submit(far_work.add, 1, 2).result(30) == 3
    with pytest.raises(FarError, match="math domain error"):
        far.submit(math.sqrt, -1).result(30)


def test_a_command_gets_its_variables_and_stdin_and_no_process_list_shows_them(route: Route) -> None:
    value = "a secret's\nsecond line $HOME \\"
    seen = 'ps -ww -o args= -p $$ -p $PPID | grep -c secret; printf %s "$TOKEN"; cat'
    job = route.submit_command(
        ["sh", "-c", seen.replace("secret", "sec[r]et")], env={"TOKEN": value}, stdin=b" and more"
    )
    done = job.result(30)
    assert done.stdout.decode() == f"0\n{value} and more"
    assert b"TOKEN" not in b"".join(done.stderr.splitlines())


def test_functions_among_the_arguments_come_along(route: Route) -> None:
    assert route.submit(list, map(far_work.add, [1, 2], [3, 4])).result(30) == [4, 6]
    assert route.submit(functools.partial(far_work.add, 5), b=2).result(30) == 7


def test_a_command_that_a_signal_ends(route: Route) -> None:
    done = route.submit_command("kill -SEGV $$").result(30)
    assert (done.returncode, done.signal) == (-11, "SIGSEGV")


def test_in_an_asyncio_program(route: Route) -> None:
    async def both() -> list[Any]:
        slow = asyncio.ensure_future(_awaited(route.submit(time.sleep, 60)))
        values = await asyncio.gather(*(_awaited(route.submit(pow, n, 2)) for n in (2, 3)))
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        return values

    assert asyncio.run(both()) == [4, 9]


async def _awaited(job: BatchJob) -> Any:
    try:
        return await job
    except asyncio.CancelledError:  # the waiting is over, the job goes on
        job.cancel()
        raise


def test_a_callback_that_raises_harms_no_other_job(route: Route, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[BatchJob] = []
    first, second = route.submit(time.sleep, 0.5), route.submit(time.sleep, 0.5)
    first.add_done_callback(lambda job: 1 / 0)
    first.add_done_callback(seen.append)
    second.add_done_callback(seen.append)
    assert [first.result(30), second.result(30)] == [None, None]
    until = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert {job.key for job in seen} == {first.key, second.key}
    assert "ZeroDivisionError" in caplog.text


def test_what_runs_is_not_submitted_again(route: Route, tmp_path: Path) -> None:
    jobs = route.map(pool_work.until, [str(tmp_path / "go")] * 2, array=True)
    with pytest.raises(RouteError, match=r"item 1 is .* cannot be submitted again yet"):
        jobs.resubmit([jobs[1]])
    (tmp_path / "go").touch()
    assert jobs.wait(60)
    assert jobs.resubmit([jobs[1]]) == 1
    assert jobs.wait(60)
    jobs.clean()


def test_each_item_arrives_once_however_many_end_meanwhile(route: Route) -> None:
    jobs = route.map(abs, range(30_000), array=True, chunk=1500)
    found = [item.index for item in jobs.arriving()]
    assert sorted(found) == list(range(30_000))
    jobs.clean()


def test_an_interrupted_look_loses_no_news(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    job = route.submit(abs, -1)
    until = time.monotonic() + 30
    folder = Path(os.environ["HOME"]) / ".outrider" / "spool" / job.key
    while not (folder / "end.0").exists():
        assert time.monotonic() < until
        time.sleep(0.05)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("outrider.batch.lot.Lot.take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _ = job.state
    assert job.result(10) == 1


def test_an_element_that_is_submitted_again_never_shows_its_last_end(route: Route, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    jobs = route.map(far_work.note_and_sleep, [str(tmp_path / "slow"), runs], [30, 0], array=True, limit=2)
    waiting = threading.Thread(target=jobs[0].wait)  # so that somebody looks all the time
    waiting.start()
    for count in range(1, 13):
        assert jobs[1].result(30) == count
        if count < 12:
            assert jobs.resubmit([jobs[1]]) == 1
    jobs.cancel()
    waiting.join(60)
    assert jobs[0].state is State.CANCELLED
    jobs.clean()


def test_two_programs_submit_a_job_again_and_it_runs_once(route: Route, tmp_path: Path) -> None:
    job = route.submit(far_work.note_and_sleep, str(tmp_path / "runs"), 0)
    assert job.result(30) == 1
    code = (
        "import sys; from outrider import Route, RouteError\n"
        f"job = Route.parse('local').job({job.key!r}); job.wait(30)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: job.rerun()\n"
        "except RouteError as error: print(error)\n"
        "print(job.result(30))"
    )
    pipe = subprocess.PIPE
    others = [subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) for _ in range(2)]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
    for other in others:
        assert other.stdin is not None
        other.stdin.write(b"now\n")
        other.stdin.flush()
    told = [other.communicate(timeout=60)[0].decode() for other in others]
    runs = len((tmp_path / "runs").read_text().split())
    refused = sum("somebody else" in said or "it is" in said or "is running" in said for said in told)
    assert runs == 3 - refused, told
    assert all(said.split()[-1] in ("2", "3") for said in told), told
