"""What stands behind an executor: the calls that it was given and that are not done, and its end, also with the program."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from outrider.errors import Refused

T = TypeVar("T")


class CallFuture(Future[T]):
    """A future of `concurrent.futures` that can also be awaited, in whichever event loop runs then."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.RLock()

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def begin(self) -> bool:
        """From now on it runs; False if it was cancelled before."""
        with self._gate:
            if self.done() or self.running():
                return not self.cancelled()
            return self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Cancel it, unless it runs or is done: then False."""
        with self._gate:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()  # whoever waits for several is told by that alone
        return True

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give it its value or its error, unless it is done: cancelled in the meantime, perhaps."""
        if not self.begin():
            return
        with suppress(InvalidStateError):
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)


class Item(NamedTuple):
    """One call that an executor was given."""

    future: CallFuture[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    chunk: int = 1
    """So many calls may be done together, where each would be a job of its own."""


class Crew(ABC):
    """Does the calls of one executor. It knows nothing of the executor, which may be dropped before the calls are done."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.lock = threading.RLock()  # a finalizer may come in while its own thread is in here
        self.changed = threading.Condition(self.lock)
        self.retired = False
        self.under_way: set[CallFuture[Any]] = set()
        self._pid = os.getpid()

    def take(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], chunk: int = 1
    ) -> CallFuture[Any]:
        """The future of a call, which is begun as soon as may be."""
        if self._pid != os.getpid():
            raise Refused(
                "this executor belongs to the process that made it, and this is a forked child of that one",
                hop=self.place,
                hint="make an executor of the child's own: route.executor()",
            )
        with self.changed:
            if _leaving.is_set() or not threading.main_thread().is_alive():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self.retired:
                raise RuntimeError("cannot schedule new futures after shutdown")
            _wait_for_at_exit(self)
            item = Item(self.new_future(), fn, args, kwargs, chunk)
            self.under_way.add(item.future)
            try:
                self.begin(item)
            except BaseException:
                self.under_way.discard(item.future)
                raise
        item.future.add_done_callback(self._done)
        return item.future

    def map(
        self, fn: Callable[..., Any], rows: list[tuple[Any, ...]], chunk: int, until: float | None
    ) -> Iterator[Any]:
        """Values of calls, in order, all submitted now. until: the monotonic time at which it is too late."""
        with self.changed:  # none of them is submitted before all are here, so that they can go together
            futures = [self.take(fn, row, {}, chunk) for row in rows]
        return in_order(futures, until)

    def new_future(self) -> CallFuture[Any]:
        """A future as this crew makes them."""
        return CallFuture()

    @abstractmethod
    def begin(self, item: Item) -> None:
        """See to it that a call is done. Called with `changed` held, and so must not wait."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether nothing more is to be done once it is retired. Called with `changed` held."""

    def _done(self, future: Future[Any]) -> None:
        with self.changed:
            self.under_way.discard(future)
            self.changed.notify_all()
            self._left()

    def retire(self, cancel: bool = False) -> None:
        """Take no more calls. cancel: give up those that do not run yet, too."""
        with self.changed:
            self.retired = True
            self.changed.notify_all()
            waiting = list(self.under_way) if cancel else []
        for future in waiting:
            future.cancel()
        with self.changed:
            self._left()

    def _left(self) -> None:
        if self.retired and self.ended():
            _at_exit.discard(self)

    def leave(self) -> None:  # noqa: B027  # mostly there is nothing to do
        """It was shut down by who does not wait for it to end."""

    def at_exit(self) -> None:
        """Wait for what must not be cut short by the interpreter's end, once it is retired."""
        self.join()

    def join(self) -> None:
        """Wait until it has ended, once it is retired. RuntimeError in a thread of its own, which would wait for itself."""
        if getattr(_here, "crew", None) is self:
            raise RuntimeError("a callback cannot wait for its executor's end: shutdown(wait=False) does not")
        with self.changed:
            self.wait_for_end()
            self._left()

    def wait_for_end(self) -> None:
        """Called with `changed` held."""
        self.changed.wait_for(self.ended)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around what a thread of the crew's own does, callbacks of its futures too."""
        _here.crew = self
        try:
            yield
        finally:
            _here.crew = None


_here = threading.local()


def in_order(futures: list[CallFuture[T]], until: float | None) -> Iterator[T]:
    """Their values. Who leaves early, or is too late, cancels those that are left and do not run."""
    futures.reverse()
    try:
        while futures:
            yield _taken(futures.pop(), until)
    finally:
        for future in futures:
            future.cancel()


def _taken(future: CallFuture[T], until: float | None) -> T:
    """Its value, which nothing here keeps."""
    try:
        return future.result(None if until is None else until - time.monotonic())
    except BaseException:
        future.cancel()
        raise
    finally:
        del future


_at_exit: set[Crew] = set()
_watch: threading.Thread | None = None
_lock = threading.Lock()


def _wait_for_at_exit(crew: Crew) -> None:
    """Have the interpreter wait for a crew when it ends."""
    global _watch
    with _lock:
        if _watch is None:
            # Not a daemon, so that the interpreter waits for it. `atexit` would be too late: no threads start then.
            _watch = threading.Thread(target=_leave, name="outrider-executors", daemon=False)
            _watch.start()
        _at_exit.add(crew)


_leaving = threading.Event()


def _leave() -> None:
    """When the main thread has ended: what was submitted is done first, as with the executors of Python itself."""
    threading.main_thread().join()
    _leaving.set()
    with _lock:
        crews = list(_at_exit)
    for crew in crews:
        crew.retire()
    for crew in crews:
        crew.at_exit()


def _forget_in_child() -> None:
    """In a forked child: the parent's crews are the parent's."""
    global _watch, _lock
    _at_exit.clear()
    _watch, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
