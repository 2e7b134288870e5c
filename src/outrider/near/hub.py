"""One background thread for all sessions: collects the hops' stderr, reads answers that nobody waits for, keeps time."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable


class Hub:
    """Calls back, in its one thread, when a watched descriptor can be read. `once`: then it is no longer watched."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # A signal handler or a finalizer may come in while its own thread is in here.
        self._lock = threading.RLock()
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._changed_read, self._changed_write = os.pipe()
        os.set_blocking(self._changed_read, False)
        os.set_blocking(self._changed_write, False)
        self._selector.register(self._changed_read, selectors.EVENT_READ, None)
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="outrider-hub", daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        """True in the hub's own thread, which must not wait for anything that the hub does."""
        return threading.current_thread() is self._thread

    def watch(
        self,
        fd: int,
        ready: Callable[[], None],
        *,
        once: bool = False,
        writing: bool = False,
        unless: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call `ready` in the hub's thread when `fd` can be read, or, if `writing`, written.

        `unless`: looked at in one step with it; true once `fd` is, or soon will be, forgotten and another's number.
        """
        event = selectors.EVENT_WRITE if writing else selectors.EVENT_READ
        with self._lock:
            if unless():
                return
            known = fd in self._selector.get_map()
            (self._selector.modify if known else self._selector.register)(fd, event, (ready, once))
        self._wake()

    def later(self, seconds: float, ready: Callable[[], None]) -> None:
        """Call `ready` in the hub's thread in so many seconds."""
        with self._lock:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._number), ready))
        self._wake()

    def _due(self) -> float | None:
        """Call what is due; seconds until the next is."""
        while True:
            with self._lock:
                if not self._timers:
                    return None
                left = self._timers[0][0] - time.monotonic()
                if left > 0:
                    return left
                ready = heapq.heappop(self._timers)[2]
            self._call(ready)

    def soon(self, ready: Callable[[], None]) -> None:
        """Call `ready` in the hub's thread, after what else is ready by now."""
        self._soon.append(ready)
        self._wake()

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; to be called before it is closed."""
        with self._lock:
            try:
                self._selector.unregister(fd)
            except (KeyError, ValueError, OSError):
                pass
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._changed_write, b"x")
        except OSError:
            pass

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(self._due()):
                if key.data is None:
                    try:
                        os.read(self._changed_read, 4096)
                    except OSError:
                        pass
                    continue
                ready, once = key.data
                with self._lock:
                    if self._selector.get_map().get(key.fd) is not key:
                        continue  # forgotten, or watched anew for somebody else, since select returned
                    if once:
                        self._selector.unregister(key.fd)
                self._call(ready)
            for _ in range(len(self._soon)):
                self._call(self._soon.popleft())

    @staticmethod
    def _call(ready: Callable[[], None]) -> None:
        """What one session's far end sets off must not end the thread that serves all sessions."""
        try:
            ready()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)


_hub: Hub | None = None
_hub_lock = threading.RLock()


def hub() -> Hub:
    """This process's hub; a forked child gets one of its own."""
    global _hub
    with _hub_lock:
        if _hub is None or _hub._pid != os.getpid():
            _hub = Hub()
        return _hub


def _forget_in_child() -> None:
    """A fork copies the hub without its thread, and the lock perhaps as another thread held it."""
    global _hub, _hub_lock
    _hub, _hub_lock = None, threading.RLock()


os.register_at_fork(after_in_child=_forget_in_child)
