"""What calls print, at descriptors 1 and 2: captured, told apart where several run, sent on as DATA within its credit."""

import io
import os
import select
import sys
import time
from _thread import RLock, allocate_lock, get_ident, start_new_thread

from . import wire
from .quick import release

PIECE = 65536


class CallOutput:
    """Descriptors 1 and 2 of this process, captured: whatever a call prints, its C libraries and children too.

    One call at a time owns what arrives. While several run at once, Python's own prints are told apart by thread; what
    bypasses Python then belongs to the session (id 0).
    """

    LIMIT = wire.WINDOW

    def __init__(self, link):
        self.link = link
        self._owners = {}
        self._lock = RLock()
        # Two counts, as each has one writer at a time: who holds `_lock`, and who reads.
        self._sent = {}
        self._taken = {}
        self._room = allocate_lock()
        self._channels = {}
        self._poll = select.poll()
        for channel in (wire.STDOUT, wire.STDERR):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            os.dup2(writer, channel, inheritable=True)
            os.close(writer)
            self._channels[reader] = channel
            self._poll.register(reader, select.POLLIN)
        start_new_thread(self._run, ())

    def begin(self, ident):
        self._owners[get_ident()] = ident

    def forked(self):
        """In a forked child: what it prints goes into the pipes, to be read by its parent alone."""
        self._owners.clear()
        self._lock = RLock()
        self._poll = select.poll()

    def has_call(self, thread):
        """Whether that thread runs a call, whose end nobody has been told yet."""
        return thread in self._owners

    def finish(self, thread=None):
        """Send what the call of a thread (else of this one) has printed so far, then let go of it."""
        with self._lock:
            self.drain()
            ident = self._owners.pop(thread or get_ident(), 0)
        if ident:
            self._sent.pop(ident, None)
            self._taken.pop(ident, None)
        self._make_room()

    def grant(self, ident, size):
        """The other end has taken `size` bytes of what call `ident` printed."""
        if ident in self._sent:
            self._taken[ident] = self._taken.get(ident, 0) + size
            self._make_room()

    def _full(self, ident):
        return self._sent.get(ident, 0) - self._taken.get(ident, 0) > self.LIMIT

    def _make_room(self):
        if self._room.locked():
            release(self._room)

    def _owner(self):
        owners = list(self._owners.values())
        return owners[0] if len(owners) == 1 else 0

    def drain(self):
        """Send all that lies in the pipes now."""
        with self._lock:
            for _ in range(64):  # a bound: somebody may print faster than this sends
                ready = self._poll.poll(0)
                if not ready:
                    break
                for reader, _ in ready:
                    self._send(reader, os.read(reader, PIECE))

    def _send(self, reader, piece):
        if not piece:  # a call has closed the descriptor, so nothing more can come
            self._poll.unregister(reader)
            return
        owner = self._owner()
        self._sent[owner] = self._sent.get(owner, 0) + len(piece)
        self.link.send_frame(wire.DATA, owner, piece, self._channels[reader])

    def write(self, channel, piece):
        """What Python code of the calling thread prints while several calls run."""
        if len(self._owners) < 2:
            return False
        with self.link.shield, self._lock:
            ident = self._owners.get(get_ident())
            if ident is None or len(self._owners) < 2:
                return False
            self._sent[ident] = self._sent.get(ident, 0) + len(piece)
            for start in range(0, len(piece), PIECE):
                self.link.send_frame(wire.DATA, ident, bytes(piece[start : start + PIECE]), channel)
        while self._full(ident):  # where a cancelled call can be interrupted
            time.sleep(0.002)
        return True

    def _run(self):
        poll = select.poll()
        for reader in self._channels:
            poll.register(reader, select.POLLIN)
        while True:
            for reader, events in poll.poll():
                if not events & select.POLLIN:
                    poll.unregister(reader)
            # A near end that does not take its output: let the pipe fill up, and whoever prints wait.
            while self._full(self._owner()):
                self._room.acquire(True, 1)
            self.drain()


class CallStream(io.RawIOBase):
    """What sys.stdout writes to: the captured descriptor, or straight out while several calls run at once."""

    def __init__(self, output, channel):
        self.output = output
        self.channel = channel

    def writable(self):
        return True

    def fileno(self):
        return self.channel

    def write(self, piece):
        if self.output.write(self.channel, piece):
            return len(piece)
        return os.write(self.channel, piece)


def replace_streams(output):
    """Python's own prints go out at once, and keep apart when several calls run."""
    for channel, name in ((wire.STDOUT, "stdout"), (wire.STDERR, "stderr")):
        buffer = io.BufferedWriter(CallStream(output, channel), 8192)
        stream = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)
