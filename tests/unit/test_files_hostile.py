"""What a far end that lies may try with put and get: a transfer fails, and nothing else comes of it."""

from __future__ import annotations

import os
import stat
import sys
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider import Lost, OutriderError, Route, RouteError, TimedOut
from outrider.far import receiving, sending, trees, wire
from outrider.hops import local
from outrider.near import connection, transfer
from tests.samples import far_work
from tests.samples.listings import END, content, item, listing


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    """A liar does not end when it is asked to: 3 s each."""
    monkeypatch.setattr(connection, "CANCEL_WAIT", 0.5)
    monkeypatch.setattr(connection.Connection.close, "__defaults__", (0.3, ""))


ONE = listing(names=[b"a"], sizes=[1])
LIES = {
    "nothing but the end": END,
    "no item": b"\x09" + bytes(20),
    "a listing that is no data": item(trees.RECORD, b"junk"),
    "an endless listing": item(trees.RECORD, size=1 << 60) + bytes(1000),
    "a name that leads up": listing(names=[b".."], sizes=[1]),
    "the folder itself": listing(names=[b"."], sizes=[1]),
    "a name of nothing": listing(names=[b""], sizes=[1]),
    "a name with a slash": listing(names=[b"x/../../out"], sizes=[1]),
    "an absolute name": listing(names=[b"/etc/out"], sizes=[1]),
    "the same name twice": listing(names=[b"a", b"a"], sizes=[1, 1]),
    "a file and a link of one name": listing(names=[b"a"], sizes=[1], links=[b"a"], targets=[b"x"]),
    "a link that leads up": listing(links=[b".."], targets=[b"x"]),
    "a link to nothing": listing(links=[b"a"], targets=[b""]),
    "targets that do not add up": listing(links=[b"a"], targets=[b"x", b"y"]),
    "a name too many": listing(names=[b"a"], sizes=[1], count=0),
    "a name too few": listing(names=[b"a"], sizes=[1], count=2, numbers=bytes(18)),
    "a listing of billions": listing(count=1 << 31),
    "a listing of more than it may have": listing(names=[b"%d" % n for n in range(1001)], sizes=[0] * 1001),
    "a table cut short": listing(names=[b"a"], sizes=[1], numbers=b"123"),
    "a mode that is none": listing(mode=1 << 20),
    "a file's mode that is none": listing(names=[b"a"], sizes=[1], modes=[0xFFFF]),
    "sizes beyond all disks": listing(names=[b"a", b"b"], sizes=[1 << 63, 1 << 63]),
    "no root": listing(b"sub"),
    "a root elsewhere": listing(b"../x"),
    "a folder elsewhere": listing() + listing(b".."),
    "a folder below what was not listed": listing() + listing(b"a/b"),
    "a folder with an absolute path": listing() + listing(b"/etc"),
    "a folder behind a link": listing(links=[b"a"], targets=[b"/"]) + listing(b"a/../b"),
    "the root again after a folder": listing() + listing(b"a") + listing(),
    "a file in the place of a folder": listing() + listing(names=[b"x"], sizes=[1], mode=-1),
    "a root of two files": listing(names=[b"a", b"b"], sizes=[1, 1], mode=-1),
    "content first": content(b"x"),
    "content of nothing": listing() + content(b"x"),
    "less content than was listed": ONE + content(b"") + END,
    "more content than was listed": ONE + content(b"xx") + END,
    "content beyond all that was listed": ONE + content(b"x") + content(b"y") + END,
    "content cut short": ONE + item(trees.CONTENT, b"", 1) + b"",
    "an end before the content": ONE + END,
    "bytes after the end": ONE + content(b"x") + END + b"x",
}


def take(receiver: receiving.Receiver, stream: bytes) -> None:
    try:
        receiver.write(stream)
        receiver.finish()
    finally:
        receiver.abandon()


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_nothing_is_written_outside(tmp_path, lie):
    receiver = receiving.Receiver(str(tmp_path / "in" / "copy"))
    with pytest.raises(trees.TransferError):
        take(receiver, LIES[lie])
    assert all(name == "in" for name in os.listdir(tmp_path))  # noqa: PTH208
    left = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in left if name.startswith(trees.PARTIAL)]
    assert set(left) <= {"in", "copy", "a"}


@settings(max_examples=100, deadline=None)
@given(stream=st.lists(st.one_of(st.sampled_from(list(LIES.values())), st.binary(max_size=40)), max_size=4))
@example([ONE, content(b"x"), END])
def test_any_bytes_are_taken_or_refused_as_ours(tmp_path_factory, stream):
    root = tmp_path_factory.mktemp("lies")
    receiver = receiving.Receiver(str(root / "copy"))
    with suppress(trees.TransferError):
        take(receiver, b"".join(stream))
    assert set(os.listdir(root)) <= {"copy"}  # noqa: PTH208


def test_a_link_that_was_just_sent_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    receiver = receiving.Receiver(str(tmp_path / "copy"))
    receiver.write(
        listing(links=[b"sub"], targets=[os.fsencode(outside)])
        + listing(b"sub", names=[b"a"], sizes=[1])
        + content(b"x")
        + END
    )
    receiver.finish()
    assert list(outside.iterdir()) == []
    assert (tmp_path / "copy" / "sub" / "a").read_text() == "x"


def test_setuid_does_not_travel(tmp_path):
    receiver = receiving.Receiver(str(tmp_path / "copy"))
    receiver.write(listing(names=[b"a"], sizes=[1], modes=[0o6755]) + content(b"x") + END)
    receiver.finish()
    assert stat.S_IMODE((tmp_path / "copy" / "a").stat().st_mode) == 0o755


