"""Threads for what takes its time and that nobody waits for in the foreground: there while there is something to do."""

from __future__ import annotations

import sys
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
        """Have `fn(*args)` called: in a thread, or where none can be started, now. It must not raise."""
        with self._changed:
            if self._idle > len(self._work):
                self._work.append((fn, args))
                self._changed.notify()
                return
            if self._threads >= self._most or self._start() or self._threads:
                self._work.append((fn, args))
                return
        self._call(fn, args)

    def _start(self) -> bool:
        """Start a thread, which waits for what it is to do; False where that cannot be, as at the interpreter's end."""
        self._threads += 1
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:
            self._threads -= 1
            return False
        return True

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
            self._call(fn, args)
            del fn, args

    @staticmethod
    def _call(fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            fn(*args)
        except BaseException as error:  # a fault of ours must not cost the thread
            sys.excepthook(type(error), error, error.__traceback__)
        finally:  # an error's traceback leads to this frame, too: what was done is not to be kept with it
            del fn, args
