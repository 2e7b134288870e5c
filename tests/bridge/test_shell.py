"""The bridge in bash and sh: each fault of the tool it replaces, and what else a command may expect of its caller."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider import bridge
from tests.bridge.serving import CLIENT, SERVER, Served, eventually, only_on_path, running

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
DEAD = 10  # seconds within which a dead server must be noticed; with FIFOs it is at once


@pytest.fixture(params=["fifo", "files"])
def carrier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(carrier: str, tmp_path: Path) -> Iterator[Served]:
    bridge = Served(tmp_path / "a bridge", carrier, "--env", "SLURM_*,SHOWN", "--lost", "2", "--grace", "1")
    yield bridge
    bridge.stop()


# ---- the faults, by their numbers ----


def test_1_a_command_reads_its_own_stdin(served: Served) -> None:
    waiting = [served.popen("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    assert served.run("true").returncode == 0
    for number, process in enumerate(waiting):
        assert process.communicate(b"%d\n" % number, 20)[0] == b"%d\n" % number


def test_2_a_server_that_is_started_again_runs_nothing_again(served: Served, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(12):
        assert served.run("sh", "-c", f"echo {number} >>'{log}'").returncode == 0
    served.stop(signal.SIGKILL)
    served.start()
    assert served.run("true").returncode == 0
    assert log.read_text().split() == [str(number) for number in range(12)]


def test_3_many_requests_at_once_are_all_answered(served: Served) -> None:
    many = [
        served.popen("sh", "-c", f"echo {n}", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for n in range(40)
    ]
    assert [process.communicate(timeout=60)[0] for process in many] == [b"%d\n" % n for n in range(40)]


def test_5_a_client_that_dies_with_its_request_made_stops_nobody_else(served: Served) -> None:
    for delay in (0.005, 0.01, 0.02, 0.04):
        process = served.popen("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(delay)
        process.kill()
        process.communicate()
    assert served.run("true").returncode == 0


def test_6_a_megabyte_both_ways(served: Served) -> None:
    data = os.urandom(1 << 20)
    assert served.run("cat", input=data).stdout == data


def test_6_a_megabyte_from_a_file(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(data := os.urandom(1 << 20))
    with path.open("rb") as file:
        assert served.run("cat", stdin=file).stdout == data


def test_7_an_exit_status_is_never_read_before_it_is_there(served: Served) -> None:
    assert {served.run("false").returncode for _ in range(20)} == {1}


@pytest.mark.parametrize(
    "name", ["a b", "$(touch hurt)", 'it\'s "so"', ";touch hurt;", "-n", "new\nline", "*"]
)
def test_8_any_name_of_a_folder(served: Served, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "place" / name
    folder.mkdir(parents=True)
    done = served.run("pwd", cwd=folder)
    assert (done.stdout, done.returncode) == (os.fsencode(folder) + b"\n", 0)
    assert not list(tmp_path.rglob("hurt"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_9_a_signal_reaches_the_command(served: Served, number: signal.Signals) -> None:
    process = served.popen(
        "sh", "-c", "echo ready; exec sleep 60", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    process.stdout.close()


def test_9_a_client_that_is_killed_takes_its_command_along(served: Served) -> None:
    marker = f"3{uuid.uuid4().int % 10**8}"
    process = served.popen("sleep", marker, stdin=subprocess.DEVNULL)
    assert eventually(lambda: running(marker))
    process.kill()
    process.wait()
    assert eventually(lambda: not running(marker))


def test_9_a_command_that_is_to_be_kept_goes_on(served: Served, tmp_path: Path) -> None:
    script = f"echo ready; sleep 1; head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; echo done >'{tmp_path}/log'"
    keep = {**os.environ, "OUTRIDER_BRIDGE_KEEP": "1"}
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": keep}
    process = served.popen("sh", "-c", script, **options)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    assert eventually((tmp_path / "log").exists)


def test_9_a_command_that_ignores_hangups_is_made_to_end(served: Served) -> None:
    marker = f"3{uuid.uuid4().int % 10**8}"
    process = served.popen("sh", "-c", f"trap '' HUP; sleep {marker}; true", stdin=subprocess.DEVNULL)
    assert eventually(lambda: running(marker))
    process.kill()
    process.wait()
    assert eventually(lambda: not running(marker))


def test_10_a_dead_server_is_noticed(served: Served) -> None:
    served.stop(signal.SIGKILL)
    started = time.monotonic()
    done = served.run("true")
    assert time.monotonic() - started < DEAD
    assert done.returncode == 125
    assert done.stderr.startswith(b"outrider bridge: ") and b"has ended" in done.stderr


def test_10_a_server_that_dies_under_a_command(served: Served) -> None:
    process = served.popen(
        "sh", "-c", "echo ready; sleep 1; exit 3", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    served.stop(signal.SIGKILL)
    assert process.wait(20) == 3  # the request has a process of its own, which goes on, and answers
    process.stdout.close()


def test_10_a_server_that_ended_in_order_says_so(served: Served) -> None:
    served.run("true")
    shim = (served.folder / "bin" / "true").read_bytes()
    served.stop()
    (served.folder / "bin").mkdir(exist_ok=True)
    (served.folder / "bin" / "true").write_bytes(shim)
    done = served.run("true")
    assert done.returncode == 125 and b"no server in" in done.stderr


def test_11_nothing_is_left_of_requests(served: Served) -> None:
    for _ in range(60):
        assert served.run("true").returncode == 0
    assert eventually(lambda: len(served.slots()) < 36), served.slots()
    served.stop()
    assert {path.name for path in served.folder.iterdir()} <= {"bin"}


def test_12_a_terminal_stays_as_it_was(served: Served) -> None:
    import fcntl

    ours, theirs = pty.openpty()
    before = fcntl.fcntl(theirs, fcntl.F_GETFL)
    assert (
        served.run("true", stdin=theirs, stdout=theirs, stderr=theirs, capture_output=False).returncode == 0
    )
    assert fcntl.fcntl(theirs, fcntl.F_GETFL) == before
    os.close(ours)
    os.close(theirs)


def test_13_a_shim_called_by_its_path_is_its_name(served: Served, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(served.folder / "bin" / "pwd", elsewhere / "pwd")
    done = subprocess.run(
        ["./pwd"],
        cwd=elsewhere,
        env={**os.environ, "OUTRIDER_BRIDGE": str(served.folder)},
        capture_output=True,
        timeout=20,
    )
    assert done.stdout == os.fsencode(elsewhere) + b"\n"


def test_14_commands_run_at_the_same_time(served: Served, tmp_path: Path) -> None:
    # Each waits for the other: one after the other, they would never end.
    meet = "touch {0}; until [ -e {1} ]; do sleep .05; done"
    one, other = str(tmp_path / "1"), str(tmp_path / "2")
    both = [
        served.popen("sh", "-c", meet.format(*pair), stdin=subprocess.DEVNULL)
        for pair in ((one, other), (other, one))
    ]
    assert [process.wait(30) for process in both] == [0, 0]


def test_14_only_allowed_variables_travel(served: Served) -> None:
    names = {
        "SLURM_X": "a b\nexport SHOWN=no",
        "SHOWN": "it's",
        "HIDDEN": "x",
        "LD_PRELOAD": "/nowhere.so",
        "SLURM_CONF": "/x",
    }
    given = {name: value for name, value in names.items() if name != "LD_PRELOAD"}
    done = served.run("printenv", "--null", env={**os.environ, **given})
    seen = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    assert (seen["SLURM_X"], seen["SHOWN"]) == (names["SLURM_X"], names["SHOWN"])
    assert "HIDDEN" not in seen and seen.get("SLURM_CONF") != "/x" and "LD_PRELOAD" not in seen


def test_14_the_servers_end_leaves_its_callers_group_alone(carrier: str, tmp_path: Path) -> None:
    words = " ".join(f"'{word}'" for word in Served.argv(_described(tmp_path / "d", carrier)))
    script = f"{words} >/dev/null & until [ -e '{tmp_path}/d/v1/server' ]; do sleep .05; done; kill $!; wait; echo survived"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=30, start_new_session=True)
    assert done.stdout == b"survived\n"


def _described(folder: Path, carrier: str) -> Served:
    described = Served.__new__(Served)
    described.folder, described.carrier, described.options, described.allow = folder, carrier, (), "true"
    return described


# ---- what a command may expect ----


def test_stdout_stderr_and_the_status(served: Served) -> None:
    done = served.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_a_command_that_a_signal_ends(served: Served) -> None:
    assert served.run("sh", "-c", "kill -9 $$").returncode == 137


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_words_arrive_as_they_are(served: Served, shell: list[str]) -> None:
    if not shutil.which(shell[0]):
        pytest.skip(f"no {shell[0]} here")
    served.shell = shell
    words = [b"", b"a b", b"*", b"$HOME", b"'\"\\", b"new\nline", b"\xff\xfe\x01", b"-n", b"end", b"%s%d"]
    done = served.run("sh", "-c", "for word do printf '%s\\0' \"$word\"; done", "x", *words)
    assert done.stdout == b"".join(word + b"\0" for word in words)
    process = served.popen("sleep", "60", stdin=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stdin is not None
    process.stdin.close()


def test_shims_first_on_the_path_of_a_shim(served: Served) -> None:
    shims = served.folder / "bin"
    env = {**os.environ, "PATH": f"{shims}:{shims}:{os.environ['PATH']}:{shims}"}
    assert served.run("cat", input=b"through", env=env).stdout == b"through"
    done = served.run("sh", "-c", "echo out; sleep 0.2; echo err >&2; exit 3", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_output_streams(served: Served) -> None:
    process = served.popen(
        "sh", "-c", "echo first; read x; echo got $x", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    process.stdin.write(b"this\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"got this\n"
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_reader_that_stops_reading(served: Served) -> None:
    script = f"sh '{served.folder}/bin/sh' -c 'while :; do echo y; done' </dev/null | head -n 2"
    assert subprocess.run(["sh", "-c", script], capture_output=True, timeout=40).stdout == b"y\ny\n"


def test_output_is_complete_when_it_is_large(served: Served) -> None:
    assert len(served.run("head", "-c", "5000000", "/dev/zero").stdout) == 5_000_000


def test_what_is_not_allowed_is_refused(served: Served) -> None:
    done = served.run("true", env={**os.environ, "OUTRIDER_BRIDGE": str(served.folder)})
    assert done.returncode == 0
    done = subprocess.run(
        ["sh", str(CLIENT), "/bin/id"],
        env={**os.environ, "OUTRIDER_BRIDGE": str(served.folder)},
        capture_output=True,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (125, b"outrider bridge: id is not allowed here\n")


@pytest.mark.parametrize("mapped", ["/nowhere at all", "relative"])
def test_a_folder_that_the_host_has_not(served: Served, tmp_path: Path, mapped: str) -> None:
    done = served.run("true", cwd=tmp_path, env={**os.environ, "OUTRIDER_BRIDGE_MAP": f"{tmp_path}={mapped}"})
    assert done.returncode == 125 and b"does not exist on the host" in done.stderr


def test_the_containers_paths_are_translated(served: Served, tmp_path: Path) -> None:
    (tmp_path / "host" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub").mkdir(parents=True)
    done = served.run(
        "pwd",
        cwd=tmp_path / "data" / "sub",
        env={**os.environ, "OUTRIDER_BRIDGE_MAP": f"{tmp_path}/data={tmp_path}/host\n/x=/y"},
    )
    assert done.stdout == os.fsencode(tmp_path / "host" / "sub") + b"\n"


def test_the_audit_trail(served: Served, tmp_path: Path) -> None:
    served.run("sh", "-c", "exit 3", 'quoted "x"\n\x01')
    served.run("false")
    assert eventually(
        lambda: served.folder.with_name(served.folder.name + ".audit.jsonl").read_text().count("\n") == 4
    )
    lines = [
        json.loads(line)
        for line in served.folder.with_name(served.folder.name + ".audit.jsonl").read_text().splitlines()
    ]
    assert [line["outcome"] for line in lines] == ["started", "3", "started", "1"]
    assert lines[0]["argv"] == ["sh", "-c", "exit 3", 'quoted "x"\n\x01'] and lines[0]["id"] == lines[1]["id"]


def test_paths_given_from_where_the_server_was_started(
    carrier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served = Served(Path("d"), carrier, "--audit", "trail", "--singreqrun", "req_run")
    try:
        assert eventually((tmp_path / "req_run/reqs").is_fifo)
        done = subprocess.run(
            [tmp_path / "d/bin/pwd"], cwd="/", stdin=subprocess.DEVNULL, capture_output=True
        )
        assert done.stdout == b"/\n"
        assert eventually(lambda: (tmp_path / "trail").read_text().count("\n") == 2)
    finally:
        served.stop()


def test_sbatchs_script_goes_along(carrier: str, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("the script\n")
    served = Served(tmp_path / "d", carrier, allow="sbatch=/bin/echo")
    try:
        said = served.run("sbatch", "-J", "job.sh", "job.sh", "job.sh", cwd=tmp_path).stdout.decode().split()
        assert said[:2] == ["-J", "job.sh"] and said[3:] == ["job.sh"]
        assert said[2].startswith(f"{tmp_path}/d.host/") and said[2].endswith("/job.sh")
    finally:
        served.stop()
    served = Served(tmp_path / "d", carrier, allow="sbatch=/bin/cat")
    try:
        assert served.run("sbatch", str(tmp_path / "job.sh"), cwd="/").stdout == b"the script\n"
        assert b"cannot read the script" in served.run("sbatch", "not-there").stderr
    finally:
        served.stop()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_with_files_the_processes_that_wait_for_an_order_may_be_killed(tmp_path: Path) -> None:
    served = Served(tmp_path / "d", "files")
    try:
        killed = children(served.process.pid)
        for child in killed:
            os.kill(child, signal.SIGKILL)
        assert eventually(lambda: not set(killed) & set(children(served.process.pid)))
        running = [served.popen("sh", "-c", f"exit {n}", stdin=subprocess.DEVNULL) for n in range(12)]
        assert [process.wait(30) for process in running] == list(range(12))
    finally:
        served.stop()


def test_with_files_a_request_whose_process_is_killed_ends(tmp_path: Path) -> None:
    served = Served(tmp_path / "d", "files")
    try:
        idle = children(served.process.pid)
        client = served.popen(
            "sh", "-c", "echo $PPID; exec sleep 606", stdin=subprocess.DEVNULL, stdout=-1, stderr=-1
        )
        assert client.stdout is not None and client.stderr is not None
        worker = int(client.stdout.readline())
        assert worker in idle
        os.kill(worker, signal.SIGKILL)
        assert client.wait(30) == 125 and b"killed" in client.stderr.read()
        assert eventually(lambda: not running("606"))
        client.stdout.close()
        client.stderr.close()
    finally:
        served.stop()


def test_a_second_server_is_refused(served: Served) -> None:
    done = subprocess.run(served.argv(), capture_output=True, timeout=20)
    assert done.returncode == 125 and b"another server serves" in done.stderr
    assert served.run("true").returncode == 0


# ---- the server ----


@pytest.mark.parametrize(
    "words",
    [(), ("--preset", "nonsense"), ("--allow", "no-such-command"), ("--jobs", "0", "--allow", "true")],
)
def test_a_server_that_could_serve_nothing_says_why(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["bash", str(SERVER), "--dir", str(tmp_path / "d"), *words], capture_output=True, timeout=20
    )
    assert done.returncode == 125
    assert re.fullmatch(rb"outrider bridge: .+\n", done.stderr)


# ---- the protocol of the tool that this replaces ----


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "req_run"
    served = Served(tmp_path / "d", "fifo", "--singreqrun", str(folder), "--lost", "1")
    assert eventually(lambda: (folder / "reqs").is_fifo())
    yield folder
    served.stop()


def ask_old(folder: Path, script: str, fifos: bool = False) -> Path:
    """As its clients do: files beside the queue, then the id on the queue."""
    file = folder / uuid.uuid4().hex
    file.with_suffix(".cmd").write_text(f"#!/bin/bash\n{script}\n")
    file.with_suffix(".cmd").chmod(0o755)
    for stream in ("stdin", "stdout", "stderr") if fifos else ():
        os.mkfifo(file.with_suffix(f".{stream}"))
    with (folder / "reqs").open("a") as queue:
        queue.write(f"{file.name}\n")
    return file


def code_of(file: Path) -> str:
    assert eventually(file.with_suffix(".code").exists)
    return file.with_suffix(".code").read_text()


def test_an_old_client_with_plain_files(old: Path) -> None:
    files = [ask_old(old, f"cat; echo {n}; echo err >&2; exit {n}") for n in range(20)]
    for number, file in enumerate(files):
        assert code_of(file) == f"{number}\n"
        assert file.with_suffix(".stdout").read_text() == f"{number}\n"
        assert file.with_suffix(".stderr").read_text() == "err\n"


def test_an_old_client_with_fifos(old: Path) -> None:
    dead = ask_old(old, "true", fifos=True)  # its client opens nothing, and stops nobody
    file = ask_old(old, "cat; exit 3", fifos=True)
    data = os.urandom(1 << 20)
    feed = subprocess.Popen(["sh", "-c", f"cat >'{file}.stdin'"], stdin=subprocess.PIPE)
    errors = subprocess.Popen(["cat", f"{file}.stderr"], stdout=subprocess.DEVNULL)
    read = subprocess.Popen(["cat", f"{file}.stdout"], stdout=subprocess.PIPE)
    sender = threading.Thread(target=feed.communicate, args=(data,))
    sender.start()
    assert read.communicate(timeout=20)[0] == data
    sender.join(20)
    assert (code_of(file), feed.wait(20), errors.wait(20)) == ("3\n", 0, 0)
    assert code_of(dead) == "137\n"


@pytest.mark.parametrize("which", ["cmd", "stdin", "stdout", "stderr"])
@pytest.mark.parametrize("there", [True, False], ids=["to-a-file", "to-nothing"])
def test_a_link_in_the_place_of_an_old_requests_file(
    old: Path, tmp_path: Path, which: str, there: bool
) -> None:
    target = tmp_path / "elsewhere"
    if there:
        target.write_text(f"echo ran >'{tmp_path}/ran'\n")
    before = target.read_text() if there else None
    file = old / uuid.uuid4().hex
    file.with_suffix(".cmd").write_text(f"cat; echo ran | tee '{tmp_path}/ran'\n")
    file.with_suffix(f".{which}").unlink(missing_ok=True)
    file.with_suffix(f".{which}").symlink_to(target)
    with (old / "reqs").open("a") as queue:
        queue.write(f"{file.name}\n")
    if which != "cmd" or there:
        assert code_of(file) == "126\n"
    assert code_of(ask_old(old, "true")) == "0\n"
    assert not (tmp_path / "ran").exists()
    assert (target.read_text() if there else target.exists()) == (before if there else False)


def test_links_in_the_place_of_an_old_requests_outcome(old: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    file = old / uuid.uuid4().hex
    file.with_suffix(".code").symlink_to(tmp_path / "folder")
    Path(f"{file}.code.new").symlink_to(tmp_path / "file")
    file.with_suffix(".cmd").write_text("exit 7\n")
    with (old / "reqs").open("a") as queue:
        queue.write(f"{file.name}\n")
    assert eventually(lambda: file.with_suffix(".code").is_file())
    assert file.with_suffix(".code").read_text() == "7\n"
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "folder").iterdir())


def test_a_queue_that_is_replaced_by_a_link(old: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("")
    (old / "reqs").rename(old / "was")
    (old / "reqs").symlink_to(tmp_path / "queue")
    file = old / uuid.uuid4().hex
    file.with_suffix(".cmd").write_text("exit 5\n")
    with (old / "was").open("a") as queue:  # the server reads what it made, whatever bears its name
        queue.write(f"{file.name}\n")
    assert code_of(file) == "5\n"


def test_the_old_protocols_folder_is_private(old: Path) -> None:
    assert stat.S_IMODE(old.stat().st_mode) == 0o700


def test_an_old_request_runs_once(old: Path, tmp_path: Path) -> None:
    file = ask_old(old, f"echo once >>'{tmp_path}/log'")
    code_of(file)
    with (old / "reqs").open("a") as queue:
        queue.write(f"{file.name}\n../../etc/passwd\n{file.name}\n")
    code_of(ask_old(old, "true"))
    assert (tmp_path / "log").read_text() == "once\n"


def test_rules_for_words(carrier: str, tmp_path: Path) -> None:
    served = Served(
        tmp_path / "d", carrier, "--only", "sh:show*", "--deny", "sh:--evil*", allow="sh=/bin/echo"
    )
    try:
        assert served.run("sh", "-v", "showing", "x").stdout == b"-v showing x\n"
        assert b"only" in served.run("sh", "delete").stderr
        assert b"not allowed with" in served.run("sh", "show", "--evil=1").stderr
    finally:
        served.stop()


def test_no_more_at_once_than_allowed(carrier: str, tmp_path: Path) -> None:
    served = Served(tmp_path / "d", carrier, "--jobs", "2")
    try:
        script = f"n=$(ls {tmp_path} | grep -c run); mkdir {tmp_path}/run$$; sleep .1; rmdir {tmp_path}/run$$; [ $n -lt 2 ]"
        many = [served.popen("sh", "-c", script, stdin=subprocess.DEVNULL) for _ in range(30)]
        assert {process.wait(60) for process in many} == {0}
    finally:
        served.stop()


def test_the_host_needs_bash_and_nothing_else_on_its_path(carrier: str, tmp_path: Path) -> None:
    single = tmp_path / "bridge.sh"
    single.write_text(bridge.script())
    served = _described(tmp_path / "d", carrier)
    served.allow, served.shell = "true=/bin/true,cat=/bin/cat", ["sh"]
    words = [*served.argv()[:1], str(single), *served.argv()[2:]]
    served.argv = lambda: words  # type: ignore[method-assign]
    served.start(env=only_on_path(tmp_path / "path", ["bash"]))
    try:
        assert served.run("cat", input=b"hello").stdout == b"hello"
        assert served.run("true").returncode == 0
    finally:
        served.stop()


def test_a_server_that_was_started_in_the_background_of_a_script(carrier: str, tmp_path: Path) -> None:
    served = _described(tmp_path / "d", carrier)
    served.allow, served.shell = "sleep", ["sh"]
    served.start(preexec_fn=lambda: (signal.signal(signal.SIGINT, signal.SIG_IGN), None)[1])
    try:
        process = served.popen("sleep", "60", stdin=subprocess.DEVNULL)
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        served.stop()


def test_a_shell_checker_finds_nothing(tmp_path: Path) -> None:
    checker = shutil.which("shellcheck") or str(Path(sys.executable).parent / "shellcheck")
    if not Path(checker).exists():
        pytest.skip("no shellcheck here")
    single = tmp_path / "bridge.sh"
    single.write_text(bridge.script())
    for path in (SERVER, CLIENT, single):
        done = subprocess.run([checker, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
