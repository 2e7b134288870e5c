"""Groups, over routes that stay on this machine: results, limits, failures, and an end that leaves nothing behind."""

from __future__ import annotations

import itertools
import math
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import ClassVar

import pytest

from outrider import Command, ConfigError, Group, Hop, Route, RouteError, TimedOut, env, local, login
from outrider.errors import Cancelled, CommandFailed, Lost
from outrider.groups.fanout import Limits, make_room
from tests.command_line import environment
from tests.samples import far_work
from tests.world.machine import wait_for


@dataclass(frozen=True)
class Far(Hop):
    """Stands for a machine that is far away: it takes `seconds` to open; with `fails`, it fails so often before."""

    seconds: float = 0.0
    fails: int = 0
    tally: str = ""
    says: str = "Connection reset by peer"

    name: ClassVar[str] = "far"
    positional: ClassVar[tuple[str, ...]] = ("seconds",)

    def wrap(self, command: Command) -> Command:
        script = (
            'sleep "$1"; if [ "$2" -gt 0 ]; then echo x >> "$3"; '
            'if [ $(wc -l < "$3") -le "$2" ]; then echo "$4" >&2; exit 255; fi; fi; shift 4; exec "$@"'
        )
        words = (str(self.seconds), str(self.fails), self.tally, self.says)
        return Command(("sh", "-c", script, "sh", *words, *command.as_argv()))

    def diagnose(self, stderr, returncode):
        from outrider.hops.base import Diagnosis

        return Diagnosis("the other side hung up", "try again", True) if self.says in stderr else None


BROKEN = Route(login(["false"]))


def quiet(routes, **limits):
    return Group(routes, **limits).options(show=False)


# --- members -------------------------------------------------------------------------------------------------


def test_members_are_texts_ranges_hops_routes_and_a_mapping():
    group = Group(["ssh:web[01-02]", "local", env({"A": "1"}), Route(local()), local()])
    assert group.names == ["ssh:web01", "ssh:web02", "local", "env", "local#2", "local#3"]
    assert group.routes["ssh:web02"].hops[0].host == "web02"
    assert Group({"a": "local", "b": local()}).names == ["a", "b"]
    assert Group.of("ssh:web[1-3]").without("ssh:web[1-2]").names == ["ssh:web3"]
    assert repr(Group.of("ssh:web[1-3]")) == "<Group of 3: ssh:web[1-3]>"


def test_members_come_from_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outrider.toml").write_text(
        '[routes]\nfront = "ssh:login"\n[groups]\nweb = "ssh:web[1-2]"\nall = ["web", "front"]\n'
    )
    group = Group(["all"])
    assert group.names == ["ssh:web1", "ssh:web2", "front"]
    assert group.routes["front"].hops[0].host == "login"
    with pytest.raises(ConfigError, match="is a group, not a route"):
        Route.named("web")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[groups]\na = ["b"]\nb = "a"\n', "leads back to itself: a → b → a"),
        ("[groups]\na = 3\n", "is a text or a list of texts"),
        ('[groups]\nssh = "local"\n', "is the name of a hop"),
        ('[routes]\na = "local"\n[groups]\na = "local"\n', "a route has this name too"),
    ],
)
def test_a_wrong_group_in_the_configuration_is_told_with_its_line(tmp_path, monkeypatch, text, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outrider.toml").write_text(text)
    with pytest.raises(ConfigError, match=told) as raised:
        Group(["a"])
    assert "outrider.toml:" in str(raised.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Group([]), "no member"),
        (lambda: Group("local"), "list of routes"),
        (lambda: Group(["local"], at_onec=3), "did you mean 'at_once'"),
        (lambda: Group(["local"], at_once=0), "at_once is a whole number"),
        (lambda: Group(["local"], batch="0%"), "batch is a number of members or a share"),
        (lambda: Group(["local"], batch=1.5), "batch is a number of members or a share"),
        (lambda: Group(["local"], timeout=0), "timeout is a number of seconds"),
        (lambda: Group(["local"], on_stop="burn"), "on_stop is"),
        (lambda: Group(["local"]).without("lokal"), "did you mean 'local'"),
    ],
)
def test_a_wrong_group_is_refused(make, told):
    with pytest.raises(ConfigError) as raised:
        make()
    assert told in str(raised.value)


