"""Many sessions: opened at once, and held."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import OURS, Bench, Worker
from bench.report import Case, Goal
from bench.world import Target

MB = 1e6
AT_ONCE = Case("at-once", "50 local sessions opened at once", "s", goals=(Goal("execnet", 0.5),))
UNIQUE = Case(
    "far-unique",
    "Unique memory of one of 50 far ends, all its processes",
    "MB",
    goals=(Goal("limit", 6), Goal("best peer", 1.0)),
)
SHARE = Case(
    "far-share", "The same, with its share of what several processes have in common (PSS)", "MB", goals=()
)
THREADS = Case("held-threads", "Threads that they add at the near end", "threads", goals=(Goal("limit", 4),))
IDLE = Case("idle", "How often the processes of an idle session wake, near and far", "times/s")
WATCHED = 4.0
"""Seconds for which an idle session is watched."""


def held_case(count: int) -> Case:
    title = f"Near end's memory for each of {count:,} sessions held"
    return Case("held", title, "KB", goals=(Goal("limit", 150),))


def measure(bench: Bench) -> None:
    for local in bench.targets(("local",)):
        measure_at(bench, local)


def measure_at(bench: Bench, local: Target) -> None:
    count = bench.count(1000, 100)
    for case in (AT_ONCE, UNIQUE, SHARE, held_case(count), THREADS, IDLE):
        bench.begin(case)
    first = [case.name for case in (AT_ONCE, UNIQUE, SHARE)]
    contenders = [who for who in (OURS, *bench.best_peers) if who not in ("asyncssh", "fabric", "plumbum")]
    bench.turns("local", contenders, bench.count(3, 1), partial(at_once, bench, local), first)
    bench.turns("local", contenders, 1, partial(idle, bench, local), [IDLE.name])
    many = partial(held, bench, local, count)
    bench.turns("local", [OURS], 1, many, [held_case(count).name, THREADS.name])


def at_once(bench: Bench, target: Target, who: str) -> dict[str, float]:
    count = 50
    with bench.worker(who, target) as worker:
        took = worker.ask("open_many", count=count)
        unique, share = memory_below(worker, took["pids"])
    return {
        AT_ONCE.name: took["seconds"],
        UNIQUE.name: unique / count / MB,
        SHARE.name: share / count / MB,
    }


def idle(bench: Bench, target: Target, who: str) -> dict[str, float]:
    with bench.worker(who, target) as worker:
        took = worker.ask("open_many", count=1)
        pids = {worker.process.pid, *family(worker, took["pids"])}
        time.sleep(0.5)
        before = sum(map(wakes, pids))
        time.sleep(WATCHED)
        return {IDLE.name: (sum(map(wakes, pids)) - before) / WATCHED}


def wakes(pid: int) -> int:
    """How often the threads of a process have gone to sleep so far, which they do as often as they wake."""
    found = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(OSError):
            lines = status.read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return found


def held(bench: Bench, target: Target, count: int, who: str) -> dict[str, float]:
    with bench.worker(who, target) as worker:
        took: dict[str, Any] = worker.ask("open_many", count=count, at_once=16, patience=300)
        worker.ask("close_many")
    return {held_case(count).name: took["memory"] / count / 1e3, THREADS.name: took["threads"]}


def memory_below(worker: Worker, others: list[int]) -> tuple[int, int]:
    """Bytes that the worker's descendants and those others have for themselves, and with their share of what is common."""
    unique = share = 0
    for pid in family(worker, others):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # gone, or a zombie: of those that helped to start others
            continue
        found = {line.split()[0]: int(line.split()[1]) * 1024 for line in rollup[1:]}
        unique += found["Private_Clean:"] + found["Private_Dirty:"]
        share += found["Pss:"]
    return unique, share


def family(worker: Worker, others: list[int]) -> set[int]:
    from tests.world.machine import descendants

    return {*descendants(worker.process.pid), *others} - {0}
