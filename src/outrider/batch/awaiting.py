"""Jobs in programs that do other things meanwhile: callbacks, and `await`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outrider.batch.job import BatchJob

logger = logging.getLogger("outrider")


def when_done(job: BatchJob, then: Callable[[], object], trouble: bool = False) -> Callable[[], None]:
    """Call `then` once, when the job is over: in the watcher's thread, or now. Calling what this gives forgets it.

    trouble: also when nothing can be learned of the job any more. What `then` raises is logged, and harms no other job.
    """
    lot, watcher = job._lot, job._watcher
    once = threading.Lock()

    def forget() -> None:
        with lot.changed:
            if news in lot.callbacks:
                lot.callbacks.remove(news)
                watcher.unwatch(lot)

    def news() -> None:
        over = job._known().state.final or (trouble and lot.trouble is not None)
        if over and once.acquire(blocking=False):
            forget()
            try:
                then()
            except Exception:
                logger.exception("a callback of %r failed", job)

    watcher.watch(lot)
    with lot.changed:
        lot.callbacks.append(news)
        news()
    return forget


async def awaited(job: BatchJob) -> Any:
    """The job's result. If the waiting is cancelled, the job goes on."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def then() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(over.set)

    forget = await asyncio.to_thread(when_done, job, then, True)
    try:
        await over.wait()
    finally:
        forget()
    return await asyncio.to_thread(job.result)
