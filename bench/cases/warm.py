"""The warm trivial call: a session is open, one thread calls, nothing else goes on."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from functools import partial

from bench.floors import PING_PONG
from bench.harness import FLOOR, OURS, Bench, Failed, Worker
from bench.report import Case, Goal
from bench.world import Target

THROUGH_PROGRAMS = ("ssh", "ssh+sudo", "docker")
WARM = Case(
    "warm",
    "Warm trivial call",
    "µs",
    goals=(Goal("best peer", 0.5), Goal("floor", 1.6, THROUGH_PROGRAMS)),
)


def measure(bench: Bench) -> None:
    bench.begin(WARM)
    for target in bench.targets():
        with ExitStack() as stack:
            workers = opened(bench, target, stack)
            count = 400 if target.name == "local" else 200
            once = partial(median_call, workers, count)
            bench.turns(target.name, list(workers), bench.count(15, 5), once, [WARM.name])


def opened(bench: Bench, target: Target, stack: ExitStack) -> dict[str, Worker]:
    """All that can, with their sessions open at once."""
    workers = {}
    for who in (OURS, FLOOR, *bench.peers):
        try:
            worker = stack.enter_context(bench.worker(who, target))
            worker.ask("open", **({"argv": target.argv(PING_PONG)} if who == FLOOR else {}))
            worker.ask("warm", count=20)
            workers[who] = worker
        except Failed as error:
            bench.results.miss(WARM.name, target.name, who, str(error))
    return workers


def median_call(workers: dict[str, Worker], count: int, who: str) -> dict[str, float]:
    return {WARM.name: statistics.median(workers[who].ask("warm", count=count)) * 1e6}
