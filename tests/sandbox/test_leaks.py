"""Thousands of jobs, and nothing may grow: `make test` does a few hundred, `make soak` ten thousand."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from tests.sandbox.arena import Arena, explain
from tests.sandbox.scene import descriptors, namespaces, stock
from tests.sandbox.test_attacks import assert_nothing_happened
from tests.world.machine import wait_for

pytestmark = pytest.mark.leaks("arenas are kept for the next test; each one's end is checked by its fixture")

RUNS = int(os.environ.get("TEST_WORLD_SANDBOX_RUNS", "200"))
WORDS = [
    ["mark"], ["leave-daemon"], ["fork-count", "64"], ["memory-in-sysv-detached"], ["leave-sockets"], ["many-inodes", "200"],
    ["exit-code", "3"], ["raise-signal", "11"], ["daemon-holds-stdout"], ["unshare-any"], ["plant"], ["signal-everyone"],
    ["memory-in-message-queues"], ["close-all"], ["false-brother", "0"], ["memory", "30"],
]  # fmt: skip
SPACES = ("pid", "mnt", "net", "ipc", "user", "uts", "cgroup")


def test_nothing_grows(arena: Arena) -> None:
    if arena.kind.engine == "isolate":
        pytest.skip("what isolate could not judge (SE) it may leave until the session ends")
    words = itertools.cycle(WORDS)
    for _ in range(len(WORDS)):
        arena.run(next(words))
    before, memory = at_rest(arena), memory_of(arena)
    before["descriptors"] += (
        24  # of two jails that are kept, either may have had a job: then its group's files are open
    )
    held = stock(first=True)
    for _ in range(RUNS // 8):
        requests = [arena.start(["/attacks/attack", *next(words)]) for _ in range(4)]
        requests += [arena.start(["/attacks/attack", "mark"]) for _ in range(4)]
        for request in requests:
            result = arena.finish(request)
            assert result.verdict != "SE", explain(result)
    assert wait_for(lambda: taken(arena) <= before, 10), [
        f"{count} {name} for {before[name]}" for name, count in taken(arena).items() if count > before[name]
    ]
    now = stock()
    grown = [name for name in now if len(now[name] - held[name]) > len(held[name] - now[name])]
    assert not grown, {name: now[name] - held[name] for name in grown}
    assert memory_of(arena) < memory + (4 << 20), (memory, memory_of(arena))
    assert_nothing_happened(arena)


class Counts(dict[str, int]):
    def __le__(self, other: object) -> bool:
        assert isinstance(other, dict)
        return all(count <= other[name] for name, count in self.items())


def at_rest(arena: Arena) -> Counts:
    """What is kept when nothing has run for a while: jails that are being made ready would be missing, or too many."""
    last, since = taken(arena), time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.1)
        now = taken(arena)
        if now != last:
            last, since = now, time.monotonic()
    return last


def taken(arena: Arena) -> Counts:
    far = arena.session.far.pid
    below = arena.processes()
    counts = {f"{kind} namespaces": len(namespaces(kind, below)) for kind in SPACES}
    counts["processes"] = len(below)
    counts["descriptors"] = sum(descriptors(pid) for pid in (far, *below))
    return Counts(counts)


def memory_of(arena: Arena) -> int:
    """Of the far end and all that it keeps, without what they share."""
    total = 0
    for pid in (arena.session.far.pid, *arena.processes()):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty:"))
    return total
