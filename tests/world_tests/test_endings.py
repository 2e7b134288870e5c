"""However a session ends, nothing stays: processes, containers, job steps and folders are counted at every hop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from outrider import Lost, Route, TimedOut, docker, slurm, ssh, sudo, tempdir
from tests.samples import far_work

_docker, _slurm = docker, slurm


def build(name: str, world) -> Route:
    """A route by the names of its hops."""
    makers = {
        "ssh": lambda: ssh("alpha", config=str(world("sshd").config)),
        "sudo": lambda: sudo("root"),
        "docker": lambda: _docker(world("docker").image),
        "slurm": lambda: _slurm(),
        "tempdir": lambda: tempdir(),
    }
    if "slurm" in name:
        world("slurm")
    if "sudo" in name:
        world("sudo_rules")
    return Route(*[makers[part]() for part in name.split("-")])


ROUTES = [
    "ssh",
    "ssh-sudo",
    "docker",
    "ssh-sudo-docker",
    "slurm",
    "ssh-slurm",
    "ssh-tempdir-sudo",
    "ssh-sudo-tempdir",
]


@pytest.fixture(params=ROUTES)
def route(request, census):
    made = build(request.param, request.getfixturevalue)
    census.snapshot()
    return made


@pytest.fixture
def seconds():
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


def test_closed_in_order(route, census, seconds):
    with route.open() as far:
        far.call(far_work.start_daemons, seconds)
    census.assert_nothing_left(timeout=10)


def test_timed_out_command_that_ignores_sigterm_and_daemonised(route, census, seconds):
    with route.open() as far:
        script = f"trap '' TERM; (trap '' TERM; setsid sleep {seconds}) & (setsid sleep {seconds} &) ; sleep {seconds}"
        with pytest.raises(TimedOut):
            far.run(script, timeout=0.5)
        listed = far.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout.decode()
        assert f"sleep {seconds} " not in listed.replace(script, "")
        assert far.call(far_work.add, 1) == 1
    census.assert_nothing_left(timeout=10)


def test_timed_out_call(route, census):
    with pytest.raises(TimedOut):
        route.options(timeout=0.5).call(time.sleep, 1000)
    census.assert_nothing_left(timeout=10)


def test_timed_out_isolated_call_leaves_the_session_and_nothing_else(route, census, seconds):
    with route.options(isolate=True).open() as far:
        assert far.call(far_work.add, 20, 22) == 42
        with pytest.raises(TimedOut):
            far.options(timeout=2).call(far_work.starts_and_sleeps, seconds)
        listed = far.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout.decode()
        assert f"sleep {seconds}" not in listed
        assert far.call(far_work.add, 1) == 1
    census.assert_nothing_left(timeout=10)


def test_killed_far_end(route, census, seconds):
    with route.open() as far, pytest.raises(Lost):
        far.call(far_work.die_with_children, seconds)
    census.assert_nothing_left(timeout=10)


def test_killed_hop_process(route, census, seconds):
    """The local ssh, docker or srun is killed: the link is cut as by a network that went away."""
    with route.open() as far:
        future = far.submit(os.system, f"sleep {seconds}")
        time.sleep(0.3)
        os.kill(far.connection.process.pid, signal.SIGKILL)
        with pytest.raises(Lost):
            future.result(10)
    census.assert_nothing_left(timeout=15)


def test_killed_near_end(route, census, seconds, tmp_path):
    script = tmp_path / "near.py"
    script.write_text(
        "import pickle, sys\n"
        f"route = pickle.loads({__import__('pickle').dumps(route)!r})\n"
        "far = route.open()\nprint('open', flush=True)\n"
        f"far.run('sleep {seconds} & sleep {seconds}')\n"
    )
    near = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert near.stdout
    assert near.stdout.readline() == b"open\n"
    time.sleep(0.3)
    near.kill()
    near.wait()
    near.stdout.close()
    census.assert_nothing_left(timeout=15)


def test_a_killed_hop_process_with_reconnect(route, census, seconds, tmp_path):
    """The link is cut in the midst of two calls: the one that may run twice is answered, the other is lost."""
    with route.options(reconnect=5, show=False, open_timeout=60).open() as far:
        unsure = far.submit(os.system, f"sleep {seconds}")
        sure = far.options(idempotent=True).submit(far_work.slowly, 42, 2)
        time.sleep(0.5)
        os.kill(far.connection.process.pid, signal.SIGKILL)
        with pytest.raises(Lost, match="run twice"):
            unsure.result(30)
        assert sure.result(60) == 42
        assert far.run(["echo", "again"]).text == "again"
    census.assert_nothing_left(timeout=15)


def test_an_ssh_that_is_stuck_is_found_at_both_ends(sshd, census, seconds):
    """The local ssh is stopped: nothing passes, and nothing is closed, as with a network that lost the connection."""
    route = Route(ssh("alpha", config=str(sshd.config), share=False))
    census.snapshot()
    with route.options(heartbeat=0.7, patience=5, show=False).open() as far:
        future = far.submit(os.system, f"sleep {seconds}")
        assert far.call(abs, -1) == 1
        os.kill(far.connection.process.pid, signal.SIGSTOP)
        with pytest.raises(Lost, match="nothing was heard") as caught:
            far.call(time.sleep, 600)
        assert "alpha" in str(caught.value)
        with pytest.raises(Lost, match="nothing was heard"):
            future.result(10)
    census.assert_nothing_left(timeout=20)
