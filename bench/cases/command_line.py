"""`outrider run` and `outrider call` as whole processes, over an ssh connection that is shared already."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from bench.harness import FLOOR, OURS, Bench
from bench.report import Case, Goal
from bench.world import Target

SHARED = ("ssh",)
RUN = Case(
    "outrider-run",
    "`outrider run ROUTE -- true`, the whole process",
    "ms",
    goals=(Goal("limit", 150, SHARED),),
)
CALL = Case(
    "outrider-call",
    "`outrider call ROUTE operator:add 3 7`, the whole process",
    "ms",
    goals=(Goal("limit", 150, SHARED),),
)
PROGRAM = str(Path(sys.executable).with_name("outrider"))


def measure(bench: Bench) -> None:
    for case in (RUN, CALL):
        bench.begin(case)
    for target in bench.targets(quick=("local", "ssh")):
        for case, words in ((RUN, ["--", "true"]), (CALL, ["operator:add", "3", "7"])):
            once = partial(whole_process, bench, target, case, words)
            bench.turns(target.name, (OURS, FLOOR), bench.count(11, 3), once, [case.name])


def whole_process(bench: Bench, target: Target, case: Case, words: list[str], who: str) -> dict[str, float]:
    argv = target.argv(["true"])
    if who == OURS:
        argv = [PROGRAM, "run" if case is RUN else "call", target.plain["route"], *words]
    with bench.worker(FLOOR) as worker:
        return {case.name: worker.ask("run", argv=argv) * 1e3}
