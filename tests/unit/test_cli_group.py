"""`outrider group`, as the real program in a process of its own, over routes that stay on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.command_line import OUTRIDER, environment, on_terminal, outrider
from tests.world.machine import wait_for

TWO = ("--on", "env(N=1)", "--on", "env(N=2)")
BAD = ("--on", "login(setup=['false'])")
SH = ("--", "sh", "-c")


@pytest.fixture(autouse=True)
def _no_project_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(output):
    return sorted(output.decode().splitlines())


def test_in_a_pipe_each_line_stands_behind_its_members_name():
    done = outrider("group", "run", *TWO, *SH, "printf 'a\\nb'; echo e$N >&2")
    assert lines(done.stdout) == ["[env(N=1)] a", "[env(N=1)] b", "[env(N=2)] a", "[env(N=2)] b"]
    assert lines(done.stderr) == ["[env(N=1)] e1", "[env(N=2)] e2"]
    assert done.returncode == 0


def test_one_failure_is_told_and_the_others_are_done():
    done = outrider("group", "run", *TWO, *BAD, *SH, "echo fine")
    assert lines(done.stdout) == ["[env(N=1)] fine", "[env(N=2)] fine"]
    assert b"this setup line failed: false" in done.stderr
    assert done.stderr.decode().splitlines()[-1] == "outrider: 2 done, 1 failed (login(setup=['false']))"
    assert done.returncode == 1


def test_what_is_alike_is_shown_once():
    done = outrider(
        "group", "run", "-b", *TWO, "--on", "local", *SH, "echo same; [ ${N:-1} = 1 ] && echo more"
    )
    assert done.stdout.decode() == "--- env(N=1),local (2) ---\nsame\nmore\n--- env(N=2) ---\nsame\n"
    assert b"sh ended with status 1" in done.stderr
    assert done.returncode == 1


def test_json_gives_an_object_a_member():
    done = outrider("group", "run", "--json", *TWO, *BAD, *SH, "echo $N; exit $((N - 1))")
    found = {report["name"]: report for report in map(json.loads, done.stdout.splitlines())}
    assert found["env(N=1)"]["state"] == "done"
    assert (found["env(N=2)"]["state"], found["env(N=2)"]["returncode"]) == ("failed", 1)
    assert found["env(N=2)"]["stdout"] == "2\n"
    assert found["login(setup=['false'])"]["error"]["type"] == "RouteError"


def test_call_map_put_get_and_list(tmp_path):
    done = outrider("group", "call", *TWO, "os:getenv", '"N"')
    assert lines(done.stdout) == ['[env(N=1)] "1"', '[env(N=2)] "2"']
    assert outrider("group", "map", *TWO, "builtins:abs", "--", "-1", "-2").stdout == b"1\n2\n"
    (tmp_path / "hosts").write_text("# all of them\nlocal\n\nenv(N=3)\n")
    assert outrider("group", "list", "--hosts", "hosts", "-x", "local").stdout == b"env(N=3)\n"
    (tmp_path / "note").write_text("hello")
    assert outrider("group", "put", "--on", "local", "note", tmp_path / "far" / "note").returncode == 0
    assert outrider("group", "get", *TWO, tmp_path / "far" / "note", "back").returncode == 0
    found = [path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("note")]
    assert sorted(map(str, found)) == ["env_N=1_/note", "env_N=2_/note"]


def test_what_a_function_prints_is_not_among_the_values():
    done = outrider("group", "call", *TWO, "builtins:print", '"hi"')
    assert lines(done.stdout) == ["[env(N=1)] null", "[env(N=2)] null"]
    assert lines(done.stderr) == ["[env(N=1)] hi", "[env(N=2)] hi"]


def test_stdin_is_given_to_each_only_if_asked():
    assert outrider("group", "run", *TWO, "--", "cat", stdin=b"in").stdout == b""
    done = outrider("group", "run", "-i", "-", *TWO, "--", "cat", stdin=b"in")
    assert lines(done.stdout) == ["[env(N=1)] in", "[env(N=2)] in"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--", "true"), "--on ROUTE"),
        (("run", "--on", "local", "--batch", "much", "--", "true"), "batch is a number"),
        (("run", "--on", "web[3-1]", "--", "true"), "runs backward"),
        (("run", "--on", "local", "-x", "lokal", "--", "true"), "did you mean 'local'"),
        (("call", "--on", "local", "mth:sqrt"), "no function 'mth:sqrt'"),
    ],
)
def test_wrong_usage_is_told_before_anything_opens(words, told):
    done = outrider("group", *words)
    assert done.returncode == 2
    assert told in done.stderr.decode()


def test_stopping_early_is_told():
    done = outrider("group", "run", *TWO, "--on", "local", "--batch", "1", "--stop-after", "1", "--", "false")
    assert done.stderr.decode().splitlines()[-1] == (
        "outrider: 1 failed (env(N=1)), 2 not started (env(N=2),local)"
    )


def test_ctrl_c_cancels_all():
    process = subprocess.Popen(
        [*OUTRIDER, "group", "run", *TWO, *SH, "echo at work; sleep 63.25"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    for _ in range(2):
        assert b"at work" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"cancelling at env(N=[1-2])" in told
    assert b"given up" in told
    assert wait_for(lambda: not _sleeping(), 5)


def _sleeping():
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return "sleep 63.25" in listed.splitlines()


def test_a_terminal_shows_a_table_and_then_what_was_gathered():
    script = r"printf '\033]0;title\007line '$N; sleep 1.5; [ $N = 1 ]"
    with on_terminal("group", "run", *TWO, "--", "bash", "-c", script, size=(24, 100)) as terminal:
        assert b"running" in terminal.expect(b"running")
        shown = terminal.expect(b"--- env(N=1) ---")
        assert b"line 1" in shown
        assert b"]0;title\x07" not in shown
        assert terminal.end() == 1
        assert terminal.restored()
        assert b"bash ended with status 1" in terminal.shown
        assert b"1 done, 1 failed (env(N=2))" in terminal.shown
        assert b"\x07" not in terminal.shown


@pytest.mark.parametrize("more", [(), ("--lines",)])
def test_ctrl_c_while_members_open(more):
    routes = [f"login(setup=['echo opening >/dev/tty; sleep 98764{number}'])" for number in range(3)]
    words = [word for route in routes for word in ("--on", route)]
    with on_terminal("group", "run", *more, *words, "--", "true", size=(24, 100)) as terminal:
        for _ in range(3):
            terminal.expect(b"opening")
        time.sleep(0.5)  # a bash that forks or executes just then loses the signal, as it does for everybody
        terminal.type(b"\x03")
        assert terminal.end() == 130
        assert terminal.restored()
        assert b"3 given up" in terminal.shown
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 98764" not in listed
