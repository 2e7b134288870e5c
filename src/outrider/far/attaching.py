"""How a far end comes to be kept, and a near end to a kept one: the process that its route starts hands over its pipes."""

import os
import struct

from . import data

WAIT = 3600.0
"""Seconds to wait for a kept far end that is busy; the near end itself mostly waits for less."""


def begin(far, order):
    """While a far end settles: have it be kept, or, with a path, be another's place. OSError says why it cannot be."""
    if order["path"] is not None:
        _attach(far, order)
    try:
        from .keeping import Keeping

        Keeping(far, order)
    except (OSError, ImportError) as error:
        raise OSError("kept: cannot: %s" % error) from None


def _attach(far, order):
    """Hand this process's pipes to the far end that waits at a path, and hold their place."""
    connection = _connect(order["path"])
    try:
        _offer(connection, far.link.reader.fd, far.link.write_fd, order)
        answer = connection.recv(4096)
    except OSError as error:
        raise OSError("kept: gone: %s" % error) from None
    if answer != b"taken":
        raise OSError("kept: " + (answer.decode() or "gone: it ended just now"))
    connection.settimeout(None)
    hold(far.link.reader.fd, far.link.write_fd, lambda: connection.recv(1))


def hold(read_fd, write_fd, wait):
    """Hold a place in the route, without its pipes, until `wait` returns."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, read_fd)
    os.dup2(null, write_fd)
    try:
        wait()
    finally:
        os._exit(0)


def _connect(path):
    """The socket, in a folder that is this user's alone, whatever others may have put in its place."""
    import socket

    folder, name = os.path.split(path)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise OSError("kept: gone: %s" % error) from None
    try:
        status = os.fstat(fd)
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise OSError("kept: folder: %s is not this user's alone" % folder)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(WAIT)
        try:
            connection.connect("/proc/self/fd/%d/%s" % (fd, name))
        except OSError as error:
            raise OSError("kept: gone: %s" % error) from None
    finally:
        os.close(fd)
    if peer_user(connection) != os.getuid():
        raise OSError("kept: folder: another user listens there")
    return connection


def peer_user(connection):
    """The user at the other end."""
    import socket

    return struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]


def _offer(connection, read_fd, write_fd, order):
    import socket

    asked = {name: order[name] for name in ("secret", "era", "of", "received", "take")}
    pipes = struct.pack("ii", read_fd, write_fd)
    connection.sendmsg([data.dumps(asked)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pipes)])


def receive(connection):
    """(what is asked for, packed; descriptors) of somebody who attaches."""
    import socket

    body, more, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC)
    pipes = []
    for level, kind, packed in more:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            pipes += struct.unpack("%di" % (len(packed) // 4), packed)
    return body, pipes
