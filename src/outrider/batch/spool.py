"""What a job is given, and what it answers, as bytes: the same frames that a session writes and reads."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from outrider.chain import Chain
from outrider.far import data, link, loader, wire
from outrider.far.calls import AS_DATA
from outrider.harmless import printable
from outrider.near import calls
from outrider.near.modules import ModuleServer
from outrider.options import Options

NEEDED = ("in_job", "kinds", "state", "resources", "cancelling", "packing")
"""Modules of the far end that a call may need, and that nobody can be asked for in a job."""
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
Frames = Iterable[Sequence[Any]]


class Packed(NamedTuple):
    """What all calls of a job share, then the calls of each element."""

    start: bytes
    elements: list[bytes]


def packed(
    chain: Chain,
    settings: dict[str, Any],
    options: Options,
    elements: Iterable[Sequence[Call]],
    checkpoint: bool = False,
) -> Packed:
    """All that far ends read to make calls and end: the far end itself, a greeting, the caller's modules; and the calls.

    chain: the whole route. settings: of its tail. elements: the calls that one far end makes after the other.
    """
    names: set[str] = set()
    flags = AS_DATA if options.trust == "data" else 0
    packed_calls = []
    function, any_by_value = None, False
    for element in elements:
        frames: list[bytes] = []
        for ident, call in enumerate(element, 1):
            # The far Python is not known yet: bytecode can only be refused there.
            segments, by_value = calls.pack(call, sys.version_info[:3], names)
            frames += _joined(wire.message_frames(wire.CALL, ident, segments, flags))
            function, any_by_value = call[0], any_by_value or by_value
        packed_calls.append(b"".join(frames))
    server = ModuleServer(trusted=True)
    news = [server.news(function, any_by_value, names), server.rest(names)]
    messages = [
        (wire.HELLO, 0, [data.dumps(_hello(settings, options, checkpoint))], 0),
        *((wire.SOURCE, 0, [piece], 0) for piece in news if piece is not None),
    ]
    frames = [frame for message in messages for frame in _joined(wire.message_frames(*message))]
    return Packed(loader.packed_program(NEEDED) + b"".join(frames), packed_calls)


def _joined(frames: Frames) -> list[bytes]:
    return [b"".join(frame) for frame in frames]


def _hello(settings: dict[str, Any], options: Options, checkpoint: bool) -> dict[str, Any]:
    return {
        "session": os.urandom(12).hex(),
        "protocol": loader.PROTOCOL,
        "python": list(sys.version_info[:2]),
        "env": {**settings.get("env", {}), **options.env},
        "cwd": options.cwd if options.cwd is not None else settings.get("cwd"),
        "tempdir": bool(settings.get("tempdir")),
        "heartbeat": None,
        "keep": None,
        "spool": {"checkpoint": checkpoint},
    }


class Answer(NamedTuple):
    """What one call has answered. kind: RESULT or RAISED."""

    kind: int
    segments: Any


class AnswerReader:
    """Reads what one far end in a job writes, as it grows.

    Attributes: `answers`, {call: Answer}; `goodbye`, why it has ended. `take(call, channel, piece)` gets what is printed.
    """

    def __init__(self, limit: int, take: Callable[[int, int, bytes], None]) -> None:
        self.answers: dict[int, Answer] = {}
        self.goodbye = ""
        self.size = 0
        self._take = take
        self._limit = limit
        self._head = b""
        self._fd = -1
        self._link: link.Link | None = None

    def feed(self, piece: bytes) -> None:
        """More of it. Whole messages are dealt with at once, the rest is kept."""
        self.size += len(piece)
        if self.goodbye:  # what follows is not for here
            return
        if self._link is None:
            self._head += piece
            before, greeting, piece = self._head.partition(loader.READY)
            if not greeting:
                self._head = before[-(1 << 20) :]
                return
            self._head = b""
            with tempfile.TemporaryFile() as file:  # memory need not hold it twice
                self._fd = os.dup(file.fileno())
            self._link = link.Link(wire.FrameReader(self._fd), -1, _ignore, _ignore, self._limit)
        at = os.lseek(self._fd, 0, os.SEEK_CUR)
        os.lseek(self._fd, 0, os.SEEK_END)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._fd, view) :]
        os.lseek(self._fd, at, os.SEEK_SET)
        self._read(self._link)

    def _read(self, stream: link.Link) -> None:
        reader = stream.reader
        try:
            while not self.goodbye:
                frame = reader.next()
                if frame is not None:
                    message = stream.whole(frame)
                    if message is not None:
                        self._deal(*message)
                elif not reader.fill():
                    return
        except wire.ProtocolError as error:
            self.goodbye = f"what it wrote is broken: {error}"

    def _deal(self, kind: int, ident: int, flags: int, segments: Any) -> None:
        if kind == wire.DATA and flags & wire.CHANNEL in (wire.STDOUT, wire.STDERR):
            self._take(ident, flags & wire.CHANNEL, bytes(segments[0]))
        elif kind in (wire.RESULT, wire.RAISED):
            self.answers[ident] = Answer(kind, segments)
        elif kind == wire.BYE:
            words = bytes(segments[-1]).decode(errors="replace") if segments else ""
            self.goodbye = printable(words) or "it ended"
            self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def _ignore(*_: object) -> None:
    pass


def value_of(answer: Answer, options: Options, place: str, errors: bytes) -> Any:
    """The value of a call that was answered; what it raised is raised."""
    if answer.kind == wire.RAISED:
        raise calls.exception(answer.segments, options.trust, place, errors)
    return calls.returned(list(answer.segments), options.trust, place, None, options.answer_limit)[1]
