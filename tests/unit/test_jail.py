"""The sandbox's native engine, through a session: verdicts, figures, what comes back, and what is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import Route, Session, errors, hops
from outrider.command import Command
from outrider.far import data, wire
from outrider.far.jail import guarantees
from tests.world.fixtures import find_python
from tests.world.machine import descendants, find_program, wait_for

MIB = 1 << 20
LIMITS = {"time": 2, "wall": 10, "memory": 128 * MIB, "processes": 16, "output": MIB, "disk": 32 * MIB}
WITHOUT = [guarantees.MEMORY, guarantees.CPU]
PYTHON = "/usr/bin/python3"
MARK = "jail/boot.py"


class Jail:
    """A session whose commands are jobs."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def start(self, *argv: str, stdin: bytes | None = None, timeout: float = 60, **spec: Any) -> Any:
        spec.setdefault("limits", LIMITS)
        spec.setdefault("allow_missing", WITHOUT)
        command = Command(argv, spec.pop("env", None), spec.pop("cwd", None))
        more = {"sandbox": spec, "tty": spec.pop("tty", None)}
        return self.session.start(command, stdin=stdin, timeout=timeout, more=more)

    def answer(self, *argv: str, timeout: float = 60, **spec: Any) -> tuple[dict[str, Any], bytes, bytes]:
        request = self.start(*argv, timeout=timeout, **spec)
        self.session.connection.wait(request, timeout)
        kind, _, segments = request.value
        about = data.loads(bytes(segments[0]))
        if kind == wire.RAISED:
            raise errors.Refused(about["message"])
        assert set(about) == {"returncode", "duration", "cancelled", "sandbox"}
        return about, request.printed("stdout"), request.printed("stderr")

    def run(self, *argv: str, **spec: Any) -> tuple[dict[str, Any], bytes, bytes]:
        about, out, err = self.answer(*argv, **spec)
        report = about["sandbox"]
        assert report["engine"] == "native"
        return report, out, err

    def sh(self, script: str, **spec: Any) -> tuple[dict[str, Any], bytes, bytes]:
        return self.run("/bin/sh", "-c", script, **spec)


def routes() -> dict[str, Callable[[], Route]]:
    return {
        "self": lambda: Route.named("local"),
        "nobody": lambda: Route.named("local") | hops.sudo("nobody"),
    }


def opened(who: str) -> Session:
    if who == "nobody" and (os.geteuid() or not find_program("sudo")):
        pytest.skip("only root can become nobody")
    route = routes()[who]()
    return (route.options(python=PYTHON) if who == "nobody" else route).open()


@pytest.fixture(scope="module", params=["self", "nobody"])
def jail(request: pytest.FixtureRequest) -> Iterator[Jail]:
    with opened(request.param) as session:
        found = Jail(session)
        try:
            found.run("/bin/true")
        except errors.Refused as error:
            pytest.skip(f"no native sandbox here: {error}")
        yield found


def limited(**changes: Any) -> dict[str, Any]:
    return {**LIMITS, **changes}


def test_a_program_that_is_well(jail: Jail) -> None:
    report, out, err = jail.sh("echo one; echo two >&2; exit 0")
    assert (report["verdict"], report["exit_code"], report["signal"], report["message"]) == (
        "OK",
        0,
        None,
        "",
    )
    assert (out, err) == (b"one\n", b"two\n")
    usage = report["usage"]
    assert 0 < usage["wall_s"] < 10
    assert 0 < usage["cpu_s"] < 2
    assert usage["output_bytes"] == 8
    assert usage["memory_bytes"] < 64 * MIB
    assert set(report["sources"]) <= set(usage)


