"""The command line, as the real program in a process of its own, over routes that stay on this machine."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.cli import VERBS
from outrider.harmless import Harmless
from outrider.places import split_place, within
from tests.command_line import OUTRIDER, environment, on_terminal, outrider

WORK = "tests.samples.far_work"


@pytest.fixture(autouse=True)
def _no_project_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["--no-such-program"], 127),
    ],
)
def test_the_exit_code_is_the_commands_own(argv, code):
    assert outrider("run", "local", "--", *argv).returncode == code


def test_output_is_the_same_byte_by_byte_and_apart():
    every_byte = bytes(range(256)) * 1000
    done = outrider("run", "local", "--", "sh", "-c", "cat; echo told >&2", stdin=every_byte)
    assert done.stdout == every_byte
    assert done.stderr == b"told\n"


def test_no_input_leaves_stdin_to_others():
    script = '"$@" run -n local -- cat; cat'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *OUTRIDER],
        input=b"mine",
        capture_output=True,
        env=environment(),
        check=True,
    )
    assert done.stdout == b"mine"


def test_environment_and_folder(tmp_path):
    done = outrider("run", "--env", "A=1=2", "--cwd", tmp_path, "local", "--", "sh", "-c", 'echo "$A"; pwd')
    assert done.stdout.decode() == f"1=2\n{tmp_path}\n"


def test_a_timeout_is_ours_and_ends_the_command():
    before = time.monotonic()
    done = outrider("run", "--timeout", "0.5", "local", "--", "sleep", "60")
    assert done.returncode == 125
    assert b"not done within 0.5 s" in done.stderr
    assert b"hint:" in done.stderr
    assert time.monotonic() - before < 10


def test_a_reader_that_leaves_ends_an_endless_command():
    near = subprocess.Popen(
        [*OUTRIDER, "run", "local", "--", "yes"], stdout=subprocess.PIPE, env=environment()
    )
    assert near.stdout.read(2) == b"y\n"
    near.stdout.close()
    assert near.wait(20) == 141


def test_run_reports_as_json():
    report = json.loads(outrider("run", "--json", "local", "--", "sh", "-c", "echo out; exit 4").stdout)
    assert report["returncode"] == 4
    assert report["stdout"] == "out\n"
    assert report["signal"] is None


def test_control_sequences_are_taken_away_on_a_terminal_only():
    argv = ("--", "printf", r"\033[31mred\033[0m\033]0;title\007.")
    assert outrider("run", "local", *argv).stdout == b"\x1b[31mred\x1b[0m\x1b]0;title\x07."
    with on_terminal("run", "local", *argv) as terminal:
        assert terminal.end() == 0
        assert terminal.shown == b"red."
    with on_terminal("run", "--raw", "local", *argv) as terminal:
        assert terminal.end() == 0
        assert b"\x1b[31mred" in terminal.shown


@given(
    st.lists(
        st.one_of(
            st.binary(),
            st.sampled_from([b"\x1b", b"[", b"]0;", b"31m", b"\x07", b"\xc2", b"\x9b", b"P", b"\\"]),
        )
    )
)
def test_no_sequence_passes_however_it_is_cut(pieces):
    whole = Harmless()
    by_pieces = Harmless()
    shown = b"".join(by_pieces(piece) for piece in pieces)
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert shown == whole(b"".join(pieces))


def test_plain_text_passes_unchanged():
    text = "naïve Größe 漢字 ü\ttab\r\n".encode()
    cut = Harmless()
    assert b"".join(cut(text[at : at + 1]) for at in range(len(text))) == text


# --- call and map -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("math:sqrt", "2.25"), "1.5"),
        ((f"{WORK}:add", '"a"', '"ü"'), '"aü"'),
        ((f"{WORK}:add", "1", "--kw", "b=2"), "3"),
        ((f"{WORK}:add", "--text", "a", "b"), '"ab"'),
        ((f"{WORK}:add", "[1]", "[null]"), "[1, null]"),
        (("builtins:complex", "1", "2"), "(1+2j)"),
        (("builtins:float", '"nan"'), "nan"),
        ((f"{WORK}:Point", "1"), "Point(x=1, tags=[])"),
    ],
)
def test_a_value_is_printed_as_json_or_as_python_writes_it(words, printed):
    done = outrider("call", "local", *words)
    assert (done.returncode, done.stdout.decode().strip()) == (0, printed), done.stderr


def test_stdout_holds_the_value_alone():
    done = outrider("call", "local", f"{WORK}:prints", '"seen"')
    assert done.stdout == b"4\n"
    host = os.uname().nodename
    for line in ("seen", "to stderr", "past python", "from a child"):
        assert f"[{host}] {line}" in done.stderr.decode()


def test_call_reports_as_json():
    report = json.loads(outrider("call", "--json", "local", f"{WORK}:prints", '"seen"').stdout)
    assert report["value"] == 4
    assert "seen\n" in report["stdout"]
    assert report["host"] == os.uname().nodename
    assert report["duration"] >= 0


def test_call_prints_what_a_generator_yields_one_a_line():
    assert outrider("call", "local", f"{WORK}:counting", "3").stdout == b"0\n1\n2\n"
    assert json.loads(outrider("call", "--json", "local", f"{WORK}:counting", "3").stdout)["value"] == [
        0,
        1,
        2,
    ]


def test_an_exception_shows_where_it_was_raised_there_and_no_frame_of_ours():
    done = outrider("call", "local", f"{WORK}:raises", '"the reason"')
    said = done.stderr.decode()
    assert done.returncode == 1
    assert done.stdout == b""
    assert "Trouble" in said
    assert "the reason" in said
    assert "far_work.py" in said
    assert "outrider/session.py" not in said


def test_debugging_shows_our_own_frames():
    done = outrider("call", "local", f"{WORK}:raises", env={"OUTRIDER_DEBUG": "1"})
    assert "outrider/session.py" in done.stderr.decode()


def test_an_eof_error_of_the_function_is_not_taken_for_a_ctrl_d():
    done = outrider("call", "local", "builtins:input")
    assert done.returncode == 1
    assert b"EOFError" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("call", "local", "math:sqrt", "word"),
        ("call", "local", "math:no_such"),
        ("call", "local", "no_such_module:f"),
        ("call", "local", "math"),
        ("call", "local", "math:sqrt", "--kw", "x"),
        ("run", "local"),
        ("no-such-verb",),
        ("run", "--no-such-option", "local", "--", "true"),
        ("cp", "a", "b"),
        ("cp", "local::a", "local::b"),
        ("shell", "local"),
        ("shell", "local", "--at", "2"),
        ("run", "no-such-route", "--", "true"),
        ("run", "ssh(", "--", "true"),
        ("relay", "no-such-route"),
        ("relay", "local"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_use_is_2_and_says_what_is_wrong(words):
    done = outrider(*words)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_map_takes_items_from_stdin_or_as_words():
    assert outrider("map", "local", "math:sqrt", stdin=b"1\n\n4\n9\n").stdout == b"1.0\n2.0\n3.0\n"
    assert outrider("map", "local", "builtins:len", '"ab"', "[]").stdout == b"2\n0\n"
    assert outrider("map", "local", "builtins:len", stdin=b"").stdout == b""


def test_a_map_ends_at_the_first_failure():
    done = outrider("map", "--at-once", "1", "local", "math:sqrt", "--", "4", "-1", "9")
    assert done.returncode == 1
    assert done.stdout == b"2.0\n"
    assert b"math domain error" in done.stderr


# --- Ctrl-C -------------------------------------------------------------------------------------------------


def test_the_first_ctrl_c_cancels_and_says_so():
    with on_terminal("run", "local", "--", "sh", "-c", "echo started; sleep 987654") as terminal:
        terminal.expect(b"started")
        terminal.type(b"\x03")
        terminal.expect("cancelling at local … press again to leave at once".encode())
        assert terminal.end() == 130
    assert _running("sleep 987654") == []


def test_the_second_ctrl_c_leaves_at_once():
    stubborn = "trap '' INT TERM; echo started; while :; do sleep 0.1; done"
    with on_terminal("run", "local", "--", "sh", "-c", stubborn) as terminal:
        terminal.expect(b"started")
        terminal.type(b"\x03")
        terminal.expect(b"at once")
        before = time.monotonic()
        terminal.type(b"\x03")
        assert terminal.end() == 130
        assert time.monotonic() - before < 1
    _wait_until_gone("while :; do sleep 0.1")


def test_ctrl_c_while_a_route_opens():
    sleep = f"sleep {987_000 + os.getpid()}"
    with on_terminal("run", f"login(setup=['echo opening >/dev/tty; {sleep}'])", "--", "true") as terminal:
        terminal.expect(b"opening")
        time.sleep(0.5)  # a bash that forks just then loses the signal, as it does for everybody
        before = time.monotonic()
        terminal.type(b"\x03")
        assert terminal.end() == 130
        assert time.monotonic() - before < 5
    assert _running(sleep) == []


def test_ctrl_c_in_a_call():
    with on_terminal("call", "local", "time:sleep", "600") as terminal:
        time.sleep(1.0)
        terminal.type(b"\x03")
        terminal.expect(b"cancelling at local")
        assert terminal.end() == 130


def _running(words: str) -> list[str]:
    """Command lines that hold `words`, read from /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and int(folder.name) != os.getpid():
            found.append(line)
    return found


