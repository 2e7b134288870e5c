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
from outrider.far.link import BAD, Link, Slot
from outrider.near.hub import hub

OUTBOX_FRAMES = 4096
OUTBOX_BYTES = 1 << 24
"""What may wait to be written to a far end that asks and does not listen, before it is given up."""
PIPE_BUF = select.PIPE_BUF
LOOK_ROUND = 0.5
"""Seconds after which a thread that waits while another reads looks by itself how things are."""
INTERRUPTED = "interrupted, by Ctrl-C perhaps, in the midst of reading"
LOOK = 0.1
"""Seconds between looks at whether the stream has ended while a write waits."""


SEGMENT = 512
"""Bytes that a segment of an answer takes here besides its content, at the most."""


class Stalled(Exception):
    """The far end took nothing more within the time that there was. `untouched`: and nothing of what was to be sent."""

    untouched = False


class Waited(Stalled):
    untouched = True


class NearLink(Link):
    """A Link whose writes have deadlines. `room(kind, ident, size)` says whether a large message may be kept.

    `interrupted` gets a message in the midst of whose handling Ctrl-C came. A signal's handler may raise in the main thread
    at any call. So what must be undone is done within the `try` that undoes it, and the two locks tell by themselves
    whether they were taken, as only their owner can release them; whoever waits for another looks round now and then.
    """

    def __init__(
        self,
        reader: wire.FrameReader,
        write_fd: int,
        handle: Callable[..., None],
        interrupted: Callable[..., None],
        ended: Callable[[str], None],
        room: Callable[[int, int, int], bool],
    ) -> None:
        super().__init__(reader, write_fd, handle, ended, 1 << 40)  # type: ignore[no-untyped-call]
        self.reading: Any = threading.RLock()
        self._writing: Any = threading.RLock()
        os.set_blocking(write_fd, False)
        self._interrupted = interrupted
        self._may_keep = room
        self._posting = threading.RLock()  # a signal handler may close while its own thread is in here
        self._outbox: deque[bytes] = deque()
        self._outbox_size = 0
        self._torn = False
        self._begun: tuple[bytes, int] = (b"", 0)

    # --- writing ------------------------------------------------------------------------------------------------

    def send(
        self, kind: int, ident: int, segments: Sequence[Any], flags: int = 0, deadline: float | None = None
    ) -> None:
        """Send one message; Stalled when it is not taken until `deadline`, and the stream is then of no more use."""
        if len(segments) == 1 and len(segments[0]) <= wire.SMALL:
            self._write((wire.lone(kind, ident, segments[0], flags),), deadline)
            return
        begun = False
        try:
            for buffers in wire.message_frames(kind, ident, segments, flags):
                self._write(buffers, deadline)
                begun = True
                self._give_way()
        except Waited:
            raise Stalled if begun else Waited from None
        except (Stalled, OSError, ValueError):
            raise
        except BaseException:  # Ctrl-C
            self._post(wire.frame(wire.PART, ident, b"", wire.END))
            raise

    def send_frame(
        self, kind: int, ident: int, payload: bytes = b"", flags: int = 0, deadline: float | None = None
    ) -> None:
        self._write(wire.frame_buffers(kind, ident, payload, flags), deadline)

    def _write(self, buffers: Sequence[Any], deadline: float | None = None) -> None:
        """Write one frame: with one system call where the pipe has room and nobody else is writing, as for most calls.

        If Ctrl-C comes in the midst of it, its rest is posted.
        """
        writing = self._writing
        try:
            if not writing.acquire(False) or self._outbox or self._torn:
                self._await_turn(deadline)
            if len(buffers) == 1 and len(buffers[0]) <= PIPE_BUF:  # a pipe takes all of it or nothing
                try:
                    os.write(self.write_fd, buffers[0])
                except BlockingIOError:
                    self._write_all(buffers, deadline)
            else:
                self._write_all(buffers, deadline)
        finally:
            try:
                writing.release()
            except RuntimeError:  # it was not this thread's turn
                pass
            if self._outbox:
                self._flush()

    def _await_turn(self, deadline: float | None) -> None:
        """Until what others write, and what is posted, is out; `Waited` if there is no time for that."""
        left = -1 if deadline is None else max(0, deadline - time.monotonic())
        if not self._writing._is_owned() and not self._take_turn(left):
            raise Waited
        if self._torn:
            raise BrokenPipeError
        if self._outbox:
            try:
                self._drain(deadline)
            except Stalled:
                raise Waited from None

    def _write_all(self, buffers: Sequence[Any], deadline: float | None) -> None:
        large = deadline is None and sum(map(len, buffers)) > wire.SMALL
        self._torn = True
        try:
            if (
                large
            ):  # the kernel itself fills the pipe as it empties: quicker than being told of each free page
                os.set_blocking(self.write_fd, True)
            write_within(self.write_fd, buffers, deadline, lambda: self.over, self._put_off)
            self._torn = False
        except (Stalled, OSError) as error:
            self._torn = not isinstance(error, Waited)
            raise
        except BaseException:
            self._torn = False
            raise
        finally:
            if large and not self.over:
                os.set_blocking(self.write_fd, False)

    def _put_off(self, rest: bytes) -> None:
        with self._posting:
            self._outbox_size += len(rest)
            self._outbox.appendleft(rest)

    def post(self, kind: int, ident: int, segments: Sequence[Any]) -> None:
        """Send one message as soon as it can be written; never waits. For the thread that reads, and for cancelling."""
        self._post(b"".join(b"".join(buffers) for buffers in wire.message_frames(kind, ident, segments)))

    def post_frame(self, kind: int, ident: int, payload: bytes, flags: int = 0) -> None:
        self._post(wire.frame(kind, ident, payload, flags))

    def _post(self, frames: bytes) -> None:
        with self._posting:
            self._outbox_size += len(frames)
            self._outbox.append(frames)
            full = len(self._outbox) > OUTBOX_FRAMES or self._outbox_size > OUTBOX_BYTES
        if full:
            raise wire.ProtocolError("the far end asks and does not listen")
        self._flush()

    def _flush(self) -> None:
        """Write what is posted, as far as it goes without waiting; the rest when the far end takes more."""
        writing = self._writing
        # In a signal's handler, what that interrupted may be in the midst of a frame; it flushes when it is done.
        while self._outbox and not self.over and not writing._is_owned():
            stalled = False
            try:
                if not writing.acquire(False):
                    return
                self._drain(0)
            except Stalled:
                stalled = True
            except OSError:
                return  # its end is seen where it is read
            finally:
                try:
                    writing.release()
                except RuntimeError:
                    pass
            if stalled:
                # Not before others may write: the hub may be told at once, and would find that it may not.
                hub().watch(self.write_fd, self._flush, once=True, writing=True, unless=lambda: self.over)
                return

    def _drain(self, deadline: float | None) -> None:
        """Write what is posted. How much is taken of a frame is kept beside it, in one step with the writing."""
        while self._outbox:
            first = self._outbox[0]
            size = len(first)
            done = self._begun[1] if self._begun[0] is first else 0
            while done < size:
                if self.over or self._torn:
                    raise BrokenPipeError
                try:
                    for taken in map(os.write, (self.write_fd,), (memoryview(first)[done:],)):
                        done += taken
                        self._begun = first, done
                except BlockingIOError:
                    wait_writable(self.write_fd, deadline)
            with self._posting:
                self._outbox_size -= size
                self._outbox.popleft()

    def stop_writing(self) -> None:
        """Once the stream is over: no thread is writing any more after this, and its descriptor can be closed."""
        if self._writing.acquire(True, 10 * LOOK):
            self._writing.release()
        fd, self.write_fd = self.write_fd, -1
        hub().forget(fd)

    # --- reading ------------------------------------------------------------------------------------------------

    def wait(self, slot: Slot, timeout: float | None = None) -> bool:
        """As Link.wait. In what the reading thread calls back, or in a signal's handler there, that thread reads on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        reading, waiting = self.reading, self._waiting
        within = reading._is_owned()
        try:
            waiting.append(slot)
            while not slot.done and not self.over:
                left = LOOK_ROUND if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    break
                try:
                    if within or reading.acquire(False):
                        while not slot.done and not self.over:  # type: ignore[redundant-expr]
                            if deadline is not None:  # looked at for each frame: they may never stop coming
                                left = deadline - time.monotonic()
                                if left <= 0 or not self.readable(left):
                                    break
                            self.read_one()
                    else:
                        slot.sleep(min(left, LOOK_ROUND))
                finally:
                    if not within:
                        try:
                            reading.release()
                        except RuntimeError:  # another thread reads
                            pass
        finally:
            if slot in waiting:
                waiting.remove(slot)
            if waiting:
                self.pass_on()
        return slot.done

    def reads_here(self) -> bool:
        """Whether the calling thread is reading: in what it calls back, or in a signal's handler."""
        return bool(self.reading._is_owned())

    def look(self, most: int) -> bool:
        """Deal out what is here already, `most` frames of it, and tell another to go on; False if another thread reads."""
        within = self.reads_here()
        try:
            if not within and not self.reading.acquire(False):
                return False
            while most and not self.over and self.readable(0):
                most -= 1
                self.read_one()
        finally:
            if not within:
                try:
                    self.reading.release()
                except RuntimeError:
                    pass
        self.pass_on()
        return True

    def read_one(self) -> None:
        """As Link.read_one. Ctrl-C with a frame in the thread's hand, which nobody else will see, is made up for."""
        reader = self.reader
        frame = message = None
        try:
            frame = reader.next()
            while frame is None:
                if not reader.fill():
                    self.end("the stream ended")
                    return
                frame = reader.next()
            message = self.whole(frame)
            if message is not None:
                self.handle(*message)
        except BAD as error:
            self.end(f"broken protocol: {error}")
        except BaseException:
            if frame is not None:
                self._make_up_for(frame, message)
            raise

    def _make_up_for(self, frame: Any, message: Any) -> None:
        try:
            if message is None:
                message = self.whole(frame)
            if message is not None:
                self._interrupted(*message)
        except BaseException:
            self.end(INTERRUPTED)

    def end(self, reason: str) -> None:
        """As Link.end; whoever waits looks round by itself, if Ctrl-C comes in between, and the others are told again."""
        was_over = self.over
        try:
            super().end(reason)  # type: ignore[no-untyped-call]
        except BaseException:
            if not was_over:
                self.on_end(reason)
            raise

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
    fd: int,
    buffers: Sequence[Any],
    deadline: float | None,
    gone: Callable[[], bool] = lambda: False,
    put_off: Callable[[bytes], None] = lambda rest: None,
) -> None:
    """Write all of `buffers` to `fd`; Stalled if that takes longer than until `deadline`, BrokenPipeError once `gone()`.

    `put_off` gets the rest if something else ends it in between.
    """
    total, sent = sum(map(len, buffers)), 0
    if total <= wire.SMALL:
        buffers = (b"".join(buffers),)
    rest = list(buffers)
    try:
        while sent < total:
            if gone():
                raise BrokenPipeError
            try:
                for written in map(os.writev, (fd,), (rest,)):  # as in FrameReader: no byte is written unseen
                    sent += written
            except BlockingIOError:
                wait_writable(fd, deadline)
            rest = _rest(buffers, sent)
    except Stalled:
        raise Stalled if sent else Waited from None
    except OSError:
        raise
    except BaseException:
        if 0 < sent < total:
            put_off(b"".join(_rest(buffers, sent)))
        raise


def _rest(buffers: Sequence[Any], written: int) -> list[Any]:
    for number, buffer in enumerate(buffers):
        if written < len(buffer):
            return [memoryview(buffer)[written:], *buffers[number + 1 :]]
        written -= len(buffer)
    return []


def wait_writable(fd: int, deadline: float | None) -> None:
    """Return when something can be written to `fd`, or after a while; Stalled once it is `deadline`."""
    left = LOOK if deadline is None else min(LOOK, deadline - time.monotonic())
    if left <= 0:
        raise Stalled
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(left * 1000)
