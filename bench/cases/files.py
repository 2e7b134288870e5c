"""Files: one large, and a tree of many small ones, there and back, against cat, tar and scp through the same chain."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from bench.far_side import MB
from bench.harness import FLOOR, OURS, Bench, Cannot, Failed
from bench.report import Case, Goal
from bench.world import Target

PLACES = ("local", "ssh", "ssh+sudo+docker")
FAST = {"large": (FLOOR, "scp"), "small": ("tar",)}
SLOW = {"large": ("asyncssh",), "small": ("scp", "asyncssh", "execnet")}
FIRST = "first run"


def speed(way: str, what: str, amount: int) -> Case:
    if what == "large":
        goals = (Goal(FLOOR, 0.9), Goal("scp", 1.0))
        return Case(f"{way}-large", f"`{way}` of a file of {amount} MB", "MB/s", higher=True, goals=goals)
    goals = (Goal("tar", 0.9), Goal("scp", 3.0))
    return Case(f"{way}-small", f"`{way}` of {amount:,} small files", "files/s", higher=True, goals=goals)


def again(way: str, amount: int) -> Case:
    title = f"`{way}` of {amount:,} small files again, none changed"
    return Case(f"{way}-again", title, "s", goals=(Goal(FIRST, 0.1),))


def measure(bench: Bench) -> None:
    for what, amount in (("large", bench.count(1024, 256)), ("small", bench.count(10_000, 2_000))):
        for way in ("put", "get"):
            measure_one(bench, way, what, amount)


def measure_one(bench: Bench, way: str, what: str, amount: int) -> None:
    case = speed(way, what, amount)
    bench.begin(case)
    if what == "small":
        bench.begin(again(way, amount))
    files = bench.world.scratch
    source = files.large_file(amount * MB) if what == "large" else files.small_files(amount)
    goal = (files.there if way == "put" else files.here) / "arrived"
    for target in bench.targets(PLACES, quick=("ssh",)):
        once = partial(transfer, bench, target, case, amount, source, goal)
        slow = [who for who in SLOW[what] if who == "scp" or (who in bench.peers and not bench.quick)]
        bench.turns(target.name, (OURS, *FAST[what]), bench.count(3, 1), once, [case.name])
        bench.turns(target.name, slow, 1, once, [case.name])
        files.without(goal)


def transfer(
    bench: Bench, target: Target, case: Case, amount: int, source: Path, goal: Path, who: str
) -> dict[str, float]:
    bench.world.scratch.without(goal)
    way, _, what = case.name.partition("-")
    files = {"source": str(source), "goal": str(goal)}
    if who in (OURS, "asyncssh", "execnet"):
        with bench.worker(who, target) as worker:
            worker.ask("open")
            seconds = worker.ask(way, **files)
            if who == OURS and what == "small":
                second = worker.ask(way, **files)
                for name, value in ((OURS, second), (FIRST, seconds)):
                    bench.results.add(again(way, amount).name, target.name, name, value)
    else:
        with bench.worker(FLOOR) as worker:
            seconds = worker.ask("run", argv=command(target, way, what, who, source, goal))
    check(source, goal)
    return {case.name: amount / seconds}


def command(target: Target, way: str, what: str, who: str, source: Path, goal: Path) -> list[str]:
    """What does the same with the system's own programs, over the shared ssh connection, too."""
    if who == "scp":
        return scp(target, way, what, source, goal)
    if who == "tar":
        read, write = f"tar -C {source} -cf - .", f"mkdir {goal} && tar -C {goal} -xf - --no-same-owner"
    else:
        read, write = f"cat {source}", f"cat > {goal}"
    if way == "put":
        return ["sh", "-c", f"{read} | {shlex.join(target.argv(['sh', '-c', write]))}"]
    return ["sh", "-c", f"{shlex.join(target.argv(['sh', '-c', read]))} | {{ {write}; }}"]


def scp(target: Target, way: str, what: str, source: Path, goal: Path) -> list[str]:
    if target.name != "ssh":
        raise Cannot("speaks ssh and nothing else")
    argv = target.argv(["true"])
    flags = [flag for flag in argv[1 : argv.index("--")] if flag != "-T"]
    ends = [f"{source}", f"alpha:{goal}"] if way == "put" else [f"alpha:{source}", f"{goal}"]
    return ["scp", "-q", *flags, *(["-r"] if what == "small" else []), *ends]


def check(source: Path, goal: Path) -> None:
    """All has arrived."""
    for path in source.rglob("*") if source.is_dir() else [source]:
        arrived = goal / path.relative_to(source) if source.is_dir() else goal
        if not arrived.exists() or (path.is_file() and arrived.stat().st_size != path.stat().st_size):
            raise Failed(f"{path.relative_to(source.parent)} has not arrived whole")
