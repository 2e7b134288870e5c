"""The data codec: what goes in comes out, of the same type; what is hostile is refused, and costs little."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import struct
import time
import tracemalloc
import uuid

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import outrider
from outrider import ConfigError
from outrider.far import data
from outrider.near import values
from outrider.near.values import loads

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**14000), 2**14000)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(st.characters(categories=["Cs", "Lu"]))  # lone surrogates too
    | st.binary()
    | st.binary().map(bytearray)
)
HASHABLE = st.none() | st.text() | st.integers() | st.binary() | st.tuples(st.text(), st.integers())
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.lists(st.integers(), min_size=8, max_size=20)
        | st.lists(st.floats(allow_nan=False), min_size=8, max_size=20)
        | st.lists(st.text(), min_size=8, max_size=20)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE, inner)
        | st.sets(HASHABLE)
        | st.frozensets(HASHABLE)
    ),
    max_leaves=20,
)


@given(PLAIN)
@settings(max_examples=300)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    back = loads(data.dumps(value))
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value) or "{" in repr(value)  # the types within too; sets have no order


@enum.unique
class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Verdict:
    test: str
    points: list[Point]
    colour: Colour = Colour.RED
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self):
        if not isinstance(self.test, str):
            raise TypeError("test is a text")
        self.total = len(self.points)


for _registered in (Colour, Access, Point, Verdict):
    outrider.register_data(_registered)

changed = Verdict("b", [])
changed.total = 77


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
        datetime.date(2026, 1, 2),
        datetime.time(3, 4),
        datetime.timedelta(-3, 4, 5),
        decimal.Decimal("1.10"),
        decimal.Decimal("-Infinity"),
        uuid.UUID(int=7),
        pathlib.Path("/a/b"),
        Colour.GREEN,
        Access.READ | Access.RUN,
        Access(0),
        Point(1, 2),
        {Point(1, 2): [Verdict("a", [Point(3)], Colour.GREEN)]},
        changed,
        [datetime.date(2026, 1, day) for day in range(1, 20)],
    ],
    ids=repr,
)
def test_named_and_registered_types_come_back(value):
    back = loads(data.dumps(value))
    assert back == value
    assert type(back) is type(value)


ARRAYS = [
    numpy.arange(12.0).reshape(3, 4),
    numpy.arange(12, dtype=">i2").reshape(3, 4).T,
    numpy.arange(24).reshape(2, 3, 4)[:, ::2],
    numpy.array(7),
    numpy.empty((0, 5)),
    numpy.array([True, False]),
    numpy.array([1 + 2j], dtype="c8"),
    numpy.array(["2026-01-01", "NaT"], dtype="M8[ns]"),
    numpy.arange(100_000, dtype="u1"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
@pytest.mark.parametrize("apart", [False, True])
def test_arrays_come_back(array, apart):
    buffers: list = [] if apart else None
    body = data.dumps({"it": array}, buffers)
    back = loads(body, [bytearray(b) for b in buffers or ()])["it"]
    numpy.testing.assert_array_equal(back, array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.flags.writeable
    if array.nbytes >= data.LARGE and apart:
        assert len(body) < 200


def test_numpy_scalars_come_back():
    back = loads(data.dumps([numpy.float64(1.5), numpy.bool_(True), numpy.datetime64("2026-01-01", "D")]))
    assert [type(x) for x in back] == [numpy.float64, numpy.bool_, numpy.datetime64]


def test_large_buffers_are_not_copied():
    raw, changing, array = bytes(data.LARGE), bytearray(data.LARGE), numpy.zeros(data.LARGE)
    buffers = []
    body = data.dumps([raw, changing, array], buffers)
    assert buffers[0] is raw
    arrived = [raw, changing, bytearray(buffers[2])]
    back = loads(body, arrived)
    assert back[0] is raw
    assert back[1] is changing
    back[2][0] = 5.0
    assert struct.unpack_from("<d", arrived[2])[0] == 5.0


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [len],
        numpy.array([None]),
        numpy.ma.array([1]),
        numpy.array([(1, 2)], dtype="i4,i4"),
        range(3),
        1 << 20000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_refused_by_name(value):
    with pytest.raises(data.DataError, match=r"is not plain data|integer of more"):
        data.dumps(value)


@dataclasses.dataclass
class Stranger:
    x: int


class Quiet(enum.Enum):
    A = 1


@pytest.mark.parametrize("value", [Stranger(1), Quiet.A])
def test_classes_that_are_not_registered_are_not_built(value):
    with pytest.raises(data.DataError, match="register_data"):
        loads(data.dumps(value))


@pytest.mark.parametrize("kind", [object, 3, int])
def test_only_dataclasses_and_enums_can_be_registered(kind):
    with pytest.raises(ConfigError, match="neither a dataclass nor an enum"):
        outrider.register_data(kind)


def named(name, state):
    return b"x" + data.dumps(name) + data.dumps(state)


HERE = __name__
HOSTILE = {
    "nothing": b"",
    "a list longer than its bytes": b"l*\xff\xff\xff\xff",
    "a packed list longer than its bytes": b"lq\xff\xff\xff\xff",
    "texts longer than their bytes": b"ls\xff\xff\xff\xff" + bytes(100),
    "texts that do not add up": b"ls" + struct.pack("<IIQ", 1, 5, 3) + b"abc",
    "deep": b"l*\x01\x00\x00\x00" * 5000 + b"N",
    "deep names": b"xs\x01a" * 5000 + b"N",
    "deep small lists": b"L\x01" * 5000 + b"N",
    "deep small dicts": b"m\x01N" * 5000 + b"N",
    "a key twice in a small dict": b"m\x02NNNN",
    "a small list longer than its bytes": b"L\xffN",
    "a long integer": b"I\xff\xff",
    "a text cut short": b"s\x18abc",
    "a long text cut short": b"S" + struct.pack("<Q", 1 << 60) + b"abc",
    "a float cut short": b"f1234567",
    "not UTF-8": b"s\x02\xff\xff",
    "a list as a key": b"d*\x01\x00\x00\x00l*\x00\x00\x00\x00*\x01\x00\x00\x00N",
    "a key twice": b"d*\x02\x00\x00\x00NN*\x02\x00\x00\x00NN",
    "a key without value": b"d*\x01\x00\x00\x00N*\x00\x00\x00\x00",
    "an item twice": b"w*\x02\x00\x00\x00TT",
    "a strange list": b"l?\x00\x00\x00\x00",
    "bytes left over": data.dumps(1) + b"N",
    "a name that is none": b"xs\x02osN",
    "a name of a name": b"xNN",
    "a buffer that is not there": b"o\x00\x00\x00\x00",
    "a function by name": named("os:system", {"command": "touch /tmp/x"}),
    "a class of ours": named("outrider.errors:FarError", {}),
    "a module's class": named("builtins:object", {}),
    "fields that are none": named(f"{HERE}:Point", {"x": 1, "z": 2}),
    "fields as a list": named(f"{HERE}:Point", [1, 2]),
    "a field too few": named(f"{HERE}:Point", {}),
    "what __post_init__ refuses": named(f"{HERE}:Verdict", {"test": 1, "points": []}),
    "a dunder": named(f"{HERE}:Point", {"x": 1, "__class__": "str"}),
    "a member that is none": named(f"{HERE}:Colour", ["__class__"]),
    "two members of one": named(f"{HERE}:Colour", ["RED", "GREEN"]),
    "a flag by value": named(f"{HERE}:Access", 1 << 60),
    "a large Decimal": named("decimal.Decimal", "1e999999999"),
    "a small Decimal": named("decimal.Decimal", "1e-999999999"),
    "a long Decimal": named("decimal.Decimal", "9" * 5000),
    "no Decimal": named("decimal.Decimal", ["1"]),
    "an endless timedelta": named("datetime.timedelta", (10**100, 0, 0)),
    "a timedelta of texts": named("datetime.timedelta", ("1", "2", "3")),
    "the year 10000": named("datetime.date", "10000-01-01"),
    "a path with a NUL": named("pathlib.Path", "/etc/passwd\0"),
    "a path that is none": named("pathlib.Path", 7),
    "a long path": named("pathlib.Path", "a" * 70000),
    "a strange UUID": named("uuid.UUID", "7"),
    "an array of objects": named("numpy.ndarray", ("|O", [1], False, bytes(8))),
    "an array of records": named("numpy.ndarray", ("i4,O", [1], False, bytes(12))),
    "an array of nothing known": named("numpy.ndarray", ("<f8; import os", [1], False, bytes(8))),
    "an array larger than its bytes": named("numpy.ndarray", ("<f8", [1 << 40], False, bytes(8))),
    "an array whose size overflows": named("numpy.ndarray", ("<f8", [1 << 32, 1 << 32], False, b"")),
    "an array of many dimensions": named("numpy.ndarray", ("<f8", [1] * 100, False, bytes(8))),
    "an array of negative size": named("numpy.ndarray", ("<f8", [-1, -1], False, bytes(8))),
    "a huge empty array": named("numpy.ndarray", ("<f8", [0, *[1 << 40] * 4], False, b"")),
    "truth that is none": named("numpy.ndarray", ("|b1", [1], False, b"\x07")),
    "a scalar of two": named("numpy.scalar", ("<f8", bytes(16))),
}


@pytest.mark.parametrize("lie", HOSTILE)
def test_lies_are_refused(lie):
    with pytest.raises(data.DataError) as caught:
        loads(HOSTILE[lie])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("buffers", [[b"x"], [b"x", b"y"]])
def test_buffers_that_nothing_names_are_refused(buffers):
    with pytest.raises(data.DataError, match="left over"):
        loads(data.dumps(None), buffers)


def test_a_buffer_is_used_once():
    with pytest.raises(data.DataError, match="out of turn"):
        loads(b"l*\x02\x00\x00\x00" + b"o\x00\x00\x00\x00" * 2, [b"x"])


def test_every_number_that_comes_back_can_be_shown():
    value = -(1 << (8 * data.MAX_INT_BYTES - 2))
    assert len(str(loads(data.dumps(value)))) <= 4300


@given(st.binary(max_size=300))
@settings(max_examples=500)
def test_any_bytes_are_a_value_or_a_data_error(payload):
    try:
        loads(payload)
    except data.DataError:
        pass


@given(PLAIN, st.data())
@settings(max_examples=300)
def test_changed_bytes_are_a_value_or_a_data_error(value, draw):
    payload = bytearray(data.dumps(value))
    for _ in range(draw.draw(st.integers(1, 4))):
        payload[draw.draw(st.integers(0, len(payload) - 1))] = draw.draw(st.integers(0, 255))
    try:
        loads(payload[: draw.draw(st.integers(0, len(payload)))])
    except data.DataError:
        pass


def deep(levels):
    value = None
    for _ in range(levels):
        value = [value]
    return value


def test_depth_is_bounded():
    assert loads(data.dumps(deep(data.MAX_DEPTH - 1))) == deep(data.MAX_DEPTH - 1)
    with pytest.raises(data.DataError, match="deeper"):
        data.dumps(deep(data.MAX_DEPTH + 2))


def test_a_value_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(data.DataError, match="deep"):
        data.dumps(endless)


def test_a_stack_that_is_nearly_full_is_no_crash():
    def down(levels):
        if levels:
            return down(levels - 1)
        with pytest.raises(data.DataError):
            loads(data.dumps(deep(90)))
        return True

    import sys

    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1
    assert down(sys.getrecursionlimit() - used - 40)


# --- time and memory ------------------------------------------------------------------------------------------------

MERSENNE = (1 << 61) - 1
COLLIDING = {
    "integers": [k * MERSENNE for k in range(8, 30000)],
    "UUIDs": [uuid.UUID(int=(k + 8) * MERSENNE) for k in range(3000)],
    "Decimals": [decimal.Decimal((k + 8) * MERSENNE) for k in range(3000)],
}


@pytest.mark.parametrize("keys", COLLIDING)
@pytest.mark.parametrize("kind", [set, dict.fromkeys])
def test_keys_chosen_to_collide_are_refused_before_they_cost_time(keys, kind):
    found = COLLIDING[keys]
    assert len({hash(key) for key in found[:100]}) == 1, "the keys of this test do collide"
    head = (b"w" if kind is set else b"d") + b"*" + struct.pack("<I", len(found))
    body = head + data.dumps(found)[6:]
    if kind is not set:
        body += b"*" + struct.pack("<I", len(found)) + b"N" * len(found)
    started = time.process_time()
    with pytest.raises(data.DataError, match="one hash"):
        loads(body)
    assert time.process_time() - started < 5  # building them took minutes


@pytest.mark.parametrize(
    "value",
    [
        {k * (1 << 32) for k in range(20000)},
        {(a, b): None for a in range(100) for b in range(100)},
        {float(k) for k in range(-500, 20000)},
        {k << 61 for k in range(2000)},
        {uuid.uuid4() for _ in range(1000)},
        {math.nan: 1},
    ],
    ids=["ints", "tuples", "floats", "long ints", "uuids", "nan"],
)
def test_honest_keys_are_not_taken_for_hostile_ones(value):
    assert len(loads(data.dumps(value))) == len(value)


BOMBS = {
    "empty sets": lambda n: b"l*" + struct.pack("<I", n // 6) + b"w*\x00\x00\x00\x00" * (n // 6),
    "empty dicts": lambda n: b"l*" + struct.pack("<I", n // 11) + b"d*\0\0\0\0*\0\0\0\0" * (n // 11),
    "small dicts": lambda n: b"l*" + struct.pack("<I", n // 13) + b"d*\1\0\0\0N*\1\0\0\0N" * (n // 13),
    "empty lists": lambda n: b"l*" + struct.pack("<I", n // 6) + b"l*\x00\x00\x00\x00" * (n // 6),
    "nothings": lambda n: b"l*" + struct.pack("<I", n) + b"N" * n,
    "short texts": lambda n: (
        b"l*" + struct.pack("<I", n // 4) + "sż".encode().replace(b"s", b"s\x02") * (n // 4)
    ),
    "wide texts": lambda n: (
        b"l*" + struct.pack("<I", n // 26) + (b"s\x18" + "😀".encode() + b"a" * 20) * (n // 26)
    ),
    "one wide text": lambda n: data.dumps("😀" + "a" * n),
    "packed texts": lambda n: data.dumps(["ż"] * (n // 6)),
    "packed ints": lambda n: data.dumps([1 << 60] * (n // 8)),
    "a set of packed ints": lambda n: data.dumps(set(range(n // 8))),
    "a set of texts": lambda n: data.dumps({str(i) for i in range(n // 10)}),
    "a dict of ints": lambda n: data.dumps({i: i for i in range(n // 16)}),
    "long ints": lambda n: data.dumps([1 << 64] * (n // 12)),
    "decimals": lambda n: data.dumps([decimal.Decimal(1)] * (n // 30)),
    "dates": lambda n: data.dumps([datetime.date(2026, 1, 1)] * (n // 40)),
    "paths": lambda n: data.dumps([pathlib.Path("a")] * (n // 20)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_value_takes_no_more_memory_than_its_room(bomb):
    """Twice the room at the most, whatever it is made of, and nearly nothing when it is refused."""
    body = BOMBS[bomb](1 << 20)
    for room in (1 << 18, 1 << 21, 1 << 26):
        tracemalloc.start()
        try:
            kept, why = loads(body, room=room), "max_answer"
        except data.DataError as error:
            kept, why = None, str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert "max_answer" in why
        assert peak < 2 * room + len(body) + 65536, f"{peak / len(body):.1f} bytes for each that was sent"
        del kept


@example(1 << 30)
@given(st.integers(0, 1 << 34))
def test_an_ordinary_answer_has_room_enough(room):
    value = {"verdict": "OK", "points": 7, "times": [0.1, 0.2]}
    if room > 4096:
        assert loads(data.dumps(value), room=room) == value


def test_values_are_known_by_name_only():
    assert set(values._BUILDERS) >= {"numpy.ndarray", "decimal.Decimal"}
    assert all(":" not in name for name in values._BUILDERS)
