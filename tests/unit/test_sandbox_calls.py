"""Functions in sandboxes: their values, generators, cancelling, groups, and what their jails used."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import outrider
from outrider import Command, Group, Options, Sandbox, SandboxCall, SandboxEnded, local, sandbox, trace
from outrider.errors import ConfigError, FarError, OutriderError, Refused
from tests.samples import far_work, jailed_work

LIMITS = {"time": "5s", "wall": "60s", "memory": "256M", "processes": 32, "output": "1M", "disk": "16M"}


@pytest.fixture(scope="module")
def box():
    with Sandbox(**LIMITS) as box:
        try:
            box.run(["true"])
        except Refused as error:
            pytest.skip(f"no sandbox here: {error}")
        yield box


def test_a_call_and_what_it_used(box):
    done = box.call_detailed(far_work.add, 1, 2)
    assert isinstance(done, SandboxCall)
    assert (done.value, done.verdict) == (3, "OK")
    assert done.engine
    assert done.usage.cpu_s > 0.01  # a Python has started
    assert done.usage.memory_bytes > 1_000_000
    assert done.usage.wall_s > 0


def test_what_it_prints(box):
    done = box.call_detailed(far_work.prints, "hello")
    assert b"hello" in done.stdout


def test_what_it_collects_is_no_answer_too_large(box):
    def makes():
        Path("big").write_bytes(b"x" * 3_000_000)

    assert box.limited(collect=["big"]).call(makes) is None
    assert box.limited(collect=["big"]).call_detailed(makes).outputs == {"big": b"x" * 3_000_000}


def test_generators(box):
    assert list(box.call(jailed_work.counts, 5)) == [0, 1, 2, 3, 4]
    assert list((local() | sandbox(**LIMITS)).call(jailed_work.counts, 3)) == [0, 1, 2]
    done = box.call_detailed(jailed_work.counts, 3)
    assert list(done.value) == [0, 1, 2]
    with box.call(jailed_work.counts, 10**9) as items:
        assert list(itertools.islice(items, 100)) == list(range(100))
    with pytest.raises(StopIteration):
        next(items)


def test_a_generator_whose_jail_is_ended(box):
    items = box.limited(time="500ms").call(jailed_work.counts_then_spins, 3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SandboxEnded) as caught:
        next(items)
    assert caught.value.verdict == "TLE"
    assert caught.value.usage.cpu_s > 0.4


def test_many_generators_at_once(box):
    many = [box.call(jailed_work.counts, 4) for _ in range(4)]
    assert list(zip(*many, strict=True)) == [(n,) * 4 for n in range(4)]


def test_a_timeout(box):
    began = time.monotonic()
    with pytest.raises(outrider.TimedOut):
        box.options(timeout=2).call(far_work.slowly, 1, 50)
    assert time.monotonic() - began < 25


def test_a_cancelled_future_ends_its_jail():
    with Sandbox(**LIMITS) as box:
        future = box.submit(far_work.slowly, 1, 50)
        until = time.monotonic() + 20
        while not box.connection.under_way() and time.monotonic() < until:
            time.sleep(0.01)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(CancelledError):
            future.result(1)
        while box.connection.under_way() and time.monotonic() < until:
            time.sleep(0.01)
        assert not box.connection.under_way()
        assert box.call(far_work.add, 1, 1) == 2


def test_closing_ends_what_runs():
    box = Sandbox(**LIMITS)
    futures = [box.submit(far_work.slowly, 1, 50) for _ in range(3)]
    time.sleep(0.3)
    began = time.monotonic()
    box.close()
    assert time.monotonic() - began < 20
    for future in futures:
        with pytest.raises((CancelledError, OutriderError)):
            future.result(5)


def test_map_that_is_left_early(box):
    items = box.map(far_work.add, itertools.count(), itertools.repeat(1), at_once=2)
    assert [next(items) for _ in range(3)] == [1, 2, 3]
    items.close()
    assert box.call(far_work.add, 1, 1) == 2


def test_map_tells_which_failed(box):
    items = box.limited(time="400ms").map(lambda n: n if n != 1 else far_work.spin(), range(3), at_once=3)
    assert next(items) == 0
    with pytest.raises(SandboxEnded, match="TLE"):
        next(items)


def test_a_group_of_sandboxes():
    group = Group({"one": local() | sandbox(**LIMITS), "two": local() | sandbox(**LIMITS)})
    results = group.call(far_work.add, 1, 2)
    assert results.values == {"one": 3, "two": 3}
    ran = group.run(["sh", "-c", "exit 3"])
    assert [result.completed.verdict for result in ran] == ["RE", "RE"]
    assert not ran.ok
    assert list(group.map(far_work.add, range(6), range(6))) == [0, 2, 4, 6, 8, 10]
    with group.open() as opened:
        assert opened.call(far_work.add, 2, 2).values == {"one": 4, "two": 4}
        assert opened.run(["true"]).values["one"].verdict == "OK"


def test_a_group_whose_jails_end(box):
    group = Group({"one": local() | sandbox(**{**LIMITS, "time": "300ms"})})
    result = group.call(far_work.spin)[0]
    assert isinstance(result.error, SandboxEnded)
    assert result.error.verdict == "TLE"


@pytest.mark.parametrize(
    "function", [jailed_work.Hostile, jailed_work.raises_hostile, jailed_work.forges_answers]
)
def test_hostile_answers(box, function):
    with pytest.raises(OutriderError):
        box.call(function)
    assert not Path("/tmp/outrider-was-here").exists()


def test_hostile_items_and_arguments(box):
    items = box.call(jailed_work.yields_hostile)
    assert next(items) == 1
    with pytest.raises(OutriderError):
        next(items)
    assert not Path("/tmp/outrider-was-here").exists()


def test_no_option_makes_it_trusted(box):
    route = (local() | sandbox(**LIMITS)).options(trust="pickle")
    with route.open() as session, session.inside() as far:
        assert far.trust == "data"
        with pytest.raises(ConfigError):
            far.options(trust="pickle")
        with pytest.raises(OutriderError):
            far.call(jailed_work.Hostile)
    assert not Path("/tmp/outrider-was-here").exists()


def test_a_far_end_that_is_written_over(box):
    with contextlib.suppress(OutriderError):
        box.call(jailed_work.writes_over_the_stream)
    assert box.call(far_work.add, 1, 1) == 2


def test_what_it_raises_is_told(box):
    with pytest.raises(FarError, match="trouble"):
        box.call(far_work.raises)


def test_a_python_that_ends(box):
    with pytest.raises(SandboxEnded) as caught:
        box.call(far_work.crash)
    assert caught.value.verdict == "RE"
    assert caught.value.hint


def test_what_is_no_function(box):
    with pytest.raises(TypeError):
        box.call(3)
    with pytest.raises(TypeError):
        box.submit("add", 1)


def test_files_do_not_stay(box, tmp_path):
    with pytest.raises(Refused, match="no file stays"):
        box.put(tmp_path, "/box/x")
    with pytest.raises(Refused, match="no file stays"):
        box.get("/box/x", tmp_path)


def test_in_many_threads(box):
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(box.call(far_work.add, n, 1))) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [1, 2, 3, 4, 5, 6]


def test_variables_of_the_options():
    route = (local() | sandbox(**LIMITS)).options(env={"A_MARK": "1"})
    assert route.run("echo $A_MARK").text == "1"
    assert route.run("echo $A_MARK", env={"A_MARK": "2"}).text == "2"
    assert route.call(os.getenv, "A_MARK") == "1"


@pytest.mark.parametrize("option", ["push", "pull"])
def test_files_that_would_stay_are_refused(box, option):
    with pytest.raises(ConfigError, match="none stays"):
        (local() | sandbox(**LIMITS)).options(**{option: ["/etc/passwd"]}).call(len, [])
    with pytest.raises(ConfigError, match="none stays"):
        box.options(**{option: ["/etc/passwd"]})


def test_a_python_that_is_not_inside(tmp_path):
    there = tmp_path / "python"
    there.symlink_to(sys.executable)
    with Sandbox(**LIMITS, options=Options().changed({"python": str(there)})) as own:
        with pytest.raises(SandboxEnded, match="ro= shows"):
            own.call(far_work.add, 1, 1)
        assert own.run(["true"]).ok


@pytest.mark.parametrize("options", [{"reconnect": 3}, {"isolate": True}, {"heartbeat": 5}])
def test_with_other_options(options):
    with (local() | sandbox(**LIMITS)).options(**options).open() as own:
        assert own.call(far_work.add, 1, 2) == 3
        assert own.run(["true"]).ok


def test_a_traced_command_and_call(box):
    with trace() as traced:
        box.run("exit 3")
        box.call(far_work.add, 1, 2)
    done = {span.name: span for span in traced.spans if span.kind in ("command", "call")}
    assert done["sh"].about["returncode"] == 3
    assert "add" in done


def test_a_method_and_what_it_did(box):
    counter = jailed_work.Counter()
    assert box.invoke(counter, "add", 3) == 4
    assert counter.count == 4


def test_an_answer_that_is_too_large_ends_at_once(box):
    began = time.monotonic()
    with pytest.raises(FarError, match="max_answer"):
        box.limited(memory="1G", output="1M").call(bytes, 300_000_000)
    assert time.monotonic() - began < 8


def test_what_untrusted_programs_print_is_bounded_here(box):
    """Also where the route itself is trusted, and no output= is set."""
    assert box.settings.trust == "pickle"
    request = box.start(Command(["true"]), more={"sandbox": box.job()})
    box.connection.wait(request)
    assert 0 < request.room <= 256 << 20


def test_closing_when_a_call_is_done():
    """In the thread of the call itself, which cannot wait for its own end."""
    own = Sandbox(**LIMITS)
    closed = threading.Event()

    def close(_):
        own.close()
        closed.set()

    future = own.submit(far_work.slowly, 1, 0.2)
    future.add_done_callback(close)
    assert future.result(30) == 1
    assert closed.wait(20)


def test_what_a_call_prints_is_limited(box, capfd):
    small = box.limited(output="64K")
    for then in ("", "and raises"):
        with pytest.raises(SandboxEnded, match="more than 65536 bytes") as caught:
            small.call(jailed_work.prints_much, 200_000, then)
        assert caught.value.verdict == "OLE"
        assert len(capfd.readouterr().out) < 80_000
    with pytest.raises(SandboxEnded, match="OLE"):
        list(small.call(jailed_work.prints_and_counts, 100))
    assert small.call(jailed_work.prints_much, 60_000, "") == 60_000
    assert len(small.call(bytes, 200_000)) == 200_000
    heard = []
    own = small.options(on_output=lambda name, piece: heard.append((name, piece)))
    assert own.call(jailed_work.prints_much, 5, "") == 5
    assert b"".join(piece for _, piece in heard) == b"xxxxx\n"
    detailed = small.call_detailed(jailed_work.prints_much, 5, "")
    assert detailed.stdout == b"xxxxx\n"


def test_a_call_that_prints_for_ever(box, capfd):
    began = time.monotonic()
    with pytest.raises(SandboxEnded, match="OLE"):
        box.limited(output="64K").call(far_work.prints_for, 60)
    assert time.monotonic() - began < 10
    capfd.readouterr()
