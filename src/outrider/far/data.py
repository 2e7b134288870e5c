"""The data codec: plain values as bytes, safe to read from anyone. For both ends.

Carries None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set and frozenset, nested. What else `kinds` can
describe goes as a name and plain data. Reading runs no code of the sender's. What the far end says is read by the stricter
reader of outrider.near.values, which alone makes values of such names, and bounds the memory that all values take.

A list of nothing but small ints, of floats or of texts is packed as a whole: so that long lists cost no step each.
"""

from .quick import struct

MAX_DEPTH = 100
MAX_INT_BYTES = 1785
"""So that each number can also be shown: str() takes up to 4300 digits."""
LARGE = 65536
"""Bytes from which on `bytes` go out of band, where there is such a way."""

_U4 = struct.Struct("<I")
_U8 = struct.Struct("<Q")
_LIST = struct.Struct("<cI")
_INT = struct.Struct("<cq")
_LONG = struct.Struct("<cH")
_FLOAT = struct.Struct("<cd")
_TEXT = struct.Struct("<cQ")
_Q = struct.Struct("<q")
_D = struct.Struct("<d")
_H = struct.Struct("<H")
_SHORT = [b"s%c" % size for size in range(25)]
_TAGS: "dict[type, bytes]" = {list: b"l", tuple: b"t", set: b"w", frozenset: b"z"}
_CONTAINERS = {108: list, 116: tuple, 119: set, 122: frozenset}
_ERRORS = (
    IndexError,
    struct.error,  # type: ignore[attr-defined]
    UnicodeDecodeError,
    TypeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


class DataError(ValueError):
    """A value that this codec does not carry, or bytes that are no value."""


def dumps(value, buffers=None):
    """`value` as bytes. Large bytes and arrays are put into the list `buffers` instead, if there is one.

    Raises DataError, naming the type, for what is not plain data.
    """
    out = []
    try:
        _write((value,), out.append, buffers, 0)
    except RecursionError:
        raise DataError("nested too deep") from None
    return b"".join(out)


def loads(payload):
    """The value of `payload`, from somebody who is trusted. Raises DataError for anything that `dumps` did not write."""
    return Reader(payload).whole()


def _text(value):
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _write(values, add, buffers, depth):
    if depth > MAX_DEPTH:
        raise DataError("nested deeper than %d levels" % MAX_DEPTH)
    for value in values:
        kind = type(value)
        if kind is str:
            body = _text(value)
            size = len(body)
            add(_SHORT[size] if size < 25 else _TEXT.pack(b"S", size))
            add(body)
        elif value is None:
            add(b"N")
        elif kind is bool:
            add(b"T" if value else b"F")
        elif kind is int:
            if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
                add(_INT.pack(b"i", value))
            else:
                _write_long(value, add)
        elif kind is float:
            add(_FLOAT.pack(b"f", value))
        elif kind is dict and len(value) < 8:
            add(b"m%c" % len(value))
            _write([part for item in value.items() for part in item], add, buffers, depth + 1)
        elif kind is list and len(value) < 8:
            add(b"L%c" % len(value))
            _write(value, add, buffers, depth + 1)
        elif kind is dict:
            add(b"d")
            _write_all(value, add, buffers, depth + 1)
            _write_all(value.values(), add, buffers, depth + 1)
        elif kind in _TAGS:
            add(_TAGS[kind])
            _write_all(value, add, buffers, depth + 1)
        elif kind is bytes or kind is bytearray or kind is memoryview:
            write_bytes(value, add, buffers)
        else:
            from .kinds import described

            name, state = described(value)
            add(b"x")
            _write((name, state), add, buffers, depth + 1)


def _write_long(value, add):
    body = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(body) > MAX_INT_BYTES:
        raise DataError("an integer of more than %d bytes" % MAX_INT_BYTES)
    add(_LONG.pack(b"I", len(body)))
    add(body)


def write_bytes(value, add, buffers):
    if type(value) is memoryview:
        value = value.cast("B") if value.contiguous else bytes(value)
    if buffers is not None and len(value) >= LARGE:
        add(_LIST.pack(b"o", len(buffers)))
        buffers.append(value)
    else:
        add(_TEXT.pack(b"a" if type(value) is bytearray else b"b", len(value)))
        add(bytes(value))


def _write_all(values, add, buffers, depth):
    """The items of a container."""
    count = len(values)
    if count > 7:
        kinds = set(map(type, values))
        if len(kinds) == 1:
            kind = kinds.pop()
            try:
                if kind is int:
                    packed = struct.pack("<%dq" % count, *values)
                    add(_LIST.pack(b"q", count))
                    return add(packed)
                if kind is float:
                    add(_LIST.pack(b"f", count))
                    return add(struct.pack("<%dd" % count, *values))
                if kind is str:
                    body = _text("".join(values))
                    add(_LIST.pack(b"s", count))
                    add(struct.pack("<%dI" % count, *map(len, values)))
                    add(_U8.pack(len(body)))
                    return add(body)
            except struct.error:  # type: ignore[attr-defined]  # a number that needs more than 8 bytes
                pass
    add(_LIST.pack(b"*", count))
    _write(values, add, buffers, depth)
    return None


class Reader:
    """Takes values out of bytes. The near end, which must not believe what it reads, has a stricter one."""

    def __init__(self, payload):
        self.payload = payload
        self.at = 0
        self.end = len(payload)

    def whole(self):
        """The one value that the bytes are."""
        try:
            found = self.many(1, 0)
        except _ERRORS as error:
            raise DataError("not data: %s" % error) from None
        if self.at != self.end:
            raise DataError("not data: bytes left over")
        return found[0]

    def charge(self, size):
        """Called before something is built that takes about so many bytes of memory."""

    def keys(self, found):
        """Called with what is to be put into a set or a dict, unless nobody can have chosen their hashes."""

    def take(self, size):
        start = self.at
        self.at = start + size
        if self.at > self.end:
            raise DataError("not data: cut short")
        return self.payload[start : self.at]

    def size(self):
        return _U8.unpack(self.take(8))[0]

    def many(self, count, depth):
        """A list of `count` values, one after the other."""
        if depth > MAX_DEPTH:
            raise DataError("not data: nested deeper than %d levels" % MAX_DEPTH)
        at, end, payload = self.at, self.end, self.payload
        if count > end - at:
            raise DataError("not data: more items than bytes")
        self.charge(100 * count)
        found = []
        add = found.append
        for _ in range(count):
            tag = payload[at]
            if tag == 115:  # s: a short text
                start = at + 2
                at = start + payload[at + 1]
                if at > end:
                    raise DataError("not data: cut short")
                add(str(payload[start:at], "utf-8", "surrogatepass"))
            elif tag == 105:  # i
                add(_Q.unpack_from(payload, at + 1)[0])
                at += 9
            elif tag == 102:  # f
                add(_D.unpack_from(payload, at + 1)[0])
                at += 9
            elif tag == 78:  # N
                add(None)
                at += 1
            elif tag == 84 or tag == 70:  # T, F
                add(tag == 84)
                at += 1
            else:
                self.at = at + 1
                add(self.other(tag, depth + 1))
                at = self.at
        self.at = at
        return found

    def other(self, tag, depth):
        """A value that begins with `tag` and is not one of the shortest."""
        if tag == 109:  # m: a small dict
            count = self.take(1)[0]
            both = self.many(2 * count, depth)
            return self.mapping(both[::2], both[1::2], count > 7)
        if tag == 76:  # L: a small list
            self.charge(240)
            return self.many(self.take(1)[0], depth)
        if tag == 100:  # d
            keys, unknown = self.items(depth)
            return self.mapping(keys, self.items(depth)[0], unknown)
        if tag in _CONTAINERS:
            found, unknown = self.items(depth)
            return self.set(_CONTAINERS[tag], found, unknown) if tag > 116 else _CONTAINERS[tag](found)
        if tag == 83:  # S: a text
            return self.text(self.size())
        if tag == 98:  # b
            size = self.size()
            self.charge(size)
            return bytes(self.take(size))
        raise DataError("not data: tag %d" % tag)

    def text(self, size):
        body = self.take(size)
        return str(body, "utf-8", "surrogatepass")

    def items(self, depth):
        """(the items of a container, whether their hashes need a look)."""
        mode, count = _LIST.unpack(self.take(5))
        self.charge(240)
        if mode == b"*":
            return self.many(count, depth), True
        if depth > MAX_DEPTH:
            raise DataError("not data: nested deeper than %d levels" % MAX_DEPTH)
        if mode == b"q" or mode == b"f":
            packed = self.take(8 * count)
            self.charge(40 * count)
            return list(struct.unpack("<%d%s" % (count, "q" if mode == b"q" else "d"), packed)), False
        if mode == b"s":
            return self.texts(count), False
        raise DataError("not data: a list of %r" % mode)

    def texts(self, count):
        lengths = self.take(4 * count)
        self.charge(84 * count)
        text = self.text(self.size())
        found = []
        at = 0
        for length in struct.unpack("<%dI" % count, lengths):
            found.append(text[at : at + length])
            at += length
        if at != len(text):
            raise DataError("not data: texts that do not add up")
        return found

    def set(self, kind, found, unknown):
        self.charge(150 * len(found))
        if unknown:
            self.keys(found)
        made = kind(found)
        if len(made) != len(found):
            raise DataError("not data: an item twice")
        return made

    def mapping(self, keys, values, unknown):
        self.charge(240 + 100 * len(keys))
        if unknown:
            self.keys(keys)
        made = dict(zip(keys, values))
        if not len(made) == len(keys) == len(values):
            raise DataError("not data: a key twice, or without value")
        return made
