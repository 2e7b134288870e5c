"""A generator as a call's value: its items go to the near end as they are made, as far as that takes them."""

import sys
import time
from _thread import allocate_lock

from . import wire
from .calls import DURATION, INVOKE, CallCancelled, pack_value
from .quick import release

BEGIN = 1
"""Flag of the first ITEM: the value is a generator, and its items follow."""


def stream(calls, ident, flags, value, as_data, started):
    """Send what the generator `value` yields; gives what it returns. What it raises is raised here."""
    if flags & INVOKE:
        raise TypeError(
            "the object's state cannot come back from a generator: use call(obj.method) instead of invoke"
        )
    kind = Stream if hasattr(value, "__next__") else AsyncStream
    items = kind(calls, ident, as_data)
    calls.streams[ident] = items
    try:
        calls.link.send(wire.ITEM, ident, [DURATION.pack(time.monotonic() - started)], BEGIN)
        return items.run(value)
    finally:
        del calls.streams[ident]


class Stream:
    """Runs a generator in the thread of its call. It may be interrupted in its own code only: not while an item is sent."""

    def __init__(self, calls, ident, as_data):
        self.calls = calls
        self.ident = ident
        self.as_data = as_data
        self.left = wire.WINDOW
        self.shielded = True
        self.interrupted = False
        self.lock = allocate_lock()
        self.wake = allocate_lock()

    def grant(self, size):
        """The near end has taken items of `size` bytes, overhead included."""
        with self.lock:
            self.left += size
        self.notify()

    def notify(self):
        release(self.wake)

    def cancel(self, interrupt):
        """Have it end: `interrupt()` raises CallCancelled in the generator's own code; elsewhere it looks for itself."""
        with self.lock:
            if not self.shielded:
                self.interrupted = True
                interrupt()
        self.notify()

    def cancelled(self):
        return self.ident in self.calls.cancelled

    def send(self, item):
        packed = pack_value(item, self.as_data, self.calls.modules.near_python)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # the generator closed or replaced them
            pass
        self.calls.output.drain()
        self.calls.link.send(wire.ITEM, self.ident, packed)
        with self.lock:
            self.left -= sum([len(segment) for segment in packed]) + wire.OVERHEAD

    def run(self, generator):
        try:
            while True:
                try:
                    item = self._next(generator)
                except StopIteration as end:
                    return end.value
                self.send(item)
                del item
                while self.left <= 0 and not self.cancelled():
                    self.wake.acquire()
        finally:
            generator.close()

    def _next(self, generator):
        with self.lock:
            if self.cancelled():
                raise CallCancelled("cancelled")
            self.shielded = False
        try:
            return next(generator)
        finally:
            with self.lock:
                self.shielded = True
            if self.interrupted and not isinstance(sys.exc_info()[1], CallCancelled):
                deadline = time.monotonic() + 1
                while time.monotonic() < deadline:  # it is on its way, and must not arrive later than here
                    pass


class AsyncStream(Stream):
    """Runs an asynchronous generator in a loop of its own, which goes on while it waits for the near end."""

    def notify(self):
        loop = getattr(self, "loop", None)
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # the loop has ended
                pass

    def _look(self):
        if self.cancelled() and not self.interrupted:
            self.interrupted = True
            self.task.cancel()
        self.event.set()

    def run(self, generator):
        import asyncio

        try:
            return asyncio.run(self._pump(generator, asyncio))
        except asyncio.CancelledError:
            raise CallCancelled("cancelled") from None

    async def _pump(self, generator, asyncio):
        self.event = asyncio.Event()
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        try:
            if self.cancelled():
                raise CallCancelled("cancelled")
            async for item in generator:
                self.send(item)
                del item
                while self.left <= 0:
                    self.event.clear()
                    if self.left <= 0:
                        await self.event.wait()
        finally:
            await generator.aclose()
