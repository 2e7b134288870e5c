"""Warm workers inside one job: a far end at the end of the route, and worker processes that its session carries.

The first far end only starts workers and passes their streams on; no call runs in it. So a worker may end, or be ended,
alone, each has an interpreter lock of its own, and however many there are the scheduler has one job.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import Any, TypeVar

from outrider.batch.executors.crew import Crew, Item
from outrider.batch.executors.steps import nodes_of, places
from outrider.chain import Chain
from outrider.errors import Cancelled, ConfigError, Lost, OutriderError
from outrider.near.carried import CarriedOpening, CarriedProcess
from outrider.near.connection import Connection
from outrider.near.hub import hub
from outrider.near.opening import Opening
from outrider.options import LIMITS, Options
from outrider.session import Session, limit_all

T = TypeVar("T")
GROWTH = 0.02
"""Seconds that calls must have waited, once a worker is there, before another is started: many small ones need none."""


class WorkerLost(Lost, BrokenExecutor):
    """The worker process that ran this call is gone: it ended itself, was ended, or its whole job was. Others go on."""


class PoolBroken(OutriderError, BrokenExecutor):
    """The pool can do no more calls: its job or its workers could not be started. `__cause__` says why."""


class PoolCrew(Crew):
    """Up to `size` workers, each fed by a thread of its own, one call at a time. More are started while calls wait."""

    def __init__(
        self,
        chain: Chain,
        options: Options,
        size: int,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        super().__init__(chain.label())
        initial = None if initializer is None else (initializer, initargs)
        self._allocation = Allocation(chain, options, initial)
        self._size = size
        self._queue: deque[Item] = deque()
        self._hands = 0  # threads, and of them:
        self._starting = 0
        self._idle = 0
        self._work = threading.Condition(self.lock)  # who waits for that is not woken by each call that ends
        self._growth_due = False
        self._broken: BaseException | None = None

    def begin(self, item: Item) -> None:
        if self._broken is not None:
            raise self._told()
        self._queue.append(item)
        if self._idle >= len(self._queue):
            self._work.notify()
        elif not self._hands:
            self._grow()
        elif not self._starting:
            self._grow_soon()

    def retire(self, cancel: bool = False) -> None:
        super().retire(cancel)
        with self.changed:
            self._work.notify_all()

    def map(
        self, fn: Callable[..., Any], rows: list[tuple[Any, ...]], chunk: int, until: float | None
    ) -> Iterator[Any]:
        if chunk == 1:
            return super().map(fn, rows, chunk, until)
        # Nothing has begun these: `list` makes the calls, wherever that is called.
        pieces = [(map(fn, *zip(*rows[at : at + chunk], strict=True)),) for at in range(0, len(rows), chunk)]
        return _flat(super().map(list, pieces, 1, until))

    def ended(self) -> bool:
        return not self._hands and not self._queue

    def _left(self) -> None:
        if self.retired and not self.under_way:
            self._allocation.cancel()  # what still starts is not needed any more
        super()._left()

    # --- threads --------------------------------------------------------------------------------------------------

    def _grow_soon(self) -> None:
        """One worker more, if calls still wait in a moment."""
        with self.changed:
            if not self._growth_due and self._hands < self._size:
                self._growth_due = True
                hub().later(GROWTH, self._grow)

    def _grow(self) -> None:
        """One worker more, if there may be one and calls wait for it."""
        with self.changed:
            self._growth_due = False
            waiting = len(self._queue) - self._idle
            if waiting <= 0 or self._hands >= self._size or self._broken is not None:
                return
            self._hands += 1
            self._starting += 1
            try:
                threading.Thread(target=self._start, name="outrider-worker", daemon=True).start()
            except RuntimeError:  # no thread is left: those that are there go on
                self._hands -= 1
                self._starting -= 1
                if not self._hands:
                    raise

    def _start(self) -> None:
        with self.at_work():
            self._live()

    def _live(self) -> None:
        """The life of a thread: a worker, and call after call in it; another worker should that one be lost."""
        worker = item = None
        replaced = False
        try:
            try:
                worker = self._allocation.worker()
            finally:
                with self.changed:
                    self._starting -= 1
            self._grow_soon()
            while (item := self._next()) is not None:
                if not worker.there():
                    worker.close()
                    worker = self._allocation.worker()
                if item.future.begin():
                    worker.do(item)
                item = None  # else it would be kept until the next one comes
        except BaseException as error:  # told by the futures; in this thread nobody would see it
            replaced = self._fail(error, item)
        finally:
            if worker is not None:
                worker.close()
            if not replaced:
                self._leave()

    def _next(self) -> Item | None:
        with self.changed:
            while not self._queue:
                if self.retired or self._broken is not None:
                    return None
                self._idle += 1
                try:
                    self._work.wait()
                finally:
                    self._idle -= 1
            return self._queue.popleft()

    def _leave(self) -> None:
        """The last one ends the job."""
        with self.changed:
            if self._hands > 1:
                self._hands -= 1
                return
        self._allocation.close()
        with self.changed:
            self._hands -= 1
            self.changed.notify_all()
            self._left()

    def _fail(self, error: BaseException, item: Item | None) -> bool:
        """No worker can be had here. True if others go on, with its call, too; if there are none, all that waits fails."""
        with self.changed:
            if item is not None:
                self._queue.appendleft(item)
            if self._hands - self._starting > 1 and not isinstance(error, PoolBroken):
                self._hands -= 1
                self._size = self._hands
                self._work.notify()
                return True
            self._broken = self._broken or error
            failed = list(self._queue)
            self._queue.clear()
            self._work.notify_all()
        while failed:
            failed.pop(0).future.settle(None, self._told())
        return False

    def _told(self) -> PoolBroken:
        error = self._broken
        message = error.message if isinstance(error, OutriderError) else f"{type(error).__name__}: {error}"
        told = PoolBroken(
            f"the pool cannot go on: {message}",
            hop=getattr(error, "hop", None) or self.place,
            hint=getattr(error, "hint", None) or "mend that, and make another executor",
        )
        told.__cause__ = error
        return told


class Allocation:
    """The one job of a pool: opened when the first worker is wanted, and again if it was lost after it has been of use."""

    def __init__(
        self, chain: Chain, options: Options, initial: tuple[Callable[..., Any], tuple[Any, ...]] | None
    ) -> None:
        if chain.hops and chain.hops[-1].last:
            raise ConfigError(
                f"no worker can stay in a {chain.hops[-1].name}: each command in it is a matter of its own",
                hop=repr(chain.hops[-1]),
                hint="leave that hop out, or use executor() without pool=",
            )
        self._chain = chain
        self._places = places(chain)
        plain = {"detach": None, "reconnect": 0}
        head = options.changed({**plain, **dict.fromkeys(LIMITS), "isolate": False})
        worker = options.changed({**plain, "heartbeat": None, "patience": None})
        # Set once: what the first far end has, its workers inherit, unless more hops lie between.
        unset: dict[str, Any] = {"cwd": None, "env": {}}
        self._head_options = head.changed(unset) if self._places.tail.hops else head
        self._options = worker if self._places.tail.hops else worker.changed(unset)
        self._started = self._nodes = 0
        self._initial = initial
        self._lock = threading.RLock()
        self._openings: set[Opening] = set()
        self._head: Session | None = None
        self._failed: BaseException | None = None
        self._closed = False
        self.useful = True

    def worker(self) -> Worker:
        """A new worker, in which the initializer has been called. Raises what keeps it from starting."""
        head = self._there()
        with self._lock:
            way = self._places.way(self._started, self._nodes)
            self._started += 1
        session = self._opened(CarriedOpening(head, self._chain, self._options, {}, way), self._options)
        worker = Worker(self, session)
        try:
            if self._options.limits and not self._options.isolate:
                limit_all(session.connection)
            if self._initial is not None:
                worker.initialize(*self._initial)
        except BaseException:
            worker.close()
            raise
        return worker

    def _there(self) -> Session:
        """The first far end. Who comes while it opens waits for it."""
        with self._lock:
            head = self._head
            if head is not None and not head.connection.over:
                return head
            if head is not None and not self.useful:
                self._failed = self._failed or _why_gone(head)
            if self._failed is not None:
                raise self._failed
            if head is not None:
                head.close()
            self.useful = False
            try:
                opening = Opening(self._places.head, self._head_options)
                head = self._opened(opening, self._head_options)
                self._nodes = nodes_of(head) if self._places.step is not None else 1
                self._head = head
            except BaseException as error:
                self._failed = error
                raise
            return head

    def _opened(self, opening: Opening, options: Options) -> Session:
        self._openings.add(opening)
        try:
            if self._closed:
                raise Cancelled("the executor was shut down", hop=self._chain.label())
            return Session(self._chain, options, Connection(self._chain, options, opening))
        finally:
            self._openings.discard(opening)

    def cancel(self) -> None:
        """Nobody needs it any more: give up what still opens, from any thread, be it in the queue."""
        self._closed = True
        for opening in list(self._openings):
            opening.cancel()

    def close(self) -> None:
        """End it, and so the job."""
        with self._lock:
            if self._head is not None:
                self._head.close()
            self._head = None


def _why_gone(session: Session) -> BaseException | None:
    """What is raised where a session is used that has come to its end."""
    try:
        session.ping(1.0)
    except OutriderError as error:
        return error
    return None


class Worker:
    """One worker process of an allocation, used by one thread."""

    def __init__(self, allocation: Allocation, session: Session) -> None:
        self._allocation = allocation
        self._session = session

    def initialize(self, initializer: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Call what is to be called in each worker before all else."""
        try:
            self._session.call(initializer, *args)
        except Exception as error:
            hint = "what it raised stands above: it was called in a new worker"
            raise PoolBroken(
                f"the initializer failed: {error}", hop=self._session.place, hint=hint
            ) from error

    def there(self) -> bool:
        """Whether it can do another call."""
        connection = self._session.connection
        return not connection.over and connection.process.poll() is None

    def do(self, item: Item) -> None:
        """Do one call that has begun, and settle its future."""
        future, fn, args, kwargs, _ = item
        try:
            value = self._session.call(fn, *args, **kwargs)
        except BaseException as error:
            future.settle(None, self._blamed(error))
        else:
            self._allocation.useful = True
            future.settle(value, None)
        finally:  # an error's traceback has this frame, which would keep all that in a circle
            del self, item, future, fn, args, kwargs

    def _blamed(self, error: BaseException) -> BaseException:
        """What to tell: that the worker is lost, and why, if that is so."""
        if not isinstance(error, Lost) or not self._session.connection.over:
            self._allocation.useful = True
            return error
        process = self._session.connection.process
        gone = process.error if isinstance(process, CarriedProcess) else None
        if isinstance(gone, OutriderError):
            what = f"the job that held its worker is gone: {gone.message}"
        else:
            what = f"its worker is gone: {error.message}"
            self._allocation.useful = True
        hint = "it may have run; calls that had not begun go on in other workers"
        lost = WorkerLost(what, stderr=error.stderr, hop=error.hop, hint=hint)
        lost.__cause__ = gone or error
        return lost

    def close(self) -> None:
        """End its process."""
        with suppress(OutriderError):
            self._session.close()


def _flat(lists: Iterator[list[T]]) -> Iterator[T]:
    """All that is in the lists; none of it is kept here."""
    for values in lists:
        values.reverse()
        while values:
            yield values.pop()