def _wait_until_gone(words: str, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while _running(words):
        assert time.monotonic() < until, _running(words)
        time.sleep(0.05)


# --- terminals ----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    """The environment of a user with a plain shell and a prompt to wait for."""
    (tmp_path / ".profile").write_text("PS1='ready> '\n")
    return {"HOME": str(tmp_path), "SHELL": "/bin/sh"}


def test_a_shell_has_the_windows_size_and_its_own_exit_code(home):
    with on_terminal("shell", "local", env=home, size=(20, 70)) as terminal:
        terminal.expect(b"ready> ")
        terminal.type(b"stty size\n")
        terminal.expect(b"20 70")
        terminal.resize(33, 77)
        time.sleep(0.3)
        terminal.type(b"stty size\n")
        terminal.expect(b"33 77")
        terminal.type(b"exit 7\n")
        assert terminal.end() == 7
        assert terminal.restored()


def test_a_shell_part_of_the_way(home):
    with on_terminal("shell", "env(STEP=one) | env(STEP=two)", "--at", "1", env=home) as terminal:
        terminal.expect(b"ready> ")
        terminal.type(b"echo at $STEP\n")
        terminal.expect(b"at one")
        terminal.type(b"exit\n")
        assert terminal.end() == 0


def test_ctrl_c_belongs_to_the_far_shell(home):
    with on_terminal("shell", "local", env=home) as terminal:
        terminal.expect(b"ready> ")
        terminal.type(b"sleep 987656\n")
        terminal.expect(b"987656")
        time.sleep(0.3)
        terminal.type(b"\x03")
        terminal.type(b"echo still here $((1 + 1))\n")
        terminal.expect(b"still here 2")
        terminal.type(b"exit\n")
        terminal.end()


def test_a_hanging_shell_can_be_left(home):
    with on_terminal("shell", "local", env=home) as terminal:
        terminal.expect(b"ready> ")
        terminal.type(b"trap '' INT TERM HUP; sleep 987657\n")
        terminal.expect(b"987657")
        time.sleep(0.3)
        terminal.type(b"\x1d\x1d\x1d")
        assert terminal.end() == 130
        assert terminal.restored()
    _wait_until_gone("sleep 987657")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_when_we_are_ended(number, home):
    with on_terminal("shell", "local", env=home) as terminal:
        terminal.expect(b"ready> ")
        assert not terminal.restored()
        os.kill(terminal.process.pid, number)
        assert terminal.end() == 128 + number
        assert terminal.restored()


def test_a_command_on_a_terminal():
    with on_terminal("run", "-t", "local", "--", "sh", "-c", "tty; read x; echo got $x") as terminal:
        terminal.expect(b"/dev/pts/")
        terminal.type(b"word\n")
        terminal.expect(b"got word")
        assert terminal.end() == 0
        assert terminal.restored()


def test_a_terminal_there_without_one_here():
    done = outrider("run", "-t", "local", "--", "sh", "-c", "test -t 1 && echo yes")
    assert done.stdout == b"yes\r\n"


def test_debugging_is_refused_unless_allowed_here(tmp_path):
    refused = outrider("debug", "local", f"{WORK}:add", "1", "2")
    assert refused.returncode == 125
    assert b"debug" in refused.stderr
    settings = tmp_path / "config.toml"
    settings.write_text("[debug]\nallow = true\n")
    for words, env in ((("--enable",), {}), ((), {"OUTRIDER_CONFIG": str(settings)})):
        with on_terminal("debug", *words, "local", f"{WORK}:add", "1", "2", env=env) as terminal:
            terminal.expect(b"(far pdb) ")
            terminal.type(b"p a + 41\n")
            terminal.expect(b"42")
            terminal.type(b"c\n")
            terminal.expect(b"3\r\n")
            assert terminal.end() == 0


def test_the_debugger_stands_where_the_function_raised():
    with on_terminal("debug", "--enable", "local", f"{WORK}:raises", '"why"') as terminal:
        terminal.expect(b"(far pdb) ")
        terminal.type(b"c\n")
        terminal.expect(b"the debugger stands where it was raised")
        terminal.expect(b"(far pdb) ")
        terminal.type(b"p what\n")
        terminal.expect(b"'why'")
        terminal.type(b"c\n")
        assert terminal.end() == 1


def test_what_is_typed_ahead_for_the_debugger_stops_nobody():
    typed = b"c\n" + b"p a\n" * 100_000
    done = outrider("debug", "--enable", "local", f"{WORK}:asks_for", "0.5", stdin=typed, timeout=60)
    assert done.returncode == 0
    assert int(done.stdout.split()[-1]) > 1


# --- cp -----------------------------------------------------------------------------------------------------


def test_files_travel_both_ways(tmp_path):
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "below" / "data").write_bytes(os.urandom(300_000))
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o755)
    (source / "link").symlink_to("tool")
    there, back = tmp_path / "there", tmp_path / "back"
    first = outrider("cp", "--json", source, f"local::{there}")
    assert json.loads(first.stdout)["files"] == 2
    assert json.loads(outrider("cp", "--json", source, f"local::{there}").stdout)["files"] == 0
    assert outrider("cp", f"local::{there}", back).returncode == 0
    assert (back / "below" / "data").read_bytes() == (source / "below" / "data").read_bytes()
    assert stat.S_IMODE((back / "tool").stat().st_mode) == 0o755
    assert (back / "link").readlink() == Path("tool")