@pytest.mark.parametrize(
    ("script", "verdict", "code", "number"),
    [
        ("exit 3", "RE", 3, None),
        ("kill -SEGV $$", "RE", None, signal.SIGSEGV),
        ("kill -ABRT $$", "RE", None, signal.SIGABRT),
        ("while :; do :; done", "TLE", None, signal.SIGKILL),
        ("kill -STOP $$", "TLE", None, signal.SIGKILL),
        ("exec sleep 100", "TLE", None, signal.SIGKILL),
        ("exec yes", "OLE", None, signal.SIGKILL),
        ("(yes >&2) & (yes) & wait", "OLE", None, signal.SIGKILL),
        ("exec mount -t tmpfs none /tmp", "RV", None, signal.SIGKILL),
        ("exec unshare -U true", "RV", None, signal.SIGKILL),
        ("head -c 1000000 /dev/zero > f; exec cat f f f f f f f f f f f f f f f f f > g", "RE", 1, None),
    ],
)
def test_verdicts(jail: Jail, script: str, verdict: str, code: int | None, number: int | None) -> None:
    limits = limited(time=0.3, wall=0.8, disk=8 * MIB, output=10_000)
    report, out, err = jail.sh(script, limits=limits)
    assert (report["verdict"], report["exit_code"], report["signal"]) == (verdict, code, number), report
    assert len(out) + len(err) <= 10_000
    if verdict not in ("OK", "RE"):
        assert report["message"]


def test_memory_of_one_process_and_of_files_in_memory(jail: Jail) -> None:
    for argv in (
        (PYTHON, "-c", "x = bytearray(200 << 20); print(len(x))"),
        ("/bin/sh", "-c", "exec cat /dev/zero > /tmp/f"),
    ):
        report, out, _ = jail.run(*argv, limits=limited(disk=400 * MIB))
        assert (report["verdict"], out) == ("MLE", b"")
        assert report["usage"]["memory_bytes"] <= 260 * MIB


def test_the_call_that_broke_a_rule_is_named(jail: Jail) -> None:
    report, _, _ = jail.run("/bin/mount", "-t", "tmpfs", "none", "/tmp")
    assert (report["verdict"], report["message"]) == ("RV", "it made the system call mount")


def test_programs_that_are_not_there_or_none(jail: Jail) -> None:
    for argv, code in ((("/nowhere",), 127), (("nowhere",), 127), (("/etc/passwd",), 126), (("/usr",), 126)):
        report, _, _ = jail.run(*argv)
        assert (report["verdict"], report["exit_code"]) == ("RE", code)
        assert argv[0] in report["message"]
    report, _, _ = jail.run("true", cwd="/nowhere")
    assert (report["verdict"], report["exit_code"]) == ("RE", 127)
    assert "/nowhere" in report["message"]


def test_the_first_bytes_of_output_are_kept(jail: Jail) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i; done"
    report, out, _ = jail.sh(script, limits=limited(output=5000))
    whole = b"".join(b"%d\n" % i for i in range(1, 2000))
    assert report["verdict"] == "OLE"
    assert out == whole[:5000]
    report, out, _ = jail.sh("head -c 5000 /dev/zero", limits=limited(output=5000))
    assert (report["verdict"], len(out)) == ("OK", 5000)
    report, out, _ = jail.sh("head -c 5001 /dev/zero; exit 0", limits=limited(output=5000))
    assert (report["verdict"], len(out)) == ("OLE", 5000)


def test_output_without_a_limit_comes_whole(jail: Jail) -> None:
    report, out, err = jail.sh("head -c 5000000 /dev/zero; echo end >&2", limits=limited(output=None))
    assert (report["verdict"], len(out), err) == ("OK", 5_000_000, b"end\n")
    assert report["usage"]["output_bytes"] == 5_000_004


def test_output_that_waits_when_the_job_ends_comes_whole(jail: Jail) -> None:
    """What the other end has not taken yet is in the job's pipes when it dies: read then, and in order."""
    for more in range(0, 60000, 3000):
        size = wire.WINDOW + more
        report, out, err = jail.sh(f"head -c {size} /dev/zero; echo end >&2", limits=limited(output=None))
        assert report["verdict"] == "OK", report
        assert (len(out), err) == (size, b"end\n")


