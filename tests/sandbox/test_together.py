"""Jobs side by side, and ends that come early: nothing of one job may reach another, or stay."""

from __future__ import annotations

import os
import signal
import time

import pytest

from outrider.far import wire
from tests.sandbox.arena import Arena, Kind, explain, need
from tests.sandbox.scene import Scene
from tests.sandbox.test_attacks import assert_nothing_happened
from tests.world.machine import descendants, wait_for
from tests.world.sudo import SudoWorld

pytestmark = pytest.mark.leaks("arenas are kept for the next test; each one's end is checked by its fixture")
ATTACK = "/attacks/attack"


def test_no_job_holds_the_streams_of_another(arena: Arena) -> None:
    """A quick job ends at once, though slow ones were started right before and after it."""
    slow = [arena.start([ATTACK, "sleeper"], {"wall": 1.5}) for _ in range(2)]
    quick = [arena.start([ATTACK, "mark", str(number)]) for number in range(6)]
    slow += [arena.start([ATTACK, "sleeper"], {"wall": 1.5}) for _ in range(2)]
    for number, request in enumerate(quick):
        result = arena.finish(request)
        assert result.verdict == "OK", explain(result)
        assert result.stdout == f"{number}\n".encode()
    assert not any(request.done for request in slow), "the quick jobs waited for the slow ones"
    for request in slow:
        assert arena.finish(request).verdict == "TLE"
    assert_nothing_happened(arena)


def test_no_descriptor_passes_from_job_to_job(arena: Arena) -> None:
    requests = [arena.start([ATTACK, "inherited-descriptors"], stdin=b"x") for _ in range(12)]
    for request in requests:
        result = arena.finish(request)
        assert result.verdict == "OK", explain(result)
        assert b"BREACH" not in result.stdout, explain(result)
    assert_nothing_happened(arena)


def test_descriptors_in_flight_hold_nobody_up(arena: Arena) -> None:
    """The kernel counts them for a user, not for a process: enough of them, and nobody could send any."""
    greedy = [
        arena.start([ATTACK, "flying-descriptors", "1.0"], {"open_files": 1000, "time": 5.0, "wall": 5.0})
        for _ in range(3)
    ]
    time.sleep(0.3)
    for _ in range(5):
        result = arena.run(["mark"])
        assert result.verdict == "OK", explain(result)
    for request in greedy:
        arena.finish(request)
    assert_nothing_happened(arena)


def test_processes_of_one_job_are_not_taken_from_others(arena: Arena) -> None:
    """The kernel may count them for a user: then one job's would be missing in another's."""
    need(arena, ("processes",))
    alone = arena.run(["fork-count", "64"]).stdout
    together = [arena.start([ATTACK, "fork-count", "64"]) for _ in range(4)]
    assert [arena.finish(request).stdout for request in together] == [alone] * 4


def test_programs_put_in_start_under_load(arena: Arena) -> None:
    """A file that somebody has open for writing cannot be run: a descriptor that passes through a fork is enough."""
    program = [["/box/program", arena.scene.attack.read_bytes(), 0o755]]
    requests = [arena.start(["/box/program", "mark"], inputs=program) for _ in range(24)]
    for request in requests:
        result = arena.finish(request)
        assert result.verdict == "OK", explain(result)


def test_watches_of_one_job_are_not_taken_from_others(arena: Arena) -> None:
    source = (
        "import ctypes, time\nlibc = ctypes.CDLL(None)\n"
        "made = sum(libc.inotify_init1(0) >= 0 for _ in range(900))\nprint(made, flush=True)\ntime.sleep(0.5)"
    )
    greedy = arena.start(["/usr/bin/python3", "-I", "-S", "-c", source], {"open_files": 1000})
    time.sleep(0.3)
    result = arena.run(["surroundings"])
    assert result.verdict == "OK", explain(result)
    arena.finish(greedy)


def test_cancelled_jobs_are_gone(arena: Arena) -> None:
    for words in (["sleeper"], ["hydra"], ["stop-all"], ["daemon-holds-stdout"], ["deaf-hog"]):
        request = arena.start([ATTACK, *words], {"time": 5.0, "wall": 5.0})
        time.sleep(0.1)
        began = time.monotonic()
        arena.session.connection.post(wire.CANCEL, request.ident, b"")
        assert wait_for(lambda: not list(arena.scene.attackers()), 3), words
        assert time.monotonic() - began < 3
    assert_nothing_happened(arena)


def own_arena(arena: Arena) -> Arena:
    """One more, to be broken."""
    return Arena(Kind(arena.kind.engine, arena.kind.player, arena.kind.fresh), arena.scene)


@pytest.mark.parametrize("when", ["far end", "helper"])
def test_whoever_is_killed_nothing_stays(
    arena: Arena, scene: Scene, sudo_rules: SudoWorld, when: str
) -> None:
    made = own_arena(arena)
    far = made.session.far.pid
    for words in (["sleeper"], ["orphans-in-sessions"], ["deaf-hog"], ["daemon-holds-stdout"]):
        made.start([ATTACK, *words], {"time": 9.0, "wall": 9.0})
    time.sleep(0.3)
    below = descendants(far)
    assert below
    helpers = [pid for pid in below if pid in descendants_of_one(far)]
    for pid in [far] if when == "far end" else helpers[:1]:
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not list(scene.attackers()), 5), "an attack lives on"
    if when == "far end":
        assert wait_for(lambda: not any(alive(pid) for pid in below), 5), "a helper lives on"
    made.session.close()


def descendants_of_one(far: int) -> list[int]:
    """The far end's own children, the oldest last: the helper is the one that has children."""
    return [pid for pid in descendants(far) if descendants(pid)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