def test_a_missing_file_is_named(tmp_path):
    done = outrider("cp", f"local::{tmp_path}/missing", tmp_path / "copy")
    assert done.returncode == 125
    assert b"missing" in done.stderr


def test_a_file_goes_into_a_folder(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "folder").mkdir()
    assert outrider("cp", f"local::{tmp_path}/a", tmp_path / "folder").returncode == 0
    assert (tmp_path / "folder" / "a").read_text() == "a"
    assert outrider("cp", tmp_path / "a", f"local::{tmp_path}/new/").returncode == 0
    assert (tmp_path / "new" / "a").read_text() == "a"


def test_progress_is_for_a_terminal(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    assert b"\x1b" not in outrider("cp", tmp_path / "a", f"local::{tmp_path}/b").stderr
    with on_terminal("cp", tmp_path / "a", f"local::{tmp_path}/c") as terminal:
        assert terminal.end() == 0
        assert b"1 file travelled, 1000 bytes" in terminal.shown


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ssh:login::data/x", ("ssh:login", "data/x")),
        ("ssh:login | docker:a:1::/x", ("ssh:login | docker:a:1", "/x")),
        ("ssh(host='fe80::1')::/x", ("ssh(host='fe80::1')", "/x")),
        ("grader::", ("grader", ".")),
        ("plain/x", (None, "plain/x")),
        ("./odd::name", (None, "./odd::name")),
        ("/abs::name", (None, "/abs::name")),
    ],
)
def test_places(text, place):
    assert split_place(text) == place


