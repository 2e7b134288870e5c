"""Frames: how bytes on the one stream become messages, for both ends.

A frame is a 10-byte header (payload length, request id, kind, flags), the payload, and a newline: slurmstepd hands
on only whole lines of a pipe until its buffer is full, so a frame that did not end in one would wait in it.

A message is a kind, an id and some segments (the first: the body; more: out-of-band buffers). A small one is one
frame; a large one announces its segments' sizes and comes in PART frames, between which other messages may pass.
A segment that is `bytes` arrives as bytes, and any other as a bytearray: neither is copied more than the pipe needs.
"""

import io
import os
from itertools import repeat

from .quick import struct

(
    HELLO,
    CALL,
    RESULT,
    RAISED,
    CANCEL,
    RUN,
    DATA,
    CREDIT,
    IMPORT,
    SOURCE,
    CONTROL,
    FILES,
    PART,
    BYE,
    PING,
    PONG,
    ITEM,
    ISOLATED,
) = range(1, 19)

LARGE = 0x80
"""Flag: the payload is a table of segment sizes; PART frames with the same id follow."""
END = 0x40
"""Flag on DATA: nothing more comes on this channel. On an empty PART: the rest of its message will not come."""
STDIN, STDOUT, STDERR, CONTENT = 0, 1, 2, 3
"""Channels of DATA, in the flags' low bits."""
CHANNEL = 0x0F
OVERHEAD = 16384
"""Bytes that an item of a generator counts besides its own: so that of small ones, too, only some are made ahead."""
ITEMS = 1
"""Flag on CREDIT: it is for what a generator yields, not for what is printed."""

CHUNK = 256 * 1024
"""Payload bytes of a PART or DATA frame at the most: what a small message may have to wait for."""
WINDOW = 1024 * 1024
"""Bytes that may be under way on a DATA channel before its receiver has taken some."""
MAX_FRAME = 4 * CHUNK

_HEADER = struct.Struct("<IIBB")
_COUNT = struct.Struct("<H")
_SIZE = struct.Struct("<Q")
_LONE = struct.Struct("<IIBBHQ")
_ONE = struct.Struct("<HQ")
MAX_SEGMENTS = 0xFFFF
SMALL = 16384
"""Bytes of a segment that are cheaper to copy into one write than to hand to the kernel apart."""
HEADER_SIZE = _HEADER.size
MUTABLE = 1 << 63
"""Flag of a size in the table: the segment is a buffer that its receiver may write to, not `bytes`."""
READ = 65536
SPARE = 4096
"""Bytes read past the end of a part: the header of the next is among them."""
_NOTHING = memoryview(b"")


class ProtocolError(Exception):
    """The other end sent what this protocol does not allow; the stream cannot be trusted any further."""


def frame(kind, ident, payload=b"", flags=0):
    """One whole frame as bytes."""
    return b"".join((_HEADER.pack(len(payload), ident, kind, flags), payload, b"\n"))


def frame_buffers(kind, ident, payload, flags=0):
    """The same as buffers for write_all, so that a large payload is not copied."""
    return [_HEADER.pack(len(payload), ident, kind, flags), payload, b"\n"]


def lone(kind, ident, body, flags=0):
    """A message of one small segment, which most are, as one frame."""
    size = len(body)
    return b"".join((_LONE.pack(size + 10, ident, kind, flags, 1, size), body, b"\n"))


def table(segments):
    """Sizes of segments: their count in two bytes, and 8 bytes each."""
    sizes = [len(s) if isinstance(s, bytes) else len(s) | MUTABLE for s in segments]
    return _COUNT.pack(len(segments)) + b"".join(map(_SIZE.pack, sizes))


def read_table(payload, limit):
    """([(size, is mutable)], offset of what follows) out of a payload; sizes add up to `limit` bytes at the most."""
    if len(payload) < _COUNT.size:
        raise ProtocolError("a message without its table of sizes")
    count = _COUNT.unpack_from(payload)[0]
    end = _COUNT.size + count * _SIZE.size
    if not count or len(payload) < end:
        raise ProtocolError("a message with a broken table of sizes")
    found = [_SIZE.unpack_from(payload, _COUNT.size + i * _SIZE.size)[0] for i in range(count)]
    sizes = [(size & ~MUTABLE, bool(size & MUTABLE)) for size in found]
    total = sum([size for size, _ in sizes])
    if total > limit:
        raise ProtocolError("a message of %d bytes, and the limit is %d" % (total, limit))
    return sizes, end


