"""What a trace costs that records every call: warm calls in one session, a block with it, a block without."""

from __future__ import annotations

import statistics
from functools import partial

import outrider
from bench.harness import OURS, Bench
from bench.report import Case, Goal
from bench.world import Target

TRACED = Case("traced", "Warm calls while they are traced", "µs", goals=(Goal("not traced", 1.01),))
BLOCK = 50


def measure(bench: Bench) -> None:
    if not hasattr(outrider, "trace"):
        bench.say("  this Outrider has no trace()")
        return
    bench.begin(TRACED)
    for target in bench.targets(("local", "ssh")):
        bench.turns(target.name, (OURS,), 1, partial(blocks, bench, target), [TRACED.name])


def blocks(bench: Bench, target: Target, who: str) -> dict[str, list[float]]:
    with bench.worker(who, target) as worker:
        worker.ask("open")
        worker.ask("warm", count=500)
        took = [worker.ask("traced", count=BLOCK) for _ in range(bench.count(60, 20))]
    middle = {name: [statistics.median(block[name]) * 1e6 for block in took] for name in ("with", "without")}
    bench.results.add(TRACED.name, target.name, "not traced", middle["without"])
    return {TRACED.name: middle["with"]}