def test_where_a_copy_goes(tmp_path):
    assert within("new", "a/b", here=True) == "new"
    assert within("folder/", "a/b/", here=False) == "folder/b"
    assert within(str(tmp_path), "a/b", here=True) == f"{tmp_path}/b"
    assert within(".", "a/b", here=False) == "./b"
    assert within("folder/", ".", here=False) == "folder/"


# --- check, explain, config ---------------------------------------------------------------------------------


def test_check_shows_every_hop():
    done = outrider("check", "local | tempdir | env(A=1)")
    shown = done.stdout.decode()
    assert done.returncode == 0
    assert [line.split()[1:3] for line in shown.splitlines() if line.startswith("✓")] == [
        ["1", "local"],
        ["2", "tempdir"],
        ["3", "env"],
    ]
    assert os.uname().nodename in shown
    assert "Python 3" in shown
    assert "latency" in shown
    assert "start python3 " in shown and "greet " in shown
    assert " free in " in shown
    assert "local | tempdir | env  (" in shown
    assert "█" in shown
    assert "\x1b" not in shown


def test_check_stops_at_the_hop_that_fails_and_says_what_to_do():
    done = outrider("check", "local | login(setup=['module-that-is-not load x']) | env(A=1)")
    shown = done.stdout.decode()
    assert done.returncode == 1
    assert "✓ 1 local" in shown
    assert "✗ 2 login" in shown
    assert "module-that-is-not" in shown
    assert "hint:" in shown
    assert " 3 " not in shown


