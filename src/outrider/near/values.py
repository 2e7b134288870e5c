"""What an answer in the data codec may hold besides plain data: standard types, numpy arrays, and registered classes.

Everything here reads what an untrusted far end wrote. A name that is not known builds nothing; a known one builds its own
type, from a state that is checked first.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from outrider.errors import ConfigError
from outrider.far.data import MAX_INT_BYTES, DataError, Reader
from outrider.far.modules import MAIN

C = TypeVar("C", bound=type)
MAX_DIGITS = 4300
"""Of a Decimal: its digits, and its exponent either way. More would be a way to fill memory with a few bytes."""
MAX_COLLISIONS = 16
"""Keys of one hash at the most; with more, somebody has chosen them to keep the reader busy."""
_DTYPE = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|c8|c16)|[<>][mM]8(?:\[[0-9]{0,6}[a-zA-Z]{1,7}\])?")
_registered: dict[str, type] = {}


def register_data(cls: C) -> C:
    """Let answers with `trust="data"` hold dataclasses or enums of this class; usable as a decorator.

    A dataclass is made by its own `__init__`, from fields that are plain data of any type: check them in `__post_init__`
    if that matters. Classes that are not registered are never made. Raises ConfigError for a class of another kind.
    """
    kind: Any = cls
    if not (isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum))):
        raise ConfigError(
            f"{cls!r} is neither a dataclass nor an enum", hint="other types travel with trust='pickle' only"
        )
    _registered[f"{cls.__module__}:{cls.__qualname__}"] = cls
    if cls.__module__ == "__main__":
        _registered[f"{MAIN}:{cls.__qualname__}"] = cls
    return cls


def loads(payload: Any, buffers: Sequence[Any] = (), room: int = 1 << 62) -> Any:
    """The value that a far end wrote. Raises DataError for what it could not have written, or what may not be built.

    room: bytes of memory that the values may take, as estimated. buffers: what came beside the payload.
    """
    return StrictReader(payload, buffers, room).whole()


class StrictReader(Reader):
    """Believes nothing: bounds the memory and the time that a value takes, and builds only what is known here."""

    def __init__(self, payload: Any, buffers: Sequence[Any], room: int) -> None:
        if type(payload) is not bytes:
            payload = memoryview(payload)
            if len(payload) <= 65536:
                payload = bytes(payload)
        super().__init__(payload)  # type: ignore[no-untyped-call]
        self.buffers = buffers
        self.taken = 0
        self.room = room

    def whole(self) -> Any:
        value = super().whole()  # type: ignore[no-untyped-call]
        if self.taken != len(self.buffers):
            raise DataError("not data: buffers left over")
        return value

    def charge(self, size: int) -> None:
        """The estimate of what a value takes is taken from the room before it is built."""
        self.room -= size
        if self.room < 0:
            raise DataError("larger than there is room for: max_answer limits it")

    def keys(self, found: list[Any]) -> None:
        """Refuse keys that were chosen to collide, which would make each step in a dict or set as slow as a walk through it.

        Hashes of texts and bytes cannot be foreseen, and few numbers of 8 bytes share one.
        """
        seen: dict[int, int] = {}
        for key in found:
            kind = type(key)
            if kind is str or kind is bytes or (kind is int and -(1 << 63) <= key < 1 << 63):
                continue
            number = hash(key)
            seen[number] = seen.get(number, 0) + 1
            if seen[number] > MAX_COLLISIONS:
                raise DataError("not data: too many keys with one hash")

    def text(self, size: int) -> str:
        body = bytes(self.take(size))
        self.charge(size if body.isascii() else 4 * size)
        return str(body, "utf-8", "surrogatepass")

    def other(self, tag: int, depth: int) -> Any:
        if tag == ord("x"):
            self.charge(1000)
            name, state = self.many(2, depth)
            if type(name) is not str:
                raise DataError("not data: a name that is none")
            return build(name, state)
        if tag == ord("o"):
            if int.from_bytes(self.take(4), "little") != self.taken:
                raise DataError("not data: buffers out of turn")
            self.taken += 1
            return self.buffers[self.taken - 1]
        if tag == ord("a"):
            size = self.size()
            self.charge(size)
            return bytearray(self.take(size))
        if tag == ord("I"):
            size = int.from_bytes(self.take(2), "little")
            if size > MAX_INT_BYTES:
                raise DataError(f"not data: an integer of {size} bytes")
            self.charge(2 * size)
            return int.from_bytes(self.take(size), "little", signed=True)
        return super().other(tag, depth)  # type: ignore[no-untyped-call]


def build(name: str, state: Any) -> Any:
    """A value of the type `name`, from its state."""
    builder = _BUILDERS.get(name)
    if builder is None and ":" not in name:
        raise DataError(f"not data: a type named {name[:60]!r}")
    try:
        return builder(state) if builder is not None else _of_class(name, state)
    except DataError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise DataError(f"not data: a bad {name[:60]}: {str(error)[:200]}") from None


# --- classes of the caller ----------------------------------------------------------------------------------------


def _of_class(name: str, state: Any) -> Any:
    cls: Any = _registered.get(name)
    if cls is None:
        raise DataError(f"of the type {name[:200]!r}, which is not registered here: outrider.register_data")
    if issubclass(cls, enum.Enum):
        return _member(cls, state)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if type(state) is not dict or not state.keys() <= fields.keys():
        raise ValueError("it has other fields")
    made = cls(**{key: value for key, value in state.items() if fields[key].init})
    for key, value in state.items():
        if not fields[key].init:
            object.__setattr__(made, key, value)
    return made


def _member(cls: type[enum.Enum], state: Any) -> Any:
    if type(state) is not list or not all(type(name) is str for name in state):
        raise ValueError("no names of members")
    members = [cls.__members__[name] for name in state]
    if issubclass(cls, enum.Flag):
        return functools.reduce(operator.or_, members, cls(0))
    (member,) = members
    return member


# --- standard types -----------------------------------------------------------------------------------------------


def _short(state: Any) -> str:
    if type(state) is not str or len(state) > 65536:
        raise ValueError("no text, or too long")
    return state


def _decimal(state: Any) -> Any:
    from decimal import Decimal

    made = Decimal(_short(state))
    _, digits, exponent = made.as_tuple()
    if len(digits) > MAX_DIGITS or (type(exponent) is int and abs(exponent) > MAX_DIGITS):
        raise ValueError(f"more than {MAX_DIGITS} digits")
    return made


def _path(state: Any) -> Any:
    from pathlib import Path

    if "\0" in _short(state):
        raise ValueError("a path with a NUL")
    return Path(state)


def _uuid(state: Any) -> Any:
    from uuid import UUID

    return UUID(_short(state))


def _timedelta(state: Any) -> Any:
    from datetime import timedelta

    if type(state) is not tuple or [type(part) for part in state] != [int, int, int]:
        raise ValueError("no three numbers")
    return timedelta(*state)


def _moment(kind: str) -> Callable[[Any], Any]:
    def read(state: Any) -> Any:
        import datetime

        return getattr(datetime, kind).fromisoformat(_short(state))

    return read


# --- numpy --------------------------------------------------------------------------------------------------------


def _dtype(text: Any) -> Any:
    if type(text) is not str or not _DTYPE.fullmatch(text):
        raise ValueError("an element type that does not travel")
    try:
        import numpy
    except ImportError:
        raise DataError("with numpy values in it, and numpy is not installed here") from None
    return numpy.dtype(text)


def _array(state: Any) -> Any:
    if type(state) is not tuple or len(state) != 4:
        raise ValueError("no array")
    text, shape, turned, body = state
    dtype = _dtype(text)
    import numpy

    if (
        type(shape) is not list
        or len(shape) > 32
        or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
    ):
        raise ValueError("no shape")
    if type(turned) is not bool or type(body) not in (bytes, bytearray):
        raise ValueError("no content")
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError("its shape and its size do not agree")
    flat = (
        numpy.frombuffer(body if type(body) is bytearray else bytearray(body), dtype)
        if body
        else numpy.empty(0, dtype)
    )
    if dtype.kind == "b" and body and int(flat.view("u1").max()) > 1:
        raise ValueError("truth values that are none")
    return flat.reshape(shape, order="F" if turned else "C")


def _scalar(state: Any) -> Any:
    if type(state) is not tuple or len(state) != 2:
        raise ValueError("no scalar")
    return _array((state[0], [], False, state[1]))[()]


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "decimal.Decimal": _decimal,
    "pathlib.Path": _path,
    "uuid.UUID": _uuid,
    "datetime.timedelta": _timedelta,
    "datetime.datetime": _moment("datetime"),
    "datetime.date": _moment("date"),
    "datetime.time": _moment("time"),
    "numpy.ndarray": _array,
    "numpy.scalar": _scalar,
}
