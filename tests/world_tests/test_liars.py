"""A far end that speaks the protocol and lies: a call can fail, but not hang past its timeout, run code, or blow up."""

from __future__ import annotations

import struct
import sys
import time

import pytest

from outrider import FarError, Lost, OutriderError, Route, RouteError, TimedOut
from outrider.far import data, loader, wire
from outrider.hops import local
from tests.samples import far_work

HELLO = {
    "problem": None,
    "python": [3, 11, 0],
    "host": "liar",
    "user": "liar",
    "pid": 1,
    "executable": "",
    "cwd": "/",
}


def message(kind, ident, value, flags=0):
    return b"".join(b"".join(part) for part in wire.message_frames(kind, ident, [value], flags))


def liar(tmp_path, after_greeting: bytes, hello: object = HELLO, trust="data", **options) -> Route:
    """A route to a far end that greets, waits for the first request, says `after_greeting`, and stays."""
    said = loader.READY + message(wire.HELLO, 0, data.dumps(hello) if not isinstance(hello, bytes) else hello)
    (tmp_path / "greeting").write_bytes(said)
    (tmp_path / "lie").write_bytes(after_greeting)
    program = tmp_path / "python3"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, time\n"
        f"os.read(0, 8); os.write(1, open({str(tmp_path / 'greeting')!r}, 'rb').read())\n"
        "time.sleep(0.3); os.read(0, 1 << 20)\n"
        f"os.write(1, open({str(tmp_path / 'lie')!r}, 'rb').read())\n"
        "while os.read(0, 1 << 20): pass\n"
    )
    program.chmod(0o755)
    return Route(local()).options(
        python=str(program), trust=trust, timeout=1.5, open_timeout=5, show=False, **options
    )


def evil_pickle() -> bytes:
    class Evil:
        def __reduce__(self):
            return sys.exit, ("unpickled what a far end sent",)

    import pickle

    return pickle.dumps(Evil())


DURATION = struct.pack("<d", 0.1)
LIES = {
    "nothing": b"",
    "half a header": b"\x10\x00",
    "half a frame": wire.frame(wire.RESULT, 1, b"x" * 100)[:-20],
    "an endless frame": b"\xff\xff\xff\xff" + bytes(1000),
    "noise": b"\x07" * 5000,
    "a result that is a pickle": message(wire.RESULT, 1, DURATION + evil_pickle()),
    "a result without its duration": message(wire.RESULT, 1, b"x"),
    "a result of nothing": message(wire.RESULT, 1, DURATION),
    "an exception that is a pickle": message(wire.RAISED, 1, evil_pickle()),
    "an exception of other fields": message(wire.RAISED, 1, data.dumps({"kind": 3})),
    "an exception with a pickle behind": b"".join(
        b"".join(part)
        for part in wire.message_frames(
            wire.RAISED, 1, [data.dumps({"kind": "a", "message": "b", "traceback": "c"}), evil_pickle()]
        )
    ),
    "an announced terabyte": b"".join(
        (struct.pack("<IIBB", 9, 1, wire.RESULT, wire.LARGE), b"\x01" + struct.pack("<Q", 1 << 40), b"\n")
    ),
    "parts of nothing": wire.frame(wire.PART, 1, b"x"),
    "answers never asked for": message(wire.RESULT, 77, DURATION + data.dumps(1)),
    "a question that is none": message(wire.IMPORT, 5, b"junk"),
    "a question of another kind": message(wire.IMPORT, 5, data.dumps(["module"])),
    "credit that is no number": wire.frame(wire.CREDIT, 1, b"lots"),
    "a kind that does not exist": message(99, 1, b"x"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_call_fails_in_time_and_as_ours(tmp_path, lie):
    started = time.monotonic()
    with liar(tmp_path, LIES[lie]).open() as far, pytest.raises((FarError, Lost, TimedOut)) as caught:
        far.call(far_work.add, 1)
    assert time.monotonic() - started < 15
    assert "hint:" in str(caught.value)


SOME = ["half a frame", "noise", "a result of nothing", "an exception of other fields"]


@pytest.mark.parametrize("lie", SOME)
def test_a_command_fails_in_time_and_as_ours(tmp_path, lie):
    with liar(tmp_path, LIES[lie]).open() as far, pytest.raises(OutriderError):
        far.run(["true"])


@pytest.mark.parametrize("lie", SOME)
@pytest.mark.parametrize("direction", ["put", "get"])
def test_a_transfer_fails_in_time_and_writes_nothing(tmp_path, lie, direction):
    (tmp_path / "mine").write_text("x")
    with liar(tmp_path, LIES[lie]).open() as far, pytest.raises(OutriderError):
        far.put(tmp_path / "mine", "there") if direction == "put" else far.get("there", tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(
    "hello",
    [
        b"junk",
        {},
        ["hello"],
        {**HELLO, "python": "3.11"},
        {**HELLO, "python": [3]},
        {**HELLO, "host": 5},
        {**HELLO, "pid": "x"},
    ],
)
def test_a_greeting_that_is_none_is_a_route_error(tmp_path, hello):
    with pytest.raises(RouteError, match="does not speak the protocol"):
        liar(tmp_path, b"", hello).open()


def test_an_escape_in_output_does_not_reach_the_terminal(tmp_path, capfd):
    lie = wire.frame(wire.DATA, 1, b"\x1b]0;owned\x07\n", wire.STDOUT) + message(
        wire.RESULT, 1, DURATION + data.dumps(7)
    )
    with liar(tmp_path, lie).options(show=True).open() as far:
        assert far.call(far_work.add, 1) == 7
    assert "\x1b" not in capfd.readouterr().out
