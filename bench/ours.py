"""Outrider, as a user would use it: nothing here but the public face, with its defaults."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bench import far_side

if TYPE_CHECKING:
    from outrider import Session


class Ours:
    session: Session

    def prepare(self, target: dict[str, Any]) -> None:
        self.target = target
        started = time.perf_counter()
        from outrider import Route

        self.loading = time.perf_counter() - started
        self.route = Route() | target["route"]

    def cold(self) -> dict[str, float]:
        """Seconds to the first result, and until the far end is closed again."""
        started = time.perf_counter()
        with self.route.open() as far:
            far.call(max, 3, 7)
            first = time.perf_counter() - started
        return {"first": first, "whole": time.perf_counter() - started, "loading": self.loading}

    def open(self) -> None:
        self.session = self.route.open()
        self.session.call(far_side.extend_path, self.target["packages"])

    def close(self) -> None:
        self.session.close()

    def warm(self, count: int) -> list[float]:
        call, clock = self.session.call, time.perf_counter
        times = []
        for _ in range(count):
            started = clock()
            call(far_side.add, 3, 7)
            times.append(clock() - started)
        return times

    def send(self, kind: str, size: int) -> dict[str, Any]:
        payload = far_side.make(kind, size)
        self.session.call(far_side.peak)
        self.session.call(len, far_side.make(kind, far_side.MB))  # so that numpy is there
        started = time.perf_counter()
        assert self.session.call(len, payload) == len(payload)
        return self._payload(started)

    def receive(self, kind: str, size: int) -> dict[str, Any]:
        for amount in (far_side.MB, size):  # the small one first, so that numpy is there
            self.session.call(far_side.hold, kind, amount)
            if amount != size:
                self.session.call(far_side.held)
        started = time.perf_counter()
        payload = self.session.call(far_side.held)
        result = self._payload(started)
        assert memoryview(payload).nbytes == size
        return result

    def hundred(self) -> float:
        """Seconds of a hundred calls of 10 ms, all at once."""
        started = time.perf_counter()
        for future in [self.session.submit(time.sleep, 0.01) for _ in range(100)]:
            future.result()
        return time.perf_counter() - started

    def open_many(self, count: int, at_once: int | None = None) -> dict[str, Any]:
        """Seconds until that many far ends, opened from as many threads, have each given a result; they stay open."""

        def start(_: int) -> Session:
            far = self.route.open()
            far.call(max, 3, 7)
            return far

        threads, memory = threading.active_count(), far_side.resident()
        started = time.perf_counter()
        with ThreadPoolExecutor(at_once or count) as pool:
            self.held = list(pool.map(start, range(count)))
        seconds = time.perf_counter() - started
        gc.collect()
        return {
            "seconds": seconds,
            "pids": [far.far.pid for far in self.held],
            "threads": threading.active_count() - threads,
            "memory": far_side.resident() - memory,
        }

    def close_many(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda far: far.close(), self.held))

    def calls(self, count: int) -> None:
        for _ in range(count):
            self.session.call(far_side.add, 3, 7)

    def opens(self, count: int) -> None:
        for _ in range(count):
            assert self.route.call(max, 3, 7) == 7

    def stock(self) -> dict[str, int]:
        """What may not grow."""
        gc.collect()
        here = {"near memory": far_side.resident(), "near descriptors": far_side.descriptors()}
        far = self.session.call
        there = {"far memory": far(far_side.resident), "far descriptors": far(far_side.descriptors)}
        return {**here, **there, "near threads": threading.active_count()}

    # --- sandboxed jobs

    def open_sandbox(self, ballast: int) -> None:
        """A sandbox of this route; `ballast`: bytes that this process has in use beside."""
        from outrider import Sandbox

        self.ballast = bytearray(ballast)
        self.ballast[::4096] = b"x" * len(self.ballast[::4096])
        limits = {"time": 10, "wall": 20, "memory": "256M", "processes": 32, "output": "16M", "disk": "64M"}
        self.box = Sandbox(self.route, **limits)

    def jailed(self, argv: list[str], count: int, fresh: bool) -> list[float]:
        box, times = self.box.limited(fresh=fresh), []
        for _ in range(count):
            started = time.perf_counter()
            done = box.run(argv)
            times.append(time.perf_counter() - started)
            assert done.verdict == "OK", done
        return times

    def jailed_at_once(self, argv: list[str], count: int, at_once: int) -> float:
        """Seconds until that many jobs are done, each in a pooled jail."""
        started = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            assert all(done.ok for done in pool.map(lambda _: self.box.run(argv), range(count)))
        return time.perf_counter() - started

    def jailed_once(self, program: str, words: list[str], limits: dict[str, Any]) -> dict[str, Any]:
        """What a job used, and what it said."""
        folder, _, name = program.rpartition("/")
        box = self.box.limited(ro={folder: "/programs"}, **limits)
        done = box.run([f"/programs/{name}", *words])
        used = {"cpu_s": done.usage.cpu_s, "memory_bytes": done.usage.memory_bytes}
        return {"usage": used, "stdout": done.stdout.decode()}

    def fan_out(self, python: str, count: int, at_once: int) -> float:
        """Seconds of one call on a group of that many local routes."""
        from outrider import Group, Route, local

        route = Route(local()).options(python=python)
        group = Group({f"host{number}": route for number in range(count)}, at_once=at_once)
        started = time.perf_counter()
        results = group.call(max, 3, 7)
        assert results.ok and len(results) == count
        return time.perf_counter() - started

    def traced(self, count: int) -> dict[str, list[float]]:
        """Seconds of so many calls while they are traced, and of as many that are not."""
        import outrider

        with outrider.trace():
            traced = self.warm(count)
        return {"with": traced, "without": self.warm(count)}

    def put(self, source: str, goal: str) -> float:
        started = time.perf_counter()
        self.session.put(source, goal)
        return time.perf_counter() - started

    def get(self, source: str, goal: str) -> float:
        started = time.perf_counter()
        self.session.get(source, goal)
        return time.perf_counter() - started

    def beside(self, transfer: str, size: int, source: str, goal: str) -> dict[str, float]:
        """The 99th of 100 small calls, in seconds, alone and while a large transfer of that kind is under way."""
        big = {
            "put": lambda: self.session.put(source, goal),
            "get": lambda: self.session.get(source, goal),
            "argument": lambda: self.session.call(len, memory),
        }[transfer]
        memory = far_side.make("bytes", size) if transfer == "argument" else b""
        end = time.perf_counter() + 1.5
        alone = self._small_calls(lambda: time.perf_counter() > end)
        thread = threading.Thread(target=big)
        thread.start()
        during = self._small_calls(lambda: not thread.is_alive())
        thread.join()
        return {"alone": _p99(alone), "during": _p99(during), "calls": len(during)}

    def _small_calls(self, over: Callable[[], bool]) -> list[float]:
        times = []
        while not over():
            times += self.warm(1)
            time.sleep(0.001)
        return times

    def _payload(self, started: float) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "near": far_side.peak(), "far": self.session.call(far_side.peak)}


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