def test_check_reports_as_json():
    done = outrider("check", "--json", "local | login(setup=[false])")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["reached"] is True
    assert first["latency"] > 0
    assert first["missing"] == []
    assert [phase["name"] for phase in first["phases"]] == ["start python3", "greet"]
    assert first["tmp_free"] > 0
    assert Path(first["tmp"]).is_absolute()
    assert [phase["name"] for phase in second["phases"]] == ["failed"]
    assert second["reached"] is False
    assert second["hint"]


def test_check_keeps_to_its_time_and_says_what_to_do_instead_of_itself():
    started = time.monotonic()
    done = outrider("check", "--timeout", "1", "local | login(setup=['trap : TERM; sleep 60; sleep 60'])")
    assert time.monotonic() - started < 20
    shown = done.stdout.decode()
    assert done.returncode == 1
    assert "no far end within 1 s" in shown
    assert "outrider explain" in shown and "outrider check" not in shown
    assert "✗ TimedOut" in shown


def test_check_bounds_its_look_round_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(60)")  # for what the far end starts
    started = time.monotonic()
    done = outrider("check", "--timeout", "2", "--json", f"env(PYTHONPATH='{tmp_path}')")
    assert time.monotonic() - started < 30
    assert json.loads(done.stdout)["reached"] is True


def test_ctrl_c_ends_check_as_any_verb():
    with on_terminal("check", "local | login(setup=['sleep 60'])") as terminal:
        terminal.expect(b" free in ")
        time.sleep(1)
        terminal.type(b"\x03")
        assert terminal.end() == 130


def test_check_names_what_a_slim_python_lacks(tmp_path):
    slim = tmp_path / "slim-python"
    slim.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    slim.chmod(0o755)
    # A module that shadows json and cannot be imported stands for one that is not installed.
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "ctypes.py").write_text("raise ImportError('not here')\n")
    settings = tmp_path / "config.toml"
    settings.write_text(f'[defaults]\npython = "{slim}"\n')
    env = {"OUTRIDER_CONFIG": str(settings)}
    done = outrider("check", "--json", f"env(PYTHONPATH='{hidden}')", env=env)
    report = json.loads(done.stdout)
    assert report["reached"] is True
    assert report["missing"] == ["ctypes"]


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_on_a_terminal_unless_unwanted(env, coloured):
    with on_terminal("check", "local", env=env) as terminal:
        assert terminal.end() == 0
        assert (b"\x1b[" in terminal.shown) == coloured


def test_explain_shows_every_step():
    route = "ssh:alice@login | sudo:grader | docker:pybox:1"
    lines = outrider("explain", route, "--", "echo", "a b").stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("here: ssh ")
    assert lines[-1].endswith(": echo 'a b'")
    steps = json.loads(outrider("explain", "--json", route).stdout)
    assert [step["hop"] for step in steps] == ["ssh", "sudo", "docker", None]
    assert steps[-1]["argv"] == ["true"]
    assert b"outrider relay grading" in outrider("explain", "ssh:login | relay:grading").stdout


def test_config_show_tells_where_each_value_comes_from(tmp_path):
    (tmp_path / "outrider.toml").write_text('[routes]\ngrader = "sudo:grader"\n')
    env = {"OUTRIDER_ROUTE_OTHER": "local"}
    shown = outrider("config", "show", "--origin", env=env, cwd=tmp_path).stdout.decode()
    assert 'routes.grader = "sudo:grader"' in shown
    assert "outrider.toml:2" in shown
    assert "$OUTRIDER_ROUTE_OTHER" in shown
    assert "#" not in outrider("config", "show", cwd=tmp_path).stdout.decode()
    listed = json.loads(outrider("config", "show", "--json", cwd=tmp_path).stdout)
    assert [item["key"] for item in listed] == ["routes.grader"]


