"""Traces of real routes: what each program on the way tells of how far it got, and that tracing changes nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from threading import Thread

import pytest

import outrider
from outrider import Route, RouteError, ssh, sudo
from outrider import docker as docker_hop
from outrider import slurm as slurm_hop
from outrider.hops.ssh import Ssh
from tests.command_line import outrider as program
from tests.world.machine import wait_for
from tests.world.slurm import SLOTS


@pytest.fixture
def fresh(monkeypatch):
    """No shared connection is open, and none stays."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has room for little
        monkeypatch.setattr(Ssh, "CONTROL_FOLDER", folder)
        yield Path(folder)
        for socket in Path(folder).iterdir():
            subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "x"], capture_output=True)


def opening(found):
    """{hop's row: [its phases]} of the one opening in a trace."""
    (span,) = [span for span in found.spans if span.kind == "open"]
    return {hop.name: [phase.name for phase in hop.children] for hop in span.children}


def traced(route):
    with outrider.trace() as found, route.options(show=False).open() as far:
        assert far.call(os.path.basename, "a/b") == "b"
        assert far.noise == b""
    return found


def test_ssh_tells_each_of_its_phases(sshd, fresh, census):
    hop = ssh("alpha", config=str(sshd.config), share=False)
    found = traced(Route(hop))
    assert opening(found) == {
        "ssh:alpha": ["connect", "key exchange", "authenticate", "start python3"],
        "greet": [],
    }
    (opened,) = [span for span in found.spans if span.kind == "open"]
    assert (opened.user, opened.place) == ("outrider-a", "ssh:alpha")
    for span in opened.walk():
        inner = sum(child.duration for child in span.children)
        assert not span.children or inner == pytest.approx(span.duration, rel=0.05)
    census.assert_nothing_left()


def test_a_shared_connection_is_seen_and_the_trace_uses_the_same(sshd, fresh):
    route = Route(ssh("alpha", config=str(sshd.config)))
    first, second = opening(traced(route)), opening(traced(route))
    assert first["ssh:alpha"] == [
        "connect",
        "key exchange",
        "authenticate",
        "shared connection",
        "start python3",
    ]
    assert second["ssh:alpha"] == ["shared connection", "start python3"]
    route.run(["true"])
    assert len(list(fresh.iterdir())) == 1


def test_nothing_that_ssh_tells_for_the_trace_is_in_an_error(sshd, fresh):
    with outrider.trace() as found, pytest.raises(RouteError) as raised:
        Route(ssh("refused", config=str(sshd.config), share=False)).open()
    assert "debug1" not in str(raised.value) + raised.value.stderr
    assert "login was refused" in raised.value.message
    assert opening(found) == {"ssh:refused": ["connect", "key exchange", "failed"]}
    assert "✗ RouteError" in found.text()


def test_marks_between_hops_and_none_behind_sudo(sshd, sudo_rules, docker, census):
    beta, alpha = (ssh(name, config=str(sshd.config), share=False) for name in ("beta", "alpha"))
    box = docker_hop(docker.image, network="none")
    found = opening(traced(Route(beta, box)))
    assert list(found) == ["ssh:beta", f"docker:{docker.image}", "greet"]
    assert found["ssh:beta"] == ["connect", "key exchange", "authenticate", "start"]
    lumped = opening(traced(Route(alpha, sudo("outrider-b"), box)))
    assert list(lumped) == ["ssh:alpha", f"sudo:outrider-b | docker:{docker.image}", "greet"]
    census.assert_nothing_left()


def test_two_logins_each_tell_their_own(sshd, census):
    alpha = ssh("alpha", config=str(sshd.config), share=False)
    inner = ssh("outrider-a@127.0.0.1", port=sshd.alpha.port, config="/dev/null", share=False)
    with outrider.trace() as found, pytest.raises(RouteError):
        Route(alpha, inner).open()  # the account there has no key of its own
    first, second = opening(found).values()
    assert first == ["connect", "key exchange", "authenticate", "start"]
    assert second[0] == "connect" and second[-1] == "failed"
    census.assert_nothing_left()


def test_a_password_that_sudo_asks_for_is_a_phase_of_its_own(sshd, sudo_rules, census):
    hop = ssh("outrider-p@alpha", config=str(sshd.config), share=False)
    found = traced(Route(hop, sudo("outrider-b", password=lambda: sudo_rules.password)))
    assert opening(found)["sudo:outrider-b"] == ["prompt", "password", "start python3"]
    assert sudo_rules.password not in found.text() + json.dumps(found.chrome())
    census.assert_nothing_left()


def test_a_job_that_waits_in_the_queue(slurm, census):
    whole = Route(slurm_hop(partition="short", cpus=SLOTS, overlap=False))
    with whole.open() as holding, outrider.trace() as found:
        with pytest.raises(outrider.TimedOut):
            whole.options(open_timeout=4).open()
        waiting = Thread(target=lambda: whole.run(["true"]))
        waiting.start()
        assert wait_for(lambda: b"PENDING" in squeue(slurm), 20)
        holding.close()
        waiting.join()
    given_up, got = [span for span in found.spans if span.kind == "open"]
    assert [phase.name for phase in given_up.children[0].children] == ["submit", "failed"]
    assert [phase.name for phase in got.children[0].children] == ["submit", "queue", "start python3"]
    census.assert_nothing_left()


def squeue(slurm):
    return subprocess.run(["squeue", "--noheader", "--format=%T"], capture_output=True, check=True).stdout


def test_a_job_behind_marks(slurm, census):
    found = traced(Route(slurm_hop(partition="short"), outrider.login()))
    assert list(opening(found)) == ["slurm", "login", "greet"]
    census.assert_nothing_left()


def test_the_command_line_writes_what_the_suffix_says(sshd, tmp_path):
    route = f"ssh(host='alpha', config='{sshd.config}')"
    done = program("run", "--trace", tmp_path / "t.json", route, "--", "sh", "-c", "exit 4")
    assert done.returncode == 4
    names = {event["name"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]}
    assert {"open", "ssh:alpha", "greet", "sh"} <= names
    done = program("run", "--trace", "-", f"{route} | sudo:nobody-of-that-name", "--", "true")
    assert done.returncode == 125
    assert b"ssh:alpha" in done.stderr and b"RouteError" in done.stderr
    assert b"debug1" not in done.stderr
