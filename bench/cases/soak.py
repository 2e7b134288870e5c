"""Many calls, and many openings: nothing may grow. How many is set by --calls and --opens; `make soak` takes a million."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.harness import OURS, Bench, Worker
from bench.report import Case, Goal
from bench.world import Target

KINDS = ("calls", "opens")
# A process's memory breathes by some pages; a leak of a byte a call would show as a megabyte in a million.
MAY_GROW = {"near memory": 0.5, "far memory": 0.5}
PARTS = (
    "near memory",
    "far memory",
    "near descriptors",
    "far descriptors",
    "near threads",
    "processes",
    "temp files",
)
STEPS = 10


def case(kind: str, count: int, part: str) -> Case:
    unit = "MB" if part in MAY_GROW else part.split()[-1]
    title = f"Growth over {count:,} {kind}: {part}"
    return Case(
        f"soak-{kind}-{part.replace(' ', '-')}", title, unit, goals=(Goal("limit", MAY_GROW.get(part, 0)),)
    )


def measure(bench: Bench) -> None:
    for target in bench.targets(("local", "ssh"), quick=()):
        for kind, count in zip(KINDS, bench.soak, strict=True):
            made = [case(kind, count, part) for part in PARTS]
            for one in made:
                bench.begin(one)
            once = partial(growth, bench, target, kind, count)
            bench.turns(target.name, [OURS], 1, once, [one.name for one in made])


def growth(bench: Bench, target: Target, kind: str, count: int, who: str) -> dict[str, float]:
    """From the end of the first tenth, when all is warm, to the end."""
    stocks = list(stocks_of(bench, target, kind, count, who))
    return {
        case(kind, count, part).name: (stocks[-1][part] - stocks[0][part]) / (1e6 if part in MAY_GROW else 1)
        for part in PARTS
    }


def stocks_of(bench: Bench, target: Target, kind: str, count: int, who: str) -> Iterator[dict[str, int]]:
    with bench.worker(who, target) as worker:
        worker.ask("open")
        for step in range(STEPS):
            worker.ask(kind, count=count // STEPS, patience=3600)
            bench.say(f"  {target.name}: {count * (step + 1) // STEPS:,} {kind}")
            yield {**worker.ask("stock"), **around(worker)}


def around(worker: Worker) -> dict[str, int]:
    from tests.world.machine import descendants

    time.sleep(1.0)  # what is being ended has time to end
    folders = [Path(tempfile.gettempdir()), Path("/dev/shm"), Path("/var/tmp")]
    names = [path.name for folder in folders for path in folder.iterdir()]
    ours = [name for name in names if name.startswith(("outrider", ".outrider"))]
    # Other runs of tests and benches come and go.
    others = ("outrider-world-", "outrider-bench-")
    return {
        "processes": len(descendants(worker.process.pid)),
        "temp files": sum(not name.startswith(others) for name in ours),
    }
