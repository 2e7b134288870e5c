"""The bridge over its socket: from Python, as subprocess; from a terminal; as a hop; and the verbs."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import outrider
from outrider import bridge
from outrider.bridge import client, containers
from outrider.hops.bridge import Bridge
from tests.bridge.serving import Served, eventually, running


class Host(Served):
    """The server in Python, with the one in bash beside it."""

    def argv(self) -> list[str]:
        words = ["--dir", str(self.folder), "--carrier", self.carrier, "--allow", self.allow, *self.options]
        return [sys.executable, "-m", "outrider.bridge.host", *words]

    def client(self, name: str, *words: str | bytes) -> list[str | bytes]:
        inside = self.folder / "v1" / "client.py"
        return [sys.executable, "-I", "-S", str(inside), str(self.folder), name, *words]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    folder = tmp_path / (
        "a bridge in a folder whose name is longer than what a socket's address can hold, " + "x" * 60
    )
    host = Host(
        folder,
        "auto",
        "--env",
        "SHOWN",
        "--grace",
        "1",
        allow="true,false,cat,sleep,pwd,sh,printenv,python3,tty,stty",
    )
    monkeypatch.setenv("OUTRIDER_BRIDGE", str(folder))
    yield host
    host.stop()


def test_a_commands_streams_and_status(host: Host) -> None:
    done = host.run("sh", "-c", "cat; echo err >&2; exit 7", input=b"in\n")
    assert (done.stdout, done.stderr, done.returncode) == (b"in\n", b"err\n", 7)
    assert host.run("sh", "-c", "kill -9 $$").returncode == 137
    data = os.urandom(1 << 20)
    assert host.run("cat", input=data).stdout == data


def test_the_descriptors_are_the_clients_own(host: Host, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        assert (
            host.run("sh", "-c", "readlink /proc/self/fd/1", stdout=file, capture_output=False).returncode
            == 0
        )
    assert (tmp_path / "out").read_text().strip() == str(tmp_path / "out")


def test_a_host_with_an_old_python(tmp_path: Path, python38: str) -> None:
    shutil.copytree(bridge.HERE, tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    host = Host(tmp_path / "d", "auto", allow="sh")
    host.stop()
    words = [python38, str(tmp_path / "copied" / "host"), *host.argv()[3:]]
    host.argv = lambda: words  # type: ignore[method-assign]
    host.start()
    try:
        client_there = [python38, "-I", "-S", str(host.folder / "v1" / "client.py"), str(host.folder)]
        done = subprocess.run(
            [*client_there, "sh", "-c", "cat; exit 5"], input=b"old", capture_output=True, timeout=20
        )
        assert (done.stdout, done.returncode) == (b"old", 5), done.stderr
        assert (host.folder / "socket").is_socket()
    finally:
        host.stop()


def test_what_a_command_does_not_read_stays_unread(host: Host, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    with (tmp_path / "lines").open("rb", buffering=0) as lines:
        bridge.run(["true"], stdin=lines, check=True)
        assert lines.read() == b"one\ntwo\n"


def test_refusals_and_missing_programs(host: Host) -> None:
    done = host.run("id")
    assert (done.returncode, done.stderr) == (125, b"outrider bridge: id is not allowed here\n")
    assert (
        json.loads(host.folder.with_name(host.folder.name + ".audit.jsonl").read_text().splitlines()[-1])[
            "event"
        ]
        == "refused"
    )


@pytest.mark.parametrize(
    ("content", "mode", "status"),
    [("", 0o644, 126), ("#!/no/such/interpreter\n", 0o755, 127), ("exit 4", 0o755, 4)],
)
def test_a_program_that_cannot_be_started(tmp_path: Path, content: str, mode: int, status: int) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(0o755)
    host = Host(tmp_path / "d", "auto", allow=f"program={program}")
    try:
        program.chmod(mode)
        assert host.run("program").returncode == status
        host.shell = ["sh"]
        done = subprocess.run(
            [str(host.folder / "bin" / "program")], stdin=subprocess.DEVNULL, capture_output=True, timeout=20
        )
        assert done.returncode == status
    finally:
        host.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_and_dead_clients(host: Host, number: signal.Signals) -> None:
    marker = f"3{uuid.uuid4().int % 10**8}"
    process = host.popen("sh", "-c", f"echo ready; exec sleep {marker}", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    process.stdout.close()
    process = host.popen("sh", "-c", f"trap '' HUP; sleep {marker}; sleep 0")
    assert eventually(lambda: running(marker))
    process.kill()
    process.wait()
    assert eventually(lambda: not running(marker))


def test_many_at_once(host: Host) -> None:
    many = [bridge.Popen(["sh", "-c", f"sleep .2; echo {n}"], stdout=subprocess.PIPE) for n in range(40)]
    assert [process.communicate(timeout=60)[0] for process in many] == [b"%d\n" % n for n in range(40)]


def test_a_dead_server_is_noticed_at_once(host: Host) -> None:
    waiting = bridge.Popen(["sleep", "5"])
    host.process.kill()
    host.process.wait()
    with pytest.raises(outrider.RouteError, match="has ended"):
        waiting.wait()
    with pytest.raises(outrider.RouteError, match="no server answers"):
        bridge.run(["true"])
    # What served beside it does not outlive it for long.
    assert eventually(lambda: not (host.folder / "v1").exists())


def test_strangers_and_nonsense(host: Host) -> None:
    def ask(data: bytes) -> bytes:
        connection = client.connect(str(host.folder))
        with connection:
            connection.settimeout(20)
            connection.sendall(data)
            try:
                return connection.recv(1000)
            except ConnectionError:
                return b""

    told = client.Told(str(host.folder))
    told.token = b"guessed"
    request = client.encode(told, b"true", [], b"/", {}, [])
    assert b"token" in ask(struct.pack(">I", len(request)) + request)
    assert b"too long" in ask(struct.pack(">I", 1 << 30) + b"x")
    assert b"another protocol" in ask(struct.pack(">I", 4) + b"a\0b\0")
    assert host.run("true").returncode == 0


def test_a_terminal_is_one_on_the_host(host: Host) -> None:
    child, ours = pty.fork()
    if child == 0:
        os.execvp(
            "sh", ["sh", str(host.folder / "bin" / "sh"), "-c", "tty; stty size; read x; echo got $x; exit 3"]
        )
    import fcntl
    import termios

    said = b""
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
    try:
        while select.select([ours], [], [], 20)[0]:
            more = os.read(ours, 1000)
            if not more:
                break
            said += more
            if b"77\r\n" in said and b"typed" not in said:
                os.write(ours, b"typed\n")
    except OSError:
        pass  # its end
    os.close(ours)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert b"/dev/" in said and b"33 77" in said and b"got typed" in said


# ---- subprocess's names ----


@pytest.mark.parametrize("carrier", ["auto", "fifo"])
def test_as_subprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carrier: str) -> None:
    host = Host(tmp_path / "d", carrier, "--env", "SHOWN", allow="true,false,cat,sleep,pwd,sh,printenv")
    monkeypatch.setenv("OUTRIDER_BRIDGE", str(host.folder))
    try:
        assert bridge.check_output(["pwd"], cwd=tmp_path, text=True) == f"{tmp_path}\n"
        assert bridge.run("pwd", cwd="/", stdout=bridge.PIPE).stdout == b"/\n"
        assert bridge.run(["cat"], input="é", text=True, capture_output=True).stdout == "é"
        assert bridge.check_output(["printenv", "SHOWN"], env={"SHOWN": "x"}) == b"x\n"
        assert (bridge.call(["false"]), bridge.call(["/container/bin/true"])) == (1, 0)
        with pytest.raises(subprocess.CalledProcessError):
            bridge.check_call(["false"])
        with pytest.raises(subprocess.TimeoutExpired):
            bridge.run(["sleep", "60"], timeout=0.5)
        done = bridge.run(["sh", "-c", "echo 1; echo 2 >&2"], stdout=bridge.PIPE, stderr=bridge.STDOUT)
        assert done.stdout == b"1\n2\n"
        assert bridge.run(["id"], capture_output=True).returncode == 125
        with bridge.Popen(["cat"], stdin=bridge.PIPE, stdout=bridge.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None and process.poll() is None
            process.stdin.write(b"line\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"line\n"
            process.terminate()
            assert process.wait(20) in (-15, 143)
        with pytest.raises(outrider.ConfigError, match="shell"):
            bridge.run("true", shell=True)
    finally:
        host.stop()
    with pytest.raises(outrider.RouteError, match="no server"):
        bridge.run(["true"])


def test_only_the_named_commands_are_redirected(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = subprocess.Popen
    bridge.install(["printenv"])
    try:
        assert (
            subprocess.run(
                ["printenv", "PARENT"], capture_output=True, env={**os.environ, "PARENT": "here"}
            ).stdout
            == b""
        )
        assert (
            subprocess.run(
                ["env", "printenv", "PARENT"], capture_output=True, env={**os.environ, "PARENT": "here"}
            ).stdout
            == b"here\n"
        )
    finally:
        bridge.uninstall()
    assert subprocess.Popen is real


# ---- the hop ----


def test_a_far_end_through_the_bridge(host: Host) -> None:
    route = Bridge(str(host.folder)).as_route()
    assert route.run(["sh", "-c", "echo $0"]).stdout in ("sh\n", b"sh\n", "/usr/bin/sh\n")
    assert route.call(os.getppid) != os.getpid()
    with route.open() as far:
        assert [far.call(pow, 2, n) for n in range(20)] == [2**n for n in range(20)]


def test_the_hop_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(outrider.RouteError, match="serves no bridge"):
        Bridge(str(tmp_path)).as_route().run(["true"])
    host = Host(tmp_path / "d", "fifo", allow="true")
    try:
        with pytest.raises(outrider.RouteError, match="policy forbids"):
            Bridge(str(host.folder)).as_route().run(["true"])
    finally:
        host.stop()


def test_the_name_is_the_hop_and_the_package() -> None:
    assert bridge("/x") == Bridge("/x")  # type: ignore[operator]
    assert str((bridge("/x") | outrider.slurm()).hops[0]) == str(Bridge("/x"))  # type: ignore[operator]


# ---- the verbs ----


def outrider_bridge(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outrider", "bridge", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL, **options
    )  # type: ignore[call-overload, no-any-return]


def test_status(host: Host, tmp_path: Path) -> None:
    found = json.loads(outrider_bridge("status", "--dir", str(host.folder), "--json").stdout)
    assert found["alive"] == {"socket": True, "fifo": True} and "pwd" in found["serves"]
    assert outrider_bridge("status").returncode == 0  # $OUTRIDER_BRIDGE
    assert outrider_bridge("status", "--dir", str(tmp_path)).returncode == 1
    files = Served(tmp_path / "files", "files")
    assert containers.status(str(files.folder))["alive"] == {"files": True}
    files.stop(signal.SIGKILL)
    assert containers.status(str(files.folder))["alive"] == {"files": False}


def test_serving_says_what_it_means(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "outrider",
        "bridge",
        "serve",
        "--dir",
        str(tmp_path / "d"),
        "--allow",
        "sbatch=/bin/true",
    ]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    said = [served.stdout.readline() for _ in range(2)]
    served.send_signal(signal.SIGINT)
    assert served.wait(20) in (0, 130)
    served.stdout.close()
    assert "sbatch" in said[0] and "lets the container out" in said[1]


def test_the_script_is_the_server(tmp_path: Path) -> None:
    assert outrider_bridge("script").stdout == bridge.script()


def test_the_words_for_each_engine() -> None:
    for engine in containers.ENGINES:
        words = containers.command(
            engine,
            "image",
            ["sbatch", "x"],
            folder="/d",
            cwd="/work",
            binds=["/data:/in:ro", "/same"],
            terminal=False,
        )
        assert words[0] == engine and words[-2:] == ["sbatch", "x"]
        assert any("/in=/data" in word for word in words)
    with pytest.raises(outrider.ConfigError, match="not a bind"):
        containers.command("bwrap", None, ["x"], folder="/d", cwd="/", binds=["relative"])
    with pytest.raises(outrider.ConfigError, match="image"):
        containers.command("docker", None, ["x"], folder="/d", cwd="/")
    with pytest.raises(outrider.ConfigError):
        containers.find_engine("no-such")


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("job.sh a b", "job.sh"),
        ("-N 2 --parsable -p debug --time 5 job.sh", "job.sh"),
        ("--time=5 -n4 job.sh x", "job.sh"),
        ("--wrap=hostname", None),
        ("-N 2 --wrap hostname", None),
        ("-N 2", None),
        ("--exclusive -W -- job.sh", "job.sh"),
    ],
)
def test_where_sbatchs_script_stands(tmp_path: Path, words: str, script: str | None) -> None:
    split = words.split()
    at = client.script_of([word.encode() for word in split])
    assert (None if at is None else split[at]) == script
    # The client in sh finds the same.
    source = (bridge.HERE / "client.sh").read_text()
    function = source[source.index("find_script() {") : source.index("# Names of exported")]
    found = subprocess.run(
        ["sh", "-c", f'{function}script=; find_script "$@"; echo "$script"', "x", *split],
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == (script or "")


def test_sbatchs_script_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.sh").write_text("the script\n")
    host = Host(tmp_path / "d", "auto", allow="sbatch=/bin/cat")
    monkeypatch.setenv("OUTRIDER_BRIDGE", str(host.folder))
    try:
        assert host.run("sbatch", "job.sh", cwd=tmp_path).stdout == b"the script\n"
        assert bridge.check_output(["sbatch", "job.sh"], cwd=tmp_path) == b"the script\n"
        assert eventually(
            lambda: not list(host.folder.with_name(host.folder.name + ".host").glob("scripts/*"))
        )
        with pytest.raises(outrider.RouteError, match="cannot read the script"):
            bridge.run(["sbatch", "job.sh"], cwd="/")
    finally:
        host.stop()


def test_nothing_is_left_on_the_host(host: Host) -> None:
    for _ in range(20):
        bridge.run(["true"], check=True)
    before = len(os.listdir(f"/proc/{host.process.pid}/fd"))  # noqa: PTH208
    for _ in range(50):
        bridge.run(["true"], check=True)
    assert len(os.listdir(f"/proc/{host.process.pid}/fd")) <= before + 1  # noqa: PTH208
    host.stop()
    assert {path.name for path in host.folder.iterdir()} == {"bin"}
