"""A group of many simulated hosts: real far ends on this machine, each as late as a network would make it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.harness import FLOOR, OURS, Bench
from bench.report import Case

AT_ONCE = 32
LATE = 0.1


def case(count: int) -> Case:
    title = (
        f"`Group.call` on {count:,} simulated hosts, {AT_ONCE} at once; the floor: as many bare interpreters"
    )
    return Case("fanout", title, "s")


def measure(bench: Bench) -> None:
    count = bench.count(1000, 100)
    one = case(count)
    bench.begin(one)
    for target in bench.targets(("local",)):
        python = late_python(bench.world.folder)
        once = partial(fan_out, bench, one, count, python)
        bench.turns(target.name, (OURS, FLOOR), 1, once, [one.name])


def late_python(folder: Path) -> str:
    path = folder / "late-python"
    path.write_text(f'#!/bin/sh\nsleep {LATE}\nexec python3 "$@"\n')
    path.chmod(0o755)
    return str(path)


def fan_out(bench: Bench, one: Case, count: int, python: str, who: str) -> dict[str, float]:
    with bench.worker(who) as worker:
        if who == FLOOR:
            argv = [python, "-c", "pass"]
            return {one.name: worker.ask("run_many", argv=argv, count=count, at_once=AT_ONCE, patience=300)}
        return {one.name: worker.ask("fan_out", python=python, count=count, at_once=AT_ONCE, patience=300)}