def message_frames(kind, ident, segments, flags=0):
    """Yield the frames of one message, each a list of buffers for writev; large segments are sliced, not copied."""
    segments = [memoryview(s).cast("B") if not isinstance(s, bytes) else s for s in segments]
    if len(segments) > MAX_SEGMENTS:
        raise ValueError("a message of more than %d segments" % MAX_SEGMENTS)
    head = table(segments)
    total = sum([len(segment) for segment in segments])
    if total <= CHUNK:
        length = len(head) + total
        yield [_HEADER.pack(length, ident, kind, flags), head, *segments, b"\n"]
        return
    yield [_HEADER.pack(len(head), ident, kind, flags | LARGE), head, b"\n"]
    for segment in segments:
        view = memoryview(segment)
        for start in range(0, len(view), CHUNK):
            part = view[start : start + CHUNK]
            yield [_HEADER.pack(len(part), ident, PART, 0), part, b"\n"]


def split_segments(payload, limit):
    """The segments of a small message's payload."""
    size = len(payload) - 10
    if size >= 0 and payload[:10] == _ONE.pack(1, size) and size <= limit:
        return [payload[10:]]
    sizes, offset = read_table(payload, limit)
    if offset + sum([size for size, _ in sizes]) != len(payload):
        raise ProtocolError("a message whose sizes do not add up")
    segments = []
    for size, mutable in sizes:
        piece = payload[offset : offset + size]
        segments.append(bytearray(piece) if mutable else piece)
        offset += size
    return segments


class _Buffer:
    """A segment that arrives in place. Its pages cost memory only once they are written, so a lie costs nothing."""

    def __init__(self, size):
        self.left = size
        try:
            self.value = bytearray(size)
        except MemoryError:
            raise ProtocolError("a segment of %d bytes, for which there is no memory" % size) from None
        self._view = memoryview(self.value)

    def room(self, size):
        at = len(self._view) - self.left
        return self._view[at : at + size]

    def write(self, view):
        """It is there already."""

    def finish(self):
        self._view.release()
        return self.value


class _Bytes:
    """A segment that becomes `bytes`. BytesIO grows by moving pages and hands its bytes out without a copy."""

    def __init__(self, size):
        self.left = self._size = size
        self._file = io.BytesIO()
        self._scratch = None

    def room(self, size):
        if self._scratch is None or len(self._scratch) < size:
            self._scratch = memoryview(bytearray(max(size, min(self.left, CHUNK))))
        return self._scratch[:size]

    def write(self, view):
        self._file.seek(self._size - self.left)
        self._file.write(view)

    def finish(self):
        return self._file.getvalue()


class LargeMessage:
    """A message that is still arriving: its segments fill up part by part."""

    def __init__(self, kind, flags, payload, limit):
        sizes, end = read_table(payload, limit)
        if end != len(payload):
            raise ProtocolError("an announced message with a body")
        self.kind = kind
        self.flags = flags & ~LARGE
        self._parts = [_Buffer(size) if mutable else _Bytes(size) for size, mutable in sizes]
        self._last = None
        self.segments = []
        self._next()

    def _next(self):
        while len(self.segments) < len(self._parts) and not self._parts[len(self.segments)].left:
            self.segments.append(self._parts[len(self.segments)].finish())

    def room(self, size):
        """Where the next part, of `size` bytes, is to be written."""
        if len(self.segments) == len(self._parts):
            raise ProtocolError("more parts than were announced")
        part = self._parts[len(self.segments)]
        if not size or size > part.left:
            raise ProtocolError("a part that does not fit where it belongs")
        return part.room(size)

    def filled(self, view):
        """The view that `room` gave is full; True when the message is complete. Once more, if Ctrl-C came in between."""
        if view is not self._last:
            part, size = self._parts[len(self.segments)], len(view)
            part.write(view)
            part.left -= size
            self._last = view
        self._next()
        view.release()
        return len(self.segments) == len(self._parts)


