"""Payloads: arguments and results of 64 and 512 MB, with the most memory that either end had at any time."""

from __future__ import annotations

from functools import partial

from bench.far_side import MB
from bench.floors import SINK, keep, source
from bench.harness import FLOOR, OURS, Bench, Failed
from bench.report import Case, Goal
from bench.world import TARGETS, Target

WAYS = ("send", "receive")
KEPT = "kept in memory"
FEW = ("local", "ssh", "docker")
TOO_LONG = 10.0
"""Seconds above which a peer is not waited for: what it took for the small payload says enough."""


def cases(size: int, kind: str, way: str) -> tuple[Case, Case, Case]:
    name = f"{way}-{kind}-{size}"
    title = f"{way.title()} {size} MB of {kind}"
    memory = (Goal("limit", 40),)
    return (
        Case(name, title, "MB/s", higher=True, goals=(Goal("floor", 0.85), Goal("best peer", 1.0))),
        Case(f"{name}-near", f"{title}: near end's memory above the payload", "MB", goals=memory),
        Case(f"{name}-far", f"{title}: far end's memory above the payload", "MB", goals=memory),
    )


def measure(bench: Bench) -> None:
    for size in (64,) if bench.quick else (64, 512):
        for kind in ("bytes", "numpy"):
            for way in WAYS:
                measure_one(bench, size, kind, way)


def measure_one(bench: Bench, size: int, kind: str, way: str) -> None:
    three = cases(size, kind, way)
    names = [case.name for case in three]
    for case in three:
        bench.begin(case)
    rounds = bench.count(3 if size == 64 else 2, 1)
    for target in bench.targets(TARGETS if kind == "bytes" else FEW, quick=("local", "ssh")):
        once = partial(transfer, bench, target, size, kind, way)
        floors = (FLOOR, KEPT) if way == "send" else (FLOOR,)
        bench.turns(target.name, (OURS, *floors), rounds, once, names)
        # Slower by an order of magnitude: once, and in two places, is enough to know the best of them.
        if target.name in ("local", "ssh"):
            bench.turns(target.name, bench.best_peers, 1, once, names)


def transfer(bench: Bench, target: Target, size: int, kind: str, way: str, who: str) -> dict[str, float]:
    rate, near, far = (case.name for case in cases(size, kind, way))
    with bench.worker(FLOOR if who == KEPT else who, target) as worker:
        if who in (FLOOR, KEPT):
            command = keep(size * MB) if who == KEPT else SINK if way == "send" else source(size * MB)
            took = worker.ask(way, argv=target.argv(command), size=size * MB)
        else:
            worker.ask("open")
            if who != OURS:
                too_slow(worker.ask(way, kind=kind, size=8 * MB)["seconds"] * size / 8)
            took = worker.ask(way, kind=kind, size=size * MB)
    result = {rate: size / took["seconds"], near: took["near"] / MB - size}
    return {**result, far: took["far"] / MB - size} if "far" in took else result


def too_slow(expected: float) -> None:
    if expected > TOO_LONG:
        raise Failed(f"would take about {expected:.0f} s")