def test_what_is_no_route_or_no_function_is_refused_before_anything_opens():
    with pytest.raises(TypeError, match="not a route"):
        Group([3])
    with pytest.raises(TypeError, match="not a function"):
        Group(["local"]).call(len([]))
    with pytest.raises(TypeError, match="not a function"):
        next(Group(["local"]).arriving.map("work", []))


# --- the verbs -----------------------------------------------------------------------------------------------


def test_run_gives_every_members_result_in_order():
    results = Group({"a": "env(X=1)", "b": "env(X=2)"}).run("echo $X; cat", stdin=b"given")
    assert [result.name for result in results] == ["a", "b"]
    assert results["b"].completed.stdout == b"2\ngiven"
    assert results.ok
    assert results.raise_first() is results


def test_call_gives_values_and_keeps_errors_apart():
    results = quiet({"good": local(), "bad": BROKEN, "fine": local()}).call(math.sqrt, 4)
    assert results.values == {"good": 2.0, "fine": 2.0}
    assert [result.name for result in results.failed] == ["bad"]
    assert isinstance(results["bad"].error, RouteError)
    assert results["good"].completed.pid
    assert repr(results) == "<Results: 2 done, 1 failed>"
    with pytest.raises(RouteError) as raised:
        results.raise_first()
    assert raised.value.__notes__ == ["at member 'bad'"]
    with pytest.raises(ExceptionGroup) as every:
        results.raise_all()
    assert every.value.exceptions == (results["bad"].error,)


def test_what_the_function_raises_is_its_members_error():
    results = quiet([local(), local()]).call(math.sqrt, -1)
    assert [type(result.error) for result in results] == [ValueError, ValueError]


def test_a_status_is_a_failure_with_all_that_is_known():
    result = Group(["local"]).run("echo told; exit 3")[0]
    assert (result.state, result.completed.returncode, result.completed.text) == ("failed", 3, "told")
    assert isinstance(result.error, CommandFailed)


def test_results_arrive_as_they_come():
    group = Group({"slow": Far(1.5), "quick": local()})
    arriving = group.arriving.run("true")
    assert [result.name for result in arriving] == ["quick", "slow"]


def test_put_and_get_keep_members_apart(tmp_path):
    (tmp_path / "note").write_text("hello")
    group = Group({"a/../b": local(), "a ... b": local(), "..": local()})
    assert group.put(tmp_path / "note", tmp_path / "there").ok
    assert group.get(tmp_path / "there", tmp_path / "back").ok
    found = sorted(path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("there"))
    assert len(found) == 3
    assert all(len(path.parts) == 2 for path in found)


def test_output_is_labelled_with_the_members_name(capsys):
    Group({"one": local(), "two": local()}).call(print, "hi")
    assert sorted(capsys.readouterr().out.splitlines()) == ["[one] hi", "[two] hi"]


def test_output_and_stages_can_be_watched():
    printed, stages = [], []
    group = Group({"a": local()}, on_output=lambda *seen: printed.append(seen))
    group.options(on_stage=lambda *seen: stages.append(seen)).run("echo out; echo err >&2")
    assert sorted(printed) == [("a", "stderr", b"err\n"), ("a", "stdout", b"out\n")]
    assert stages == [("a", "opening"), ("a", "running"), ("a", "done")]


def test_options_of_every_route_can_be_set():
    assert Group(["local", "local"]).options(env={"B": "2"}).run("echo $B").values["local#2"].text == "2"


# --- limits --------------------------------------------------------------------------------------------------


def under_way(group, verb, *args):
    """The most members that were seen at work at the same time."""
    now, most, lock = set(), [0], threading.Lock()

    def on_stage(name, stage):
        with lock:
            now.add(name) if stage in ("opening", "running", "waiting") else now.discard(name)
            most[0] = max(most[0], len(now))

    results = getattr(group.options(on_stage=on_stage), verb)(*args)
    return most[0], results


