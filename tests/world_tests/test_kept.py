"""Far ends that are kept, through real ssh and sudo: left, lost, killed and cut, and nothing left behind at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from outrider import Lost, Route, attach, ssh, sudo
from tests.samples import lasting_work
from tests.unit.test_reconnect import runs, wait_until

BOUND = 60.0


@pytest.fixture(params=["ssh", "ssh-sudo", "sudo"])
def route(request, census, shared):
    hops = []
    if "ssh" in request.param:
        hops.append(ssh("alpha", config=str(request.getfixturevalue("sshd").config)))
    if "sudo" in request.param:
        request.getfixturevalue("sudo_rules")
        hops.append(sudo("root"))
    census.snapshot()
    return Route(*hops).options(show=False, detach="5m")


@pytest.fixture
def shared():
    """A folder that every user of the test world may write to."""
    with tempfile.TemporaryDirectory(prefix="outrider-test-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def seconds():
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6)}"


def test_left_and_come_back_to(route, census, shared):
    far = route.open()
    pid = far.far.pid
    quick, slow = (
        far.submit(lasting_work.blob, size, after).ident for size, after in ((3_000_000, 0.3), (5, 3))
    )
    ticket = far.detach()
    time.sleep(1)
    with attach(ticket, show=False) as back:
        assert back.far.pid == pid
        assert len(back.pending()[quick].result(BOUND)) == 3_000_000
        assert len(back.pending()[slow].result(BOUND)) == 5
        assert back.call(os.getpid) == pid
    census.assert_nothing_left(timeout=15)


NEAR = """
import pickle, sys, threading, time
route = pickle.loads({route!r})
far = route.open()
print(far.ticket, flush=True)
threading.Thread(target=far.run, args=(sys.argv[1],), daemon=True).start()
time.sleep(600)
"""


def test_a_killed_near_end(route, census, shared):
    import pickle

    script = f"echo begun; touch {shared}/begun; sleep 3; echo x >> {shared}/lines; echo ended"
    near = subprocess.Popen(
        [sys.executable, "-c", NEAR.format(route=pickle.dumps(route)), script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with near:
        assert near.stdout
        ticket = near.stdout.readline()
        wait_until((shared / "begun").exists)
        near.kill()
    with attach_when_left(ticket) as back:
        (future,) = back.pending().values()
        assert future.result(BOUND).stdout == b"begun\nended\n"
    assert (shared / "lines").read_text() == "x\n"
    census.assert_nothing_left(timeout=15)


def attach_when_left(ticket: str):
    """The far end hears of its near end's death by way of ssh, which takes a moment."""
    deadline = time.monotonic() + BOUND
    while True:
        try:
            return attach(ticket, show=False)
        except Exception as error:
            if "is attached" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_cut_connection(route, census, shared):
    with route.open(reconnect=10) as far:
        pid = far.far.pid
        for number in range(3):
            future = far.submit(lasting_work.slow, str(shared / f"runs{number}"), 2)
            wait_until(lambda number=number: runs(shared / f"runs{number}"))
            os.kill(far.connection.process.pid, signal.SIGKILL)
            assert future.result(BOUND) == 1
            assert far.call(os.getpid) == pid
    census.assert_nothing_left(timeout=15)


def test_a_connection_that_is_stuck(route, census, shared):
    """The local program is stopped: the far end believes that it has a near end, and is taken back from it."""
    with route.open(reconnect=10, heartbeat=0.7) as far:
        pid = far.far.pid
        future = far.submit(lasting_work.slow, str(shared / "runs"), 4)
        wait_until(lambda: runs(shared / "runs"))
        threading.Timer(0.2, os.kill, (far.connection.process.pid, signal.SIGSTOP)).start()
        assert future.result(BOUND) == 1
        assert far.call(os.getpid) == pid
    census.assert_nothing_left(timeout=20)


def test_its_time_is_up(route, census, seconds):
    far = route.open(detach=1)
    far.submit(os.system, f"sleep {seconds}")
    time.sleep(0.5)
    ticket = far.detach()
    census.assert_nothing_left(timeout=20)
    with pytest.raises(Lost, match="gone"):
        attach(ticket)


def test_the_far_end_is_killed(route, census, seconds):
    far = route.open()
    far.submit(os.system, f"sleep {seconds}")
    time.sleep(0.5)
    ticket = far.detach()
    os.kill(far.far.pid, signal.SIGKILL)
    census.assert_nothing_left(timeout=20)
    with pytest.raises(Lost, match="gone"):
        attach(ticket)


def test_another_user_finds_nothing(sudo_rules, sshd, census):
    """A ticket that leads to another account: its folder cannot be entered."""
    far = Route(sudo("root")).options(show=False, detach="1m").open()
    told = json.loads(far.detach())
    other = Route(ssh("alpha", config=str(sshd.config))).options(show=False)
    me = other.call(os.getuid)
    if me == 0:
        attach(json.dumps(told)).close()
        pytest.skip("here ssh leads to root, too")
    with pytest.raises(Lost, match="gone"):
        other.attach(json.dumps(told))
    attach(json.dumps(told)).close()
