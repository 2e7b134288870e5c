"""Frames: how bytes on the one stream become messages, for both ends.

A frame is a 10-byte header (payload length, request id, kind, flags), the payload, and a newline: slurmstepd hands
on only whole lines of a pipe until its buffer is full, so a frame that did not end in one would wait in it.

A message is a kind, an id and some segments (the first: the body; more: out-of-band buffers). A small one is one
frame; a large one announces its segments' sizes and comes in PART frames, between which other messages may pass.
"""

import os
import struct

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
) = range(1, 17)

LARGE = 0x80
"""Flag: the payload is a table of segment sizes; PART frames with the same id follow."""
END = 0x40
"""Flag on DATA: nothing more comes on this channel."""
STDIN, STDOUT, STDERR, CONTENT = 0, 1, 2, 3
"""Channels of DATA, in the flags' low bits."""
CHANNEL = 0x0F

CHUNK = 256 * 1024
"""Payload bytes of a PART or DATA frame at the most: what a small message may have to wait for."""
WINDOW = 1024 * 1024
"""Bytes that may be under way on a DATA channel before its receiver has taken some."""
MAX_FRAME = 4 * CHUNK

_HEADER = struct.Struct("<IIBB")
_COUNT = struct.Struct("<B")
_SIZE = struct.Struct("<Q")
HEADER_SIZE = _HEADER.size


class ProtocolError(Exception):
    """The other end sent what this protocol does not allow; the stream cannot be trusted any further."""


def frame(kind, ident, payload=b"", flags=0):
    """One whole frame as bytes."""
    return b"".join((_HEADER.pack(len(payload), ident, kind, flags), payload, b"\n"))


def table(segments):
    """Sizes of segments: a count byte and 8 bytes each."""
    return _COUNT.pack(len(segments)) + b"".join(_SIZE.pack(len(segment)) for segment in segments)


def read_table(payload, limit):
    """(sizes, offset of what follows) out of a payload; refuses sizes that add up to more than `limit` bytes."""
    if not payload:
        raise ProtocolError("a message without its table of sizes")
    count = payload[0]
    end = 1 + count * _SIZE.size
    if not count or len(payload) < end:
        raise ProtocolError("a message with a broken table of sizes")
    sizes = [_SIZE.unpack_from(payload, 1 + i * _SIZE.size)[0] for i in range(count)]
    if sum(sizes) > limit:
        raise ProtocolError("a message of %d bytes, and the limit is %d" % (sum(sizes), limit))
    return sizes, end


def message_frames(kind, ident, segments, flags=0):
    """Yield the frames of one message, each a list of buffers for writev; large segments are sliced, not copied."""
    segments = [memoryview(s).cast("B") if not isinstance(s, bytes) else s for s in segments]
    if len(segments) > 255:  # the table counts in a byte; so many buffers are small ones anyway
        segments = [*segments[:254], b"".join(segments[254:])]
    head = table(segments)
    total = sum(len(segment) for segment in segments)
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
    sizes, offset = read_table(payload, limit)
    if offset + sum(sizes) != len(payload):
        raise ProtocolError("a message whose sizes do not add up")
    segments = []
    for size in sizes:
        segments.append(payload[offset : offset + size])
        offset += size
    return segments


class LargeMessage:
    """A message that is still arriving: its segments fill up part by part."""

    def __init__(self, kind, flags, payload, limit):
        sizes, end = read_table(payload, limit)
        if end != len(payload):
            raise ProtocolError("an announced message with a body")
        self.kind = kind
        self.flags = flags & ~LARGE
        # The pages of a fresh bytearray cost memory only once they are written, so a lie costs nothing.
        self.segments = [bytearray(size) for size in sizes]
        self._todo = [(memoryview(segment), size) for segment, size in zip(self.segments, sizes) if size]
        self._filled = 0

    def add(self, part):
        """Take one part; True when the message is complete."""
        if not self._todo:
            raise ProtocolError("more parts than were announced")
        view, size = self._todo[0]
        end = self._filled + len(part)
        if not part or end > size:
            raise ProtocolError("a part that does not fit where it belongs")
        view[self._filled : end] = part
        self._filled = end
        if end == size:
            view.release()
            self._todo.pop(0)
            self._filled = 0
        return not self._todo


class FrameReader:
    """Cuts a descriptor's bytes into frames. Not for two threads at once."""

    def __init__(self, fd, initial=b""):
        self.fd = fd
        self._buffer = initial
        self._at = 0

    def buffered(self):
        """True if a whole frame is already here, so that reading it cannot block."""
        have = len(self._buffer) - self._at
        if have < HEADER_SIZE:
            return False
        length = _HEADER.unpack_from(self._buffer, self._at)[0]
        return length > MAX_FRAME or have >= HEADER_SIZE + length + 1

    def fill(self):
        """Read once, whatever is there; False at the end. So a frame that never becomes whole can be waited for."""
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return False
        self._buffer = bytes(self._buffer[self._at :]) + piece
        self._at = 0
        return bool(piece)

    def read(self):
        """(kind, id, flags, payload) of the next frame; None at the end of the stream."""
        if not self._need(HEADER_SIZE):
            return None
        length, ident, kind, flags = _HEADER.unpack_from(self._buffer, self._at)
        if length > MAX_FRAME:
            raise ProtocolError("a frame of %d bytes, and the limit is %d" % (length, MAX_FRAME))
        if not self._need(HEADER_SIZE + length + 1):
            return None
        start = self._at + HEADER_SIZE
        end = start + length
        if self._buffer[end] != 10:
            raise ProtocolError("a frame that does not end where it should")
        self._at = end + 1
        return kind, ident, flags, self._buffer[start:end]

    def _need(self, size):
        """Have `size` bytes from here on in the buffer; False if the stream ends before."""
        have = len(self._buffer) - self._at
        if have >= size:
            return True
        pieces = [self._buffer[self._at :]] if have else []
        try:
            while have < size:
                piece = os.read(self.fd, max(65536, size - have))
                if not piece:
                    return False
                pieces.append(piece)
                have += len(piece)
        except OSError:  # a pipe or socket torn down under us is an end like any other
            return False
        finally:  # also when Ctrl-C comes in between: nothing that was read may be lost
            self._buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._at = 0
        return True


def write_all(fd, buffers):
    """Write all of `buffers` (a list of bytes-likes) to `fd`, whatever the kernel takes at a time."""
    total = sum(len(b) for b in buffers)
    if total <= 16384:
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
