"""Submitted calls: ourselves, and what no tool on top of the same scheduler can beat."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LOOK = 0.02
"""Seconds between two looks for a result file."""
PATIENCE = 60.0
ECHO = "import sys\nfor line in sys.stdin: print(pow(*map(int, line.split())))"


class Ours:
    """A user's program, with the public face and its defaults. Jobs are cleaned outside of what is timed."""

    def prepare(self, route: str, folder: str) -> None:
        from outrider import Route

        self.route = Route() | route

    def one(self) -> float:
        """Seconds from submit to the result of a trivial function."""
        started = time.perf_counter()
        job = self.route.submit(pow, 7, 1)
        value = job.result(PATIENCE)
        seconds = time.perf_counter() - started
        job.clean()
        assert value == 7
        return seconds

    def array(self, count: int) -> float:
        """Seconds to the results of so many trivial calls by one array."""
        started = time.perf_counter()
        jobs = self.route.map(abs, range(count), array=True)
        values = list(jobs.values())
        seconds = time.perf_counter() - started
        jobs.clean()
        assert values == list(range(count))
        return seconds

    def pool(self, count: int, warm: int) -> dict[str, Any]:
        """Seconds from nothing to so many results of a pool, and of each of `warm` calls after that."""
        started = time.perf_counter()
        with self.route.executor(pool=2) as pool:
            assert list(pool.map(abs, range(count))) == list(range(count))
            idle = time.perf_counter() - started
            return {"idle": idle, "warm": one_after_another(lambda: pool.submit(pow, 7, 1).result(), warm)}

    def submit_held(self, arrays: int, each: int) -> None:
        """So many arrays of jobs that wait until they are released."""
        held = self.route.batch(hold=True)
        self.held = [held.map(abs, range(each)) for _ in range(arrays)]

    def watch_held(self, seconds: float) -> None:
        """All of them are waited for at once, as a program with a thread for each array does; then they are ended."""
        threads = [threading.Thread(target=jobs.wait, args=(seconds,)) for jobs in self.held]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def end_held(self) -> None:
        for jobs in self.held:
            jobs.cancel()
            jobs.clean()


def one_after_another(call: Callable[[], Any], count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        assert call() == 7
        times.append(time.perf_counter() - started)
    return times


class Floor:
    """The bare program that submits, of a script that writes a file, and a look for that file every 20 ms.

    It starts one bare interpreter: a function cannot be called without.
    """

    BODY = "python3 -c 'print(pow(7, 1))'"

    def prepare(self, folder: str) -> None:
        self.folder = Path(folder)
        self.numbers = itertools.count()

    def one(self) -> float:
        return self._run([], ["result"])

    def started(self) -> float:
        """When, by the clock, Slurm has started a job that was just submitted."""
        self.one()
        return float((self.latest / "when").read_text())

    def array(self, count: int) -> float:
        return self._run([f"--array=0-{count - 1}"], [f"result{number}" for number in range(count)])

    def pool(self, count: int, warm: int) -> dict[str, Any]:
        """A line there and back for each call, to an interpreter that srun starts: srun waits for no look at the queue."""
        started = time.perf_counter()
        argv = ["srun", "--ntasks=1", "--unbuffered", "python3", "-uc", ECHO]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
            into, out = process.stdin, process.stdout
            assert into and out

            def call() -> int:
                into.write(b"7 1\n")
                return int(out.readline())

            one_after_another(call, count)
            idle = time.perf_counter() - started
            times = one_after_another(call, warm)
            into.close()
        return {"idle": idle, "warm": times}

    def _run(self, options: list[str], names: Iterable[str]) -> float:
        self.latest = folder = self.folder / str(next(self.numbers))
        folder.mkdir()
        script, waited = folder / "script", {folder / name for name in names}
        started = time.perf_counter()
        script.write_text(
            f"#!/bin/sh\ncd {folder}\n"
            "date +%s.%N >when; n=result$SLURM_ARRAY_TASK_ID\n"
            f'{self.BODY} >"$n.part" && mv "$n.part" "$n"\n'
        )
        argv = ["sbatch", "--parsable", "--output=/dev/null", *options, str(script)]
        subprocess.run(argv, check=True, capture_output=True)
        return watched(waited, started)

    def detached(self) -> float:
        """The same without a scheduler: a process that nobody is the parent of."""
        folder = self.folder / str(next(self.numbers))
        folder.mkdir()
        started = time.perf_counter()
        body = f"cd {folder}; {self.BODY} >result.part && mv result.part result"
        subprocess.run(["sh", "-c", 'setsid sh -c "$1" </dev/null >/dev/null 2>&1 &', "sh", body], check=True)
        return watched({folder / "result"}, started)

    def bare(self, argv: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return time.perf_counter() - started


class Shell(Floor):
    """The same, of a script that starts no interpreter."""

    BODY = "echo 7"


def watched(waited: set[Path], started: float) -> float:
    """Seconds since `started` when all of these files are there."""
    end = time.monotonic() + PATIENCE
    while waited := {path for path in waited if not path.exists()}:
        if time.monotonic() > end:
            raise TimeoutError(f"{len(waited)} results have not come within {PATIENCE:g} s")
        time.sleep(LOOK)
    return time.perf_counter() - started
