"""One end of the stream, for both ends: many threads send; of those that wait, one reads for all.

There is no reader thread to hand answers over: a thread that waits for an answer reads the stream itself until the
answer is there, dealing out what belongs to others, and then passes the reading on to another that still waits. A
lone caller so pays for no thread switch, which is most of what a call over a pipe costs.
"""

import select
import time
from _thread import allocate_lock, get_ident
from itertools import count

from . import wire

_BARE = (wire.DATA, wire.CREDIT)
"""Kinds whose payload stands alone, without a table of segments."""
# What a message of the other end can set off.
BAD = (
    wire.ProtocolError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RecursionError,
)


class Slot:
    """What a thread waits on: `done` is set by whoever reads its answer."""

    __slots__ = ("_wake", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: object = None
        self._wake = allocate_lock()
        self._wake.acquire()

    def finish(self, value: object = None) -> None:
        self.value = value
        self.done = True
        self.wake()

    def wake(self):
        """Let the waiting thread look round: its answer is here, or the stream wants a reader."""
        try:
            self._wake.release()
        except RuntimeError:  # already awake
            pass

    def sleep(self, timeout):
        self._wake.acquire(True, -1 if timeout is None else max(0, timeout))


class Shield:
    """`with shield:` the calling thread is at work on what all calls share, where a cancelled call must not be interrupted.

    What is to be raised in it meanwhile waits in `due`, by thread, until the end of the block.
    """

    def __init__(self):
        self.gate = allocate_lock()
        self.inside = []
        self.due = {}

    def __enter__(self):
        with self.gate:
            self.inside.append(get_ident())

    def __exit__(self, *_):
        thread = get_ident()
        with self.gate:
            self.inside.remove(thread)
            due = None if thread in self.inside else self.due.pop(thread, None)
        if due is not None:
            raise due

    def leave(self):
        """Forget what is left of the calling thread, which holds `gate`: it was interrupted on its way in, perhaps."""
        thread = get_ident()
        self.due.pop(thread, None)
        self.inside[:] = [other for other in self.inside if other != thread]


class Link:
    """Sends and receives messages over two descriptors.

    `handle(kind, ident, flags, segments)` is called by the reading thread for every message; `ended(reason)` once,
    when the stream is over. `limit`: bytes of a message at the most.
    """

    def __init__(self, reader, write_fd, handle, ended, limit, first_ident=0):
        self.reader = reader
        reader.room = self._room
        self._poll = select.poll()
        self._poll.register(reader.fd, select.POLLIN)
        self.write_fd = write_fd
        self.handle = handle
        self.on_end = ended
        self.limit = limit
        self.over = False
        self.shield = Shield()
        self.reading = allocate_lock()
        self._writing = allocate_lock()
        self._in_line = []
        self._arriving = {}
        self._waiting = []
        self._first_ident = first_ident
        self._idents = count(1)

    def new_ident(self):
        """A fresh request id of this end (each end has ids of its own; answers carry the asker's)."""
        return self._first_ident + next(self._idents) % 0x7FFFFFFF

    def send(self, kind, ident, segments, flags=0):
        """Send one message. Other messages may pass between the parts of a large one."""
        if len(segments) == 1 and len(segments[0]) <= wire.SMALL:
            self._write([wire.lone(kind, ident, segments[0], flags)])
        else:
            for buffers in wire.message_frames(kind, ident, segments, flags):
                self._write(buffers)
                self._give_way()

    def send_frame(self, kind, ident, payload=b"", flags=0):
        """Send one bare frame: no segments, for DATA, CREDIT and the like."""
        self._write(wire.frame_buffers(kind, ident, payload, flags))

    def _write(self, buffers):
        self._take_turn()
        try:
            wire.write_all(self.write_fd, buffers)
        finally:
            self._writing.release()

    def _take_turn(self, timeout=-1):
        """Wait to write, at most `timeout` seconds (-1: any time); False if that was too short."""
        if self._writing.acquire(False):
            return True
        thread = get_ident()
        try:
            self._in_line.append(thread)
            return self._writing.acquire(True, timeout)
        finally:
            if thread in self._in_line:
                self._in_line.remove(thread)

    def _give_way(self):
        """Between two parts: a lock goes to whoever asks first, and that is always who has just let go of it."""
        patience = 40
        while self._in_line and patience:
            time.sleep(0.00005)
            patience -= 1

    def finish_writing(self, kind, payload, timeout):
        """Send a last small message, if that is possible at once, and nothing ever after; so the descriptor can be closed.

        False if another thread is stuck in writing for longer than `timeout` seconds.
        """
        if not self._writing.acquire(True, timeout):
            return False
        try:
            fd, self.write_fd = self.write_fd, -1
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            if fd >= 0 and poll.poll(0):
                wire.write_all(fd, [wire.frame(kind, 0, payload)])
        except (OSError, ValueError):
            pass
        finally:
            self._writing.release()
        return True

    def wait(self, slot, timeout=None):
        """Return when `slot` is done, or after `timeout` seconds; tells which by returning `slot.done`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._waiting.append(slot)
        try:
            while not slot.done and not self.over:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                if self.reading.acquire(False):
                    try:
                        while not slot.done and not self.over:
                            if deadline is not None:  # looked at for each frame: they may never stop coming
                                left = deadline - time.monotonic()
                                if left <= 0 or not self.readable(left):
                                    break
                            self.read_one()
                    finally:
                        self.reading.release()
                else:
                    slot.sleep(left)
        finally:
            self._waiting.remove(slot)
            if self._waiting:
                self.pass_on()
        return slot.done

    def pass_on(self):
        """Wake another waiting thread, so that somebody reads."""
        for other in list(self._waiting):
            if not other.done:
                other.wake()
                return

    def has_waiters(self):
        return bool(self._waiting)

    def readable(self, timeout):
        """True if a whole frame, or the stream's end, can be taken within `timeout` seconds: reading it cannot block."""
        if self.reader.buffered():
            return True
        deadline = time.monotonic() + timeout
        while self._poll.poll(max(0, deadline - time.monotonic()) * 1000):
            if not self.reader.fill() or self.reader.buffered():
                return True
        return False

    def read_one(self):
        """Read one frame and deal it out. Only for the thread that holds `reading`."""
        try:
            message = self._read()
            if message is not None:
                self.handle(*message)
        except BAD as error:  # not every Exception: a signal's handler may raise one of its own here
            self.end("broken protocol: %s" % error)

    def next_message(self):
        """The next whole message, or None when the stream is over. Only for the thread that holds `reading`."""
        message = None
        try:
            while message is None and not self.over:
                message = self._read()
        except wire.ProtocolError as error:
            self.end("broken protocol: %s" % error)
        return message

    def _read(self):
        """Read one frame: a whole message if it completes one, else None."""
        reader = self.reader
        frame = reader.next()
        while frame is None:
            if not reader.fill():
                self.end("the stream ended")
                return None
            frame = reader.next()
        return self.whole(frame)

    def whole(self, frame):
        """The message that a frame completes, or None. May be repeated if Ctrl-C came in between."""
        kind, ident, flags, payload = frame
        if kind == wire.PART:
            large = self._arriving.get(ident)
            given_up = flags & wire.END
            if large is None or not (given_up or large.filled(payload)):
                return None
            del self._arriving[ident]
            return None if given_up else (large.kind, ident, large.flags, large.segments)
        if kind in _BARE:
            return kind, ident, flags, (payload,)
        if flags & wire.LARGE:
            if len(self._arriving) >= 64 or ident in self._arriving:
                raise wire.ProtocolError("too many large messages at once")
            self._arriving[ident] = self.arriving(kind, ident, flags, payload)
            return None
        return kind, ident, flags, wire.split_segments(payload, self.limit)

    def _room(self, ident, size):
        """Where the reader puts the content of a part."""
        if not size:
            return memoryview(bytearray())
        large = self._arriving.get(ident)
        if large is None:
            raise wire.ProtocolError("a part of nothing")
        return large.room(size)

    def arriving(self, kind, ident, flags, payload):
        """What takes the parts of a large message that was announced."""
        return wire.LargeMessage(kind, flags, payload, self.limit)

    def end(self, reason):
        """The stream is over: everyone who waits is woken, `ended` is told once."""
        if self.over:
            return
        self.over = True
        self._arriving.clear()
        self.on_end(reason)
        for slot in list(self._waiting):
            slot.wake()
