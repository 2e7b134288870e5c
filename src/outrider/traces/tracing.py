"""What a trace is made of: raw records of what took when, noted while it happens; spans are made of them later.

Where something can be traced stands one look at `note`: None while nobody traces. Times are nanoseconds of `clock`.
No record holds arguments, values, output, variables or error messages: only names, sizes and times.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outrider.chain import Chain
from outrider.hops.mark import PATTERN, Mark

if TYPE_CHECKING:
    from outrider.near.request import Request

clock = time.perf_counter_ns

Place = tuple[int, str, str, str]
"""Whose record it is: the local process's id, the route's label, user and host at its end."""
Timed = tuple[str, str, int, int, int, Any]
"""A request under way: kind, name, when it began, was packed and was sent, and who sent it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A route that was opened, or was not: `events` are (when it ended, index of the hop, name of the phase). `marks`: the
    hops of which can be told that they are passed."""

    place: Place
    hops: tuple[str, ...]
    began: int
    ended: int
    events: tuple[tuple[int, int, str], ...]
    sender: Any
    error: str = ""
    marks: tuple[int, ...] = ()


Asked = tuple[Place, Timed, int, int, int, float, str, dict[str, Any] | None]
"""A request that is over: its place, what was noted when it was sent, when its large answer began to arrive (0: it was
none), when all was here (0: not looked at), when it was unpacked, seconds that it took there (below 0: unknown), what it
raised, more about it."""


@dataclass(frozen=True, slots=True)
class Done:
    """Something else that took its time: a transfer, a module served, a session closed."""

    place: Place
    kind: str
    name: str
    began: int
    ended: int
    sender: Any
    error: str = ""
    about: dict[str, Any] = field(default_factory=dict)


Progress = Callable[[int, int], None]
Record = Opened | Asked | Done


class Sink:
    """Takes records, from any thread. `who`, if it has one, is called where something begins; records bear what it gives."""

    take: Callable[[Opened | Done], None]
    take_request: Callable[[Asked], None]
    who: Callable[[], Any] | None = None


note: Callable[[Opened | Done], None] | None = None
"""Takes a record; None while nobody traces."""
note_request: Callable[[Asked], None] | None = None
"""Takes the record of a request, of which there may be many: it is the sink's own method if there is but one."""
where: Callable[[], Any] | None = None

_sinks: list[Sink] = []
_changing = threading.Lock()


def listen(sink: Sink) -> None:
    """Give every record from now on to `sink` too."""
    with _changing:
        _sinks.append(sink)
        _settle()


def forget(sink: Sink) -> None:
    """Give no more records to `sink`."""
    with _changing:
        if sink in _sinks:
            _sinks.remove(sink)
        _settle()


def _settle() -> None:
    global note, note_request, where
    sinks = tuple(_sinks)
    where = next((sink.who for sink in sinks if sink.who is not None), None)
    # What looks at `note` calls the other: that one is there first, and stays longest.
    if sinks:
        note_request = _to_all([sink.take_request for sink in sinks])
        note = _to_all([sink.take for sink in sinks])
    else:
        note = note_request = None


def _to_all(takers: list[Callable[[Any], None]]) -> Callable[[Any], None]:
    if len(takers) == 1:
        return takers[0]

    def take(record: Any) -> None:
        for taker in takers:
            taker(record)

    return take


def _forked() -> None:
    """A child's own calls are no part of its parent's trace."""
    global _changing
    _changing = threading.Lock()
    _sinks.clear()
    _settle()


os.register_at_fork(after_in_child=_forked)


# --- requests -------------------------------------------------------------------------------------------------------


def answered(
    place: Place,
    request: Request,
    arrived: int,
    seconds: float,
    error: str = "",
    about: dict[str, Any] | None = None,
) -> None:
    """A request is answered, and its answer unpacked; it is noted once."""
    timed, request.timed = request.timed, None
    taker = note_request
    if taker is not None and timed is not None:
        taker((place, timed, request.arrival, arrived, clock(), seconds, error, about))


def raised(place: Place, request: Request, error: BaseException, seconds: float) -> None:
    """A call raised there, after so many seconds."""
    answered(place, request, clock(), seconds, type(error).__name__)


def given_up(place: Place, request: Request, error: str) -> None:
    """A request ends without an answer."""
    if request.timed is not None:
        answered(place, request, clock(), -1.0, error)