def test_a_listing_of_millions_takes_little_memory(tmp_path):
    """What waits for its content is bounded; what needs none is not kept."""
    receiver = receiving.Receiver(str(tmp_path / "copy"))
    tracemalloc.start()
    try:
        with pytest.raises(trees.TransferError, match="ahead"):
            list_without_end(receiver)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
        receiver.abandon()


def list_without_end(receiver: receiving.Receiver) -> None:
    receiver.write(listing())
    for number in range(1000):
        names = [b"%d-%d" % (number, one) for one in range(trees.BATCH)]
        receiver.write(listing(names=names, sizes=[1] * trees.BATCH))


def test_folders_without_end_take_little_memory(tmp_path):
    receiver = receiving.Receiver(str(tmp_path / "copy"))
    receiver.write(listing() + listing(b"sub"))
    tracemalloc.start()
    try:
        for _ in range(5000):
            receiver.write(listing(b"sub") * 10)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
        receiver.abandon()


@pytest.mark.parametrize("target", [b"/etc", b"..", b"x/../..", b"../copy2", b"a/../../copy"])
def test_a_link_out_and_a_mode_for_all_are_not_taken_from_an_untrusted_far_end(tmp_path, target):
    lie = frames(listing(links=[b"a"], targets=[target]) + END)
    with liar(tmp_path, lie).open() as far, pytest.raises(OutriderError):
        far.get("there", tmp_path / "copy")
    receiver = receiving.Receiver(str(tmp_path / "copy"), transfer._guard)
    receiver.write(
        listing(names=[b"a"], sizes=[0], modes=[0o777], mode=0o777, links=[b"b"], targets=[b"a"]) + END
    )
    receiver.finish()
    assert stat.S_IMODE((tmp_path / "copy" / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "said", [b"A", b"NN", b"x", b"S", b"SAAA"], ids=["all", "none twice", "no word", "half", "more"]
)
def test_answers_to_what_was_not_asked_are_refused(tmp_path, said):
    (tmp_path / "a").write_text("x")
    sender = sending.Sender(str(tmp_path))
    pieces = sender.pieces()
    next(pieces)
    if said in (b"A", b"S"):
        sender.answer(said)  # as it should be, or not all here yet
        assert sender.waits() == (said == b"S")
    else:
        with pytest.raises(trees.TransferError):
            sender.answer(said)
    sender.close()


# --- a whole far end that lies --------------------------------------------------------------------------------------

PROGRAM = """\
import os, sys, time
sys.path[:0] = {path!r}
from outrider.far import data, loader, wire
os.read(0, 8)
def say(kind, value):
    for part in wire.message_frames(kind, 0, [data.dumps(value)]):
        os.write(1, b"".join(part))
os.write(1, loader.READY)
hello = dict(problem=None, python=[3, 11, 0], host="liar", user="liar", pid=1, executable="", cwd="/")
say(wire.HELLO, hello)
asked = b""
while b"op" not in asked:
    asked += os.read(0, 65536)
with open({lie!r}, "rb") as file:
    lie = file.read()
for _ in range({times}):
    os.write(1, lie)
    time.sleep({pause})
while os.read(0, 65536):
    pass
"""


def liar(tmp_path: Path, said: bytes, times: int = 1, pause: float = 0) -> Route:
    """A route to a far end that waits for a request for files and says `said`."""
    (tmp_path / "lie").write_bytes(said)
    program = tmp_path / "python3"
    path = [entry for entry in sys.path if entry]
    text = PROGRAM.format(path=path, lie=str(tmp_path / "lie"), times=times, pause=pause)
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    return Route(local()).options(python=str(program), trust="data", timeout=3, open_timeout=20, show=False)


def frames(stream: bytes, ident: int = 1) -> bytes:
    return b"".join(
        wire.frame(wire.DATA, ident, stream[start : start + wire.CHUNK], wire.CONTENT)
        for start in range(0, len(stream), wire.CHUNK)
    )


@pytest.mark.parametrize(
    "lie", ["a name that leads up", "a folder elsewhere", "content beyond all that was listed", "no item"]
)
def test_get_from_a_liar_fails_in_time_and_as_ours(tmp_path, lie):
    started = time.monotonic()
    (tmp_path / "in").mkdir()
    with liar(tmp_path, frames(LIES[lie])).open() as far, pytest.raises(OutriderError) as caught:
        far.get("there", tmp_path / "in" / "copy")
    assert isinstance(caught.value, (RouteError, Lost, TimedOut))
    assert time.monotonic() - started < 25
    assert "hint:" in str(caught.value)
    assert set(os.listdir(tmp_path)) == {"in", "lie", "python3"}  # noqa: PTH208


def test_content_without_end_or_leave_ends_the_session_and_takes_little_memory(tmp_path):
    before = far_work.peak_memory()
    lie = frames(ONE) + frames(bytes(1 << 20)) * 2
    with liar(tmp_path, lie, times=200).open() as far, pytest.raises(OutriderError):
        far.get("there", tmp_path / "copy")
    assert far_work.peak_memory() - before < 60_000_000


def test_a_far_end_that_trickles_is_left_when_the_time_is_over(tmp_path):
    started = time.monotonic()
    with liar(tmp_path, frames(listing()), times=100, pause=0.2).open() as far, pytest.raises(TimedOut):
        far.get("there", tmp_path / "copy")
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("said", [b"NN", b"x"])
def test_put_to_a_liar_fails_as_ours(tmp_path, said):
    (tmp_path / "mine").write_text("x")
    with liar(tmp_path, frames(said)).open() as far, pytest.raises(OutriderError):
        far.put(tmp_path / "mine", "there")
