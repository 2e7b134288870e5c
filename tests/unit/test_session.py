"""A session over a far end on this machine: the real program, started as every far end is."""

from __future__ import annotations

import io
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outrider import (
    CommandFailed,
    ConfigError,
    FarError,
    Lost,
    Refused,
    Route,
    RouteError,
    TimedOut,
    VersionMismatch,
)
from outrider.hops import cwd, env, local, tempdir
from tests.samples import far_work

HERE = Route(local())


@pytest.fixture(scope="module")
def far():
    with HERE.open() as session:
        yield session


@pytest.fixture
def seconds():
    """A number of seconds to sleep that is this test's own mark in the process list."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


def running(mark: str) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if mark in line and "ps -eo" not in line]


def gone(mark: str, within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not running(mark)


# --- calls


def test_a_call_returns_its_value(far):
    assert far.call(far_work.add, 1, b=2) == 3


def test_keywords_of_yours_never_meet_options_of_ours(far):
    assert far.call(dict, timeout=1, fn=2, self=3, env=4) == {"timeout": 1, "fn": 2, "self": 3, "env": 4}


def test_lambdas_and_closures_travel(far):
    factor = 3
    assert far.call(lambda x: x * factor, 5) == 15


def test_coroutines_are_awaited_there(far):
    assert far.call(far_work.later, "value") == "value"


def test_a_commands_input_stays_behind_its_start_while_calls_read_too(tmp_path, monkeypatch):
    """A call that asks for a module reads the stream while it waits; what another thread is at must not be overtaken."""
    monkeypatch.syspath_prepend(tmp_path)
    names = [f"asked_for_by_name_{number}" for number in range(160)]
    for number, name in enumerate(names):
        (tmp_path / f"{name}.py").write_text(f"value = {number}\n")
    session = HERE.options(show=False, timeout=30).open()
    with session as far, ThreadPoolExecutor(4) as some, ThreadPoolExecutor(4) as others:
        values = some.map(lambda name: far.call(far_work.value_of, name), names)
        commands = others.map(lambda size: far.run(["cat"], stdin=b"x" * size), range(1, 161))
        assert list(values) == list(range(160))
        assert [len(command.stdout) for command in commands] == list(range(1, 161))


def test_a_call_that_closes_its_output_does_no_harm():
    with HERE.open() as far:
        far.call(far_work.closes_its_output)
        assert far.call(far_work.add, 1, 2) == 3
        assert far.call(far_work.idle_cpu, 0.5) < 0.25


def test_what_a_call_prints_is_captured_whoever_prints(far, capfd):
    done = far.call_detailed(far_work.prints, "hello")
    assert done.value == 5
    assert done.stdout == b"hello\npast python\nfrom a child\n"
    assert done.stderr == b"to stderr\n"
    assert done.pid == far.far.pid
    assert done.python == far.far.python
    shown = capfd.readouterr()
    assert f"[{far.label}] from a child\n" in shown.out
    assert f"[{far.label}] to stderr\n" in shown.err


def test_output_arrives_while_the_call_runs():
    arrived = []
    route = HERE.options(on_output=lambda name, piece: arrived.append((time.monotonic(), piece)))

    def two_lines():
        print("first")
        time.sleep(0.5)
        print("second")

    route.call(two_lines)
    assert b"".join(piece for _, piece in arrived) == b"first\nsecond\n"
    assert arrived[-1][0] - arrived[0][0] > 0.3


def test_control_sequences_do_not_reach_the_terminal(far, capfd):
    far.call(print, "\x1b]0;owned\x07\x1b[2J")
    assert "\x1b" not in capfd.readouterr().out


def test_an_exception_comes_as_its_own_type_with_the_far_traceback(far):
    with pytest.raises(far_work.Trouble) as caught:
        far.call(far_work.raises, "why")
    assert caught.value.code == 7
    notes = "\n".join(caught.value.__notes__)
    assert 'File "local:' in notes
    assert "in raises" in notes


def test_an_exception_that_cannot_travel_is_a_far_error(far):
    with pytest.raises(FarError, match="cannot travel") as caught:
        far.call(far_work.raises_unpicklable)
    assert caught.value.kind == "tests.samples.far_work.Unpicklable"
    assert "in raises_unpicklable" in caught.value.traceback
    assert pickle.loads(pickle.dumps(caught.value)).traceback == caught.value.traceback


def test_an_exit_of_the_far_function_is_no_exit_of_ours(far):
    with pytest.raises(FarError, match="SystemExit"):
        far.call(sys.exit, 3)
    assert far.call(far_work.add, 1) == 1


def test_a_value_that_cannot_travel_says_so(far):
    with pytest.raises(TypeError, match="pickle"):
        far.call(threading.Lock)


def test_large_payloads_both_ways(far):
    blob = random.randbytes(9 << 20)
    assert far.call(bytes, blob) == blob


def test_numpy_arrays_travel_out_of_band(far):
    numpy = pytest.importorskip("numpy", reason="numpy is not installed here")
    if not far.call(__import__("importlib.util").util.find_spec, "numpy"):
        pytest.skip("the far Python has no numpy")
    array = numpy.arange(1 << 20).reshape(1024, 1024)
    assert (far.call(numpy.transpose, array) == array.T).all()


def test_many_threads_share_a_session(far):
    answers = {}

    def work(number):
        answers[number] = [far.call(far_work.add, number, step) for step in range(50)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: [n + s for s in range(50)] for n in range(8)}


def test_calls_at_once_overlap_and_keep_their_prints_apart():
    with HERE.options(show=False).open() as far:
        far.call(far_work.add, 1)
        started = time.monotonic()
        futures = [far.submit(far_work.later, n) for n in range(5)] + [
            far.submit(time.sleep, 0.5) for _ in range(10)
        ]
        assert [future.result(10) for future in futures[:5]] == list(range(5))
        for future in futures[5:]:
            future.result(10)
        assert time.monotonic() - started < 3


def test_map_keeps_order(far):
    assert list(far.map(far_work.add, range(30), range(30), at_once=4)) == [2 * n for n in range(30)]


def test_a_cancelled_future_ends_its_call(far, seconds):
    future = far.submit(os.system, f"sleep {seconds}")
    while not running(seconds):
        time.sleep(0.02)
    assert future.cancel()
    assert gone(seconds)
    assert far.call(far_work.add, 2) == 2


# --- invoke


def test_invoke_brings_changed_added_and_deleted_attributes(far):
    lab = far_work.Lab()
    assert far.invoke(lab, "run", seed=3) is lab
    assert vars(lab) == {"results": [3], "me": lab, "added": {"seed": 3}}


def test_invoke_that_raises_changes_nothing_unless_asked(far):
    lab = far_work.Lab()
    with pytest.raises(far_work.Trouble):
        far.invoke(lab, "fail")
    assert lab.results == []
    with pytest.raises(far_work.Trouble):
        far.invoke_detailed(lab, "fail", state_on_error=True)
    assert lab.results == ["changed before failing"]


def test_invoke_on_slots_states_dataclasses_and_containers(far):
    slotted = far_work.Slotted()
    far.invoke(slotted, "change")
    assert (slotted.kept, slotted.new, hasattr(slotted, "gone")) == (10, 3, False)
    stateful = far_work.WithState()
    handle = stateful.handle
    far.invoke(stateful, "change")
    assert (stateful.value, stateful.handle) == (2, handle)
    dropping = far_work.DropsHandle()
    far.invoke(dropping, "change")
    assert (dropping.value, dropping.handle) == (2, sys.stdout), "what never travelled must not be deleted"
    point = far_work.Point(1)
    assert far.invoke(point, "move", by=4) == 5
    assert point == far_work.Point(5, [4])
    growing = far_work.Growing([1])
    far.invoke(growing, "grow", 2)
    assert (growing, growing.extra) == ([1, 2], 2)


def test_zip_in_zip_out(far):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as outgoing:
        outgoing.writestr("answer.py", "42")
    submission = far_work.Submission(archive.getvalue())
    assert far.invoke(submission, "grade") == ["answer.py"]
    assert submission.log.getvalue() == "graded answer.py"
    assert zipfile.ZipFile(submission.archive).read("grade.txt") == b"A"


# --- commands


def test_run_gives_status_output_and_duration(far):
    done = far.run("echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr, done.signal) == (3, b"out\n", b"err\n", None)
    assert 0 < done.duration < 5


def test_run_names_the_signal(far):
    done = far.run("kill -KILL $$")
    assert (done.returncode, done.signal) == (-9, "SIGKILL")


def test_run_checks(far):
    with pytest.raises(CommandFailed, match="status 4") as caught:
        far.run("echo because >&2; exit 4", check=True)
    assert "because" in str(caught.value)


@pytest.mark.parametrize("size", [0, 10, 300_000, 5_000_000])
@pytest.mark.parametrize("form", ["bytes", "file", "iterator"])
def test_stdin_in_every_form_and_size(far, size, form, tmp_path):
    blob = random.randbytes(size)
    if form == "file":
        (tmp_path / "input").write_bytes(blob)
        with (tmp_path / "input").open("rb") as stdin:
            assert far.run(["cat"], stdin=stdin).stdout == blob
        return
    stdin = blob if form == "bytes" else (blob[n : n + 70_001] for n in range(0, size, 70_001))
    assert far.run(["cat"], stdin=stdin).stdout == blob


def test_a_command_that_does_not_read_its_stdin_blocks_nobody(far):
    assert far.run(["true"], stdin=bytes(5_000_000)).returncode == 0
    assert far.call(far_work.add, 1) == 1


def test_text_as_stdin_is_refused_by_name(far):
    with pytest.raises(TypeError, match="it gave str"):
        far.run(["cat"], stdin=iter(["text"]))


def test_environment_and_folder_of_a_command(far, tmp_path):
    done = far.run(["sh", "-c", "echo $A; pwd"], env={"A": "it's $HOME"}, cwd=tmp_path)
    assert done.text == f"it's $HOME\n{tmp_path}"


def test_words_arrive_as_they_are(far):
    words = ["a b", "", "$HOME", "*", "-n", "new\nline", "'\"\\", b"\xff\xfe"]
    code = "import os,sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    done = far.run([sys.executable, "-c", code, *words])
    assert done.stdout.split(b"\0") == [os.fsencode(word) for word in words]


def test_a_terminal_has_its_size(far):
    done = far.run(["sh", "-c", "tty >/dev/null && stty size"], tty=(33, 101))
    assert done.stdout == b"33 101\r\n"


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [(["/no/such/program"], 127, "No such file"), (["/etc/passwd"], 126, "Permission denied")],
)
def test_what_cannot_be_started_says_why(far, argv, status, words):
    with pytest.raises(RouteError, match=words) as caught:
        far.run(argv)
    assert caught.value.returncode == status
    assert "hint:" in str(caught.value)


def test_a_failing_callback_is_raised_where_you_wait(far):
    def broken(name, piece):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        far.run("echo x", on_output=broken)
    assert far.call(far_work.add, 1) == 1


# --- dying is designed


def test_a_command_out_of_time_is_ended_with_all_it_started(far, seconds):
    script = (
        f"trap '' TERM; (trap '' TERM; setsid sleep {seconds}) & (setsid sleep {seconds} &) ; sleep {seconds}"
    )
    with pytest.raises(TimedOut, match=r"0\.4 s"):
        far.run(script, timeout=0.4)
    assert gone(seconds)
    assert far.call(far_work.add, 1) == 1


def test_a_call_out_of_time_is_ended():
    started = time.monotonic()
    with pytest.raises(TimedOut):
        HERE.options(timeout=0.3).call(time.sleep, 100)
    assert time.monotonic() - started < 3


def test_a_call_that_will_not_end_takes_its_far_end_with_it():
    with HERE.options(timeout=0.3).open() as far:
        pid = far.far.pid
        with pytest.raises(TimedOut):
            far.call(far_work.stubborn)
        far.connection.process.wait(5)
        assert not Path(f"/proc/{pid}").exists()


def test_closing_leaves_no_daemons(seconds):
    with HERE.open() as far:
        far.call(far_work.start_daemons, seconds)
        assert len(running(seconds)) >= 4
    assert gone(seconds)


def test_a_killed_far_end_leaves_nothing(seconds):
    with pytest.raises(Lost, match="SIGKILL"):
        HERE.call(far_work.die_with_children, seconds)
    assert gone(seconds)


def test_a_killed_near_end_leaves_nothing(seconds, tmp_path):
    script = tmp_path / "near.py"
    script.write_text(
        "from outrider import Route\nfrom outrider.hops import local, tempdir\n"
        "far = (Route(local()) | tempdir()).open()\n"
        "print(far.run('pwd').text, flush=True)\n"
        f"far.run('setsid sleep {seconds} & sleep {seconds}')\n"
    )
    near = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert near.stdout
    folder = Path(near.stdout.readline().strip())
    while len(running(seconds)) < 2:
        time.sleep(0.02)
    assert folder.is_dir()
    near.kill()
    near.wait()
    near.stdout.close()
    assert gone(seconds)
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_temporary_folder_goes_even_when_the_far_end_is_killed():
    with (HERE | tempdir()).open() as far:
        folder = Path(far.call(far_work.where))
        far.run("mkdir -p a/b; touch a/b/c; chmod 0 a/b")
        os.kill(far.far.pid, signal.SIGKILL)
        with pytest.raises(Lost):
            far.call(far_work.where)
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_ctrl_c_cancels_and_is_told(far, seconds):
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        far.run(["sleep", seconds])
    timer.join()
    assert "nothing of it is left running" in caught.value.__notes__[0]
    assert gone(seconds)
    assert far.call(far_work.add, 1) == 1


def test_closing_twice_and_using_after_is_clear():
    far = HERE.open()
    far.close()
    far.close()
    with pytest.raises(Lost, match="closed"):
        far.call(far_work.add, 1)


def test_an_open_session_does_not_hold_up_the_interpreter(tmp_path):
    script = tmp_path / "near.py"
    script.write_text(
        "from outrider import Route\nfrom outrider.hops import local\nimport time\n"
        "far = Route(local()).open()\nfuture = far.submit(time.sleep, 1000)\nprint(far.far.pid)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=20, check=True)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


# --- settings, trust, versions


def test_settings_at_the_tail_travel_on_the_wire(tmp_path):
    route = HERE | cwd(str(tmp_path)) | env(TOKEN="s3cret")
    with route.open() as far:
        assert far.call(os.getenv, "TOKEN") == "s3cret"
        assert far.call(far_work.where) == str(tmp_path)
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert "s3cret" not in shown
        with pytest.raises(FarError) as caught:
            far.call(far_work.raises_unpicklable)
        assert "s3cret" not in str(caught.value)


def test_a_missing_folder_is_said_when_opening():
    with pytest.raises(RouteError, match="is not there"):
        (HERE | cwd("/no/such/folder")).open()


def test_untrusted_answers_are_data_only():
    with HERE.options(trust="data").open() as far:
        assert far.call(dict, a=[1, (2, b"x")]) == {"a": [1, (2, b"x")]}
        with pytest.raises(FarError, match="not plain data"):
            far.call(far_work.Lab)
        with pytest.raises(FarError, match="why"):
            far.call(far_work.raises, "why")
        with pytest.raises(FarError, match="Lab is not plain data"):  # it holds itself
            far.invoke(far_work.Lab(), "run", 1)
        with pytest.raises(Refused, match="__setstate__"):
            far.invoke(far_work.WithState(), "run", 1)


def test_an_untrusted_far_end_tells_a_state_of_plain_data():
    with HERE.options(trust="data", show=False).open() as far:
        slotted, growing = far_work.Slotted(), far_work.Growing([1])
        far.invoke(slotted, "change")
        assert slotted.kept == 10
        assert not hasattr(slotted, "gone")
        far.invoke(growing, "grow", 2)
        assert growing == [1, 2]
        case = far_work.Case()
        with pytest.raises(FarError, match="judge left"):
            far.invoke_detailed(case, "judge", ["b"], state_on_error=True)
        assert vars(case) == {"seen": ["a", "b"]}
        with pytest.raises(FarError, match="judge left"):
            far.invoke(case, "judge", "c")
        assert vars(case) == {"seen": ["a", "b"]}


def test_debugging_is_refused_unless_allowed(far):
    with pytest.raises(Refused, match="not enabled"):
        far.debug(far_work.add, 1)


def test_a_script_defines_its_functions_at_the_far_end(tmp_path, python38):
    """Another minor version proves that it went by source; its `import outrider` must not fail there."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom outrider import Route, OutriderError\nfrom outrider.hops import local\n"
        "import helper\n"
        f"route = Route(local()).options(python={python38!r})\n"
        "class Box:\n    def __init__(self, n): self.n = n\n"
        "def work(n): return Box(helper.double(n)), sys.version_info[:2]\n"
        "if __name__ == '__main__':\n"
        "    box, version = route.call(work, 4)\n"
        "    assert type(box) is Box and box.n == 8, box\n"
        "    print(version)\n"
    )
    (tmp_path / "helper.py").write_text("def double(n):\n    return 2 * n\n")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=20, env=clean)
    assert done.stdout == "(3, 8)\n", done.stderr