def test_input_of_any_size(jail: Jail) -> None:
    text = bytes(range(256)) * 8000
    report, out, _ = jail.run("/bin/cat", stdin=text, limits=limited(output=4 * MIB))
    assert report["verdict"] == "OK"
    assert out == text
    report, out, _ = jail.run("/bin/true", stdin=text)
    assert report["verdict"] == "OK"
    report, out, _ = jail.run("/bin/cat")
    assert (report["verdict"], out) == ("OK", b"")


def test_the_whole_tree_is_counted(jail: Jail) -> None:
    orphans = (
        "import os, time\nr, w = os.pipe()\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    )
    orphans += "        while time.process_time() < 0.3: pass\n        os.write(w, b'x')\n    os._exit(0)\n"
    orphans += "os.wait()\nos.read(r, 1)\n"
    unwaited = "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nr, w = os.pipe()\n"
    unwaited += "if os.fork() == 0:\n    while time.process_time() < 0.3: pass\n    os.write(w, b'x')\n    os._exit(0)\n"
    unwaited += "os.read(r, 1)\ntime.sleep(0.02)\n"
    for program in (orphans, unwaited):
        report, _, err = jail.run(PYTHON, "-I", "-S", "-c", program)
        if guarantees.CPU in report["missing"]:
            pytest.skip("nothing counts a tree's time here")
        assert (report["verdict"], err) == ("OK", b"")
        assert 0.3 <= report["usage"]["cpu_s"] < 0.6


def test_nothing_of_it_outlives_it(jail: Jail) -> None:
    report, out, _ = jail.sh("(setsid sleep 1234 &) ; (trap '' TERM; sleep 1234) & echo started")
    assert (report["verdict"], out) == ("OK", b"started\n")
    assert not alive("sleep 1234")


def test_a_bomb_stays_within_its_number(jail: Jail) -> None:
    bomb = "import os\nn = 0\nfor _ in range(200):\n  try:\n    if os.fork() == 0:\n      os.read(0, 1)\n"
    bomb += "      os._exit(0)\n    n += 1\n  except OSError: pass\nprint(n)"
    report, out, _ = jail.run(PYTHON, "-I", "-S", "-c", bomb, limits=limited(processes=8))
    assert report["verdict"] == "OK"
    assert 0 < int(out) <= 8
    assert alive(bomb) == []


def test_files_go_in_and_come_out(jail: Jail) -> None:
    inputs = [["a.txt", b"first", 0o600], ["d/e/run", b"#!/bin/sh\necho ran; cat a.txt > d/b", 0o755]]
    outputs = [
        "d/b",
        "/box/a.txt",
        "d",
        "no",
        "../etc/passwd",
        "/etc/passwd",
        "pipe",
        "link",
        "d/link/passwd",
    ]
    script = "./d/e/run; mkfifo pipe; ln -s a.txt link; ln -s /etc d/link"
    report, out, _ = jail.sh(script, inputs=inputs, outputs=outputs)
    assert (report["verdict"], out) == ("OK", b"ran\n")
    assert report["outputs"] == {"d/b": b"first", "/box/a.txt": b"first"}
    assert set(report["refused"]) == set(outputs) - {"d/b", "/box/a.txt"}
    assert (
        report["refused"]["no"] == "open of no: No such file or directory"
        or "No such" in report["refused"]["no"]
    )
    assert "regular" in report["refused"]["pipe"]


def test_what_it_finds_is_its_own(jail: Jail) -> None:
    script = "id -u; pwd; hostname; ls -A /box /tmp /dev/shm; ls /proc/self/fd; env"
    _, out, _ = jail.sh(script, env={"MINE": "yes"})
    lines = out.decode().splitlines()
    assert lines[:3] == ["1000", "/box", "sandbox"]
    assert "/box:" in lines and "0" in lines and "4" not in lines
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "USER",
        "LOGNAME",
        "MINE",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    }
    _, out, _ = jail.sh("cat /proc/self/status")
    status = dict(line.split(":\t") for line in out.decode().splitlines() if ":\t" in line)
    assert status["CapBnd"] == status["CapPrm"] == status["CapEff"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    _, out, err = jail.sh(
        "cat /etc/shadow; ls /root /home /work; cat /proc/1/environ; echo x > /usr/x; echo x > /etc/x"
    )
    assert out == b""
    assert err.count(b"\n") >= 5


def test_a_pooled_jail_is_like_new(jail: Jail) -> None:
    leave = "echo x > /box/f; echo x > /tmp/f; echo x > /dev/shm/f; chmod 0 /box; (sleep 77 &)"
    look = "ls -A /box /tmp /var/tmp /dev/shm; cat /proc/sysvipc/shm; ls -ld /box; ps ax -o args | grep -c 'sleep 77'"
    _, clean, _ = jail.sh(look)
    for _ in range(6):
        assert jail.sh(leave)[0]["verdict"] == "OK"
        _, out, _ = jail.sh(look)
        assert out.split(b"drwx")[0] == clean.split(b"drwx")[0]
        assert b"drwx------" in out


def test_a_pooled_jail_tells_nothing_of_earlier_jobs(jail: Jail) -> None:
    look = (
        "echo $$; sh -c 'echo $$'; cat /proc/loadavg | cut -d' ' -f5; ls -d /proc/[0-9]*; cat /proc/net/dev"
    )
    _, clean, _ = jail.sh(look)
    assert b"/proc/1\n" not in clean, "init counts what jobs have used"
    for _ in range(4):
        jail.sh("for i in 1 2 3 4 5 6 7 8 9; do /bin/true; done; sleep 9 & exit 0")
        assert jail.sh(look)[1] == clean


def test_of_control_groups_only_its_own_are_shown(jail: Jail) -> None:
    _, out, _ = jail.sh("cat /proc/self/cgroup /proc/self/mountinfo")
    assert b"/.." not in out
    assert b"outrider-" not in out


def init_of(jail: Jail, **spec: Any) -> int:
    """Who started a job, as the host numbers it."""
    seconds = f"0.3{int.from_bytes(os.urandom(3), 'big')}"
    request = jail.start("/bin/sleep", seconds, **spec)

    def found() -> list[int]:
        return [pid for pid in descendants(jail.session.far.pid) if seconds.encode() in arguments(pid)]

    assert wait_for(lambda: bool(found()), 5)
    parent = Path(f"/proc/{found()[0]}/stat").read_text().rpartition(")")[2].split()[1]
    jail.session.connection.wait(request, 10)
    return int(parent)


def arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_fresh_jail_was_never_used(jail: Jail) -> None:
    assert len({init_of(jail, fresh=True) for _ in range(4)}) == 4
    assert len({init_of(jail) for _ in range(8)}) < 8


def test_binds_are_read_only_unless_asked_for(jail: Jail) -> None:
    folder = Path("/tmp") / f"jail-binds-{os.getpid()}"
    folder.mkdir(mode=0o777, exist_ok=True)
    try:
        folder.chmod(0o777)
        (folder / "f").write_text("bound")
        (folder / "f").chmod(0o644)
        binds = [
            [str(folder), "/data", False],
            [str(folder), "/box/in", True],
            [str(folder / "f"), "/opt/f", False],
        ]
        script = "cat /data/f /box/in/f /opt/f; echo x > /data/x; echo y > /box/in/y; echo z > /opt/f"
        report, out, err = jail.sh(script, binds=binds)
        assert out == b"bound" * 3
        assert err.count(b"Read-only") == 2
        assert sorted(path.name for path in folder.iterdir()) == ["f", "y"]
        assert report["verdict"] == "RE"
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_links_lead_nowhere_out_of_a_root_folder(jail: Jail) -> None:
    folder = Path("/tmp") / f"jail-root-{os.getpid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    try:
        for name, target in (
            ("etc", "/etc"),
            ("out", "/tmp"),
            ("bin", "usr/bin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
        ):
            (folder / name).symlink_to(target)
        binds = [["/usr", "/usr", False]]
        report, out, _ = jail.sh("ls /etc; echo; cat /etc/passwd", root=str(folder), binds=binds)
        assert report["verdict"] == "OK"
        assert sorted(out.partition(b"\n\n")[0].split()) == [b"group", b"hostname", b"hosts", b"passwd"]
        with pytest.raises(errors.Refused, match="leads through a link"):
            jail.run("/bin/true", root=str(folder), binds=binds, folder="/out/jail-made-this")
        with pytest.raises(errors.Refused, match="leads through a link"):
            jail.run("/bin/true", root=str(folder), binds=[*binds, ["/usr", "/out/jail-made-this", False]])
        assert not os.path.lexists("/tmp/jail-made-this")
        assert not os.path.lexists("/tmp/jail-made-this")
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"limits": {"time": "1s"}}, "is no number"),
        ({"limits": {"time": -1}}, "is no number"),
        ({"colour": "red"}, "no option 'colour'"),
        ({"network": "no"}, "of the wrong kind"),
        ({"folder": "box"}, "must be an absolute path"),
        ({"folder": "/"}, "must be an absolute path"),
        ({"folder": "/box/../etc"}, "must be an absolute path"),
        ({"binds": [["/nowhere", "/x", False]]}, "is not there"),
        ({"binds": [["/usr", "x", False]]}, "must be absolute"),
        ({"binds": [["/usr", "/usr/nothing/here", False]]}, "cannot be assembled"),
        ({"root": "/nowhere"}, "cannot be assembled"),
        ({"tty": [24, 80]}, "no terminal"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(jail: Jail, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.Refused, match=words):
        jail.run("/bin/true", **spec)
    assert jail.run("/bin/true")[0]["verdict"] == "OK"


def test_what_cannot_be_held_is_refused_unless_done_without(jail: Jail) -> None:
    report, _, _ = jail.run("/bin/true")
    lacking = {guarantees.MEMORY, guarantees.CPU} & set(report["missing"])
    if not lacking:
        assert jail.run("/bin/true", allow_missing=[], strict=True)[0]["verdict"] == "OK"
        return
    with pytest.raises(errors.Refused, match="allow_missing"):
        jail.run("/bin/true", allow_missing=[], strict=True)
    assert jail.run("/bin/true", allow_missing=[*lacking], strict=True)[0]["verdict"] == "OK"
    assert jail.run("/bin/true", allow_missing=[], strict=True, limits={"wall": 5})[0]["verdict"] == "OK"
    assert jail.run("/bin/true", allow_missing=[])[0]["verdict"] == "OK"


def test_a_job_is_cancelled_and_the_next_one_runs(jail: Jail) -> None:
    with pytest.raises(errors.TimedOut):
        jail.run("/bin/sleep", "4321", timeout=0.5)
    assert not alive("sleep 4321")
    assert jail.run("/bin/true")[0]["verdict"] == "OK"


def test_many_at_once(jail: Jail) -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(8):
            text = b"%d.%d" % (number, turn)
            report, out, _ = jail.run("/bin/cat", stdin=text, fresh=turn % 4 == 3)
            if (report["verdict"], out) != ("OK", text):
                wrong.append((report, out))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_with_every_python(version: str) -> None:
    with Route.named("local").options(python=find_python(version)).open() as session:
        jail = Jail(session)
        try:
            jail.run("/bin/true")
        except errors.Refused as error:
            pytest.skip(f"no native sandbox here: {error}")
        for fresh in (False, True):
            report, out, _ = jail.run(
                "/bin/cat", "a", inputs=[["a", b"in", 0o600]], outputs=["a"], fresh=fresh
            )
            assert (report["verdict"], out, report["outputs"]) == ("OK", b"in", {"a": b"in"})
        assert jail.sh("exec yes")[0]["verdict"] == "OLE"
        assert jail.sh("exec mount x /tmp -t tmpfs")[0]["verdict"] == "RV"
        assert jail.sh("sleep 9", limits=limited(wall=0.2))[0]["verdict"] == "TLE"


# --- what is left -----------------------------------------------------------------------------------------------------


def alive(words: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if words.encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def tree(root: int) -> set[int]:
    """`root` and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(after[1])
    found, todo = set(), {root}
    while todo:
        found |= todo
        todo = {pid for pid, parent in parents.items() if parent in todo} - found
    return found


def groups(warden: int) -> list[str]:
    """Control groups of this warden."""
    found = []
    for top in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" in top:
            found += [
                str(path) for path in Path(top.split()[4]).glob(f"**/outrider-*-{warden}-*") if path.is_dir()
            ]
    return found


class Left:
    """All processes and groups of one session with a job under way."""

    def __init__(self) -> None:
        self.session = opened("self")
        self.jail = Jail(self.session)
        self.jail.run("/bin/true")
        self.request = self.jail.start("/bin/sleep", "55")
        assert wait_for(lambda: bool(self.wardens()), 10)
        (self.warden,) = self.wardens()
        assert wait_for(lambda: any(pid in tree(self.warden) for pid in alive("/bin/sleep 55")), 10)
        self.pids = tree(self.warden)
        self.groups = groups(self.warden)

    def wardens(self) -> list[int]:
        return [
            pid
            for pid in tree(self.session.far.pid) & set(alive(MARK))
            if int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
            == self.session.far.pid
        ]

    def gone(self) -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in self.pids) and not any(
            Path(folder).exists() for folder in self.groups
        )


@pytest.fixture
def left() -> Iterator[Left]:
    found = Left()
    yield found
    found.session.close()


def test_nothing_is_left_of_a_closed_session(left: Left) -> None:
    left.session.close()
    assert wait_for(left.gone, 10), (left.pids, left.groups)


def test_nothing_is_left_of_a_killed_far_end(left: Left) -> None:
    os.kill(left.session.far.pid, signal.SIGKILL)
    assert wait_for(left.gone, 10), (left.pids, left.groups)


def test_nothing_is_left_of_a_killed_warden_and_the_next_job_has_another(left: Left) -> None:
    os.kill(left.warden, signal.SIGKILL)
    left.session.connection.wait(left.request, 20)
    assert left.request.value[0] == wire.RAISED
    assert wait_for(left.gone, 10), (left.pids, left.groups)
    assert left.jail.run("/bin/true")[0]["verdict"] == "OK"
    assert left.wardens() != [left.warden]


def test_an_init_that_is_killed_is_our_own_fault_and_harms_no_other(left: Left) -> None:
    inits = [pid for pid in left.pids if pid != left.warden and pid in alive(MARK)]
    for pid in inits:
        with contextlib.suppress(ProcessLookupError):  # the child of one that has just been killed
            os.kill(pid, signal.SIGKILL)
    left.session.connection.wait(left.request, 20)
    about = data.loads(bytes(left.request.value[2][0]))
    assert about["sandbox"]["verdict"] == "SE"
    # Each of the others that were killed may take one job along, if that comes before its death is known.
    assert "OK" in [left.jail.run("/bin/true")[0]["verdict"] for _ in inits]


def test_what_a_call_leaves_is_swept_up_and_the_warden_is_not(left: Left) -> None:
    for _ in range(3):
        left.session.call(time.sleep, 0.01)
    assert left.wardens() == [left.warden]
    assert left.jail.run("/bin/true")[0]["verdict"] == "OK"
