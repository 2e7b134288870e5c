"""The stream to an open far end, and every request under way on it: sending, waiting, cancelling, and its end."""

from __future__ import annotations

import atexit
import os
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any

from outrider.chain import Chain
from outrider.errors import Cancelled, FarError, Lost, OutriderError, Refused, TimedOut
from outrider.far import data, loader, wire
from outrider.far.link import Slot
from outrider.near import closing, heartbeat, opening, values
from outrider.near.hub import hub
from outrider.near.local_process import RouteProcess
from outrider.near.modules import ModuleServer
from outrider.near.request import Arriving, LabelledOutput, Request, call_back, printable
from outrider.near.stream import INTERRUPTED, NearLink, Stalled
from outrider.options import OnOutput, Options
from outrider.results import FarEnd, signal_name
from outrider.traces import tracing

if TYPE_CHECKING:
    from outrider.near.lasting import LastingConnection

CANCEL_WAIT = 5.0
"""Seconds to wait for the far end to confirm that something cancelled has ended."""
LOOK = 100
"""Messages dealt out at one look at what has arrived."""
CLOSE_WAIT = 3.0
STALLED_WAIT = 1.0
"""Seconds at each step of ending a far end that has not kept to its time."""
_BROKEN = (OSError, ValueError, wire.ProtocolError, Stalled)
ANSWERS = (wire.RESULT, wire.RAISED)
CALL_ANSWERS = (*ANSWERS, wire.ITEM)
_ENDINGS = (*ANSWERS, wire.PONG)
FRAMES_AT_ONCE = 64
"""What is read in the background of one session before it is another's turn."""
EXIT_WAIT = 1.5
"""The same for all sessions together when the interpreter ends; then they are asked to end, and then made to."""
STUCK = (
    "a cancelled call would not end, and the far end was ended with it",
    "options(isolate=True) runs each call in a process of its own, which can be ended alone",
)
FAREWELLS = {b"stuck": STUCK}
"""Why a far end says that it ended: (message, hint)."""
_live: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """One open route. Whoever waits for an answer reads for all; the hub reads for what nobody waits for."""

    lasting: LastingConnection | None = None
    """Itself, if it goes on with another stream when its own breaks."""

    def __init__(self, chain: Chain, options: Options, attempt: opening.Opening | None = None) -> None:
        self.chain = chain
        self.options = options
        self.place = chain.label()
        stream = (attempt or opening.Opening(chain, options)).open()
        self._stream = stream
        self.noise = stream.noise
        self.far = _far_end(stream.hello)
        self.traced_as = (stream.process.pid, self.place, self.far.user, self.far.host)
        if stream.passage:
            stream.passage.over(*self.traced_as)
        self._requests: dict[int, Request] = {}
        self._provided: set[str] = set()
        self._background = 0
        self.closed = False
        self.inherited = False
        self._farewell = b""
        self._once = threading.Lock()
        self._ending: str | None = None
        self._closed_why = ""
        self._next_look: float | None = None
        self._answer_limit = options.answer_limit
        self._lock = threading.RLock()  # a signal handler may close while its own thread is in here
        self.modules = ModuleServer(trusted=options.trust == "pickle")
        self._silence: tuple[str, str] | None = None
        self._link = self._new_link(stream)
        self._unasked_output = LabelledOutput(self.far.host)
        self._guard(stream)
        _live.add(self)
        if options.heartbeat is not None:
            heartbeat.start(self, options.heartbeat)

    def _new_link(self, stream: opening.OpenStream) -> NearLink:
        parts = stream.reader, stream.write_fd, self._handle, self._interrupted, self._ended, self._room
        if self.options.heartbeat is None:
            return NearLink(*parts)
        return heartbeat.BeatingLink(self.options.heartbeat, *parts)

    def _guard(self, stream: opening.OpenStream) -> None:
        """See to it that the stream is closed when this object is dropped."""
        self._dropped = weakref.finalize(self, closing.let_go, self.place, stream.process, stream.stderr)
        self._dropped.atexit = False

    def _forget(self) -> None:
        """Nothing is to be closed any more."""
        self._dropped.detach()
        _live.discard(self)

    @property
    def over(self) -> bool:
        """True once nothing can be sent or received any more."""
        return self._link.over

    def reads_here(self) -> bool:
        """Whether the calling thread is reading this stream: in what it calls back, or in a signal's handler."""
        return self._link.reads_here()

    def under_way(self) -> list[int]:
        """Ids of the requests that wait for their answer."""
        return list(self._requests)

    @property
    def process(self) -> RouteProcess:
        """The route's one process on this machine."""
        return self._stream.process

    def close(self, grace: float = CLOSE_WAIT, why: str = "") -> None:
        """End the far end with all that runs there; safe to call again, and from `atexit`."""
        if self._start_closing(why):
            self._stream.process.end(grace)
            self._finish_closing()

    def _start_closing(self, why: str = "") -> bool:
        """Tell the far end that this is all; False if that was done before. Waits for nobody: signal handlers close too."""
        if self.inherited or not self._once.acquire(blocking=False):
            return False
        self._closed_why = why
        self.closed = True
        self._say_goodbye()
        return True

    def _say_goodbye(self) -> None:
        closing.say_goodbye(self._stream, self._link)

    def _finish_closing(self) -> None:
        """After the route's process has ended."""
        self._forget()
        self._release()

    def _release(self) -> None:
        closing.release(self._stream, self._link)

    def disinherit(self) -> None:
        """In a forked child: the stream stays the parent's alone. Nothing is sent, signalled or waited for."""
        self.inherited = self.closed = True
        self._dropped.detach()
        self._stream.process.returncode = (
            0  # not a child of this process: nothing to wait for when it is collected
        )
        self._stream.process.close_pipes()

    # --- requests -----------------------------------------------------------------------------------------------

    def new_request(
        self,
        on_output: OnOutput | None,
        timeout: float | None = None,
        answers: tuple[int, ...] = ANSWERS,
        label: str | None = None,
    ) -> Request:
        """A request with an id of its own, ready to be sent. It is to be answered within `timeout` seconds from now."""
        if self.inherited:
            self._check_owner()
        if self.closed or self._link.over:
            self._check_open()
        deadline = None if timeout is None else time.monotonic() + timeout
        request = Request(self._link.new_ident(), on_output, self._answer_limit, deadline, answers, label)
        self._requests[request.ident] = request
        return request

    def _check_open(self) -> None:
        """When there is no stream."""
        raise self._lost()

    def _check_owner(self) -> None:
        """Before any lock is taken: another thread may have held it when this process was forked."""
        if self.inherited:
            raise Refused(
                "this session belongs to the process that opened it, and this is a forked child of that one",
                hop=self.place,
                hint="open a session of the child's own: route.open()",
            )

    def provide(self, *parts: str) -> None:
        """Have these modules of the far end there before a request that needs them: it need not ask."""
        self._check_owner()
        missing = {name: self.modules.far_part(name) for name in parts if name not in self._provided}
        if missing:
            found = {f"{loader.PACKAGE}.{name}": part for name, part in missing.items()}
            self.post(wire.SOURCE, 0, data.dumps(found))
            self._provided.update(missing)

    def announce(self, subject: object, by_value: bool, names: Iterable[str]) -> None:
        """Have the modules of a call there before the call; and those again that were reloaded here."""
        if self.inherited:
            self._check_owner()
        news = self.modules.news(subject, by_value, names)
        if news is not None:
            self.post(wire.SOURCE, 0, news)

    def send(self, kind: int, ident: int, segments: Sequence[Any], flags: int = 0) -> None:
        """Send a message of request `ident`. TimedOut if the far end does not take it within the request's time."""
        request = self._requests.get(ident)
        try:
            self._link.send(kind, ident, segments, flags, request.deadline if request is not None else None)
        except _BROKEN as error:
            raise self._not_sent(error, ident) from None

    def send_frame(self, kind: int, ident: int, payload: bytes = b"", flags: int = 0) -> None:
        """As `send`, one bare frame."""
        request = self._requests.get(ident)
        try:
            self._link.send_frame(
                kind, ident, payload, flags, request.deadline if request is not None else None
            )
        except _BROKEN as error:
            raise self._not_sent(error, ident) from None

    def post(self, kind: int, ident: int, payload: bytes) -> None:
        """Send a small message without waiting until it is taken: to cancel and to steer must always be possible."""
        self._check_owner()
        if kind == wire.CANCEL:
            self.provide("cancelling")
        try:
            self._link.post(kind, ident, [payload])
        except _BROKEN as error:
            raise self._not_sent(error) from None

    def taken(self, ident: int, size: int, flags: int = 0) -> None:
        """Tell the far end that `size` bytes of request `ident` were taken, and as many more may come."""
        try:
            self._link.post_frame(wire.CREDIT, ident, b"%d" % size, flags)
        except _BROKEN as error:
            raise self._not_sent(error) from None

    def _not_sent(self, error: Exception, ident: int = 0) -> OutriderError:
        """What is raised where something could not be sent; the session is then of no more use, if a part of it was."""
        if (
            isinstance(error, Stalled) and error.untouched
        ):  # others were ahead of it: they are not to suffer for it
            self._requests.pop(ident, None)
            return TimedOut("others took all the time that there was to send it", hop=self.place)
        if isinstance(error, Stalled):
            self.close(STALLED_WAIT, "the far end took nothing more of what was sent")
            return TimedOut("the far end did not take within its time what was sent to it", hop=self.place)
        self._link.end("the stream broke")
        return self._lost()

    def wait(self, request: Request, timeout: float | None = None) -> Request:
        """Return when `request` is answered; raises TimedOut (then it is cancelled there), Lost, or what was raised."""
        try:
            done = self._link.wait(
                request, timeout if request.deadline is None else self._left(request, timeout)
            )
        except BaseException as error:  # Ctrl-C above all: what runs there ends too
            self.cancel_and_wait(request)
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"cancelled at {self.place}; nothing of it is left running there")
            raise
        finally:
            if self._background:
                self._arm()
        if not done and self.over:
            raise self._lost()
        if not done:
            self.cancel_and_wait(request, why="TimedOut")
            hint = f"{STUCK[0]}; {STUCK[1]}" if self._farewell == b"stuck" else None
            raise TimedOut(_not_done(timeout), hop=self.place, hint=hint)
        if isinstance(request.value, BaseException):
            late = request.deadline is not None and time.monotonic() >= request.deadline
            if late and isinstance(request.value, Lost):  # whoever fed it has found out, and closed, before
                raise TimedOut(_not_done(timeout), hop=self.place) from request.value
            raise request.value
        return request

    @staticmethod
    def _left(request: Request, timeout: float | None) -> float | None:
        """Seconds that are left of the request's own time, or of `timeout` if that is less."""
        if request.deadline is None:
            return timeout
        left = max(0.0, request.deadline - time.monotonic())
        return left if timeout is None else min(left, timeout)

    def wait_for(self, slot: Slot, request: Request, timeout: float | None) -> None:
        """Read, or wait while another reads, until `slot` is done or the stream is over; not past the request's time."""
        try:
            if not self._link.wait(slot, self._left(request, None)) and not self._link.over:
                raise TimedOut(_not_done(timeout), hop=self.place)
        finally:
            self._arm()

    def reuse(self, piece: bytes) -> None:
        """What arrived as content has been dealt with: its memory may be written to again."""
        self._link.reader.reuse(piece)

    def look(self) -> None:
        """Deal out what has arrived already, without waiting, unless another thread reads.

        Only so much: a far end that never stops would hold its caller beyond any timeout.
        """
        if self._link.look(LOOK):
            self._arm()

    def cancel_and_wait(self, request: Request, slot: Slot | None = None, why: str = "Cancelled") -> None:
        """Cancel there, and wait for the answer that says so; if none comes, the session is not worth keeping."""
        tracing.given_up(self.traced_as, request, why)
        with suppress(OutriderError):
            self.post(wire.CANCEL, request.ident, b"")
            if self._link.wait(slot or request, CANCEL_WAIT) or self._link.over:
                self._requests.pop(request.ident, None)
                self._arm()
                return
        self.close(STALLED_WAIT, "the far end did not confirm that something cancelled had ended")

    def drop(self, ident: int) -> None:
        """Cancel there what nobody waits for any more."""
        if self._requests.pop(ident, None) is not None and not self.closed and not self._link.over:
            self.post(wire.CANCEL, ident, b"")
        self._arm()

    def in_background(self, request: Request, finished: Callable[[Request], None]) -> None:
        """Let the hub read for a request that nobody waits for."""
        with self._lock:
            request.finished = finished
            self._background += 1
            done = request.done
        if request.deadline is not None and not done:
            self._watch_time(request.deadline)
        if done:
            self._finish_background(request)
        if self._link.over:
            self._ended(self._ending or "the stream ended")
        self._arm()

    def _watch_time(self, deadline: float) -> None:
        """Have the hub look at `deadline` for what in the background is overdue: one look for all that come later."""
        if self._next_look is None or deadline < self._next_look:
            self._next_look = deadline
            this = weakref.ref(self)
            hub().later(max(0.0, deadline - time.monotonic()), lambda: _look(this()))

    def look_for_overdue(self) -> None:
        """In the hub's thread."""
        self._next_look = None
        now = time.monotonic()
        for request in list(self._requests.values()):
            if request.finished is None or request.deadline is None or request.overdue is not None:
                continue
            if request.deadline <= now:
                self._overdue(request)
            else:
                self._watch_time(request.deadline)

    def _overdue(self, request: Request) -> None:
        """The time of a request in the background is up: it is cancelled, as one that is waited for is."""
        request.overdue = TimedOut("not done in its time", hop=self.place)
        with suppress(OutriderError):
            self.post(wire.CANCEL, request.ident, b"")
        hub().later(CANCEL_WAIT, lambda: None if request.done else self._give_up())

    def _give_up(self) -> None:
        """Close, from a thread of its own, as it takes its time and the hub serves others too."""
        why = "the far end did not confirm that something cancelled had ended"
        threading.Thread(
            target=self.close, args=(STALLED_WAIT, why), name="outrider-close", daemon=True
        ).start()

    def _finish_background(self, request: Request) -> None:
        with self._lock:
            finished, request.finished = request.finished, None
            if finished is not None:
                self._background -= 1
        if finished is not None:
            if request.overdue is not None:
                request.value = request.overdue
            call_back(lambda: finished(request))

    def _arm(self) -> None:
        if self._background and not self._link.has_waiters() and not self._link.over and not self.closed:
            if self._link.reader.buffered():
                hub().soon(self._read_in_background)
            else:
                fd = self._stream.reader.fd
                hub().watch(fd, self._read_in_background, once=True, unless=lambda: self.closed or self.over)

    def _read_in_background(self) -> None:
        """In the hub's thread: read what is there, unless somebody else is reading."""
        if not self._link.has_waiters() and self._link.look(FRAMES_AT_ONCE):
            self._arm()

    def beat(self) -> bool:
        """In the hub's thread: look whether the far end is still heard; False when there is nothing more to look at."""
        beating = self._link
        if self.closed or beating.over or not isinstance(beating, heartbeat.BeatingLink):
            return False
        try:
            if beating.beat(self._read_in_background):
                return True
        except _BROKEN:
            self._link.end("the stream broke")
            return False
        self._fell_silent(heartbeat.SILENT * beating.interval)
        return False

    def _fell_silent(self, seconds: float) -> None:
        """All that waits is told at once. The route's process is ended by a thread of its own, as that takes its time."""
        self._silence = (
            f"the far end is given up: nothing was heard for {seconds:g} s",
            "is the way there down? C code holding the GIL is as silent: isolate=True keeps it apart, heartbeat=None waits",
        )
        self._link.end(self._silence[0])
        threading.Thread(
            target=self.close, args=(STALLED_WAIT, self._silence[0]), name="outrider-close"
        ).start()

    def _handle(self, kind: int, ident: int, flags: int, segments: Sequence[Any]) -> None:
        """Deal with one message from the far end; called by whichever thread reads."""
        if kind in _ENDINGS:
            request = self._requests.get(ident)
            if request is None:
                return  # an answer to what was given up already
            if kind not in request.answers:
                raise wire.ProtocolError("an answer of the wrong kind")
            self._complete(request, (kind, flags, segments))
        elif kind == wire.DATA:
            self._output(self._requests.get(ident), ident, flags, segments[0])
        elif kind == wire.CREDIT:
            request = self._requests.get(ident)
            if request is not None and request.credit is not None:
                request.credit.grant(int(segments[0]))
                request.tell()
        elif kind == wire.ITEM:
            self._item(ident, flags, segments)
        elif kind == wire.BYE:
            self._farewell = bytes(segments[0][:16])
        elif kind == wire.IMPORT:
            asked = values.loads(segments[0], room=1 << 22)
            with tracing.timed(self.traced_as, "module", printable(str(asked.get("module", "")))[:100]):
                self._link.post(wire.SOURCE, ident, self.modules.reply(asked))

    def _item(self, ident: int, flags: int, segments: Sequence[Any]) -> None:
        """A call's value is a generator, or an item of it has come."""
        request = self._requests.get(ident)
        if request is None:
            return
        if wire.ITEM not in request.answers:
            raise wire.ProtocolError("items of what is no call")
        if request.arriving is None:
            request.arriving = Arriving()
            request.finish((wire.ITEM, flags, segments))
            if request.finished is not None:
                self._finish_background(request)
        else:
            request.arriving.put(list(segments))
        request.tell()

    def _output(self, request: Request | None, ident: int, flags: int, piece: bytes) -> None:
        channel = flags & wire.CHANNEL
        if channel != wire.CONTENT:
            piece = bytes(piece)
        if request is not None:
            request.take(channel, piece, bool(flags & wire.END))
            request.tell()
            if channel == wire.CONTENT or request.carried is not None:
                return  # who takes it in tells when
        elif ident == 0 and self.options.show and channel in (wire.STDOUT, wire.STDERR):
            self._unasked_output("stdout" if channel == wire.STDOUT else "stderr", piece)
        if piece:
            self._link.post_frame(wire.CREDIT, ident, b"%d" % len(piece))

    def _room(self, kind: int, ident: int, size: int) -> bool:
        """Whether a large message is to be kept; one that nobody waits for is not."""
        request = self._requests.get(ident)
        if request is None:
            return False
        if request.timed is not None and kind == wire.RESULT:
            request.arrival = tracing.clock()
        if kind not in request.answers:
            raise wire.ProtocolError("an answer of the wrong kind")
        items = request.arriving
        if items is not None and kind == wire.ITEM:
            if not items.has_room():
                raise wire.ProtocolError("more items than may be under way")
            if size <= request.room:
                return True
        elif request.reserve(size):
            return True
        words = f"its answer has {size} bytes, and with what it printed that is more than max_answer, {self._answer_limit}"
        hint = "raise max_answer on the route, return less, or fetch files with get()"
        self._complete(request, FarError(words, hop=self.place, hint=hint))
        if items is not None:
            self.post(wire.CANCEL, ident, b"")
        return False

    def _complete(self, request: Request, answered: Any) -> None:
        """A request has its answer, or the error that stands for it. Once more, if Ctrl-C came in between."""
        if request.credit is not None:
            request.credit.close()
        (request.arriving or request).finish(answered)
        request.tell()
        if request.finished is not None:
            self._finish_background(request)
        self._requests.pop(request.ident, None)

    def _interrupted(self, kind: int, ident: int, flags: int, segments: Sequence[Any]) -> None:
        """Ctrl-C came while this message was dealt with: that is repeated, or, where it cannot be, its request cancelled."""
        request = self._requests.get(ident)
        if kind not in (wire.DATA, wire.CREDIT, wire.ITEM):
            self._handle(kind, ident, flags, segments)
        elif request is not None:
            hint = "call again; what it had printed, or been given, by then is not complete"
            request.fault = request.fault or Cancelled(INTERRUPTED, hop=self.place, hint=hint)
            self.post(wire.CANCEL, ident, b"")
        elif kind == wire.DATA:
            self._link.post_frame(wire.CREDIT, ident, b"%d" % len(segments[0]))

    def _ended(self, reason: str) -> None:
        """The stream is over: whatever is under way is lost."""
        self._ending = self._ending or reason
        under_way = list(self._requests.values())
        lost = self._lost() if under_way else None
        for request in under_way:
            if request.credit is not None:
                request.credit.close()
            waited_for = request.arriving or request
            if not waited_for.done:
                waited_for.finish(copy(lost))
                tracing.given_up(self.traced_as, request, "Lost")
            request.tell()
            self._finish_background(request)
            self._requests.pop(request.ident, None)

    def _lost(self) -> OutriderError:
        if self._silence is not None:
            message, hint = self._silence
            return Lost(message, stderr=self._stream.stderr.text(), hop=self.place, hint=hint)
        if self.closed:
            why = f": {self._closed_why}" if self._closed_why else ""
            return Lost(f"the session is closed{why}", hop=self.place, hint="open another with route.open()")
        if self._ending == INTERRUPTED:
            hint = "what was under way is lost with it; open another with route.open()"
            return Lost(f"the session has ended: {INTERRUPTED}", hop=self.place, hint=hint)
        if self._farewell in FAREWELLS:
            message, hint = FAREWELLS[self._farewell]
            return Lost(message, hop=self.place, hint=hint)
        said = self._stream.stderr.text(settle=0 if hub().is_current() else 0.3)
        with suppress(subprocess.TimeoutExpired):
            self._stream.process.wait(0.2)
        status = self._stream.process.poll()
        found = self.chain.diagnose(said, status) if said or status else None
        if found is not None:
            index, diagnosis = found
            hop = repr(self.chain.hops[index]) if self.chain.hops else self.place
            return Lost(diagnosis.message, stderr=said, hop=hop, hint=diagnosis.hint)
        return Lost(f"the far end is gone: {self._how_ended(status)}", stderr=said, hop=self.place)

    def _how_ended(self, status: int | None) -> str:
        reason = self._ending or "the stream broke"
        if status is None:
            return reason
        how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        return f"{reason}; {self._stream.process.args[0].decode()} {how}"


def _look(connection: Connection | None) -> None:
    if connection is not None:
        connection.look_for_overdue()


def _not_done(timeout: float | None) -> str:
    return "not done in its time" if timeout is None else f"not done within {timeout:g} s"


def _far_end(hello: dict[str, Any]) -> FarEnd:
    major, minor, micro = hello["python"]
    host, user, executable = (printable(hello[name])[:255] for name in ("host", "user", "executable"))
    return FarEnd(host, user, hello["pid"], (major, minor, micro), executable)


def _close_all() -> None:
    """At the interpreter's end: all together, in bounded time, whatever state they are in."""
    closed = [connection for connection in list(_live) if connection._start_closing()]
    closing.end_processes([connection.process for connection in closed], EXIT_WAIT)
    for connection in closed:
        connection._finish_closing()


def _disinherit_all() -> None:
    for connection in list(_live):
        connection.disinherit()
    _live.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_disinherit_all)
