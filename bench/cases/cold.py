"""Cold: from nothing to the first result, each time in a fresh process that has imported what it needs."""

from __future__ import annotations

from functools import partial

from bench.floors import BARE
from bench.harness import FLOOR, OURS, Bench
from bench.report import Case, Goal
from bench.world import Target

COLD = Case(
    "cold",
    "Cold: nothing → first result, no ssh connection shared yet",
    "ms",
    goals=(Goal("floor", 1.10), Goal("best peer", 1.0)),
)
WHOLE = Case(
    "cold-closed",
    "Cold: a whole `route.call`, its end included, no ssh connection shared yet",
    "ms",
    goals=(Goal("floor", 1.10), Goal("best peer", 1.0)),
)
LOADED = Case(
    "cold-import",
    "Cold, with the near end's own imports: nothing → first result, no ssh connection shared yet",
    "ms",
    goals=(Goal("best peer", 1.0),),
)
AGAIN = Case(
    "second",
    "Second opening: nothing → first result over the shared ssh connection",
    "ms",
    goals=(Goal("floor", 1.10), Goal("limit", 60, ("ssh",))),
)
FIRST = (COLD, WHOLE, LOADED)


def measure(bench: Bench) -> None:
    for case in (*FIRST, AGAIN):
        bench.begin(case)
    rounds = bench.count(7, 2)
    for target in bench.targets(quick=("local", "ssh", "docker")):
        contenders = (OURS, FLOOR, *bench.peers)
        bench.turns(
            target.name, contenders, rounds, partial(first, bench, target), [case.name for case in FIRST]
        )
        if target.plain["ssh"]:
            bench.turns(target.name, (OURS, FLOOR), rounds, partial(again, bench, target), [AGAIN.name])


def first(bench: Bench, target: Target, who: str) -> dict[str, float]:
    target.disconnect()
    with bench.worker(who, target) as worker:
        if who == FLOOR:
            seconds = worker.ask("run", argv=target.argv(BARE))
            return {COLD.name: seconds * 1e3, WHOLE.name: seconds * 1e3}
        took = worker.ask("cold")
    return {
        COLD.name: took["first"] * 1e3,
        WHOLE.name: took["whole"] * 1e3,
        LOADED.name: (took["loading"] + took["first"]) * 1e3,
    }


def again(bench: Bench, target: Target, who: str) -> dict[str, float]:
    with bench.worker(who, target) as worker:
        if who == FLOOR:
            return {AGAIN.name: worker.ask("run", argv=target.argv(BARE)) * 1e3}
        return {AGAIN.name: worker.ask("cold")["first"] * 1e3}
