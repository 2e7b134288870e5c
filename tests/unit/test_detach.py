"""A far end that is kept: it goes on without its near end, and gives everything to the next, once."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import outrider
from outrider import (
    ConfigError,
    Lost,
    OutriderError,
    Refused,
    Route,
    RouteError,
    TimedOut,
    attach,
    docker,
    local,
    slurm,
    tempdir,
)
from outrider.far import data
from outrider.far.keeping import AHEAD
from tests.samples import far_work, lasting_work
from tests.unit.test_near_end import gone
from tests.unit.test_reconnect import BOUND, runs, wait_until
from tests.unit.test_session import running

HERE = Route(local()).options(show=False, detach="10m")
PUMP = f"""#!{sys.executable}
import os, subprocess, sys, threading
child = subprocess.Popen([{sys.executable!r}, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def pump(source, sink):
    while piece := os.read(source, 1 << 16):
        while piece:
            piece = piece[os.write(sink, piece):]
    os.close(sink)
threading.Thread(target=pump, args=(0, child.stdin.fileno()), daemon=True).start()
pump(child.stdout.fileno(), 1)
sys.exit(child.wait())
"""


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path, monkeypatch):
    """Kept far ends wait in this test's own folder, and are gone at its end, folder and all."""
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield
    wait_until(lambda: not list(folder.iterdir()), "the end of all kept far ends")


@pytest.fixture
def seconds():
    """A number of seconds to sleep that is this test's own mark in the process list."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


@pytest.fixture
def far_away(tmp_path):
    """A route whose bytes pass through a process of their own, as they do through ssh: it can be cut."""
    python = tmp_path / "python3"
    python.write_text(PUMP)
    python.chmod(0o755)
    return HERE.options(python=str(python))


def cut(far) -> None:
    """What the stream passes through is killed, as when a connection is torn."""
    with suppress(ProcessLookupError):  # it has been cut a moment ago
        os.kill(far.connection.process.pid, signal.SIGKILL)


def losing(work) -> threading.Thread:
    """A thread in which something is lost."""

    def lose() -> None:
        with suppress(Lost):
            work()

    thread = threading.Thread(target=lose)
    thread.start()
    return thread


def near_end(code: str, *words: object) -> subprocess.Popen[str]:
    """A program with a session of its own, which says its ticket first."""
    head = """
        import json, os, signal, subprocess, sys, threading, time
        from outrider import Route, attach, local
        from tests.samples import far_work, lasting_work
        HERE = Route(local()).options(show=False, detach="10m")
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@contextmanager
def opened(folder: str) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def left_by(code: str, *words: object) -> str:
    """The ticket that such a program prints."""
    near = near_end(code, *words)
    with near:
        assert near.stdout
        ticket = near.stdout.readline()
        near.kill() if "kill me" in near.stdout.readline() else near.wait(BOUND)
    return ticket


# --- leaving and coming back ----------------------------------------------------------------------------------------


def test_calls_and_commands_go_on_and_their_answers_wait(tmp_path):
    far = HERE.open()
    pid = far.far.pid
    early = far.submit(lasting_work.slow, str(tmp_path / "runs"), 0.5)
    late = far.submit(lasting_work.slow, str(tmp_path / "more"), 2)
    ticket = far.detach()
    for future in (early, late):
        with pytest.raises(Lost, match="detached"):
            future.result()
    with pytest.raises(Lost, match="detached"):
        far.call(max, 3, 7)
    time.sleep(1)
    with attach(ticket, show=False) as back:
        assert back.far.pid == pid
        pending = back.pending()
        assert set(pending) == {early.ident, late.ident}
        assert {future.name for future in pending.values()} == {"slow"}
        assert pending[late.ident].result(BOUND) == 1
        assert pending[early.ident].result(BOUND) == 1
        assert back.call(far_work.add, 3, 4) == 7
        assert back.run(["echo", "hello"]).text == "hello"
    assert runs(tmp_path / "runs") == runs(tmp_path / "more") == 1
    assert gone(pid)


def test_what_was_answered_before_is_not_given_again():
    far = HERE.open()
    assert far.call(max, 3, 7) == 7
    done = far.submit(max, 3, 7)
    assert done.result(BOUND) == 7
    ticket = far.detach()
    with attach(ticket, show=False) as back:
        assert back.pending() == {}


def test_another_process_comes_back(tmp_path):
    far = HERE.open()
    ident = far.submit(lasting_work.slow, str(tmp_path / "runs"), 1).ident
    ticket = far.detach()
    code = """
        back = attach(sys.argv[1], show=False)
        print(back.pending()[int(sys.argv[2])].result(30), back.call(os.getpid) == back.far.pid)
        back.close()
    """
    near = near_end(code, ticket, ident)
    assert near.communicate(timeout=BOUND)[0] == "1 True\n"
    assert gone(far.far.pid)


COMMAND = """
    far = HERE.open()
    print(far.ticket, flush=True)
    threading.Thread(target=far.run, args=(sys.argv[1],)).start()
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.05)
    print("kill me", flush=True)
    time.sleep(600)
"""


def test_a_killed_near_end_leaves_its_work(tmp_path):
    script = (
        f"echo begun; touch {tmp_path}/begun; sleep 1.5; echo x >> {tmp_path}/runs; echo ended >&2; exit 3"
    )
    ticket = left_by(COMMAND, script, tmp_path / "begun")
    with attach(ticket, show=False) as back:
        ((_, future),) = back.pending().items()
        assert future.name == f"sh -c '{script}'"
        done = future.result(BOUND)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"begun\n", b"ended\n")
    assert (tmp_path / "runs").read_text() == "x\n"


def test_answers_of_any_size_wait(tmp_path):
    far = HERE.open()
    sizes = [10, 100_000, 3_000_000, 90_000_000]
    futures = {far.submit(lasting_work.blob, size, 0.5).ident: size for size in sizes}
    isolated = far.options(isolate=True).submit(lasting_work.blob, 3_000_000, 0.5).ident
    ticket = far.detach()
    time.sleep(2)
    with attach(ticket, show=False) as back:
        pending = back.pending()
        assert len(pending[isolated].result(BOUND)) == 3_000_000
        for ident, size in futures.items():
            assert pending[ident].result(BOUND) == b"x" * size


def test_a_near_end_that_dies_in_the_midst_of_an_answer(tmp_path):
    code = """
        far = HERE.open()
        print(far.ticket, flush=True)
        far.submit(lasting_work.blob, 60_000_000, 0.5)
        os.kill(os.getpid(), signal.SIGSTOP)
    """
    near = near_end(code)
    with near:
        assert near.stdout
        ticket = near.stdout.readline()
        time.sleep(2)  # the pipe is full by now
        near.kill()
    with attach(ticket, show=False) as back:
        (future,) = back.pending().values()
        assert future.result(BOUND) == b"x" * 60_000_000


def test_output_up_to_the_limit_is_kept_and_beyond_it_the_writer_waits(tmp_path):
    far = HERE.open()
    touch = f"touch {tmp_path}"
    zeros = f"head -c {AHEAD // 2} /dev/zero"
    left = f"until [ -e {tmp_path}/left ]; do sleep 0.02; done"  # else the near end takes some of it yet
    script = f"{touch}/begun; {left}; {zeros}; {touch}/half; {zeros}; {zeros}; {touch}/all"
    pieces: list[bytes] = []
    thread = losing(lambda: far.run(script, on_output=lambda _, piece: pieces.append(piece)))
    wait_until((tmp_path / "begun").exists, "the command")
    ticket = far.detach()
    thread.join(BOUND)
    (tmp_path / "left").touch()
    wait_until((tmp_path / "half").exists, "half of the output")
    time.sleep(1)
    assert not (tmp_path / "all").exists()
    with attach(ticket, show=False) as back:
        (future,) = back.pending().values()
        assert len(future.result(BOUND).stdout) + sum(map(len, pieces)) == AHEAD * 3 // 2


def test_what_is_bound_to_its_near_end_ends(tmp_path, seconds):
    far = HERE.open()
    items = far.call(lasting_work.numbers, str(tmp_path / "runs"))
    assert next(items) == 1
    tail = [lambda: far.run(["sleep", seconds], tty=True), lambda: far.run(["cat"], stdin=slow_input())]
    threads = [losing(work) for work in tail]
    wait_until(lambda: running(f"sleep {seconds}"))
    kept = far.submit(time.sleep, 1).ident
    ticket = far.detach()
    for thread in threads:
        thread.join(BOUND)
    with attach(ticket, show=False) as back:
        assert set(back.pending()) == {kept}
        assert back.pending()[kept].result(BOUND) is None
        wait_until(lambda: not running(f"sleep {seconds}"))


def slow_input():
    yield b"one\n"
    time.sleep(3)
    yield b"two\n"


def test_cancelling_what_another_has_started(tmp_path):
    far = HERE.open()
    far.submit(lasting_work.slow, str(tmp_path / "runs"), 600)
    wait_until(lambda: runs(tmp_path / "runs"))
    with attach(far.detach(), show=False) as back:
        (future,) = back.pending().values()
        assert future.cancel()
        assert back.call(max, 3, 7) == 7


def test_modules_that_a_kept_call_asks_for(tmp_path):
    """The question of a call that nobody answers goes to the next near end."""
    far = HERE.open()
    far.submit(lasting_work.imports_later, str(tmp_path / "go"), "tests.samples.listings")
    wait_until((tmp_path / "go.begun").exists)
    ticket = far.detach()
    (tmp_path / "go").touch()
    time.sleep(0.5)
    with attach(ticket, show=False) as back:
        (future,) = back.pending().values()
        assert future.result(BOUND) == "tests.samples.listings"


def test_many_comings_and_goings(tmp_path):
    far = HERE.open()
    idents = [far.submit(lasting_work.slow, str(tmp_path / f"runs{n}"), 0.5 * n).ident for n in range(6)]
    ticket = far.detach()
    found: dict[int, object] = {}
    for _ in range(12):
        back = attach(ticket, show=False)
        time.sleep(0.3)
        for ident, future in back.pending().items():
            if future.done():
                found[ident] = future.result()
        if set(found) == set(idents):
            break
        ticket = back.detach()
    back.close()
    assert found == dict.fromkeys(idents, 1)


# --- who may, and when ----------------------------------------------------------------------------------------------


def test_the_socket_is_its_users_alone(tmp_path):
    with HERE.open() as far:
        path = Path(json.loads(far.ticket)["path"])
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.stat().st_uid == os.getuid()
        assert stat.S_ISSOCK(path.stat().st_mode)
        line = Path(f"/proc/{far.far.pid}/cmdline").read_text() + " ".join(
            map(str, far.connection.process.args)
        )
        assert json.loads(far.ticket)["secret"] not in line
    assert not path.parent.exists()


def test_a_wrong_secret_is_refused():
    with HERE.open() as far:
        wrong = json.dumps({**json.loads(far.ticket), "secret": "0" * 32})
        with pytest.raises(Refused, match="does not fit"):
            attach(wrong)
        with pytest.raises(Refused, match="does not fit"):
            attach(wrong, take=True)
        assert far.call(max, 3, 7) == 7


@pytest.mark.parametrize("body", [b"rubbish", data.dumps([1]), data.dumps({"secret": 5}), data.dumps({})])
def test_rubbish_at_the_socket_changes_nothing(body):
    far = HERE.open()
    told = json.loads(far.detach())
    descriptors = Path(f"/proc/{far.far.pid}/fd")
    before = len(list(descriptors.iterdir()))
    folder, name = os.path.split(told["path"])
    for _ in range(5):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger, opened(folder) as fd:
            stranger.connect(f"/proc/self/fd/{fd}/{name}")  # by a short name, as a socket's must be
            socket.send_fds(stranger, [body], [0, 1])
            stranger.settimeout(BOUND)
            assert stranger.recv(100) == b""
    wait_until(
        lambda: len(list(descriptors.iterdir())) <= before, "the end of descriptors that nobody asked for"
    )
    with attach(json.dumps(told), show=False) as back:
        assert back.far.pid == far.far.pid
        assert back.call(max, 3, 7) == 7


def test_a_folder_of_others_or_a_link_is_refused(tmp_path):
    far = HERE.open()
    told = json.loads(far.detach())
    folder, name = os.path.split(told["path"])
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(Lost, match="gone"):
        attach(json.dumps({**told, "path": f"{tmp_path}/link/{name}"}))
    Path(folder).chmod(0o755)
    with pytest.raises(Refused, match="not its user's alone"):
        attach(json.dumps(told))
    Path(folder).chmod(0o700)
    attach(json.dumps(told)).close()


def test_two_at_once_one_is_attached():
    ticket = HERE.open().detach()
    sessions: list[outrider.Session] = []
    refused: list[OutriderError] = []

    def come() -> None:
        try:
            sessions.append(attach(ticket, show=False))
        except OutriderError as error:
            refused.append(error)

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert len(sessions) == 1
    assert len(refused) == 3
    for error in refused:
        assert isinstance(error, Refused)
        assert "another near end is attached" in str(error)
    assert sessions[0].call(max, 3, 7) == 7
    sessions[0].close()


def test_taking_it_over(far_away, tmp_path):
    with far_away.open(reconnect=5) as far:
        future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 2)
        wait_until(lambda: runs(tmp_path / "runs"))
        with attach(far.ticket, take=True, show=False) as back:
            assert back.pending()[future.ident].result(BOUND) == 1
            with pytest.raises(Lost, match="another near end"):
                future.result(BOUND)
            with pytest.raises(Lost, match="another near end"):
                far.call(max, 3, 7)
            assert back.call(max, 3, 7) == 7