def test_no_more_than_at_once_are_at_work():
    most, results = under_way(Group([local()] * 9, at_once=3), "run", "true")
    assert most == 3
    assert len(results) == 9
    assert results.ok


@pytest.mark.parametrize(("batch", "size"), [(2, 2), ("2", 2), ("40%", 2), ("1%", 1), ("100%", 5)])
def test_a_batch_starts_when_the_one_before_has_ended(batch, size):
    most, results = under_way(Group([local()] * 5, batch=batch), "run", "sleep 0.2")
    assert results.ok
    assert most == size


def test_between_batches_it_pauses():
    started = time.monotonic()
    assert Group([local()] * 3, batch=1, pause=0.4).run("true").ok
    assert time.monotonic() - started >= 0.8


def test_after_enough_failures_no_more_are_started(tmp_path):
    results = Group([local()] * 6, at_once=1, stop_after=2).run(f"echo x >> {tmp_path}/ran; exit 1")
    assert [result.state for result in results] == ["failed"] * 2 + ["not started"] * 4
    assert (tmp_path / "ran").read_text() == "x\nx\n"
    assert "stopped after 2 failures" in str(results[-1].error)
    assert results[-1].tries == 0


def test_failures_stop_the_batches_that_follow():
    results = Group([BROKEN, local(), local()], batch=1, stop_after=1).run("true")
    assert [result.state for result in results] == ["failed", "not started", "not started"]


@pytest.mark.parametrize(("on_stop", "state"), [("finish", "done"), ("cancel", "cancelled")])
def test_those_at_work_then_finish_or_are_cancelled(on_stop, state):
    group = Group({"slow": "env(N=3)", "bad": "env(N=0)"}, stop_after=1, on_stop=on_stop)
    results = group.run("sleep $N; [ $N = 3 ]")
    assert [result.state for result in results] == [state, "failed"]


def test_a_members_time_holds_for_opening_and_work():
    results = Group(
        {"opens slowly": Far(60), "works slowly": local(), "quick": Route(env({"Q": "1"}))}, timeout=2.5
    ).run("[ $Q ] || sleep 60")
    assert [result.state for result in results] == ["failed", "failed", "done"]
    assert [type(result.error) for result in results[:2]] == [TimedOut, TimedOut]
    assert "not done within 2.5 s" in str(results[1].error)


def test_a_time_for_all_ends_what_is_under_way_and_starts_no_more():
    started = time.monotonic()
    results = Group([local()] * 3, at_once=2, total_timeout=1.5).run("sleep 60")
    assert [result.state for result in results] == ["failed", "failed", "not started"]
    assert all("within 1.5 s" in str(result.error) for result in results)
    assert time.monotonic() - started < 30


def test_passing_errors_are_tried_again(tmp_path):
    group = Group({"a": Far(fails=1, tally=str(tmp_path / "a")), "b": BROKEN}, retry=2)
    results = group.run("true")
    assert (results["a"].state, results["a"].tries) == ("done", 2)
    assert (results["b"].state, results["b"].tries) == ("failed", 1)
    once = Group([Far(fails=1, tally=str(tmp_path / "c"))]).run("true")[0]
    assert once.state == "failed"
    assert once.error.transient


def test_cancelling_reaches_members_that_open():
    started = time.monotonic()
    results = Group({"opens": Far(60), "bad": BROKEN}, stop_after=1, on_stop="cancel").run("true")
    assert [result.state for result in results] == ["cancelled", "failed"]
    assert isinstance(results["opens"].error, Cancelled)
    assert time.monotonic() - started < 30


def test_leaving_the_loop_cancels_the_rest(tmp_path):
    group = Group({"quick": "env(N=0)", "slow": "env(N=60)"})
    for result in group.arriving.run(f"sleep $N; echo $$ >> {tmp_path}/ended"):
        assert result.name == "quick"
        break
    assert wait_for(lambda: not _threads(), 20)
    assert len((tmp_path / "ended").read_text().split()) == 1


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == "outrider-group"]


