"""Jobs in programs that do other things meanwhile: callbacks, and `await`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outrider.batch.job import BatchJob


def when_done(job: BatchJob, then: Callable[[], object]) -> Callable[[], None]:
    """Call `then` once, when the job is over: in the watcher's thread, or now. Calling what this gives forgets it."""
    lot, watcher = job._lot, job._watcher
    once = threading.Lock()

    def forget() -> None:
        with lot.changed:
            if news in lot.callbacks:
                lot.callbacks.remove(news)
                watcher.unwatch(lot)

    def news() -> None:
        if (job._known().state.final or lot.trouble is not None) and once.acquire(blocking=False):
            forget()
            then()

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

    forget = await asyncio.to_thread(when_done, job, then)
    try:
        await over.wait()
    finally:
        forget()
    return await asyncio.to_thread(job.result)
