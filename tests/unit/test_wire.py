"""Frames: what goes in comes out, and what is hostile is refused."""

from __future__ import annotations

import ast
import os
import pathlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.far import loader, wire
from outrider.far.link import Link


def test_large_content_is_read_where_it_stays_and_its_memory_is_used_again():
    bodies = [bytes([number]) * wire.CHUNK for number in range(3)]
    stream = b"".join(wire.frame(wire.DATA, 7, body, wire.CONTENT) for body in bodies)
    arrived, places = [], set()

    def handle(kind, ident, flags, segments):
        arrived.append(bytes(segments[0]))
        places.add(id(segments[0].obj))
        reader.reuse(segments[0])

    read_fd, write_fd = os.pipe()
    reader = wire.FrameReader(read_fd)
    link = Link(reader, write_fd, handle, lambda reason: None, 1 << 20)
    writer = threading.Thread(target=wire.write_all, args=(write_fd, [stream]))
    writer.start()
    for _ in bodies:
        link.read_one()
    writer.join()
    os.close(read_fd)
    os.close(write_fd)
    assert arrived == bodies
    assert len(places) == 1


def through_a_pipe(blobs):
    """A FrameReader on a pipe that holds `blobs`."""
    reader, writer = os.pipe()
    os.write(writer, b"".join(blobs))
    os.close(writer)
    return wire.FrameReader(reader)


def read(reader):
    """The next frame, or None at the end of the stream."""
    while (frame := reader.next()) is None:
        if not reader.fill():
            return None
    return frame


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
def test_messages_survive_the_pipe(segments):
    frames = [b"".join(bytes(b) for b in frame) for frame in wire.message_frames(wire.CALL, 7, segments, 3)]
    reader = through_a_pipe(frames)
    kind, ident, flags, payload = read(reader)
    os.close(reader.fd)
    assert (kind, ident, flags) == (wire.CALL, 7, 3)
    assert wire.split_segments(payload, 1 << 20) == segments


def test_every_frame_ends_in_a_newline():
    for frame in wire.message_frames(wire.CALL, 1, [b"x" * (3 * wire.CHUNK), b"y"]):
        assert bytes(frame[-1]) == b"\n"


def arrive(blob):
    """The messages in `blob`, as a link takes them from a pipe that holds a part of them at a time."""
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: (wire.write_all(writer, [blob]), os.close(writer)))
    feeder.start()
    received, reasons = [], []
    link = Link(
        wire.FrameReader(reader), -1, lambda *message: received.append(message), reasons.append, 1 << 30
    )
    while not link.over:
        link.read_one()
    feeder.join()
    os.close(reader)
    assert reasons == ["the stream ended"]
    return received


@pytest.mark.parametrize("size", [1, wire.CHUNK, 3 * wire.CHUNK + 5])
def test_messages_of_any_size_are_put_together(size):
    segments = [os.urandom(size), b"", bytearray(os.urandom(10)), memoryview(os.urandom(size))]
    blob = b"".join(bytes(b) for frame in wire.message_frames(wire.CALL, 1, segments, 3) for b in frame)
    [(kind, ident, flags, arrived)] = arrive(blob)
    assert (kind, ident, flags) == (wire.CALL, 1, 3)
    assert [bytes(s) for s in arrived] == [bytes(s) for s in segments]
    assert [type(s) for s in arrived] == [bytes, bytes, bytearray, bytearray]


def test_other_messages_pass_between_the_parts_of_a_large_one():
    first, *parts = [b"".join(map(bytes, f)) for f in wire.message_frames(wire.CALL, 1, [b"x" * 600_000])]
    between = wire.lone(wire.CALL, 2, b"small")
    small, large = arrive(b"".join([first, parts[0], between, *parts[1:]]))
    assert small == (wire.CALL, 2, 0, [b"small"])
    assert large == (wire.CALL, 1, 0, [b"x" * 600_000])


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (b"\xff\xff\xff\xff" + bytes(6), "limit"),
        (wire.frame(wire.CALL, 1, b"abc")[:-1] + b"x", "end"),
    ],
)
def test_broken_frames_are_protocol_errors(blob, why):
    with pytest.raises(wire.ProtocolError, match=why):
        read(wire.FrameReader(-1, blob))


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x05abc", wire.table([b"x"]) + b"toolong"])
def test_broken_tables_are_protocol_errors(payload):
    with pytest.raises(wire.ProtocolError):
        wire.split_segments(payload, 1000)


def announced(size):
    return wire.table([b""])[:2] + size.to_bytes(8, "little")


def test_announced_sizes_beyond_the_limit_take_no_memory():
    with pytest.raises(wire.ProtocolError, match="limit"):
        wire.LargeMessage(wire.CALL, 0, announced(1 << 50), 1 << 30)


@pytest.mark.parametrize("size", [0, 11])
def test_a_part_that_does_not_fit_is_refused(size):
    message = wire.LargeMessage(wire.CALL, 0, announced(10), 1 << 30)
    with pytest.raises(wire.ProtocolError):
        message.room(size)


def test_a_cut_stream_is_an_end():
    reader = through_a_pipe([wire.frame(wire.CALL, 1, b"whole"), wire.frame(wire.CALL, 2, b"cut")[:-3]])
    assert read(reader)[3] == b"whole"
    assert read(reader) is None
    os.close(reader.fd)


def test_the_line_that_starts_the_far_end_agrees_with_the_constants():
    assert 'b"\\0OUTRIDER\\0ready\\n"' in loader.LOADER
    assert loader.READY == b"\0OUTRIDER\0ready\n"
    assert "'" not in loader.LOADER, "a single quote costs every shell on the way an escape"


def without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                item
                for item in body
                if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
            ]
    return ast.dump(tree), [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)]


@pytest.mark.parametrize("name", [*loader.AT_START, *loader.LATER, *loader.wardens_modules()])
def test_what_is_sent_is_the_module_less_its_prose(name):
    whole = (pathlib.Path(loader.__file__).parent / f"{name.replace('.', '/')}.py").read_text()
    sent = loader.source(name)
    assert without_docstrings(ast.parse(sent)) == without_docstrings(ast.parse(whole))
    assert len(sent) < len(whole)


def test_the_far_end_is_small_on_the_wire():
    assert len(loader.packed_program()) <= 20 * 1024


def test_every_module_of_the_far_end_can_get_there():
    there = {*loader.AT_START, *loader.LATER}
    here = {path.stem for path in pathlib.Path(loader.__file__).parent.glob("*.py")}
    assert here - there == {"__init__", "loader", "placeholder"}
