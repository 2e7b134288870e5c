"""One request under way in a session: what it collects while it runs, and what is made of its answer."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outrider.far import wire
from outrider.far.link import Slot
from outrider.harmless import printable as printable
from outrider.options import OnOutput

if TYPE_CHECKING:
    from concurrent.futures import Future

LONG_LINE = 65536
TAIL = 65536
CHANNEL_NAMES = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}


class _CallingBack(threading.local):
    """What this thread has to call back, while it is at it."""

    waiting: deque[Callable[[], None]] | None = None


_calling_back = _CallingBack()


def call_back(do: Callable[[], None]) -> None:
    """Run what is a caller's own, `on_output` or a future's callback, in the thread that reads.

    It may call a session, and so read on; what is to be called back meanwhile waits its turn, in order.
    """
    waiting = _calling_back.waiting
    if waiting is not None:
        waiting.append(do)
        return
    waiting = _calling_back.waiting = deque((do,))
    try:
        while waiting:
            waiting.popleft()()
    finally:
        _calling_back.waiting = None
        for do in waiting:  # it has raised: what others wait for is not to be lost with it
            call_back(do)


class Request(Slot):
    """Waited on by the caller's thread, or given a `future`; `value` is (kind, flags, segments) of the answer."""

    __slots__ = (
        "_news",
        "answers",
        "arrival",
        "arriving",
        "carried",
        "content",
        "credit",
        "deadline",
        "dropped",
        "fault",
        "finished",
        "future",
        "ident",
        "label",
        "on_output",
        "output",
        "overdue",
        "room",
        "shown",
        "timed",
    )

    def __init__(
        self,
        ident: int,
        on_output: OnOutput | None,
        room: int,
        deadline: float | None = None,
        answers: tuple[int, ...] = (wire.RESULT, wire.RAISED),
        label: str | None = None,
    ) -> None:
        """`label`: show output behind it, where no `on_output` takes it."""
        super().__init__()
        self.value: Any = None
        self.ident = ident
        self.room = room
        self.overdue: BaseException | None = None
        self.deadline = deadline
        self.answers = answers
        self.dropped: dict[str, int] | None = None
        self.output: dict[str, bytearray] | None = None  # most calls print nothing
        self.on_output = on_output
        self.label = label
        self.shown: LabelledOutput | None = None
        self.credit: Any = None  # a Credit, or what else counts what is granted
        self.future: Future[Any] | None = None
        self.finished: Callable[[Request], None] | None = None
        self.carried: Callable[[str, bytes], None] | None = None
        self.content: Callable[[bytes, bool], None] | None = None
        self.fault: BaseException | None = None
        self.arriving: Arriving | None = None
        self._news: Slot | None = None
        self.timed: Any = None  # what a trace notes of it while it is under way
        self.arrival = 0

    @property
    def news(self) -> Slot:
        """Done as soon as something, anything, happens to this request."""
        news = self._news
        if news is None:
            news = self._news = Slot()
        return news

    def tell(self) -> None:
        """Wake whoever waits for news."""
        news = self._news
        if news is not None:
            self._news = None
            news.finish()

    def take(self, channel: int, piece: bytes, ends: bool) -> None:
        """A piece of output or content has arrived. What a caller's callback raises is raised where it waits."""
        if channel == wire.CONTENT and self.content is not None:
            self.content(piece, ends)
            return
        name = CHANNEL_NAMES.get(channel)
        if name is None:
            return
        if self.carried is not None:
            self.carried(name, piece)
            return
        self._keep(name, piece)
        if self.on_output is not None:
            call_back(lambda: self._show(name, piece))

    def _show(self, name: str, piece: bytes) -> None:
        try:
            if self.on_output is not None:
                self.on_output(name, piece)
        except BaseException as error:
            self.on_output = None
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                raise  # Ctrl-C, perhaps
            self.fault = self.fault or error

    def _keep(self, name: str, piece: bytes) -> None:
        if self.output is None:
            self.output = {}
            if self.label is not None and self.on_output is None:
                self.on_output = self.shown = LabelledOutput(self.label)
        if (
            self.arriving is not None
        ):  # of what a generator prints, which may be without end, only the last is kept
            tail = self.output.setdefault(name, bytearray())
            tail.extend(piece)
            del tail[:-TAIL]
            return
        kept = piece[: self.room]
        self.room -= len(kept)
        if len(kept) < len(piece):
            self.dropped = self.dropped or {}
            self.dropped[name] = self.dropped.get(name, 0) + len(piece) - len(kept)
        self.output.setdefault(name, bytearray()).extend(kept)

    def reserve(self, size: int) -> bool:
        """Take room for an answer of `size` bytes; False if there is not so much."""
        if size > self.room:
            return False
        self.room -= size
        return True

    def printed(self, name: str) -> bytes:
        """What was printed there, as far as there was room for it, and a note of what was left out."""
        if self.output is None:
            return b""
        kept = self.output.get(name, b"")
        if self.dropped is None or name not in self.dropped:
            return bytes(kept)
        return b"%s\n[outrider: %d bytes more, beyond max_answer]\n" % (kept, self.dropped[name])


class Credit:
    """How many more bytes a request may send just now; the one thread that feeds it waits here for more."""

    def __init__(self) -> None:
        self._left = wire.WINDOW
        self._lock = threading.Lock()
        self._more = Slot()
        self._closed = False

    def take(self, wanted: int) -> int:
        """How much of `wanted` may go now; 0 when the request is over."""
        while not self._closed:
            with self._lock:
                size = min(wanted, self._left)
                self._left -= size
            if size:
                return size
            self._more.sleep(None)
        return 0

    def grant(self, size: int) -> None:
        with self._lock:
            self._left += size
        self._more.wake()

    def close(self) -> None:
        self._closed = True
        self._more.wake()


class Arriving(Slot):
    """Items that have come and were not yet taken. Done once the generator has ended; `value` is then how."""

    def __init__(self) -> None:
        super().__init__()
        self.items: deque[tuple[list[Any], int]] = deque()
        self.size = 0

    def has_room(self) -> bool:
        """True unless more is here than the far end may send without being told that some was taken."""
        return self.size < wire.WINDOW

    def put(self, segments: list[Any]) -> None:
        if not self.has_room():
            raise wire.ProtocolError("more items than may be under way")
        size = sum(len(segment) for segment in segments) + wire.OVERHEAD
        self.size += size
        self.items.append((segments, size))


class LabelledOutput:
    """Shows what a call prints as it arrives: whole lines, each behind the name of the place, safe for a terminal."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._open: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def __call__(self, name: str, piece: bytes) -> None:
        *lines, rest = (self._open[name] + piece).split(b"\n")
        if len(rest) > LONG_LINE:  # a line without end would be kept for ever
            lines.append(rest)
            rest = b""
        self._open[name] = rest
        self._show(name, lines)

    def finish(self) -> None:
        for name, rest in self._open.items():
            if rest:
                self._show(name, [rest])
            self._open[name] = b""

    def _show(self, name: str, lines: list[bytes]) -> None:
        stream = sys.stdout if name == "stdout" else sys.stderr
        if stream is None or not lines:
            return
        shown = "".join(f"[{self.label}] {printable(line.decode(errors='replace'))}\n" for line in lines)
        stream.write(shown)
        stream.flush()
