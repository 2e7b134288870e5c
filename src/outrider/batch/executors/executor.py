"""`Route.executor`: an Executor of `concurrent.futures` whose calls are jobs, or run in warm workers inside one job."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from outrider.batch.executors.crew import CallFuture, Crew
from outrider.batch.executors.pool import PoolCrew
from outrider.errors import ConfigError
from outrider.near.calls import check_function

if TYPE_CHECKING:
    from types import TracebackType

    from outrider.route import Route

T = TypeVar("T")
P = ParamSpec("P")


def executor(
    route: Route,
    pool: int | None,
    initializer: Callable[..., Any] | None,
    initargs: tuple[Any, ...],
) -> RouteExecutor:
    """What `Route.executor` gives."""
    if pool is None:
        if initializer is not None:
            raise ConfigError(
                "an initializer is for workers that do more than one call, and each call is a job of its own here",
                key="initializer",
                hint="have workers, with pool=; or call it within the function",
            )
        return route.batch().executor()
    if type(pool) is not int or pool < 1:
        raise ConfigError(f"pool is a number of workers of at least 1, not {pool!r}", key="pool")
    if initializer is not None:
        check_function(initializer)
    return RouteExecutor(PoolCrew(route, route.settings, pool, initializer, initargs))


class RouteExecutor(Executor):
    """Does calls at the end of a route; see `Route.executor`. All methods may be used from many threads at once.

    Dropped without `shutdown`, it ends once its calls are done; so does the program.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        weakref.finalize(self, crew.retire).atexit = False

    def __repr__(self) -> str:
        return f"<RouteExecutor {self._crew.place}, {'shut down' if self._crew.retired else 'open'}>"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """Have `fn(*args, **kwargs)` called; a future of its value, at once.

        Raises RuntimeError after `shutdown`, and PoolBroken, a BrokenExecutor, if no worker can be had any more.
        """
        check_function(fn)
        return self._crew.take(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """Values of `fn` over the items, in order. All items are taken, and submitted, at once.

        timeout: seconds from now until the last value, then TimeoutError. chunksize: so many items are one call of a
        pool, or one job.
        """
        until = None if timeout is None else time.monotonic() + timeout
        check_function(fn)
        if chunksize < 1:
            raise ValueError(f"chunksize is at least 1, not {chunksize!r}")
        return self._crew.map(fn, list(zip(*iterables, strict=False)), chunksize, until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end what they run in once they are done.

        wait: return only then. cancel_futures: cancel those that do not run yet.
        """
        self._crew.retire(cancel_futures)
        if wait:
            self._crew.join()
        else:
            self._crew.leave()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Ctrl-C is meant for all: nobody wants to wait for what has not even begun.
        self.shutdown(wait=True, cancel_futures=kind is not None and issubclass(kind, KeyboardInterrupt))