def test_a_mistake_in_the_configuration_is_named(tmp_path):
    (tmp_path / "outrider.toml").write_text('[routes]\ngrader = "sudo:grader"\n[defaults]\ntimeuot = 3\n')
    done = outrider("run", "grader", "--", "true", cwd=tmp_path)
    assert done.returncode == 2
    assert b"outrider.toml:4" in done.stderr
    assert b"timeout" in done.stderr


def test_a_configured_route_is_used_by_name(tmp_path):
    (tmp_path / "outrider.toml").write_text('[routes]\nstep = "env(STEP=here)"\n')
    done = outrider("run", "step | local", "--", "sh", "-c", "echo $STEP", cwd=tmp_path)
    assert done.stdout == b"here\n"


# --- relay --------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path):
    """An `outrider` to start by its path, as installed on another host."""
    path = tmp_path / "bin" / "outrider"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {" ".join(OUTRIDER)} "$@"\n')
    path.chmod(0o755)
    return path


def test_a_relay_goes_on_by_the_hosts_own_route(program):
    route = f"env(OUTRIDER_ROUTE_GRADING='env(STEP=far)') | relay(grading, program={program})"
    route = route.replace("relay(grading, ", "relay(route=grading, ")
    done = outrider("run", route, "--", "sh", "-c", "echo $STEP")
    assert (done.returncode, done.stdout) == (0, b"far\n"), done.stderr


def test_a_relay_takes_no_project_file(tmp_path, program):
    """Whoever chose the folder may have fewer rights than the relay."""
    (tmp_path / "outrider.toml").write_text('[routes]\ngrading = "env(STEP=planted)"\n')
    done = outrider("relay", "grading", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"grading" in done.stderr


def test_a_relay_reads_the_users_own_configuration(tmp_path, program):
    home = tmp_path / "home"
    (home / ".config" / "outrider").mkdir(parents=True)
    (home / ".config" / "outrider" / "config.toml").write_text('[routes]\ngrading = "env(STEP=configured)"\n')
    route = f"relay(route=grading, program={program})"
    done = outrider("run", route, "--", "sh", "-c", "echo $STEP", env={"HOME": str(home)})
    assert (done.returncode, done.stdout) == (0, b"configured\n"), done.stderr


# --- the rest -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb):
    done = outrider(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(b"Usage: outrider " + verb.encode())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    assert b"_OUTRIDER_COMPLETE" in outrider("completion", shell).stdout


def test_routes_and_verbs_are_completed(tmp_path):
    (tmp_path / "outrider.toml").write_text('[routes]\ngrader = "sudo:grader"\n')

    def completed(words: str) -> list[str]:
        env = {
            "_OUTRIDER_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        return outrider(env=env, cwd=tmp_path).stdout.decode().split()

    assert completed("outrider run gr") == ["plain,grader"]
    assert completed("outrider che") == ["plain,check"]


def test_a_broken_configuration_does_not_disturb_completion(tmp_path):
    (tmp_path / "outrider.toml").write_text("[routes\n")
    env = {"_OUTRIDER_COMPLETE": "bash_complete", "COMP_WORDS": "outrider run ss", "COMP_CWORD": "2"}
    done = outrider(env=env, cwd=tmp_path)
    assert b"ssh" in done.stdout
    assert done.stderr == b""


def test_a_verb_misspelt_is_guessed():
    assert b"did you mean 'check'?" in outrider("chek", "local").stderr
    assert b"did you mean 'ps'?" in outrider("status").stderr
    assert b"did you mean 'cancel'?" in outrider("scancel", "3").stderr


def test_the_demo_shows_the_main_job():
    done = outrider("demo", "--route", "login | tempdir | env(DEMO=yes)")
    shown = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    for part in ("✓ 3 env", "step 3 of 3", '"DEMO": "yes"', "ZeroDivisionError", "'count': 1", "warm call"):
        assert part in shown


def test_a_commands_own_option_without_the_dashes():
    done = outrider("run", "local", "ls", "-l")
    assert done.returncode == 2
    assert b"put -- before the command" in done.stderr
