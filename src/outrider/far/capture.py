"""What runs here and prints: pipes and terminals read by one thread, sent on as DATA within their credit."""

import os
import select
import threading

from . import wire

PIECE = 65536


class Source:
    """One descriptor that is being read, for request `ident`, on `channel`."""

    def __init__(self, fd, ident, channel, on_end):
        self.fd = fd
        self.ident = ident
        self.channel = channel
        self.on_end = on_end


class Pump:
    """Reads many descriptors and sends what they say.

    `owner()` names the request that a shared descriptor's bytes belong to just now. A request whose credit is used
    up is not read until the other end has taken some: whoever prints then waits in its own write.
    """

    def __init__(self, link):
        self.link = link
        self._sources = {}
        self._credit = {}
        self._lock = threading.Lock()
        self._changed_read, self._changed_write = os.pipe()
        os.set_blocking(self._changed_read, False)
        os.set_blocking(self._changed_write, False)
        self._poll = select.poll()
        self._poll.register(self._changed_read, select.POLLIN)
        threading.Thread(target=self._run, name="outrider-pump", daemon=True).start()

    def _wake(self):
        try:
            os.write(self._changed_write, b"x")
        except OSError:
            pass

    def add(self, fd, ident, channel, on_end=None):
        """Read `fd` until it ends, then close it and call `on_end()`."""
        os.set_blocking(fd, False)
        with self._lock:
            self._sources[fd] = Source(fd, ident, channel, on_end)
            self._credit.setdefault(ident, wire.WINDOW)
            self._poll.register(fd, select.POLLIN)
        self._wake()

    def grant(self, ident, size):
        """The other end has taken `size` bytes of request `ident`."""
        with self._lock:
            if ident not in self._credit:
                return
            self._credit[ident] += size
            for source in self._sources.values():
                if source.ident == ident:
                    self._poll.register(source.fd, select.POLLIN)
        self._wake()

    def forget(self, ident):
        """Request `ident` is over: what it left open is closed."""
        with self._lock:
            self._credit.pop(ident, None)
            for source in [s for s in self._sources.values() if s.ident == ident]:
                self._drop(source)

    def _drop(self, source):
        del self._sources[source.fd]
        try:
            self._poll.unregister(source.fd)
        except (KeyError, OSError):
            pass
        os.close(source.fd)

    def _run(self):
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._changed_read:
                    try:
                        os.read(fd, 4096)
                    except OSError:
                        pass
                else:
                    self._read(fd)

    def _read(self, fd):
        """Read one piece of one source and send it on."""
        with self._lock:
            source = self._sources.get(fd)
            if source is None:
                return
            credit = self._credit.get(source.ident, 0)
            if credit <= 0:
                self._poll.unregister(fd)
                return
            try:
                piece = os.read(fd, min(PIECE, credit))
            except BlockingIOError:
                return
            except OSError:  # EIO: a terminal whose last program has gone
                piece = b""
            self._credit[source.ident] = credit - len(piece)
            if not piece:
                self._drop(source)
        if piece:
            self.link.send_frame(wire.DATA, source.ident, piece, source.channel)
        elif source.on_end:
            source.on_end()


class CallOutput:
    """Descriptors 1 and 2 of this process, captured: whatever a call prints, its C libraries and children too.

    One call at a time owns what arrives. While several run at once, Python's own prints are told apart by thread; what
    bypasses Python then belongs to the session (id 0).
    """

    LIMIT = wire.WINDOW

    def __init__(self, link):
        self.link = link
        self._owners = {}
        self._lock = threading.RLock()
        self._credit = threading.Condition(threading.Lock())
        self._unsent = {}
        self._pipes = {}
        for channel in (wire.STDOUT, wire.STDERR):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            os.dup2(writer, channel, inheritable=True)
            os.close(writer)
            self._pipes[channel] = reader
        threading.Thread(target=self._run, name="outrider-output", daemon=True).start()

    def begin(self, ident):
        with self._lock:
            self._owners[threading.get_ident()] = ident

    def finish(self):
        """Send what the calling thread's call has printed so far, then let go of it."""
        with self._lock:
            self.drain()
            ident = self._owners.pop(threading.get_ident(), 0)
        with self._credit:
            self._unsent.pop(ident, None)

    def grant(self, ident, size):
        with self._credit:
            if ident in self._unsent:
                self._unsent[ident] = max(0, self._unsent[ident] - size)
                self._credit.notify_all()

    def _owner(self):
        return next(iter(self._owners.values())) if len(self._owners) == 1 else 0

    def drain(self):
        """Send all that lies in the pipes now."""
        with self._lock:
            for channel, reader in self._pipes.items():
                for _ in range(64):  # a bound: somebody may print faster than this sends
                    try:
                        piece = os.read(reader, PIECE)
                    except BlockingIOError:
                        break
                    if not piece:
                        break
                    self.link.send_frame(wire.DATA, self._owner(), piece, channel)
                    self._account(self._owner(), len(piece))
                    if len(piece) < PIECE:
                        break

    def _account(self, ident, size):
        with self._credit:
            self._unsent[ident] = self._unsent.get(ident, 0) + size

    def write(self, channel, piece):
        """What Python code of the calling thread prints while several calls run."""
        with self._lock:
            if len(self._owners) < 2 or threading.get_ident() not in self._owners:
                return False
            ident = self._owners[threading.get_ident()]
            for start in range(0, len(piece), PIECE):
                self.link.send_frame(wire.DATA, ident, bytes(piece[start : start + PIECE]), channel)
        return True

    def _run(self):
        poll = select.poll()
        for reader in self._pipes.values():
            poll.register(reader, select.POLLIN)
        while True:
            poll.poll()
            with (
                self._credit
            ):  # a caller that does not take its output: let the pipe fill up and the printer wait
                while self._unsent.get(self._owner(), 0) > self.LIMIT:
                    self._credit.wait(1)
            self.drain()
