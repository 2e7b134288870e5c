"""The near end of a generator that runs at a far end: an iterator whose items come as they are made there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

from outrider.errors import OutriderError
from outrider.far import wire
from outrider.near import calls
from outrider.near.hub import hub

if TYPE_CHECKING:
    from outrider.near.request import Request
    from outrider.session import Session

T = TypeVar("T")
GRANT = wire.WINDOW // 4
"""Bytes of taken items after which the far end is told that more may come."""


class FarGenerator(Iterator[T]):
    """What a generator yields at a far end, item by item. Some are made ahead: 64 at the most, or 1 MiB of them.

    `close()`, or dropping it, ends the generator there, where its `finally` runs. What it raises is raised by `next`;
    what it returns is the StopIteration's value. `timeout` of the session's options is for each item.
    """

    def __init__(self, session: Session, request: Request) -> None:
        self._session = session
        self._request = request
        assert request.arriving is not None
        self._arriving = request.arriving
        self._taken = 0
        self._over = False
        self._then: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._hub = hub()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<FarGenerator at {self._session.place}, {'ended' if self._over else 'open'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def then(self, do: Callable[[], None]) -> None:
        """Have something done when it has ended, however it did."""
        self._then = do

    def __next__(self) -> T:
        with self._lock:
            if not self._over and not self._arriving.items:
                self._wait()
            if self._arriving.items and not self._over:
                return self._take()
            if self._over:
                raise StopIteration
            return self._ended()

    def _wait(self) -> None:
        """Until an item is here, or the end."""
        request, connection = self._request, self._session.connection
        timeout = self._session.timeout
        request.deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                news = request.news
                if self._arriving.items or self._arriving.done:
                    return
                connection.wait_for(news, request, timeout)
        except BaseException:  # out of time, Ctrl-C
            with suppress(OutriderError):
                self._cancel()
            self._finish()
            raise

    def _take(self) -> T:
        segments, size = self._arriving.items.popleft()
        self._arriving.size -= size
        self._taken += size
        if self._taken >= GRANT and not self._arriving.done:
            self._session.connection.taken(self._request.ident, self._taken, wire.ITEMS)
            self._taken = 0
        try:
            item: T = calls.unpack(segments, self._session.trust, None, self._session.answer_limit)
        except BaseException:
            self._close()
            raise
        if self._request.fault is not None:
            self._close()
            raise self._request.fault
        return item

    def _ended(self) -> T:
        """Raise how it ended."""
        self._finish()
        raise StopIteration(self._session.outcome(self._request, self._arriving.value)[0])

    def close(self) -> None:
        """End the generator there and wait until it has ended; what its `finally` raises is raised here."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._over:
            return
        try:
            self._cancel()
            ending = self._arriving.value
            if isinstance(ending, tuple) and ending[0] == wire.RAISED and not calls.was_cancelled(ending[2]):
                self._session.outcome(self._request, ending)
        finally:
            self._finish()

    def _cancel(self) -> None:
        self._arriving.items.clear()
        self._arriving.size = 0
        if not self._arriving.done:
            self._session.connection.cancel_and_wait(self._request, self._arriving)

    def _finish(self) -> None:
        self._over = True
        self._arriving.items.clear()
        if self._request.shown is not None:
            self._request.shown.finish()
        then, self._then = self._then, None
        if then is not None:
            then()

    def __del__(self) -> None:
        if getattr(self, "_over", True) or self._pid != os.getpid():
            return
        connection, ident, then = self._session.connection, self._request.ident, self._then

        def drop() -> None:  # not here: this may run in the midst of anything
            with suppress(OutriderError):
                connection.drop(ident)
            if then is not None:
                threading.Thread(target=then, daemon=True).start()  # closing a session takes its time

        self._hub.soon(drop)