def test_a_lambda_between_versions_is_refused_before_it_runs(python38):
    with pytest.raises(VersionMismatch, match=r"3\.8"):
        HERE.options(python=python38).call(lambda: 1)


def test_python_2_is_told_apart(python2):
    with pytest.raises(VersionMismatch, match=r"Python 2\.7"):
        HERE.options(python=python2).open()


def test_a_far_end_that_never_greets_is_bounded(tmp_path):
    silent = tmp_path / "python3"
    silent.write_text("#!/bin/sh\nexec sleep 100\n")
    silent.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"within 0\.5 s"):
        HERE.options(python=str(silent), open_timeout=0.5).open()
    assert time.monotonic() - started < 5


def test_login_noise_before_the_greeting_is_skipped(tmp_path):
    noisy = tmp_path / "python3"
    noisy.write_text(f"#!/bin/sh\necho 'Welcome!'; printf 'no newline'; exec {sys.executable} \"$@\"\n")
    noisy.chmod(0o755)
    with HERE.options(python=str(noisy)).open() as far:
        assert far.call(far_work.add, 1) == 1
        assert far.noise == b"Welcome!\nno newline"


def test_a_login_that_says_why_it_refuses_is_quoted(tmp_path):
    refusing = tmp_path / "python3"
    refusing.write_text("#!/bin/sh\necho 'This account is closed' >&2; exit 9\n")
    refusing.chmod(0o755)
    with pytest.raises(RouteError, match="This account is closed") as caught:
        HERE.options(python=str(refusing)).open()
    assert caught.value.returncode == 9


