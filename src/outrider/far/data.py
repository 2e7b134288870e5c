"""The data codec: plain values as bytes, safe to read from anyone. For both ends.

Carries None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, datetime/date/time/timedelta, Decimal,
UUID and Path, nested. Reading never runs code, never builds anything else, and is bounded in depth and in size.
What has no tag here is refused when it is written, by name.
"""

import struct

MAX_DEPTH = 100
MAX_INT_BYTES = 4096

_F8 = struct.Struct("<d")
_U4 = struct.Struct("<I")


class DataError(ValueError):
    """A value that this codec does not carry, or bytes that are no value."""


def dumps(value):
    """`value` as bytes. Raises DataError, naming the type, for what is not plain data."""
    out = []
    _write(value, out, 0)
    return b"".join(out)


def loads(payload):
    """The value of `payload`. Raises DataError for anything that `dumps` did not write."""
    reader = _Reader(payload)
    try:
        value = reader.value(0)
    except (IndexError, struct.error, UnicodeDecodeError, OverflowError, TypeError, ArithmeticError) as error:
        raise DataError("not data: %s" % error) from None
    if reader.at != len(reader.payload):
        raise DataError("not data: bytes left over")
    return value


def _sized(tag, body, out):
    out.append(tag)
    out.append(_U4.pack(len(body)))
    out.append(body)


def _write(value, out, depth):
    if depth > MAX_DEPTH:
        raise DataError("nested deeper than %d levels" % MAX_DEPTH)
    kind = type(value)
    if value is None:
        out.append(b"N")
    elif kind is bool:
        out.append(b"T" if value else b"F")
    elif kind is int:
        body = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(body) > MAX_INT_BYTES:
            raise DataError("an integer of more than %d bytes" % MAX_INT_BYTES)
        _sized(b"i", body, out)
    elif kind is float:
        out.append(b"f" + _F8.pack(value))
    elif kind is str:
        _sized(b"s", value.encode("utf-8", "surrogatepass"), out)
    elif kind in (bytes, bytearray, memoryview):
        _sized(b"b", bytes(value), out)
    elif kind in _SEQUENCES:
        out.append(_SEQUENCES[kind] + _U4.pack(len(value)))
        for item in value:
            _write(item, out, depth + 1)
    elif kind is dict:
        out.append(b"d" + _U4.pack(len(value)))
        for key, item in value.items():
            _write(key, out, depth + 1)
            _write(item, out, depth + 1)
    else:
        _write_named(value, out, depth)


_SEQUENCES: "dict[type, bytes]" = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}
_BUILD = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset}


def _write_named(value, out, depth):
    """Types of the standard library that have a faithful text form."""
    name = type(value).__module__ + "." + type(value).__qualname__
    if name in ("datetime.datetime", "datetime.date", "datetime.time"):
        text = value.isoformat()
    elif name == "datetime.timedelta":
        text = "%d,%d,%d" % (value.days, value.seconds, value.microseconds)
    elif name == "decimal.Decimal" or name == "uuid.UUID":
        text = str(value)
    elif name.startswith("pathlib") and name.endswith("Path"):
        name, text = "pathlib.Path", str(value)
    else:
        raise DataError("%s is not plain data" % name)
    out.append(b"x")
    _write(name, out, depth + 1)
    _write(text, out, depth + 1)


def _read_named(name, text):
    if not isinstance(text, str) or len(text) > 65536:
        raise DataError("not data: a bad %s" % name)
    try:
        if name == "pathlib.Path":
            from pathlib import Path

            return Path(text)
        if name == "decimal.Decimal":
            from decimal import Decimal

            return Decimal(text)
        if name == "uuid.UUID":
            from uuid import UUID

            return UUID(text)
        import datetime

        if name == "datetime.timedelta":
            return datetime.timedelta(*[int(part) for part in text.split(",", 2)])
        if name in ("datetime.datetime", "datetime.date", "datetime.time"):
            return getattr(datetime, name.partition(".")[2]).fromisoformat(text)
    except (ValueError, ArithmeticError) as error:
        raise DataError("not data: a bad %s: %s" % (name, error)) from None
    raise DataError("not data: a type named %.60r" % name)


class _Reader:
    def __init__(self, payload):
        self.payload = bytes(payload)
        self.at = 0

    def take(self, size):
        end = self.at + size
        if end > len(self.payload):
            raise DataError("not data: cut short")
        piece = self.payload[self.at : end]
        self.at = end
        return piece

    def size(self):
        return _U4.unpack(self.take(4))[0]

    def count(self, least):
        """A number of items, each of which takes at least `least` bytes: a lie is found before memory is taken."""
        count = self.size()
        if count * least > len(self.payload) - self.at:
            raise DataError("not data: more items than bytes")
        return count

    def value(self, depth):
        if depth > MAX_DEPTH:
            raise DataError("not data: nested deeper than %d levels" % MAX_DEPTH)
        tag = self.take(1)
        if tag == b"N":
            return None
        if tag == b"T" or tag == b"F":
            return tag == b"T"
        if tag == b"i":
            size = self.size()
            if size > MAX_INT_BYTES:
                raise DataError("not data: an integer of %d bytes" % size)
            return int.from_bytes(self.take(size), "little", signed=True)
        if tag == b"f":
            return _F8.unpack(self.take(8))[0]
        if tag == b"s":
            return self.take(self.size()).decode("utf-8", "surrogatepass")
        if tag == b"b":
            return self.take(self.size())
        if tag in _BUILD:
            return _BUILD[tag]([self.value(depth + 1) for _ in range(self.count(1))])
        if tag == b"d":
            return {self.value(depth + 1): self.value(depth + 1) for _ in range(self.count(2))}
        if tag == b"x":
            name = self.value(depth + 1)
            return _read_named(name, self.value(depth + 1))
        raise DataError("not data: tag %r" % tag)
