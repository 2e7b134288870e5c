"""Contenders in processes of their own, measured in turns, and what was measured of them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.report import FLOOR, OURS, PEERS, Case, Results
from bench.world import TARGETS, Target, World

PLACES = {OURS: "ours:Ours", FLOOR: "floors:Floor"}
CHECKOUT = Path(__file__).parent.parent
PATIENCE = 120.0
"""Seconds that one order may take: a contender that hangs misses its case, and the run goes on."""


class Failed(Exception):
    """A contender did not do what it was asked; the text says why, for a footnote."""


class Cannot(Failed):
    """It is no surprise: the contender has no such thing."""


class Worker:
    """A contender in a fresh process."""

    def __init__(self, place: str, python: str) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "bench.worker", place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("BENCH_STDERR") else None,
            cwd=CHECKOUT,
            start_new_session=True,
            bufsize=0,
        )

    def ask(self, method: str, patience: float = PATIENCE, **arguments: Any) -> Any:
        """What the contender's method gives. Raises Failed."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
            answer = json.loads(self._line(patience))
        except (OSError, ValueError) as error:
            raise Failed(f"its process ended ({error})") from None
        if "cannot" in answer:
            raise Cannot(answer["cannot"])
        if "failed" in answer:
            raise Failed(answer["failed"][:300])
        return answer["value"]

    def _line(self, patience: float) -> bytes:
        assert self.process.stdout
        line, end = b"", time.monotonic() + patience
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Failed(f"no result within {patience:g} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                break
            line += piece
        return line

    def stop(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Bench:
    """One run: the world, how much of it is wanted, and its results."""

    def __init__(self, world: World, results: Results, *, quick: bool, peers: bool) -> None:
        self.world = world
        self.results = results
        self.quick = quick
        self.peers = (PEERS[:3] if quick else PEERS) if peers else ()
        self.best_peers = self.peers[:1] if quick else self.peers
        self.soak = (20_000, 200)

    def targets(self, only: Sequence[str] = TARGETS, quick: Sequence[str] = TARGETS) -> list[Target]:
        """Those of a case, out of what was asked for."""
        wanted = set(only) & set(quick) if self.quick else set(only)
        return [target for target in self.world.targets if target.name in wanted]

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def begin(self, case: Case) -> None:
        self.results.cases[case.name] = case

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def start(self, who: str, place: str) -> Worker:
        """A process of the class at `place` ("module:Class"), with the Python that has what this contender needs."""
        return Worker(place, sys.executable if who in PLACES else str(self.world.peers_python))

    @contextmanager
    def worker(self, who: str, target: Target | None = None) -> Iterator[Worker]:
        """A fresh process of that contender, prepared for that target: all imported, nothing opened."""
        made = self.start(who, PLACES.get(who, f"peers:{who.title()}"))
        try:
            if target is not None and who != FLOOR:
                made.ask("prepare", target=target.plain)
            yield made
        finally:
            made.stop()

    def turns(
        self,
        target: str,
        contenders: Sequence[str],
        rounds: int,
        measure: Callable[[str], dict[str, float] | dict[str, list[float]]],
        cases: Sequence[str],
    ) -> None:
        """A, B, C, A, B, C …: `measure` gives {case: value} of one contender; one that fails is out, with its reason."""
        left = list(contenders)
        for _ in range(rounds):
            for who in list(left):
                try:
                    for case, value in measure(who).items():
                        self.results.add(case, target, who, value)
                except Failed as error:
                    left.remove(who)
                    for case in cases:
                        self.results.miss(case, target, who, str(error))
                    if not isinstance(error, Cannot):
                        self.say(f"  {target} {who}: {error}")
