"""Heartbeats: whether a far end is still heard, looked at in the hub, once in an interval for all sessions together."""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from outrider.far import wire
from outrider.far.link import Slot
from outrider.near.hub import hub
from outrider.near.stream import NearLink
from outrider.options import Options

SILENT = 3
"""Silent intervals in a row after which a far end is given up."""
AT_LEAST_EVERY = 3
"""Intervals after which a PING goes out also to a far end that is heard: it wants to hear of the near end, too."""
PATIENCE = 60.0
PATIENT_INTERVALS = 20
"""A far end gives up its near end after so many seconds or intervals, whichever is longer."""


def told(options: Options) -> list[float] | None:
    """What the far end is told: seconds between its looks, and looks without a byte after which it ends. None: no looks."""
    interval = options.heartbeat
    if interval is None:
        return None
    patience = options.patience or max(PATIENCE, PATIENT_INTERVALS * interval)
    return [float(interval), max(1, round(patience / interval))]


class BeatingLink(NearLink):
    """A NearLink that notes whether bytes arrive, and whose waiting threads look up in each interval."""

    def __init__(self, interval: float, reader: wire.FrameReader, *rest: Any) -> None:
        super().__init__(reader, *rest)
        self.interval = interval
        self._beats = 0
        self.listen_to(reader)

    def listen_to(self, reader: wire.FrameReader) -> None:
        """Note from now on whether this reader reads anything."""
        self._silent = 0
        self._heard = True
        self._fill: Callable[[], bool] = reader.fill
        reader.fill = self._filled  # type: ignore[method-assign]

    def _filled(self) -> bool:
        self._heard = True
        return self._fill()

    def wait(self, slot: Slot, timeout: float | None = None) -> bool:
        """As Link.wait. Nobody is stuck in reading when the session is given up, whoever holds the pipe's other end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = self.interval if deadline is None else min(self.interval, deadline - time.monotonic())
            if super().wait(slot, left) or self.over:
                return slot.done
            if deadline is not None and time.monotonic() >= deadline:
                return slot.done

    def unread(self) -> bool:
        """Whether bytes have arrived that nobody has read yet: whoever reads is held up here, not there."""
        poll = select.poll()  # of its own: two threads may not use one
        poll.register(self.reader.fd, select.POLLIN)
        return bool(poll.poll(0))

    def beat(self, read: Callable[[], None]) -> bool:
        """One look: False once nothing has been heard for too long. `read()` reads what has arrived, if nobody else does."""
        heard = self._heard
        if self.unread():
            heard = True
            read()
        self._heard = False
        self._silent = 0 if heard else self._silent + 1
        self._beats += 1
        if self._silent >= SILENT:
            return False
        if not heard or self._beats % AT_LEAST_EVERY == 0:
            self.post(wire.PING, 0, [b""])
        return True


class Beating(Protocol):
    """What is looked at. `beat` returns False when it need not be any more."""

    def beat(self) -> bool: ...


_beating: dict[float, weakref.WeakSet[Beating]] = {}
_lock = threading.RLock()


def start(session: Beating, interval: float) -> None:
    """Look at `session` every so many seconds from now on, with all others of that interval, as long as it lives."""
    with _lock:
        others = _beating.get(interval)
        if others is None:
            _beating[interval] = weakref.WeakSet([session])
            hub().later(interval, lambda: _tick(interval))
        else:
            others.add(session)


def _tick(interval: float) -> None:
    """In the hub's thread. The next look is set from now: time that this process did not run counts for one."""
    with _lock:
        sessions = list(_beating[interval])
        if not sessions:
            del _beating[interval]
            return
    hub().later(interval, lambda: _tick(interval))
    for session in sessions:
        if not session.beat():
            with _lock:
                _beating[interval].discard(session)


def _forget_in_child() -> None:
    """The sessions are the parent's, and the lock may have been held by a thread that is not in the child."""
    global _lock
    _beating.clear()
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_in_child)
