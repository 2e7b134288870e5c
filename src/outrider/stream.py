"""The near end's side of a stream: it waits no longer than its caller, and keeps no more than was agreed.

A far end may lie, stall or flood. So nothing here blocks in a write without a deadline, the thread that reads never waits
to write, and of what was not asked for nothing is kept.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from outrider.far import wire
from outrider.far.link import Link
from outrider.hub import hub

OUTBOX_FRAMES = 4096
OUTBOX_BYTES = 1 << 24
"""What may wait to be written to a far end that asks and does not listen, before it is given up."""
LOOK = 0.1
"""Seconds between looks at whether the stream has ended while a write waits."""


SEGMENT = 512
"""Bytes that a segment of an answer takes here besides its content, at the most."""


class Stalled(Exception):
    """The far end took nothing more within the time that there was. `untouched`: and nothing of what was to be sent."""

    untouched = False


class _Waited(Stalled):
    untouched = True


class NearLink(Link):
    """A Link whose writes have deadlines. `room(kind, ident, size)` says whether a large message may be kept."""

    def __init__(
        self,
        reader: wire.FrameReader,
        write_fd: int,
        handle: Callable[..., None],
        ended: Callable[[str], None],
        room: Callable[[int, int, int], bool],
    ) -> None:
        super().__init__(reader, write_fd, handle, ended, 1 << 40)  # type: ignore[no-untyped-call]
        os.set_blocking(write_fd, False)
        self._may_keep = room
        self._posting = threading.RLock()  # a signal handler may close while its own thread is in here
        self._outbox: deque[bytes] = deque()
        self._outbox_size = 0
        self._torn = False

    # --- writing ------------------------------------------------------------------------------------------------

    def send(
        self, kind: int, ident: int, segments: Sequence[Any], flags: int = 0, deadline: float | None = None
    ) -> None:
        """Send one message; Stalled when it is not taken until `deadline`, and the stream is then of no more use."""
        if len(segments) == 1 and len(segments[0]) <= wire.SMALL:
            self._write_small(wire.lone(kind, ident, segments[0], flags), deadline)
            return
        begun = False
        try:
            for buffers in wire.message_frames(kind, ident, segments, flags):
                self._write(buffers, deadline)
                begun = True
                self._give_way()
        except _Waited:
            raise Stalled if begun else _Waited from None

    def send_frame(
        self, kind: int, ident: int, payload: bytes = b"", flags: int = 0, deadline: float | None = None
    ) -> None:
        self._write(wire.frame_buffers(kind, ident, payload, flags), deadline)

    def _write(self, buffers: list[Any], deadline: float | None = None) -> None:
        left = -1 if deadline is None else max(0, deadline - time.monotonic())
        if not self._take_turn(left):
            raise _Waited
        try:
            if self._outbox:
                self._drain_first(deadline)
            self._write_now(buffers, deadline)
        except _Waited:  # others were ahead of it all the time: their frames are whole
            raise
        except BaseException:  # perhaps in the midst of a frame: nothing may follow it
            self._torn = True
            raise
        finally:
            self._writing.release()
        if self._outbox:
            self._flush()

    def _write_small(self, frame: bytes, deadline: float | None) -> None:
        """As `_write`, with one system call where the pipe has room and nobody else is writing: most calls are that."""
        if self._outbox or not self._writing.acquire(False):
            self._write([frame], deadline)
            return
        try:
            try:
                written = os.write(self.write_fd, frame)
            except BlockingIOError:
                written = 0
            if written < len(frame):
                write_within(self.write_fd, [frame[written:]], deadline, self._is_over)
        except BaseException:
            self._torn = True
            raise
        finally:
            self._writing.release()
        if self._outbox:
            self._flush()

    def _write_now(self, buffers: list[Any], deadline: float | None) -> None:
        large = deadline is None and sum(len(buffer) for buffer in buffers) > wire.SMALL
        if large:  # the kernel itself fills the pipe as it empties: quicker than being told of each free page
            os.set_blocking(self.write_fd, True)
        try:
            write_within(self.write_fd, buffers, deadline, self._is_over)
        finally:
            if large and not self.over:
                os.set_blocking(self.write_fd, False)

    def post(self, kind: int, ident: int, segments: Sequence[Any]) -> None:
        """Send one message as soon as it can be written; never waits. For the thread that reads, and for cancelling."""
        self._post(b"".join(b"".join(buffers) for buffers in wire.message_frames(kind, ident, segments)))

    def post_frame(self, kind: int, ident: int, payload: bytes, flags: int = 0) -> None:
        self._post(wire.frame(kind, ident, payload, flags))

    def _post(self, frames: bytes) -> None:
        with self._posting:
            self._outbox.append(frames)
            self._outbox_size += len(frames)
            full = len(self._outbox) > OUTBOX_FRAMES or self._outbox_size > OUTBOX_BYTES
        if full:
            raise wire.ProtocolError("the far end asks and does not listen")
        self._flush()

    def _flush(self) -> None:
        """Write what is posted, as far as it goes without waiting; the rest when the far end takes more."""
        while self._outbox and not self.over and self._writing.acquire(False):
            stalled = False
            try:
                self._drain(0)
            except Stalled:
                stalled = True
            except OSError:
                return  # its end is seen where it is read
            finally:
                self._writing.release()
            if (
                stalled
            ):  # not before others may write: the hub may be told at once, and would find that it may not
                hub().watch(self.write_fd, self._flush, once=True, writing=True)
                return

    def _drain_first(self, deadline: float | None) -> None:
        try:
            self._drain(deadline)
        except Stalled:
            raise _Waited from None

    def _drain(self, deadline: float | None) -> None:
        """Write what is posted. What is taken of a frame before it stalls is taken from the outbox."""
        while self._outbox:
            first = self._outbox[0]
            written = 0
            try:
                while written < len(first):
                    written += write_some(
                        self.write_fd, [memoryview(first)[written:]], deadline, self._is_over
                    )
            finally:
                with self._posting:
                    self._outbox_size -= written
                    if written == len(first):
                        self._outbox.popleft()
                    else:
                        self._outbox[0] = first[written:]

    def _is_over(self) -> bool:
        return self.over or self._torn

    def stop_writing(self) -> None:
        """Once the stream is over: no thread is writing any more after this, and its descriptor can be closed."""
        if self._writing.acquire(True, 10 * LOOK):
            self._writing.release()
        hub().forget(self.write_fd)

    # --- reading ------------------------------------------------------------------------------------------------

    def arriving(self, kind: int, ident: int, flags: int, payload: bytes) -> Any:
        """Where the parts of a large message go: into it, or, if nobody waits for it, nowhere."""
        sizes = wire.read_table(payload, self.limit)[0]
        total = sum(size for size, _ in sizes)
        if not self._may_keep(kind, ident, total + len(sizes) * SEGMENT):
            return Unwanted(kind, total)
        return super().arriving(kind, ident, flags, payload)  # type: ignore[no-untyped-call]


class Unwanted:
    """A large message that nobody waits for, an answer to something cancelled mostly: its parts pass by."""

    flags = 0

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.segments: list[bytes] = [b""]
        self._left = size

    def room(self, size: int) -> memoryview:
        if not size or size > self._left:
            raise wire.ProtocolError("a part that does not fit where it belongs")
        return memoryview(bytearray(size))

    def filled(self, view: memoryview) -> bool:
        self._left -= len(view)
        return not self._left


def write_within(
    fd: int, buffers: list[Any], deadline: float | None, gone: Callable[[], bool] = lambda: False
) -> None:
    """Write all of `buffers` to `fd`, which does not block; Stalled if that takes longer than until `deadline`."""
    left = total = sum(len(buffer) for buffer in buffers)
    if total <= wire.SMALL:
        buffers = [b"".join(buffers)]
    while True:
        try:
            written = write_some(fd, buffers, deadline, gone)
        except Stalled:
            raise _Waited if left == total else Stalled from None
        left -= written
        if not left:
            return
        buffers = _rest(buffers, written)


def _rest(buffers: list[Any], written: int) -> list[Any]:
    for number, buffer in enumerate(buffers):
        if written < len(buffer):
            return [memoryview(buffer)[written:], *buffers[number + 1 :]]
        written -= len(buffer)
    return []


def write_some(fd: int, buffers: list[Any], deadline: float | None, gone: Callable[[], bool]) -> int:
    """Write once, as much as is taken; Stalled if nothing is until `deadline`, BrokenPipeError once `gone()`."""
    while not gone():
        try:
            return os.writev(fd, buffers)
        except BlockingIOError:
            left = LOOK if deadline is None else min(LOOK, deadline - time.monotonic())
            if left <= 0:
                raise Stalled from None
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.poll(left * 1000)
    raise BrokenPipeError
