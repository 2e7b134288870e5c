"""Commands' output: pipes and terminals read by one thread, sent on as DATA within their credit."""

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
        self.elsewhere = None
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
        """The other end has taken `size` bytes of request `ident`; `elsewhere` may know it if this does not."""
        if self.elsewhere is not None and self.elsewhere(ident, size):
            return
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
