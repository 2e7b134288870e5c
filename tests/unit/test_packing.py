"""How values become segments: what is large travels as it lies, and all comes back as it was."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import Route
from outrider.far import packing
from outrider.hops import local

BLOB = os.urandom(packing.LARGE)


class Named(bytes):
    """A subclass: not to be taken for bytes."""


def back(value):
    segments = packing.dump(value)
    return pickle.loads(segments[0], buffers=[as_it_arrives(segment) for segment in segments[1:]])


def as_it_arrives(segment):
    return bytes(segment) if isinstance(segment, bytes) else bytearray(segment)


@pytest.mark.parametrize("make", [bytes, bytearray])
def test_what_is_large_is_a_segment_of_its_own_wherever_it_is(make):
    blob = make(BLOB)
    value = {"a": [blob, ("b", {blob[:-1]: 0} if make is bytes else 0)], "again": blob}
    segments = packing.dump(value)
    assert segments[1] is blob
    assert len(segments) == 2
    found = back(value)
    assert found == value
    assert type(found["again"]) is make
    assert found["again"] is found["a"][0]


def test_one_byte_less_travels_in_the_pickle():
    assert len(packing.dump(BLOB[:-1])) == 1
    assert back(BLOB[:-1]) == BLOB[:-1]


def test_texts_and_subclasses_are_not_taken_for_bytes():
    value = ["x" * packing.LARGE, "é" * packing.LARGE, Named(BLOB), [*range(100_000)], BLOB]
    found = back(value)
    assert found == value
    assert type(found[2]) is Named


SORTS = (BLOB, bytearray(BLOB), bytes(packing.LARGE + 7), bytes(200_000), "y" * 70_000, "z", b"", 7)
# Numbers stand for large things, which would be shown in full otherwise; beyond SORTS: a buffer that somebody wrapped.
nested = st.recursive(
    st.integers(0, len(SORTS)), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def built(value):
    if isinstance(value, int):
        return SORTS[value] if value < len(SORTS) else pickle.PickleBuffer(bytearray(BLOB))
    if isinstance(value, list):
        return [built(item) for item in value]
    return {key: built(item) for key, item in value.items()}


def plain(value):
    if isinstance(value, pickle.PickleBuffer):
        return bytearray(value.raw())
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(max_examples=60, deadline=None)
@given(nested)
def test_any_mixture_comes_back_as_it_was(shape):
    value = built(shape)
    assert plain(back(value)) == plain(value)


@settings(max_examples=20, deadline=None)
@given(nested)
def test_python_s_own_pickler_gives_the_same(shape):
    value = built(shape)
    segments = packing.dump(value, pickle._Pickler)
    assert plain(pickle.loads(segments[0], buffers=[as_it_arrives(s) for s in segments[1:]])) == plain(value)


def test_arrays_arrive_writable_in_any_number_and_size():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed here")
    arrays = [numpy.full(size, 7.0) for size in (1, 5000, 100_000)] + [numpy.arange(5000)] * 3
    many = [numpy.full(2048, number) for number in range(600)]
    with Route(local()).open() as far:
        found = far.call(changed, arrays)
        assert [array[0] for array in found[:3]] == [8.0] * 3
        for array in found:
            array[0] = 1
        assert [array[5] for array in far.call(changed, many)] == list(range(600))
        frozen = numpy.arange(5000)
        frozen.flags.writeable = False
        assert not far.call(list, [frozen])[0].flags.writeable


def changed(arrays):
    for array in arrays:
        array[0] += 1
    return arrays


def test_a_frame_of_pandas_travels():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed here")
    frame = pandas.DataFrame({"a": range(100_000), "b": [f"row {n}" for n in range(100_000)]})
    found = Route(local()).call(list, [frame])[0]
    assert found.equals(frame)
    found.loc[0, "a"] = 5


MEASURE = """
import sys
from outrider import Route, local

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM"))

def nothing(value):
    return len(value)

def make(kind, size):
    if kind == "array":
        import numpy
        return numpy.ones(size, "u1")
    return {"bytes": bytes, "nested": lambda n: [{"a": bytearray(n)}]}[kind](size)

if __name__ == "__main__":
    kind, size = sys.argv[1], 64
    with Route(local()).open() as far:
        make(kind, 1)
        far.call(make, kind, 1)
        near, there = peak(), far.call(peak)
        if sys.argv[2] == "send":
            value = make(kind, size << 20)
            far.call(nothing, value)
        else:
            value = far.call(make, kind, size << 20)
        print(peak() - near - size, far.call(peak) - there - size)
"""


@pytest.mark.parametrize("way", ["send", "receive"])
@pytest.mark.parametrize("kind", ["bytes", "nested", "array"])
def test_neither_end_takes_a_copy_of_what_is_large(tmp_path, kind, way):
    if kind == "array":
        pytest.importorskip("numpy", reason="numpy is not installed here")
    (tmp_path / "script.py").write_text(MEASURE)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", kind, way], capture_output=True, text=True, timeout=60
    )
    assert all(int(excess) <= 40 for excess in done.stdout.split()), done.stdout
    assert done.stdout, done.stderr
