"""Untrusted programs: what a jail costs, and how true its figures are. Peers are what judges use, each as a whole cycle."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import outrider
from bench.harness import FLOOR, OURS, Bench, Failed, Worker
from bench.report import Case, Goal
from bench.world import Target

TRUE = ["/bin/true"]
ONCE = {
    "fresh": Case("sandbox-fresh", "`/bin/true` in a fresh jail", "ms", goals=(Goal("limit", 5),)),
    "pooled": Case("sandbox-pooled", "`/bin/true` in a pooled jail", "ms", goals=(Goal("limit", 2),)),
}
RATE = Case(
    "sandbox-rate",
    "`/bin/true` in pooled jails, two at once",
    "runs/s",
    higher=True,
    goals=(Goal("limit", 300),),
)
LARGE = Case(
    "sandbox-large-caller", "The same from a caller of 300 MiB", "ms", goals=(Goal("small caller", 1.1),)
)
TRUTHS = {
    "cpu": Case("sandbox-cpu", "Processor time, off the truth by", "ms", goals=(Goal("limit", 2),)),
    "orphan": Case("sandbox-orphan", "The same in an orphan", "ms", goals=(Goal("limit", 2),)),
    "memory": Case("sandbox-memory", "Peak memory, off the truth by", "MiB", goals=(Goal("limit", 1),)),
    "overshoot": Case("sandbox-overshoot", "Processor time past its limit", "ms", goals=(Goal("limit", 20),)),
}
BWRAP = [
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin",
    "/bin",
    "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
    "--tmpfs", "/tmp", "--",
]  # fmt: skip
ISOLATE = (["isolate", "--init"], ["isolate", "--silent", "--run", "--", *TRUE], ["isolate", "--cleanup"])


def measure(bench: Bench) -> None:
    if not hasattr(outrider, "sandbox"):
        bench.say("  this Outrider has no sandbox()")
        return
    for target in bench.targets(("local",)):
        measure_starts(bench, target)
        measure_truths(bench, target)


# --- what it costs --------------------------------------------------------------------------------------------------


def measure_starts(bench: Bench, target: Target) -> None:
    count = bench.count(200, 30)
    for case in (*ONCE.values(), RATE, LARGE):
        bench.begin(case)
    with opened(bench, target) as small, opened(bench, target, ballast=300 << 20) as large:
        workers = {OURS: small, "small caller": small}
        for name, case in ONCE.items():
            once = partial(in_a_jail, bench, small, case, name == "fresh", count)
            bench.turns(target.name, contenders(bench, name), bench.count(5, 2), once, [case.name])
        many = partial(at_once, small, bench.count(1000, 100))
        bench.turns(target.name, [OURS], bench.count(5, 2), many, [RATE.name])
        for _ in range(bench.count(5, 2)):
            for who, worker in ((OURS, large), *list(workers.items())[1:]):
                took = worker.ask("jailed", argv=TRUE, count=count, fresh=False)
                bench.results.add(LARGE.name, target.name, who, [seconds * 1e3 for seconds in took])


@contextmanager
def opened(bench: Bench, target: Target, ballast: int = 0) -> Iterator[Worker]:
    with bench.worker(OURS, target) as worker:
        worker.ask("open_sandbox", ballast=ballast)
        worker.ask("jailed", argv=TRUE, count=20, fresh=False)
        yield worker


def contenders(bench: Bench, name: str) -> list[str]:
    """Of the others, none keeps jails for the next job."""
    found = [OURS, FLOOR]
    if name == "fresh" and bench.peers:
        found += [program for program in ("bwrap", "isolate") if shutil.which(program)]
        found += ["docker run"] if not bench.quick and shutil.which("docker") else []
    return found


def in_a_jail(
    bench: Bench, ours: Worker, case: Case, fresh: bool, count: int, who: str
) -> dict[str, list[float]]:
    if who == OURS:
        took = ours.ask("jailed", argv=TRUE, count=count, fresh=fresh)
    elif who == "docker run":
        took = [by_docker(bench) for _ in range(3)]
    else:
        cycle = {FLOOR: [TRUE], "bwrap": [[*BWRAP, *TRUE]], "isolate": list(ISOLATE)}[who]
        with bench.worker(FLOOR) as worker:
            took = [sum(worker.ask("run", argv=argv) for argv in cycle) for _ in range(count // 2)]
    return {case.name: [seconds * 1e3 for seconds in took]}


def by_docker(bench: Bench) -> float:
    images = subprocess.run(["docker", "images", "-q", "pybox:1"], capture_output=True, text=True)
    if not images.stdout.strip():
        raise Failed("no running Docker with the tests' image: measure with --targets local,docker")
    with bench.worker(FLOOR) as worker:
        return float(worker.ask("run", argv=["docker", "run", "--rm", "--network=none", "pybox:1", *TRUE]))


def at_once(worker: Worker, count: int, who: str) -> dict[str, float]:
    seconds: float = worker.ask("jailed_at_once", argv=TRUE, count=count, at_once=2)
    return {RATE.name: count / seconds}


# --- how true it is -------------------------------------------------------------------------------------------------


def measure_truths(bench: Bench, target: Target) -> None:
    """A program says what it has used, as the kernel told it; the result must say the same."""
    for case in TRUTHS.values():
        bench.begin(case)
    program = spender(bench.world.folder)
    with opened(bench, target) as worker:
        for _ in range(bench.count(10, 3)):
            for name, words in (("cpu", ["spend", "0.5"]), ("orphan", ["spend-in-orphan", "0.5"])):
                used, told = spent(worker, program, words)
                bench.results.add(
                    TRUTHS[name].name, target.name, OURS, abs(used["cpu_s"] * 1e3 - told[0] / 1e3)
                )
            used, told = spent(worker, program, ["spend", "0", "100"])
            off = abs(used["memory_bytes"] - told[1]) / (1 << 20)
            bench.results.add(TRUTHS["memory"].name, target.name, OURS, off)
            used, _ = spent(worker, program, ["hog"], time=0.2)
            bench.results.add(TRUTHS["overshoot"].name, target.name, OURS, used["cpu_s"] * 1e3 - 200)


def spender(folder: Path) -> Path:
    from tests.sandbox.program import attack_program

    return attack_program(folder)


def spent(worker: Worker, program: Path, words: list[str], **limits: Any) -> tuple[dict[str, Any], list[int]]:
    done = worker.ask("jailed_once", program=str(program), words=words, limits=limits)
    return done["usage"], [int(word) for word in done["stdout"].split()]
