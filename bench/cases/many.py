"""Many calls at once in one session, and small calls beside a large transfer."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from bench.far_side import MB
from bench.harness import OURS, Bench, Failed, Worker
from bench.report import Case, Goal
from bench.world import Target

HUNDRED = Case(
    "hundred",
    "100 concurrent calls of 10 ms in one session",
    "ms",
    goals=(Goal("limit", 40), Goal("best peer", 1.0)),
)
TRANSFERS = {"put": "a `put`", "get": "a `get`", "argument": "an argument of bytes"}


def beside(transfer: str, size: int) -> Case:
    return Case(
        f"beside-{transfer}",
        f"What {TRANSFERS[transfer]} of {size} MB under way adds to the p99 of small calls",
        "ms",
        goals=(Goal("limit", 5),),
    )


def measure(bench: Bench) -> None:
    bench.begin(HUNDRED)
    for target in bench.targets(quick=("local", "ssh")):
        with ExitStack() as stack:
            workers = opened(bench, target, stack)
            once = partial(hundred, workers)
            bench.turns(target.name, list(workers), bench.count(7, 3), once, [HUNDRED.name])
    measure_fairness(bench)


def opened(bench: Bench, target: Target, stack: ExitStack) -> dict[str, Worker]:
    workers = {}
    for who in (OURS, *bench.best_peers):
        try:
            worker = stack.enter_context(bench.worker(who, target))
            worker.ask("open")
            worker.ask("hundred")  # threads are made, modules imported
            workers[who] = worker
        except Failed as error:
            bench.results.miss(HUNDRED.name, target.name, who, str(error))
    return workers


def hundred(workers: dict[str, Worker], who: str) -> dict[str, float]:
    return {HUNDRED.name: workers[who].ask("hundred") * 1e3}


def measure_fairness(bench: Bench) -> None:
    size = bench.count(1024, 256)
    for transfer in TRANSFERS:
        case = beside(transfer, size)
        bench.begin(case)
        for target in bench.targets(("local", "ssh"), quick=("ssh",)):
            once = partial(small_calls, bench, target, case, transfer, size)
            bench.turns(target.name, (OURS,), 1, once, [case.name])


def small_calls(
    bench: Bench, target: Target, case: Case, transfer: str, size: int, who: str
) -> dict[str, float]:
    files = bench.world.scratch
    source = files.large_file(size * MB)
    goal = files.without((files.there if transfer == "put" else files.here) / "beside")
    with bench.worker(who, target) as worker:
        worker.ask("open")
        took = worker.ask("beside", transfer=transfer, size=size * MB, source=str(source), goal=str(goal))
    files.without(goal)
    for name in ("alone", "during"):
        bench.results.add(case.name, target.name, f"p99 {name}", took[name] * 1e3)
    return {case.name: (took["during"] - took["alone"]) * 1e3}