def test_an_open_session_takes_other_options(far):
    with pytest.raises(TimedOut):
        far.options(timeout=0.3).call(time.sleep, 100)
    assert far.options(trust="data").call(far_work.add, 1) == 1
    with pytest.raises(ConfigError, match="settled when a far end is opened"):
        far.options(cwd="/")
    with pytest.raises(ConfigError, match="no option 'tiemout'"):
        far.options(tiemout=1)


def test_files_pushed_and_pulled_keep_their_changes(tmp_path):
    (tmp_path / "notes").write_text("mine\n")
    remote = str(tmp_path / "there" / "notes")
    route = HERE.options(push={str(tmp_path / "notes"): remote}, pull={remote: str(tmp_path / "notes")})
    route.call(far_work.edit, remote)
    assert (tmp_path / "notes").read_text() == "mine\nchanged there\n"
    with pytest.raises(far_work.Trouble):
        route.call(far_work.edit, remote, fail=True)
    assert (tmp_path / "notes").read_text() == "mine\n" + 2 * "changed there\n"


def test_a_list_of_files_names_the_same_path_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("")
    (HERE | tempdir()).options(push=["notes"], pull=["notes"]).call(far_work.edit, "notes")
    assert (tmp_path / "notes").read_text() == "changed there\n"
    with pytest.raises(ConfigError, match="not one text"):
        HERE.options(push="notes")