def test_its_time_is_up(seconds):
    far = HERE.options(detach=1).open()
    pid = far.far.pid
    far.submit(subprocess.run, ["sleep", seconds])
    wait_until(lambda: running(f"sleep {seconds}"))
    ticket = far.detach()
    started = time.monotonic()
    assert gone(pid, BOUND)
    assert time.monotonic() - started < BOUND / 2
    assert not running(f"sleep {seconds}")
    with pytest.raises(Lost, match="gone"):
        attach(ticket)


def test_time_counts_only_while_nobody_is_there():
    with HERE.options(detach=1).open() as far:
        time.sleep(2)
        assert far.call(max, 3, 7) == 7


def test_closing_ends_it_as_ever(tmp_path, seconds):
    far = HERE.open()
    far.submit(subprocess.run, ["sleep", seconds])
    wait_until(lambda: running(f"sleep {seconds}"))
    far.close()
    assert gone(far.far.pid)
    assert not running(f"sleep {seconds}")


def test_a_kept_far_end_that_is_killed_leaves_nothing(seconds):
    far = HERE.open()
    far.submit(subprocess.run, ["sleep", seconds])
    wait_until(lambda: running(f"sleep {seconds}"))
    ticket = far.detach()
    os.kill(far.far.pid, signal.SIGKILL)
    wait_until(lambda: not running(f"sleep {seconds}"))
    with pytest.raises(Lost, match="gone"):
        attach(ticket)