class FrameReader:
    """Cuts a descriptor's bytes into frames. Not for two threads at once.

    `next` takes what is here already, `fill` reads once. The content of a PART goes straight where `room(ident, size)`
    says; its frame's payload is then that view.

    A signal's handler may raise in the main thread at any call (Ctrl-C), and no byte may be lost then. So what is here
    changes only where nothing is called. Where something is read, `for ... in map(os.read, ...)` leaves no gap between
    the system call and the keeping of what it gave.
    """

    def __init__(self, fd, initial=b"", room=None):
        self.fd = fd
        self.room = room
        self._reads = map(os.read, repeat(fd), repeat(READ))
        self._buffer = initial
        self._at = 0
        self._part = None
        self._view = _NOTHING
        self._done = 0
        self._kept = []
        self._spare = memoryview(bytearray(SPARE))

    def buffered(self):
        """True if a whole frame is already here, so that taking it needs no reading."""
        have = len(self._buffer) - self._at
        if self._part is not None:
            return have > 0
        if have < HEADER_SIZE:
            return False
        length = _HEADER.unpack_from(self._buffer, self._at)[0]
        return length > MAX_FRAME or have >= HEADER_SIZE + length + 1

    def next(self):
        """(kind, id, flags, payload) of the next frame; None if it is not all here."""
        if self._part is not None:
            return self._finish_part()
        buffer = self._buffer
        start = self._at + HEADER_SIZE
        if len(buffer) < start:
            return None
        length, ident, kind, flags = _HEADER.unpack_from(buffer, self._at)
        if length > MAX_FRAME:
            raise ProtocolError("a frame of %d bytes, and the limit is %d" % (length, MAX_FRAME))
        if self.room is not None and (kind == PART or (kind == DATA and length > SPARE)):
            return self._begin_part(kind, ident, flags, length)
        end = start + length
        if len(buffer) <= end:
            return None
        if buffer[end] != 10:
            raise ProtocolError("a frame that does not end where it should")
        self._at = end + 1
        return kind, ident, flags, buffer[start:end]

    def _begin_part(self, kind, ident, flags, length):
        view = self.room(ident, length) if kind == PART else self._piece(length)
        start = self._at + HEADER_SIZE
        here = self._buffer[start : start + length]
        size = len(here)
        view[:size] = here
        self._part, self._view = (kind, ident, flags, view), view
        self._done = size
        self._at = start + size
        return self._finish_part()

    def _piece(self, length):
        """Where a large DATA frame's content goes: memory that `reuse` has given back, if there is some."""
        kept = self._kept.pop() if self._kept and length <= CHUNK else bytearray(length)
        return memoryview(kept)[:length]

    def reuse(self, piece):
        """The content of a DATA frame is not needed any more: the next may overwrite it."""
        if type(piece) is memoryview and piece.nbytes == CHUNK and len(self._kept) < 4:
            self._kept.append(piece.obj)

    def _finish_part(self):
        if self._at >= len(
            self._buffer
        ):  # a part's content, then its newline: that one is always read after it
            return None
        if self._buffer[self._at] != 10:
            raise ProtocolError("a frame that does not end where it should")
        part = self._part
        self._at += 1
        self._part, self._view = None, _NOTHING
        return part

    def fill(self):
        """Read once, whatever is there; False at the end. So a frame that never becomes whole can be waited for."""
        try:
            if self._part is not None and self._done < len(self._view):
                return self._fill_part()
            left = len(self._buffer) - self._at
            if not left:
                for piece in self._reads:
                    self._buffer, self._at = piece, 0
                    return piece != b""
            wanted = READ
            if left >= HEADER_SIZE:
                wanted = max(READ, _HEADER.unpack_from(self._buffer, self._at)[0] + HEADER_SIZE + 1 - left)
                wanted = min(wanted, MAX_FRAME)
            for piece in map(os.read, (self.fd,), (wanted,)):
                self._buffer = self._buffer[self._at :] + piece
                self._at = 0
                return piece != b""
        except OSError:  # a pipe or socket torn down under us is an end like any other
            return False

    def _fill_part(self):
        rest = self._view[self._done :]
        room = len(rest)
        for size in map(os.readv, (self.fd,), ([rest, self._spare],)):
            if size <= room:
                self._done += size
            else:
                self._done += room
                self._buffer, self._at = b"" + self._spare[: size - room], 0  # no call, as bytes() would be
            return size > 0


def write_all(fd, buffers):
    """Write all of `buffers` (a list of bytes-likes) to `fd`, whatever the kernel takes at a time."""
    total = sum([len(b) for b in buffers])
    if total <= SMALL:
        buffers = [b"".join(buffers)]
    written = os.writev(fd, buffers)
    while written < total:
        total -= written
        rest = []
        for buffer in buffers:
            if written >= len(buffer):
                written -= len(buffer)
            else:
                rest.append(memoryview(buffer)[written:])
                written = 0
        buffers = rest
        written = os.writev(fd, buffers)
