"""What is fuzzed: functions of bytes that raise or assert only if something is wrong. For atheris and for hypothesis alike.

Each reads its bytes as a far end, or a person who types a route, could have sent them. Errors that are meant to be raised
are no findings; any other exception is, and so is a hang, memory out of bounds, or a file in the wrong place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outrider import text
from outrider.chain import Chain
from outrider.errors import ConfigError, FarError, OutriderError
from outrider.far import data, receiving, trees, wire
from outrider.harmless import Harmless, printable, printable_lines
from outrider.hops import local
from outrider.near import calls, local_process, opening, transfer, values
from outrider.near.connection import Connection
from outrider.options import Options
from outrider.results import FarEnd
from outrider.sandboxed.result import VERDICTS, SandboxResult, parsed
from tests.samples import listings

CAP = 1 << 20
NOT_SHOWN = re.compile("[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Bytes:
    """Takes small decisions out of the bytes of one input, from its front; at the end all are 0."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, size: int) -> bytes:
        piece = self.raw[self.at : self.at + size]
        self.at += size
        return piece

    def number(self, below: int) -> int:
        return int.from_bytes(self.take(1 if below <= 256 else 4), "little") % below

    def one_of(self, *choices: Any) -> Any:
        return choices[self.number(len(choices))]

    def left(self) -> bool:
        return self.at < len(self.raw)


# --- values -----------------------------------------------------------------------------------------------------------


def value(raw: bytes) -> None:
    """The data codec: bytes are a value or a DataError; a value can be written, and is then the same."""
    source = Bytes(raw)
    buffers = [source.take(source.number(64)) for _ in range(source.number(3))]
    try:
        read = values.loads(raw[source.at :], buffers, CAP)
    except data.DataError as error:
        assert len(str(error)) < 2000
        return
    again = data.dumps(read)
    assert data.dumps(values.loads(again)) == again or "{" in repr(read)


def answer(raw: bytes) -> None:
    """What is made of an answer's segments: a value, an exception for the caller, or a FarError."""
    source = Bytes(raw)
    segments: list[Any] = [source.take(source.number(300)) for _ in range(1 + source.number(3))]
    try:
        calls.returned(segments, "data", "here", None, CAP)
    except FarError as error:
        assert not NOT_SHOWN.search(str(error).replace("\n", ""))
    try:
        error = calls.exception(segments, "data", "here", segments[0])
    except FarError as found:
        error = found
    assert type(error) is FarError
    assert not NOT_SHOWN.search(str(error).replace("\n", ""))


# --- sessions ---------------------------------------------------------------------------------------------------------


class Played(opening.Opening):
    """An opening that has been: the far end's words lie in a pipe, and its process has ended."""

    def __init__(self, said: bytes) -> None:
        self.said = said

    def open(self) -> opening.OpenStream:
        process = local_process.LocalProcess.__new__(local_process.LocalProcess)
        process.__dict__.update(vars(_ended()))
        reader, writer = os.pipe()
        local_process.enlarge_pipe(writer)
        os.write(writer, self.said)
        os.close(writer)
        self.taken, write_fd = os.pipe()
        stderr, end = os.pipe()
        os.close(end)
        process.stdin = os.fdopen(write_fd, "wb", buffering=0)
        process.stdout = os.fdopen(reader, "rb", buffering=0)
        process.stderr = os.fdopen(stderr, "rb", buffering=0)
        hello = {
            "host": "h",
            "user": "u",
            "pid": 1,
            "python": [3, 11, 0],
            "executable": "p",
            "cwd": "/",
            "problem": None,
        }
        tail = opening.StderrTail(stderr, (), lambda _: None)
        return opening.OpenStream(process, wire.FrameReader(reader), write_fd, tail, hello, b"")


_PROCESS: subprocess.Popen[bytes] | None = None


def _ended() -> subprocess.Popen[bytes]:
    global _PROCESS
    if _PROCESS is None:
        _PROCESS = subprocess.Popen([b"true"])
        _PROCESS.wait()
    return _PROCESS


KINDS = (
    wire.RESULT,
    wire.RAISED,
    wire.DATA,
    wire.CREDIT,
    wire.IMPORT,
    wire.PONG,
    wire.PART,
    wire.HELLO,
    wire.BYE,
    wire.CALL,
)


