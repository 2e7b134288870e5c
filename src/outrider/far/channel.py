"""Messages with descriptors between two processes that trust each other: over a socket that keeps their borders."""

import _socket  # socket itself imports enum, selectors and more
import marshal
import os
import struct

LARGE = 64 * 1024
"""Bytes from which on a message goes in a file in memory, whose descriptor is sent: a socket takes only so much at once."""
MOST_FDS = 16
_PLAIN, _IN_FILE = b"\0", b"\1"
RESULTS = b"\2"
"""How what begins that is not ours to read: the other end is no Python."""


def plain(message):
    """The bytes that a small message is sent as."""
    return _PLAIN + marshal.dumps(message, 2)


def pair():
    """Two joined ends, as descriptors that are closed on exec."""
    one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return one.detach(), other.detach()


class Channel:
    """One end. Plain data (what marshal takes) and descriptors go through it."""

    def __init__(self, fd):
        self.fd = fd
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)

    def send(self, message, fds=()):
        """Send it; OSError if the other end is gone. The descriptors stay open here."""
        body = marshal.dumps(message, 2)
        if len(body) > LARGE:
            file = in_memory(body)
            try:
                self.send_bytes(_IN_FILE, [*fds, file])
            finally:
                os.close(file)
        else:
            self.send_bytes(_PLAIN + body, fds)

    def send_raw(self, body):
        """Send bytes as they are: for whoever does not read messages yet."""
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 2 * len(body) + LARGE)
        self._socket.sendmsg([body], [], _socket.MSG_NOSIGNAL)

    def send_bytes(self, body, fds=()):
        """Send bytes as they are, with descriptors."""
        rights = (
            [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("%di" % len(fds), *fds))] if fds else []
        )
        self._socket.sendmsg([body], rights, _socket.MSG_NOSIGNAL)

    def receive(self):
        """(message, descriptors); (None, []) once the other end is gone."""
        try:
            body, about, _, _ = self._take()
        except (
            ConnectionError
        ):  # it went with something unread, which is told first: its last words come after that
            try:
                body, about, _, _ = self._take()
            except ConnectionError:
                return None, []
        fds = []
        for level, kind, rights in about:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds += struct.unpack("%di" % (len(rights) // 4), rights[: len(rights) // 4 * 4])
        if not body:
            return None, fds
        if body[:1] == _IN_FILE:
            return marshal.loads(_contents(fds.pop())), fds
        return {"results": body} if body[:1] == RESULTS else marshal.loads(body[1:]), fds

    def _take(self):
        room = _socket.CMSG_SPACE(MOST_FDS * 4)
        return self._socket.recvmsg(LARGE + 64, room, _socket.MSG_CMSG_CLOEXEC)

    def hang_up(self):
        """Tell the other end that this is all, and whoever waits here."""
        try:
            self._socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        """Safe to call again."""
        if self.fd >= 0:
            self.fd = -1
            self._socket.close()


def in_memory(body):
    try:
        file = os.memfd_create("outrider")
    except (AttributeError, OSError):  # before Linux 3.17, or forbidden
        import tempfile

        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    view = memoryview(body)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _contents(file):
    try:
        os.lseek(file, 0, os.SEEK_SET)
        pieces = []
        while True:
            piece = os.read(file, 1 << 20)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    finally:
        os.close(file)