INTERRUPTED = """\
import sys
from outrider import Group
with Group(["local"] * 4).open() as far:
    print("open", flush=True)
    try:
        far.run("sleep 61.75")
    except KeyboardInterrupt:
        print("sessions:", sum(far.call(max, 1, 2).values.values()))
"""


def test_ctrl_c_ends_all_and_keeps_the_sessions():
    argv = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment(), text=True) as process:
        assert process.stdout.readline() == "open\n"
        assert wait_for(lambda: _sleeping() == 4, 30)
        process.send_signal(2)
        assert process.stdout.read() == "sessions: 8\n"
        assert process.wait(30) == 0
    assert _sleeping() == 0


def _sleeping():
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return listed.splitlines().count("sleep 61.75")


# --- map -----------------------------------------------------------------------------------------------------


def test_map_spreads_items_and_keeps_their_order():
    group = quiet([local()] * 3)
    assert list(group.map(pow, range(20), itertools.repeat(2))) == [n * n for n in range(20)]
    found = list(group.arriving.map(far_work.pid_slowly, range(12)))
    assert sorted(item.index for item in found) == list(range(12))
    assert len({item.value for item in found}) == 3


def test_map_takes_no_more_of_an_endless_source_than_it_can_use():
    taken = []
    values = quiet([local()] * 2).map(abs, (taken.append(n) or n for n in itertools.count()))
    assert list(itertools.islice(values, 30)) == list(range(30))
    values.close()
    assert len(taken) < 60


def test_map_raises_an_items_error_at_its_turn():
    values = quiet([local()] * 2).map(math.sqrt, [4, -1, 9])
    assert next(values) == 2.0
    with pytest.raises(ValueError):
        next(values)


def test_map_does_without_members_that_cannot_be_opened():
    assert list(quiet([BROKEN, local()]).map(abs, range(5))) == list(range(5))
    with pytest.raises(RouteError):
        list(quiet([BROKEN, BROKEN]).map(abs, range(5)))


def test_map_tells_what_the_source_of_items_raises():
    def source():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        list(quiet([local()] * 2).map(abs, source()))


def test_an_item_is_called_elsewhere_only_if_retry_allows(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(Lost):
        list(quiet([local()] * 2).map(far_work.die_once, [str(mark)]))
    mark.unlink()
    assert list(quiet([local()] * 2, retry=1).map(far_work.die_once, [str(mark)])) == ["survived"]


# --- kept sessions -------------------------------------------------------------------------------------------


def test_an_open_group_keeps_its_sessions():
    with quiet({"a": local(), "b": local(), "bad": BROKEN}).open() as far:
        first, second = far.call(os.getpid), far.call(os.getpid)
        assert first.values == second.values
        assert len(set(first.values.values())) == 2
        assert [result.name for result in far.failed] == ["bad"]
        assert isinstance(second["bad"].error, RouteError)
        assert far.run("echo $$").values.keys() == {"a", "b"}
        assert sorted(far.map(abs, range(4))) == list(range(4))
        assert not far.options(timeout=0.3).run("sleep 60").ok
        assert far.call(os.getpid).values == first.values
        assert set(far.sessions) == {"a", "b"}
    far.close()
    assert all(isinstance(result.error, (Lost, RouteError)) for result in far.run("true"))


def test_idle_sessions_have_no_threads():
    before = threading.active_count()
    with Group([local()] * 6).open():
        assert threading.active_count() <= before + 1  # the hub's


def test_room_for_descriptors_is_made_or_the_lack_is_told():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        make_room(500)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 500
        with pytest.raises(RouteError, match="ulimit -Hn"):
            make_room(hard + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limits_are_listed_in_the_reference():
    from tests.doc_pages import ROOT

    text = (ROOT / "docs" / "reference" / "group.md").read_text()
    for name in Limits.__dataclass_fields__:
        assert f"| `{name}`" in text