def words(raw: bytes) -> bytes:
    """Bytes as a stream that is often well formed: frames with kinds, ids and tables that make sense, or nearly."""
    source = Bytes(raw)
    said = []
    while source.left() and len(said) < 200:
        kind = source.one_of(*KINDS)
        ident = source.one_of(0, 1, 2, 3, 4, 77, 0x80000001)
        flags = source.one_of(
            0, 0, wire.STDOUT, wire.STDERR, wire.CONTENT, wire.LARGE, wire.END | wire.CONTENT, 0xFF
        )
        body = source.take(source.number(48))
        shape = source.number(8)
        if shape == 0:
            said.append(body)
        elif shape == 1:
            sizes = [
                source.one_of(0, 1, 8, 1 << 16, CAP, CAP + 1, 1 << 40, (1 << 63) + 4)
                for _ in range(source.number(5))
            ]
            table = len(sizes).to_bytes(2, "little") + b"".join(size.to_bytes(8, "little") for size in sizes)
            said.append(
                wire.frame(
                    kind, ident, table + body * (shape & 1 and flags != wire.LARGE), flags | wire.LARGE
                )
            )
        elif shape == 2:
            said.append(wire.frame(kind, ident, body * source.number(3000), flags))
        elif shape == 3:
            said.append(wire.frame(wire.DATA, ident, body, flags & 0x4F))
        elif shape == 4:
            said.append(wire.frame(wire.CREDIT, ident, b"%d" % source.number(1 << 30)))
        elif shape == 5:
            told = {
                "kind": "k",
                "message": body,
                "traceback": "t",
                "returncode": 1,
                "duration": 0.5,
                "start": 126,
            }
            said.append(wire.lone(kind, ident, data.dumps(told), flags & 0x4F))
        elif shape == 6:
            said.append(wire.lone(kind, ident, bytes(8) + data.dumps([body, 1]), flags & 0x4F))
        else:
            said.append(wire.lone(kind, ident, body, flags & 0x7F))
    return b"".join(said)[:900_000]


def stream(raw: bytes) -> None:
    """Every stream of bytes ends each request: with an answer of the right kind, or with an error of ours, in time."""
    _play(raw)


def messages(raw: bytes) -> None:
    """The same with streams that are often well formed."""
    _play(words(raw))


def _play(said: bytes) -> None:
    attempt = Played(said[:900_000])
    options = Options(trust="data", show=False, max_answer=CAP)
    connection = Connection(Chain(local()), options, attempt)
    heard: list[bytes] = []
    try:
        content: list[bytes] = []
        results = (wire.RESULT, wire.RAISED)
        asked = [
            connection.new_request(lambda _, piece: heard.append(piece), 5),
            connection.new_request(None, 5),
            connection.new_request(None, 5, (wire.PONG,)),
        ]
        asked[1].content = lambda piece, ends: content.append(piece)
        started = time.monotonic()
        for request, kinds in zip(asked, (results, results, (wire.PONG,)), strict=True):
            try:
                connection.wait(request, 5)
            except OutriderError as error:
                assert not NOT_SHOWN.search(str(error).replace("\n", ""))
            else:
                assert request.value[0] in kinds
                _use(request.value)
            assert request.done
            assert sum(map(len, (request.output or {}).values())) <= CAP
        assert time.monotonic() - started < 5
    finally:
        connection.close()
        os.close(attempt.taken)


def _use(answered: tuple[int, int, list[Any]]) -> None:
    kind, _, segments = answered
    try:
        if kind == wire.RESULT:
            calls.returned(segments, "data", "here", None, CAP)
        elif kind == wire.RAISED:
            calls.exception(segments, "data", "here", b"")
    except FarError:
        pass


# --- files ------------------------------------------------------------------------------------------------------------

NAMES = (
    b"a",
    b"b",
    b"c",
    b"a",
    b"b",
    b"",
    b".",
    b"..",
    b"/",
    b"a/b",
    b"../x",
    b"/etc",
    b"a\0",
    b"\xff",
    b".outrider-partial-link",
    b"n" * 300,
)
AIMS = (b"a", b"../a", b"..", b"../../x", b"/etc", b"a/..", b"a/../..", b"", b"\0", b".", b"b/a")