def test_a_single_hop_can_be_called_on_like_a_route():
    assert local().call(far_work.add, 1, 2) == 3
    assert local().run(["echo", "x"]).text == "x"
    assert list(local().map(far_work.add, [1, 2])) == [1, 2]
    with local().open() as far:
        assert far.far.pid != os.getpid()


def test_an_untrusted_far_end_gets_no_module_that_no_call_needs(tmp_path, monkeypatch):
    (tmp_path / "needed_one.py").write_text(
        "import needed_two\n\ndef work(name):\n    return __import__(name).VALUE\n"
    )
    (tmp_path / "needed_two.py").write_text("VALUE = 2\n")
    (tmp_path / "secret_settings.py").write_text("VALUE = 'secret'\n")
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text("raise SystemExit('looking it up ran it')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    import needed_one

    with HERE.options(trust="data").open() as far:
        assert far.call(needed_one.work, "needed_two") == 2
        for name in ("secret_settings", "loud.inner"):
            with pytest.raises(FarError, match="No module named"):
                far.call(needed_one.work, name)
    with HERE.open() as far:
        assert far.call(needed_one.work, "secret_settings") == "secret"


SCRIPT = """
from outrider import *
route = Route(local())
class Lab:
    def go(self):
        self.done = True
        return 5
def work(n):
    return n + 1
"""


def run_script(tmp_path, ending):
    (tmp_path / "script.py").write_text(SCRIPT + ending)
    return subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=30
    )


def test_a_script_composes_its_routes_at_the_top_even_where_outrider_is_installed(tmp_path):
    ending = "if __name__ == '__main__':\n    x = Lab()\n    print(route.call(work, 1), route.invoke(x, 'go'), x.done)\n"
    done = run_script(tmp_path, ending)
    assert done.stdout == "2 5 True\n", done.stderr


def test_a_script_that_uses_a_route_at_the_top_is_told_to_guard_it_and_runs_nothing_twice(tmp_path):
    done = run_script(tmp_path, f"route.run('echo once >> {tmp_path}/count')\nroute.call(work, 1)\n")
    assert '`if __name__ == "__main__":`' in done.stderr
    assert (tmp_path / "count").read_text() == "once\n"


def test_text_as_stdin_is_encoded(far):
    assert far.run(["cat"], stdin="é").stdout == "é".encode()