@contextmanager
def timed(place: Place, kind: str, name: str) -> Iterator[dict[str, Any]]:
    """Note how long the block takes; what is put into the mapping is noted with it."""
    about: dict[str, Any] = {}
    if note is None:
        yield about
        return
    began, error = clock(), ""
    try:
        yield about
    except BaseException as problem:
        error = type(problem).__name__
        raise
    finally:
        taker = note
        if taker is not None:
            taker(Done(place, kind, name, began, clock(), where and where(), error, about))


@contextmanager
def transfer(
    place: Place, kind: str, progress: Progress | None
) -> Iterator[tuple[Progress | None, dict[str, Any]]]:
    """As `timed`, for files: counts what travels, besides telling `progress`."""
    with timed(place, kind, kind) as about:
        if note is None:
            yield progress, about
            return

        def counted(done: int, total: int) -> None:
            about["bytes"] = done
            if progress is not None:
                progress(done, total)

        about["bytes"] = 0
        yield counted, about


# --- opening --------------------------------------------------------------------------------------------------------

START, GREET = "start", "greet"


class Passage:
    """How far the opening of a route gets: told by marks on stdout, by what the hops' programs say on stderr, and by
    the far end. `chain` is the one to start, whose programs tell more.
    """

    def __init__(self, chain: Chain) -> None:
        self.hops = chain.hops
        self.chain = chain.traced()
        self.began = clock()
        self._events: list[tuple[int, int, str]] = []
        self._passed = 0
        self._partial = b""
        self._tells = [[(re.compile(pattern), phase) for pattern, phase in hop.tells] for hop in self.hops]
        self._chatter = tuple({head.encode() for hop in self.hops for head in hop.chatter})

    def told(self, phase: str, hop: int | None = None) -> None:
        """A phase of a hop has just ended; of the last one, if none is named."""
        self._events.append((clock(), max(len(self.hops) - 1, 0) if hop is None else hop, phase))

    def asked(self, marker: bytes, answered: bool = False) -> None:
        """A hop's program asks for a secret; or has been given it."""
        for index, hop in enumerate(self.hops):
            if any(prompt.marker == marker for prompt in hop.prompts()):
                self.told("password" if answered else "prompt", index)
                return

    def without_marks(self, buffer: bytes) -> bytes:
        """What came on stdout before the greeting, without the marks that have arrived in it."""
        return re.sub(PATTERN, self._mark, buffer)

    def _mark(self, found: re.Match[bytes]) -> bytes:
        number = int(found[1])
        if number < len(self.hops):
            self.told(START, number)
            self._passed = number + 1
        return b""

    def without_chatter(self, piece: bytes) -> bytes:
        """What came on stderr, without what is there only for the trace."""
        *lines, rest = (self._partial + piece).split(b"\n")
        kept = b"".join(line + b"\n" for line in lines if not self._heard(line))
        # A line that may become one of those waits for its end; anything else may be a prompt.
        waits = any(rest.startswith(head) or head.startswith(rest) for head in self._chatter)
        self._partial = rest if rest and waits else b""
        return kept if rest and waits else kept + rest

    def _heard(self, line: bytes) -> bool:
        text = line[:300].decode(errors="replace")
        for index in range(self._passed, len(self.hops)):
            phase = next((phase for pattern, phase in self._tells[index] if pattern.match(text)), None)
            if phase is not None and not any(event[1:] == (index, phase) for event in self._events):
                self.told(phase, index)
                break
        return line.startswith(self._chatter)

    def over(self, pid: int, place: str, user: str = "", host: str = "", error: str = "") -> None:
        """The route is open, or has failed."""
        taker = note
        if taker is not None:
            labels = tuple(Chain(hop).label() for hop in self.hops) or ("local",)
            events = tuple(sorted(self._events))
            sender = where and where()
            marks = tuple(hop.number for hop in self.chain.hops if isinstance(hop, Mark))
            named = (pid, place, user, host)
            taker(Opened(named, labels, self.began, clock(), events, sender, error, marks))


class Kept(Sink):
    """Records that are kept: of requests the latest `limit`, of all else every one."""

    def __init__(self, limit: int) -> None:
        self.requests: deque[Asked] = deque(maxlen=limit)
        self.others: list[Opened | Done] = []
        self.take = self.others.append
        self.take_request = self.requests.append