def manifest(raw: bytes) -> None:
    """Whatever a far end says is in a folder: nothing appears beside it, and no link in it leads out."""
    source = Bytes(raw)
    stream, paths = b"", [b""]
    for _ in range(source.number(8)):
        path = source.one_of(*paths)
        names = [source.one_of(*NAMES) for _ in range(source.number(3))]
        links = [source.one_of(*NAMES) for _ in range(source.number(3))]
        sizes = [source.one_of(0, 3, 10, 1 << 62) for _ in names]
        stream += listings.listing(
            path,
            names,
            sizes,
            source.one_of(0o755, 0o7777, 0, -1, 1 << 30),
            [source.one_of(0o644, 0o7777, 0, 0xFFFF) for _ in names],
            [source.one_of(0, -1, 1 << 62, -(1 << 62)) for _ in names],
            links,
            [source.one_of(*AIMS) for _ in links],
            source.one_of(None, None, None, None, 1, 1 << 31),
        )
        if sum(sizes) < 100:
            stream += listings.content(b"x" * source.one_of(sum(sizes), sum(sizes), 1))
        paths.append(path + b"/" * bool(path) + source.one_of(*NAMES))
    stream += source.one_of(listings.END, listings.END, b"", source.take(20))
    outside = Path(tempfile.mkdtemp(prefix="outrider-fuzz-", dir="/dev/shm"))
    try:
        place = outside / "place"
        receiver = receiving.Receiver(str(place), transfer._guard)
        try:
            cut = 1 + source.number(60)
            for at in range(0, len(stream), cut):
                receiver.write(stream[at : at + cut])
            receiver.finish()
        except trees.TransferError:
            pass
        finally:
            receiver.abandon()
        assert {path.name for path in outside.iterdir()} <= {"place"}
        assert not place.is_symlink()
        for path in place.rglob("*"):
            assert Path(os.path.realpath(path)).is_relative_to(outside.resolve() / "place"), path
            assert path.is_symlink() or path.stat().st_mode & 0o7022 == 0, path
    finally:
        shutil.rmtree(outside, onerror=lambda f, p, e: (os.chmod(os.path.dirname(p), 0o700), f(p)))  # noqa: PTH101, PTH120


# --- words ------------------------------------------------------------------------------------------------------------


def terminal(raw: bytes) -> None:
    """However output is cut into pieces, nothing of it steers a terminal, and what is plain stays."""
    source = Bytes(raw)
    size = 1 + source.number(32)
    said = raw[source.at :]
    clean = Harmless()
    shown = b"".join(clean(said[at : at + size]) for at in range(0, len(said), size))
    assert not NOT_SHOWN.search(shown.decode()), shown
    if said.isascii() and not re.search(rb"[^ -~\n\r\t\b]", said):
        assert shown == said
    line = said.decode(errors="replace")
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", printable(line))
    assert not NOT_SHOWN.search(printable_lines(line).replace("\n", ""))


def route(raw: bytes) -> None:
    """A route's text is hops that lead back to the same text's meaning, or a ConfigError."""
    written = raw.decode(errors="surrogateescape")
    try:
        hops = text.parse(written)
    except ConfigError as error:
        str(error)
        return
    assert text.parse(text.render(hops)) == hops


ASKED = ("out", "a/b")
PARTS = (
    None,
    True,
    0,
    -1,
    1.5,
    1e300,
    float("nan"),
    1 << 70,
    "OK",
    "TLE",
    "x",
    "\x1b[2J\x9b",
    "\ud800",
    b"",
    b"bytes",
    [],
    [1],
    ["a"],
)
"""What stands in reports, and what must not."""


