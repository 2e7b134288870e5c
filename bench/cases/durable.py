"""Submitted calls, on a Slurm of one node without accounting that looks at its queue each second.

Slurm starts a job at its next look, so when in its second a job is submitted decides most of what it takes. All contenders
are therefore measured at the same points of that second, spread evenly; and one after another, as in a program that
submits, waits and submits again: there each submission follows the scheduler's last look.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.floors import BARE
from bench.harness import FLOOR, OURS, Bench, Failed, Worker
from bench.report import Case, Goal
from bench.world import Absent, Target
from outrider.batch.watching import INTERVAL

ANY = Case(
    "durable-one",
    "`submit` → result of a trivial function, at any moment of Slurm's second",
    "s",
    goals=(Goal("floor", 1.1), Goal("submitit", 0.55)),
)
IN_TURN = Case(
    "durable-in-turn",
    "The same, one after another",
    "s",
    goals=(Goal("floor", 1.1),),
)
ARRAY = Case(
    "durable-array",
    "20 results of one array",
    "s",
    goals=(Goal("floor", 1.0), Goal("submitit", 0.5)),
)
IDLE = Case("durable-pool", "20 calls in a pool, from an idle cluster", "s", goals=(Goal("limit", 0.35),))
WARM = Case("durable-pool-call", "One call in a warm pool", "ms", goals=(Goal("limit", 5),))
QUERIES = Case(
    "durable-queries",
    "Questions to the scheduler in each interval, while 1,000 jobs are waited for",
    "questions",
    goals=(Goal("limit", 1),),
)
ANSWER = Case("durable-answer", "One such question, until its answer", "ms")
DETACHED = Case("durable-process", "`submit` → result without a scheduler", "ms")

SHELL = "without Python"
PLACES = {
    OURS: "durable:Ours",
    FLOOR: "durable:Floor",
    SHELL: "durable:Shell",
    "submitit": "durable_peers:Submitit",
    "executorlib": "durable_peers:Executorlib",
    "psij-python": "durable_peers:Psij",
    "parsl": "durable_peers:Parsl",
}
PEERS = tuple(PLACES)[3:]
TICK = 1.0
"""Seconds between two looks of the scheduler at its queue: the test world's sched_interval."""
PATIENCE = 45.0


def measure(bench: Bench) -> None:
    if shutil.which("flux") is None:
        bench.world.absent["submit by flux"] = "no flux program on this machine"
    for target in bench.targets(("local", "ssh")):
        measure_detached(bench, target)
    if not bench.targets(("local",)):
        return
    from tests.world import slurm

    try:
        with bench.world.also(slurm.start) as cluster:
            measure_slurm(bench, cluster)
    except Absent as error:
        bench.world.absent["submit by slurm"] = str(error)


def measure_slurm(bench: Bench, cluster: Any) -> None:
    many, few, once = bench.count(5, 2), bench.count(3, 1), bench.count(2, 1)
    with contextlib.ExitStack() as stack:
        workers = {who: stack.enter_context(contender(bench, who, "slurm")) for who in contenders(bench)}
        second = Second(workers[FLOOR])
        without_shell = [who for who in workers if who != SHELL]
        for cases, whos, rounds, one in (
            ([ANY], list(workers), many, partial(at_any_moment, workers, second, many)),
            ([IN_TURN], without_shell, once, partial(in_turn, workers, once)),
            ([ARRAY], list(workers), few, partial(array, workers, second, few)),
            ([IDLE, WARM], without_shell, few, partial(pool, workers)),
        ):
            for case in cases:
                bench.begin(case)
            bench.turns("slurm", whos, rounds, one, [case.name for case in cases])
            end_jobs(cluster)
    for case in (QUERIES, ANSWER):
        bench.begin(case)
    bench.turns("slurm", [OURS], 1, partial(status, bench), [QUERIES.name, ANSWER.name])
    end_jobs(cluster)


def contenders(bench: Bench) -> list[str]:
    return [OURS, FLOOR, SHELL, *(PEERS if bench.peers else ())]


@contextmanager
def contender(bench: Bench, who: str, route: str) -> Iterator[Worker]:
    """A process of that contender, prepared; it and what it leaves are ended, however it fails."""
    from tests.world.machine import descendants

    told = {"folder": tempfile.mkdtemp(prefix="durable-", dir=bench.world.folder)}
    if who == OURS:
        told["route"] = route
    worker = bench.start(who, PLACES[who])
    try:
        with contextlib.suppress(Failed):  # then it fails in each case, too
            worker.ask("prepare", **told)
        yield worker
    finally:
        left = descendants(worker.process.pid)
        worker.stop()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end_jobs(cluster: Any) -> None:
    """What a contender has left in the queue is not the next one's load."""
    from tests.world.machine import wait_for

    if left := cluster.jobs():
        subprocess.run(["scancel", *sorted(left)], capture_output=True, timeout=30)
        wait_for(lambda: not cluster.jobs(), 15)


