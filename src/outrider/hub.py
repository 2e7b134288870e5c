"""One background thread for all sessions: collects the hops' stderr, and reads answers that nobody waits for just now."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable


class Hub:
    """Calls back, in its one thread, when a watched descriptor can be read. `once`: then it is no longer watched."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
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

    def watch(self, fd: int, ready: Callable[[], None], *, once: bool = False) -> None:
        with self._lock:
            try:
                self._selector.register(fd, selectors.EVENT_READ, (ready, once))
            except KeyError:
                self._selector.modify(fd, selectors.EVENT_READ, (ready, once))
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
            for key, _ in self._selector.select():
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
                ready()


_hub: Hub | None = None
_hub_lock = threading.Lock()


def hub() -> Hub:
    """This process's hub; a forked child gets one of its own."""
    global _hub
    with _hub_lock:
        if _hub is None or _hub._pid != os.getpid():
            _hub = Hub()
        return _hub
