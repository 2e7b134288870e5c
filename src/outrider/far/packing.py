"""A value → the segments of a message: a pickle, and beside it every large buffer as it lies, uncopied. For both ends.

Protocol 5 takes the buffers of arrays out of the pickle, but not bytes. The C pickler, though, hands a large bytes or
bytearray to its file as the object that it is, behind an opcode of its own. That opcode is exchanged for the one that
fetches a buffer, so that bytes travel like an array's buffer, wherever in the value they are.
"""

from .pickling import pickle
from .quick import struct

LARGE = 65536
"""Bytes from which on the pickler hands an object to its file instead of copying it (the size of its frames)."""
OWN = 16384
"""Bytes from which on an array's buffer is a segment of its own."""
MOST = 8192
"""Segments of a message at the most; further buffers are copied into the pickle."""
SMALL = frozenset((int, float, bool, type(None), complex))

_U4 = struct.Struct("<I")
_U8 = struct.Struct("<Q")
_NEXT_BUFFER = b"\x97"


class Rope(list):  # type: ignore[type-arg]
    """The file of a pickler, in pieces. Buffers stand among them, each in a tuple, in the order of the pickle."""

    write = list.append

    def __init__(self):
        super().__init__()
        self.buffers = 0

    def take(self, buffer):
        """A PickleBuffer's way: a true answer means into the pickle."""
        try:
            view = buffer.raw()
        except BufferError:  # not in one piece
            return True
        if len(view) < OWN or self.buffers >= MOST:
            return True
        self.buffers += 1
        self.append((view,))
        return False

    def segments(self):
        """The pickle in one piece, then the buffers."""
        if len(self) == 1:
            return self[:]
        body = []
        buffers = []
        for piece in self:
            kind = type(piece)
            if kind is tuple:
                buffers.append(piece[0])
            elif kind in (bytes, bytearray) and body and len(buffers) < MOST and _announced(body[-1], piece):
                body[-1] = body[-1][: -len(_header(piece))] + _NEXT_BUFFER
                buffers.append(piece)
            else:
                body.append(piece)
        return [b"".join(body), *buffers]


def _header(blob):
    """What the pickler writes before the contents of a large `blob`."""
    size = len(blob)
    if type(blob) is bytearray:
        return b"\x96" + _U8.pack(size)
    return b"B" + _U4.pack(size) if size <= 0xFFFFFFFF else b"\x8e" + _U8.pack(size)


def _announced(piece, blob):
    """True if `piece` of the pickle ends with the header of just `blob`: behind its frame, where nothing else can be."""
    if len(blob) < LARGE or type(piece) is not bytes:
        return False
    header = _header(blob)
    at = 2 if piece[:1] == b"\x80" else 0
    if piece[at : at + 1] == b"\x95":
        at += 9 + _U8.unpack_from(piece, at + 1)[0]
    return len(piece) - at < len(header) + 4 and piece.endswith(
        header
    )  # a frame of less than 4 bytes has no mark


def dump(value, pickler=None):
    """Segments of `value`, by the C pickler or by a `pickler` made with its arguments."""
    rope = Rope()
    (pickler or pickle.Pickler)(rope, 5, buffer_callback=rope.take).dump(value)
    return rope.segments()