# --- a call, an array, a pool ------------------------------------------------------------------------------------------


class Second:
    """When Slurm looks at its queue, and the points of the time between two looks at which all are measured."""

    def __init__(self, floor: Worker) -> None:
        self.floor = floor
        self.taken: Counter[tuple[str, str]] = Counter()
        floor.ask("started")  # a fresh cluster takes a while for its first job
        self.learn()

    def learn(self) -> None:
        """To be done now and then: their distance is a millisecond more than a second."""
        self.phase = self.floor.ask("started") % TICK

    def wait(self, case: Case, who: str, rounds: int) -> None:
        """Until this contender's next point of so many."""
        if who == OURS:
            self.learn()
        part = (self.taken[case.name, who] % rounds + 0.5) / rounds
        self.taken[case.name, who] += 1
        time.sleep((self.phase + part * TICK - time.time()) % TICK)


def at_any_moment(workers: dict[str, Worker], second: Second, rounds: int, who: str) -> dict[str, float]:
    second.wait(ANY, who, rounds)
    return {ANY.name: workers[who].ask("one", PATIENCE)}


def in_turn(workers: dict[str, Worker], count: int, who: str) -> dict[str, list[float]]:
    workers[who].ask("one", PATIENCE)
    return {IN_TURN.name: [workers[who].ask("one", PATIENCE) for _ in range(count)]}


def array(workers: dict[str, Worker], second: Second, rounds: int, who: str) -> dict[str, float]:
    second.wait(ARRAY, who, rounds)
    return {ARRAY.name: workers[who].ask("array", PATIENCE, count=20)}


def pool(workers: dict[str, Worker], who: str) -> dict[str, list[float]]:
    took = workers[who].ask("pool", PATIENCE, count=20, warm=20)
    return {IDLE.name: [took["idle"]], WARM.name: [seconds * 1e3 for seconds in took["warm"]]}


# --- a thousand jobs ---------------------------------------------------------------------------------------------------


def status(bench: Bench, who: str) -> dict[str, float]:
    """Twenty arrays of fifty jobs that are held, and a thread that waits for each array."""
    with counted(bench.world.machine.make_folder("counted")) as log, contender(bench, who, "slurm") as worker:
        worker.ask("submit_held", PATIENCE, arrays=20, each=50)
        log.unlink(missing_ok=True)
        try:
            worker.ask("watch_held", PATIENCE, seconds=bench.count(6, 3) + 0.5)
            asked = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
        finally:
            worker.ask("end_held", PATIENCE)
    if len(asked) < 2:
        raise Failed(f"{len(asked)} questions were counted")
    intervals = (max(asked)[0] - min(asked)[0]) / INTERVAL
    return {
        QUERIES.name: round((len(asked) - 1) / intervals, 1),
        ANSWER.name: statistics.median(ended - began for began, ended in asked) * 1e3,
    }


@contextmanager
def counted(folder: Path) -> Iterator[Path]:
    """The scheduler's programs that tell of jobs write a line into the file that is given: when they began and ended."""
    log, before = folder / "log", os.environ["PATH"]
    for name in ("squeue", "scontrol", "sacct", "sstat"):
        if real := shutil.which(name):
            path = folder / name
            path.write_text(
                f'#!/bin/sh\nbegan=$(date +%s.%N)\n{real} "$@"\nstatus=$?\n'
                f'echo "$began $(date +%s.%N)" >>{log}\nexit $status\n'
            )
            path.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield log
    finally:
        os.environ["PATH"] = before


# --- no scheduler ------------------------------------------------------------------------------------------------------


def measure_detached(bench: Bench, target: Target) -> None:
    bench.begin(DETACHED)
    with contextlib.ExitStack() as stack:
        workers = {
            who: stack.enter_context(contender(bench, who, target.plain["route"])) for who in (OURS, FLOOR)
        }

        def one(who: str) -> dict[str, float]:
            if who == FLOOR and target.name != "local":  # opening it is what no tool can be without
                return {DETACHED.name: workers[who].ask("bare", argv=target.argv(BARE)) * 1e3}
            return {DETACHED.name: workers[who].ask("one" if who == OURS else "detached", PATIENCE) * 1e3}

        one(OURS)
        bench.turns(target.name, [OURS, FLOOR], bench.count(10, 3), one, [DETACHED.name])