def test_without_the_option_a_far_end_ends_with_its_near_end():
    with Route(local()).options(show=False).open() as far:
        for use in (far.detach, far.pending, lambda: far.ticket):
            with pytest.raises(Refused, match="ends with its near end"):
                use()


@pytest.mark.parametrize("hop", [docker("image"), slurm(), tempdir() | local()])
def test_routes_that_cannot_hold_it_are_refused(hop):
    with pytest.raises(ConfigError, match="cannot be kept") as caught:
        (local() | hop).open(detach="1h")
    assert caught.value.hop


def test_a_folder_of_its_own_is_kept_with_it():
    far = (HERE | tempdir()).open()
    where = far.call(os.getcwd)
    with attach(far.detach(), show=False) as back:
        assert back.call(os.getcwd) == where
    assert not Path(where).exists()


def test_no_room_for_the_socket(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(RouteError, match=r"cannot be kept there: .*No such file"):
        HERE.open()


@pytest.mark.skipif(os.getuid() != 0, reason="a file system is mounted for this, which needs root")
def test_a_full_disk(tmp_path, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "none", full], check=True)
    try:
        monkeypatch.setenv("TMPDIR", str(full))
        with pytest.raises(RouteError, match=r"cannot be kept there: .*No space"):
            HERE.open()
        assert not list(full.iterdir())
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.mark.parametrize("wrong", ["", "no", 0, -1, "2 moons"])
def test_times_that_are_none(wrong):
    with pytest.raises(ConfigError):
        HERE.options(detach=wrong)


