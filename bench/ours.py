"""Outrider, as a user would use it: nothing here but the public face, with its defaults."""

from __future__ import annotations

import time
from typing import Any

from bench import far_side
from outrider import Route, Session


class Ours:
    session: Session

    def prepare(self, target: dict[str, Any]) -> None:
        self.target = target
        self.route = Route() | target["route"]

    def cold(self) -> dict[str, float]:
        """Seconds to the first result, and until the far end is closed again."""
        started = time.perf_counter()
        with self.route.open() as far:
            far.call(max, 3, 7)
            first = time.perf_counter() - started
        return {"first": first, "whole": time.perf_counter() - started}

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
        started = time.perf_counter()
        assert self.session.call(len, payload) == len(payload)
        return self._payload(started)

    def receive(self, kind: str, size: int) -> dict[str, Any]:
        self.session.call(far_side.hold, kind, size)
        started = time.perf_counter()
        payload = self.session.call(far_side.held)
        result = self._payload(started)
        assert memoryview(payload).nbytes == size
        return result

    def _payload(self, started: float) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "near": far_side.peak(), "far": self.session.call(far_side.peak)}