def report(raw: bytes) -> None:
    """What a far end says of a sandboxed job: fields of the right kinds, safe to show and to write, or a FarError."""
    source = Bytes(raw)
    told = _made_up(source) if source.number(4) else None
    try:
        if told is None:
            told = values.loads(raw[1:], [], CAP)
        fields = parsed(told, ASKED)
    except data.DataError:
        return
    except FarError as error:
        assert not NOT_SHOWN.search(str(error).replace("\n", ""))
        return
    result = SandboxResult(("x",), 0, b"", b"", 0.0, FarEnd("h", "u", 1, (3, 11, 0), "p"), **fields)
    assert result.verdict in VERDICTS
    assert {*result.outputs, *result.refused} <= {*ASKED}
    assert all(type(contents) is bytes for contents in result.outputs.values())
    for figure in vars(result.usage).values():
        assert figure is None or (type(figure) in (int, float) and 0 <= figure < 1e18)
    written = json.dumps(result.report(), allow_nan=False)
    shown = [
        result.message,
        result.engine,
        *result.missing,
        *result.sources.values(),
        *result.refused.values(),
    ]
    assert all(type(text) is str and not NOT_SHOWN.search(text.replace("\t", "")) for text in shown)
    assert len(written) < 20 * (len(raw) + 1000)


def _made_up(source: Bytes) -> Any:
    """A report that is often well formed, or nearly."""
    told: dict[Any, Any] = {"verdict": source.one_of(*VERDICTS), "usage": {}}
    while source.left():
        name = source.one_of(
            "verdict", "usage", "message", "engine", "missing", "sources", "outputs", "refused", "else"
        )
        part = source.one_of(*PARTS)
        if name == "usage" and isinstance(told.get(name), dict):
            told[name][source.one_of("cpu_s", "wall_s", "memory_bytes", "processes", "switches", 7)] = part
        elif name in ("sources", "outputs", "refused"):
            inner = told.setdefault(name, {})
            if isinstance(inner, dict):
                inner[source.one_of("out", "a/b", "../c", 3)] = part
        elif name == "missing":
            told[name] = [part] * source.number(120)
        else:
            told[name] = part
    return told


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (value, answer, report, stream, messages, manifest, terminal, route)
}


def seeds(name: str) -> list[bytes]:
    """Inputs to begin with, for each target: well formed ones."""
    plain = [
        None,
        True,
        1,
        -(1 << 80),
        0.5,
        "text",
        b"bytes",
        [1, "a", None],
        {"a": [1.5] * 9},
        {1, 2},
        (1,),
        ["x"] * 9,
    ]
    if name in ("value", "answer"):
        import datetime
        import decimal
        import uuid
        from pathlib import Path as APath

        named = [
            datetime.date(2026, 1, 1),
            decimal.Decimal("1.5"),
            uuid.UUID(int=1),
            APath("/a"),
            datetime.timedelta(1),
        ]
        bodies = [data.dumps(it) for it in [*plain, *named]]
        return (
            [b"\0" + body for body in bodies]
            if name == "value"
            else [b"\0\x40" + bytes(8) + body for body in bodies]
        )
    if name == "report":
        whole = {
            "verdict": "TLE",
            "usage": {"cpu_s": 1.0, "processes": 3},
            "message": "m",
            "engine": "native",
        }
        whole |= {
            "missing": ["network"],
            "sources": {"cpu_s": "clock"},
            "outputs": {"out": b"x"},
            "refused": {},
        }
        return [b"\0" + data.dumps(whole), *(b"\0" + data.dumps(it) for it in plain), bytes(range(1, 200, 7))]
    if name == "stream":
        results = [
            wire.lone(kind, 1, bytes(8) + data.dumps(it))
            for kind in (wire.RESULT, wire.RAISED)
            for it in plain
        ]
        large = b"".join(
            b"".join(part) for part in wire.message_frames(wire.RESULT, 1, [bytes(300_000), b"x"])
        )
        return [
            *results,
            large,
            wire.frame(wire.DATA, 1, b"said\n", wire.STDOUT) + wire.lone(wire.PONG, 3, b"ping"),
        ]
    if name == "terminal":
        return [
            b"\x01\x1b]0;title\x07plain",
            b"\x03\xc2\x9b31m",
            b"\x02\x1b[1;31mred\x1b[0m\n",
            b"\x05\xc2\x1b[m\x9b",
        ]
    if name == "route":
        return [
            b"ssh:a@b:22 | sudo:c",
            b'slurm(memory="2G", time=5m)',
            b"docker:image | env(X='1')",
            b"local",
        ]
    return [bytes([n * 7 % 256 for n in range(start, start + 60)]) for start in range(0, 200, 20)]


def threads_left() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name not in ("MainThread", "outrider-hub")
    ]