@pytest.mark.parametrize("wrong", ["", "{}", "[]", "null", '{"outrider": 1}', "x" * 100, "[" * 100_000])
def test_tickets_that_are_none(wrong):
    with pytest.raises(ConfigError, match="no ticket"):
        attach(wrong)


def test_a_ticket_by_hand_has_no_other_options():
    with HERE.open() as far:
        told = json.loads(far.ticket)
        told["options"]["on_output"] = "x"
        with pytest.raises(ConfigError, match="no ticket"):
            attach(json.dumps(told))


# --- a stream that breaks -------------------------------------------------------------------------------------------


def test_a_break_loses_nothing_and_repeats_nothing(far_away, tmp_path):
    with far_away.open(reconnect=5) as far:
        pid = far.far.pid
        slow = far.submit(lasting_work.slow, str(tmp_path / "runs"), 1.5)
        command = far.options(timeout=BOUND)
        threading.Timer(0.5, cut, (far,)).start()
        done = command.run(f"echo begun; echo x >> {tmp_path}/lines; sleep 1.5; echo ended")
        assert done.stdout == b"begun\nended\n"
        assert slow.result(BOUND) == 1
        assert far.call(os.getpid) == pid
    assert (tmp_path / "lines").read_text() == "x\n"


def test_breaks_in_the_midst_of_everything(far_away, tmp_path):
    """Calls of many threads, large arguments and answers, input, output, a generator and a tree, cut again and again."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(60):
        (tree / f"{number}").write_bytes(os.urandom(100_000))
    failures: list[BaseException] = []

    def work(what) -> None:
        try:
            for number in range(8):
                what(number)
        except BaseException as error:
            failures.append(error)

    with far_away.options(reconnect=1000).open() as far:
        # Imported ahead: while one thread imports typing, dataclasses takes what there is of it for the whole.
        assert far.call(far_work.add, 1) == far.call(lasting_work.echo, 1) == 1

        def calls(number):
            assert far.call(functools.partial(max, number), 3) == max(number, 3)

        def large(number):
            body = os.urandom(2_000_000)
            assert far.call(lasting_work.echo, body) == body
            assert far.call(lasting_work.echo, bytearray(body)) == body

        def commands(number):
            body = os.urandom(3_000_000)
            assert far.run(["cat"], stdin=[body[:1_000_000], body[1_000_000:]]).stdout == body

        def items(number):
            assert len(list(far.call(far_work.many_items, 300, 1000))) == 300

        def files(number):
            far.put(tree, tmp_path / f"there{number}")
            far.get(tmp_path / f"there{number}", tmp_path / f"back{number}")
            for file in tree.iterdir():
                assert (tmp_path / f"back{number}" / file.name).read_bytes() == file.read_bytes()

        def counted(number):
            assert far.call(lasting_work.slow, str(tmp_path / f"runs{number}"), 0.1) == 1

        threads = [
            threading.Thread(target=work, args=(what,))
            for what in (calls, large, commands, items, files, counted)
        ]
        for thread in threads:
            thread.start()
        cuts = 0
        while any(thread.is_alive() for thread in threads) and cuts < 40:
            time.sleep(0.1)
            cut(far)
            cuts += 1
        for thread in threads:
            thread.join(2 * BOUND)
        assert not any(thread.is_alive() for thread in threads)
        assert far.ping(BOUND) < BOUND  # the last cut is mended: it hears that it is closed
    assert not failures, failures
    assert cuts > 1


def test_a_stream_that_falls_silent_is_left_for_another(far_away, tmp_path):
    with far_away.options(heartbeat=0.5, reconnect=5).open() as far:
        pid, process = far.far.pid, far.connection.process.pid
        future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 6)
        wait_until(lambda: runs(tmp_path / "runs"))
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(pid, signal.SIGCONT)
        assert future.result(BOUND) == 1
        assert far.call(os.getpid) == pid
        assert far.connection.process.pid != process


def test_a_far_end_that_is_gone_is_replaced_if_that_was_asked_for(far_away, tmp_path):
    with far_away.open(reconnect=5) as far:
        assert far.call(lasting_work.die_at_first, str(tmp_path / "runs")) == 7
        unsure = far.submit(time.sleep, 600)
        os.kill(far.far.pid, signal.SIGKILL)
        with pytest.raises(Lost, match="run twice"):
            unsure.result(BOUND)
        assert far.call(max, 3, 7) == 7
        pid = far.far.pid
        cut(far)
        assert far.call(os.getpid) == pid  # the new one is kept as well


def test_without_reconnect_the_error_says_how_to_come_back(far_away, tmp_path):
    far = far_away.open()
    future = far.submit(lasting_work.slow, str(tmp_path / "runs"), 1.5)
    wait_until(lambda: runs(tmp_path / "runs"))
    cut(far)
    with pytest.raises(Lost) as caught:
        future.result(BOUND)
    assert "attach" in caught.value.hint
    far.close()
    with attach(far.ticket, show=False) as back:
        assert back.pending()[future.ident].result(BOUND) == 1


def test_a_call_that_times_out_while_there_is_no_stream_is_ended_there(far_away, tmp_path):
    with far_away.open(reconnect=20) as far:
        future = far.options(timeout=2).submit(lasting_work.slow, str(tmp_path / "runs"), 600)
        wait_until(lambda: runs(tmp_path / "runs"))
        (tmp_path / "python3").rename(tmp_path / "aside")
        cut(far)
        with pytest.raises(TimedOut):
            future.result(BOUND)
        (tmp_path / "aside").rename(tmp_path / "python3")
        assert far.call(far_work.add, 1) == 1
        ticket = far.detach()
    with attach(ticket, show=False) as back:
        assert back.pending() == {}


def test_a_forked_child_leaves_it_alone(far_away):
    with far_away.open(reconnect=5) as far:
        child = os.fork()
        if not child:
            try:
                far.detach()
            except Refused:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert far.call(max, 3, 7) == 7


def test_a_program_that_ends_ends_its_far_end(seconds):
    code = """
        far = HERE.open()
        print(far.ticket, flush=True)
        far.submit(subprocess.run, ["sleep", sys.argv[1]])
        time.sleep(0.5)
    """
    ticket = left_by(code, seconds)
    with pytest.raises(Lost, match="gone"):
        attach(ticket)
    assert not running(f"sleep {seconds}")
