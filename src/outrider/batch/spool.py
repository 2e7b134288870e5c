"""What a job is given, and what it answers, as bytes: the same frames that a session writes and reads."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import IO, Any, NamedTuple

from outrider import calls
from outrider.chain import Chain
from outrider.errors import FarError
from outrider.far import data, link, loader, wire
from outrider.far.calls import AS_DATA
from outrider.harmless import printable
from outrider.modules import ModuleServer
from outrider.options import Options

IDENT = 1
NEEDED = ("spooling", "kinds", "state", "resources", "cancelling", "packing")
"""Modules of the far end that a call may need, and that nobody can be asked for in a job."""


def packed_call(chain: Chain, settings: dict[str, Any], options: Options, call: tuple[Any, ...]) -> bytes:
    """All that a far end reads to make one call and end: itself, a greeting, the caller's modules, the call.

    chain: the whole route. settings: of its tail. call: (function, args, kwargs).
    """
    names: set[str] | None = None if options.trust == "pickle" else set()
    # The far Python is not known yet: bytecode can only be refused there.
    segments, by_value = calls.pack(call, sys.version_info[:3], names)
    server = ModuleServer(trusted=True)
    hello = {
        "session": os.urandom(12).hex(),
        "protocol": loader.PROTOCOL,
        "python": list(sys.version_info[:2]),
        "env": {**settings.get("env", {}), **options.env},
        "cwd": options.cwd if options.cwd is not None else settings.get("cwd"),
        "tempdir": bool(settings.get("tempdir")),
        "heartbeat": None,
        "keep": None,
        "spool": {"sources": {name: loader.source(name) for name in NEEDED}},
    }
    news = [server.news(call[0], by_value, names or ()), server.rest()]
    messages = [
        (wire.HELLO, 0, [data.dumps(hello)], 0),
        *((wire.SOURCE, 0, [piece], 0) for piece in news if piece is not None),
        (wire.CALL, IDENT, segments, AS_DATA if options.trust == "data" else 0),
    ]
    frames = [b"".join(frame) for message in messages for frame in wire.message_frames(*message)]
    return loader.packed_program() + b"".join(frames)


class Answer(NamedTuple):
    """What a far end in a job has answered so far. kind: RESULT or RAISED, or 0 if it has not come."""

    kind: int
    segments: Any
    stdout: bytes
    stderr: bytes
    goodbye: str


def read_answer(file: IO[bytes], limit: int) -> Answer:
    """Read the frames in `file`, from its beginning. limit: bytes of one message at the most."""
    file.seek(0)
    head = file.read(1 << 20)
    before, greeting, _ = head.partition(loader.READY)
    printed: dict[int, list[bytes]] = {wire.STDOUT: [], wire.STDERR: []}
    kind, segments, goodbye = 0, None, ""
    if greeting:
        file.seek(len(before) + len(greeting))
        os.lseek(file.fileno(), file.tell(), os.SEEK_SET)
        reader = link.Link(wire.FrameReader(file.fileno()), -1, _ignore, _ignore, limit)
        while (message := reader.next_message()) is not None:
            if message[0] == wire.DATA and message[2] & wire.CHANNEL in printed:
                printed[message[2] & wire.CHANNEL].append(bytes(message[3][0]))
            elif message[0] in (wire.RESULT, wire.RAISED) and message[1] == IDENT:
                kind, segments = message[0], message[3]
            elif message[0] == wire.BYE and message[3]:
                goodbye = printable(bytes(message[3][-1]).decode(errors="replace"))
    return Answer(kind, segments, b"".join(printed[wire.STDOUT]), b"".join(printed[wire.STDERR]), goodbye)


def _ignore(*_: object) -> None:
    pass


def value_of(answer: Answer, options: Options, place: str) -> Any:
    """The value of a call that was answered; what it raised is raised."""
    if answer.kind == wire.RAISED:
        raise calls.exception(answer.segments, options.trust, place, answer.stderr[-4096:])
    if answer.kind != wire.RESULT:
        raise FarError("the job has no answer", hop=place)
    return calls.returned(answer.segments, options.trust, place, None, options.answer_limit)[1]


def kept_answer() -> IO[bytes]:
    """A file for what comes of an answer: memory need not hold it twice."""
    return tempfile.TemporaryFile()
