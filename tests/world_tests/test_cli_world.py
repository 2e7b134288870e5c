"""The command line through real hops: shells, the debugger, files, a route that fails on its way, and a relay."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.command_line import on_terminal, outrider
from tests.user_config import configured

WORK = "tests.samples.far_work"


@pytest.fixture(autouse=True)
def _no_project_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def by_ssh(sshd, alias: str = "alpha") -> str:
    return f"ssh(host='{alias}', config='{sshd.config}')"


def test_a_shell_through_ssh_in_a_container(sshd, docker, census):
    route = f"{by_ssh(sshd, 'beta')} | docker:{docker.image}"
    with on_terminal("shell", route, size=(31, 99)) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"test -f /.dockerenv && stty size && tty\n")
        terminal.expect(b"31 99")
        terminal.expect(b"/dev/pts/")
        terminal.type(b"sleep 500\n")
        terminal.expect(b"sleep 500")
        time.sleep(0.5)
        terminal.type(b"\x03")
        terminal.resize(40, 120)
        time.sleep(0.5)
        terminal.type(b"stty size\n")
        terminal.expect(b"40 120")
        terminal.type(b"exit 9\n")
        assert terminal.end() == 9
        assert terminal.restored()
    census.assert_nothing_left()


def test_a_shell_after_the_first_hop(sshd, docker, census):
    with on_terminal("shell", f"{by_ssh(sshd, 'beta')} | docker:{docker.image}", "--at", "1") as terminal:
        terminal.expect(b"outrider-b on ")
        terminal.expect(b"$ ")
        terminal.type(b"id -un; exit\n")
        terminal.expect(b"outrider-b\r\n")
        assert terminal.end() == 0
    census.assert_nothing_left()


def test_a_shell_where_python_is_slim(docker, census):
    """Without the modules pty and termios."""
    with on_terminal("shell", f"docker:{docker.slim}") as terminal:
        terminal.expect(b"# ")
        terminal.type(b"tty; exit 3\n")
        terminal.expect(b"/dev/pts/")
        assert terminal.end() == 3
    census.assert_nothing_left()


def test_the_debugger_through_ssh_and_sudo(sshd, sudo_rules, census):
    with on_terminal(
        "debug", "--enable", f"{by_ssh(sshd)} | sudo:outrider-b", f"{WORK}:add", "1", "2"
    ) as terminal:
        terminal.expect(b"(far pdb) ")
        terminal.type(b"import getpass\n")
        terminal.expect(b"(far pdb) ")
        terminal.type(b"p getpass.getuser(), a + 41\n")
        terminal.expect(b"('outrider-b', 42)")
        terminal.type(b"!b = 10\n")
        terminal.expect(b"(far pdb) ")
        terminal.type(b"c\n")
        terminal.expect(b"11\r\n")
        assert terminal.end() == 0
    census.assert_nothing_left()


def test_check_stops_where_the_route_breaks(sshd, sudo_rules, docker, census):
    route = f"{by_ssh(sshd)} | sudo:outrider-b | docker(image='{docker.absent}', pull=never) | login"
    done = outrider("check", "--json", route)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [(report["number"], report["reached"]) for report in reports] == [(1, True), (2, True), (3, False)]
    assert [report["user"] for report in reports] == ["outrider-a", "outrider-b", ""]
    assert "image" in reports[2]["error"]
    assert reports[2]["blamed"].startswith("docker(")
    assert reports[2]["hint"]
    census.assert_nothing_left()


def test_check_tells_what_took_how_long_and_how_far_a_failing_hop_got(sshd, slurm, census):
    done = outrider("check", "--json", f"{by_ssh(sshd)} | slurm(partition=short)")
    login, job = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert {"shared connection", "start python3", "greet"} <= {phase["name"] for phase in login["phases"]}
    assert login["scheduler"].startswith("Slurm, nodes: 1 ")
    assert "your jobs: " in login["scheduler"]
    assert job["scheduler"].startswith("Slurm job ") and " in short " in job["scheduler"]
    assert login["tmp_free"] > 0
    shown = outrider(
        "check", f"ssh(host='refused', config='{sshd.config}', share=false) | sudo"
    ).stdout.decode()
    assert "connect " in shown and "key exchange " in shown and "failed " in shown
    assert "✗ RouteError" in shown
    census.assert_nothing_left()


def test_check_names_what_a_slim_image_lacks(docker, census):
    done = outrider("check", f"docker:{docker.slim}")
    shown = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "missing there:" in shown
    for module in ("json", "ctypes", "queue", "shutil", "decimal", "uuid", "pty", "termios"):
        assert module in shown
    assert "hint:" in shown
    census.assert_nothing_left()


def test_check_shows_what_a_login_prints(sshd, census):
    report = json.loads(outrider("check", "--json", by_ssh(sshd, "noisy")).stdout)
    assert report["reached"] is True
    assert sshd.marker.chatter.strip() in report["noise"]


def test_files_both_ways_through_ssh_and_a_container(sshd, docker, tmp_path, census):
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(2_000_000))
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o750)
    here = f"{by_ssh(sshd)} | tempdir(parent=/tmp)"
    folder = f"/tmp/outrider-cp-{os.getpid()}"
    try:
        report = json.loads(outrider("cp", "--json", source, f"{by_ssh(sshd)}::{folder}").stdout)
        assert report["files"] == 2
        assert Path(folder, "data").owner() == "outrider-a"
        assert outrider("cp", f"{here}::{folder}", tmp_path / "back").returncode == 0
        assert (tmp_path / "back" / "data").read_bytes() == (source / "data").read_bytes()
        assert (tmp_path / "back" / "tool").stat().st_mode == (source / "tool").stat().st_mode
    finally:
        outrider("run", by_ssh(sshd), "--", "rm", "-rf", folder)
    inside = f"{by_ssh(sshd, 'beta')} | docker:{docker.image}"
    assert outrider("cp", f"{inside}::/etc/os-release", tmp_path / "release").returncode == 0
    assert "NAME=" in (tmp_path / "release").read_text()
    census.assert_nothing_left()


def test_a_signal_and_a_status_come_through(sshd, docker, census):
    inside = f"{by_ssh(sshd, 'beta')} | docker:{docker.image}"
    assert outrider("run", inside, "--", "sh", "-c", "kill -KILL $$").returncode == 137
    assert outrider("run", inside, "--", "no-such-program").returncode == 127
    done = outrider("run", inside, "--", "sh", "-c", "cat; exit 5", stdin=bytes(range(256)))
    assert (done.returncode, done.stdout) == (5, bytes(range(256)))
    census.assert_nothing_left()


def test_an_error_names_the_hop(sshd, sudo_rules):
    done = outrider("run", f"{by_ssh(sshd)} | sudo:no-such-user", "--", "true")
    assert done.returncode == 125
    assert b"no-such-user" in done.stderr
    assert b"hint:" in done.stderr
    assert b"Traceback" not in done.stderr


# --- a relay, and the sudoers rule that allows exactly it


@pytest.fixture
def grading(sshd, sudo_rules, docker, system_outrider):
    """outrider-n, who may do nothing else, may relay as outrider-b: into a container that outrider-b has configured."""
    rule = f"outrider-n ALL=(outrider-b) NOPASSWD: {system_outrider} relay grading\n"
    routes = f'[routes]\ngrading = "env(STEP=judged) | docker(image={docker.image}, network=none, env={{STEP=inside}})"\n'
    routes += 'other = "local"\n'
    with sudo_rules.extra(rule), configured("outrider-b", routes):
        yield f"{by_ssh(sshd, 'outrider-n@alpha')} | sudo:outrider-b"


def test_a_relay_by_the_one_command_that_sudo_allows(grading, system_outrider, census):
    route = f"{grading} | relay(route=grading, program={system_outrider})"
    done = outrider("run", route, "--", "sh", "-c", "echo $STEP; test -f /.dockerenv")
    assert (done.returncode, done.stdout) == (0, b"inside\n"), done.stderr
    done = outrider("call", route, f"{WORK}:add", "1", "2")
    assert (done.returncode, done.stdout) == (0, b"3\n"), done.stderr
    census.assert_nothing_left()


def test_nothing_else_is_allowed(grading, system_outrider, census):
    for rest in ("", f" | relay(route=other, program={system_outrider})"):
        done = outrider("run", grading + rest, "--", "true")
        assert done.returncode == 125
        assert b"sudo" in done.stderr
    census.assert_nothing_left()


def test_the_caller_cannot_say_where_a_relay_leads(grading, system_outrider, census):
    """sudo drops the caller's variables, and the folder's project file does not count."""
    route = f"{grading} | relay(route=grading, program={system_outrider})"
    planted = route.replace(" | sudo", " | env(OUTRIDER_ROUTE_GRADING='env(STEP=planted)') | sudo", 1)
    done = outrider("run", planted, "--", "sh", "-c", "echo $STEP")
    assert done.stdout == b"inside\n", done.stderr
    census.assert_nothing_left()


def test_the_demo_uses_what_there_is(slurm, docker, sudo_rules, census):
    done = outrider("demo", timeout=110)
    shown = done.stdout.decode()
    assert done.returncode == 0, (shown, done.stderr)
    for hop in ("✓ sudo", "✓ slurm", "✓ docker", "- podman", "✓ login"):
        assert hop in shown
    assert "not used: docker is taken already" in shown
    for part in ("step 3 of 3", '"DEMO": "yes"', "ZeroDivisionError", "'count': 1", "warm call"):
        assert part in shown
    census.assert_nothing_left()


def test_the_demo_goes_through_ssh_to_this_machine_where_that_asks_nothing(
    sshd, slurm, docker, sudo_rules, tmp_path, monkeypatch, census
):
    """A person whose ssh_config lets localhost in: the whole stack, ssh to container."""
    settings = tmp_path / "ssh_config"
    settings.write_text(
        f"Host localhost\n  HostName 127.0.0.1\n  Port {sshd.alpha.port}\n  User outrider-a\n"
        f"  IdentityFile {sshd.identity}\n  UserKnownHostsFile {sshd.known_hosts}\n"
    )
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {settings} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    known = sshd.known_hosts.read_bytes()
    done = outrider("demo", timeout=110)
    assert done.returncode == 0, (done.stdout.decode(), done.stderr.decode())
    assert f"Hop by hop: ssh:localhost | sudo | slurm | docker:{docker.image} | login | tempdir | env" in (
        done.stdout.decode()
    )
    assert sshd.known_hosts.read_bytes() == known
    census.assert_nothing_left()
