"""Threads for what takes its time and that nobody waits for in the foreground: there while there is something to do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

IDLE = 1.0
"""Seconds that a thread waits for something more to do."""


class Hands:
    """Up to `most` threads, which do what they are given in its order. They do not keep a program from ending."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._changed = threading.Condition(threading.RLock())  # a finalizer may come in
        self._threads = 0
        self._idle = 0

    def do(self, fn: Callable[..., object], *args: Any) -> None:
        """Have `fn(*args)` called, which must not raise."""
        with self._changed:
            self._work.append((fn, args))
            if self._idle >= len(self._work):
                self._changed.notify()
            elif self._threads < self._most:
                self._threads += 1
                try:
                    threading.Thread(target=self._run, name=self._name, daemon=True).start()
                except RuntimeError:
                    self._threads -= 1
                    if not self._threads:
                        self._work.pop()
                        raise

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._work:
                    self._idle += 1
                    self._changed.wait_for(lambda: self._work, IDLE)
                    self._idle -= 1
                if not self._work:
                    self._threads -= 1
                    return
                fn, args = self._work.popleft()
            try:
                fn(*args)
            finally:
                del fn, args
