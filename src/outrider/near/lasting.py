"""A connection that outlasts its stream: when that breaks, the route is opened again, and what may be is repeated."""

from __future__ import annotations

import functools
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from outrider.errors import ConfigError, Lost, OutriderError, TimedOut
from outrider.far import wire
from outrider.far.link import Slot
from outrider.near import closing, heartbeat, local_process, opening
from outrider.near.connection import STALLED_WAIT, Connection
from outrider.near.hub import hub
from outrider.near.modules import ModuleServer
from outrider.near.request import Request
from outrider.near.stream import NearLink, Stalled
from outrider.traces import tracing

if TYPE_CHECKING:
    from _thread import LockType

    from outrider.chain import Chain
    from outrider.options import Options
    from outrider.session import Session

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__outrider_idempotent__"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts to open the route again: each twice the one before."""
END_WAIT = 0.5
"""Seconds at each step of ending what is left of a route that broke."""
UNDECLARED = (
    "it is not repeated, as nothing says that it may run twice",
    "where that is harmless, say so: @outrider.idempotent, or far.options(idempotent=True).call(...)",
)
STARTED = ("it is not repeated, as part of what it gives has been taken already", None)


def idempotent(function: F) -> F:
    """Declare that running `function` twice does what running it once does, so that a call of it may be repeated.

    Gives the function itself. ConfigError for one that keeps no attributes, such as a builtin.
    """
    try:
        setattr(function, MARK, True)
    except (AttributeError, TypeError):
        raise ConfigError(
            f"{function!r} cannot be marked",
            key="idempotent",
            hint="far.options(idempotent=True).call(...) declares a single call",
        ) from None
    return function


def may_repeat(function: object) -> bool:
    """Whether it was declared that a function may run twice."""
    while isinstance(function, functools.partial) and not hasattr(function, MARK):
        function = function.func
    return getattr(function, MARK, False) is True


class LastingLink(NearLink):
    """A link whose stream can be exchanged. While there is none, `over` is true, and who waits goes on waiting."""

    mending = False

    def wait(self, slot: Slot, timeout: float | None = None) -> bool:
        """As Link.wait, through any number of streams; False once the last one is over, too."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if super().wait(slot, left):
                break
            if not self.over or not self._mended(slot, deadline):
                break
        return slot.done

    def _mended(self, slot: Slot, deadline: float | None) -> bool:
        """Sleep until there is a stream again; False if there will be none, or not in time."""
        try:
            self._waiting.append(slot)
            while self.over and self.mending and not slot.done:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                slot.sleep(left)
        finally:
            if slot in self._waiting:
                self._waiting.remove(slot)
        return not self.over or slot.done

    def wake_all(self) -> None:
        """Whoever waits looks round: there is another stream, or there will be none."""
        for slot in list(self._waiting):
            slot.wake()

    def _post(self, frames: bytes) -> None:
        if not self.over:  # it would be for a far end that is gone
            super()._post(frames)

    def exchange(self, reader: wire.FrameReader, write_fd: int) -> None:
        """Go on with another stream. Nobody reads or writes the old one any more."""
        with self._posting:
            self._outbox.clear()
            self._outbox_size = 0
        self.connect(reader, write_fd)
        self._torn = self.over = False

    def connect(self, reader: wire.FrameReader, write_fd: int) -> None:
        reader.room = self._room
        self._poll = select.poll()
        self._poll.register(reader.fd, select.POLLIN)
        os.set_blocking(write_fd, False)
        self.reader, self.write_fd = reader, write_fd


class LastingBeatingLink(LastingLink, heartbeat.BeatingLink):
    """The same with heartbeats."""

    def connect(self, reader: wire.FrameReader, write_fd: int) -> None:
        super().connect(reader, write_fd)
        self.listen_to(reader)


@dataclass
class Known:
    """What there is to know of a request, should its stream break: what was said of it, and what was sent.

    `may`: it may be sent again. `about`: what was announced ahead of it. `times`: how often it was sent again.
    """

    may: bool
    about: tuple[Any, ...] | None = None
    begun: bool = False
    messages: list[tuple[int, Sequence[Any], int, bool]] = field(default_factory=list)
    times: int = 0


class Fresh(Connection):
    """Another far end for a connection that lost its own; it is not to end with this object."""

    def _new_link(self, stream: opening.OpenStream) -> NearLink:
        return NearLink(
            stream.reader, stream.write_fd, self._handle, self._interrupted, self._ended, self._room
        )

    def hand_over(self) -> opening.OpenStream:
        """Its stream, which is the caller's from now on."""
        self._forget()
        return self._stream


class LastingConnection(Connection):
    """A connection for `reconnect`: up to so many attempts in a row to open the route again when its stream breaks."""

    names = False
    """Whether the far end wants to be told what calls are named."""

    def __init__(
        self,
        chain: Chain,
        options: Options,
        prepare: Callable[[Connection], None] | None = None,
        attempt: opening.Opening | None = None,
    ) -> None:
        self._known: dict[int, Known] = {}
        self._inside = 0
        self._let_go = False
        self._tries = 0
        self._changed = threading.Condition()
        self._attempt: opening.Opening | None = None
        self._mender: threading.Thread | None = None
        self._failed: OutriderError | None = None
        self.sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.lasting = self
        self._prepare = prepare
        super().__init__(chain, options, attempt)
        if prepare is not None:
            prepare(self)

    def _new_link(self, stream: opening.OpenStream) -> NearLink:
        parts = stream.reader, stream.write_fd, self._handle, self._interrupted, self._ended, self._room
        if self.options.heartbeat is None:
            return LastingLink(*parts)
        return LastingBeatingLink(self.options.heartbeat, *parts)

    @property
    def over(self) -> bool:
        """True once nothing can be sent or received any more: not while the route is being opened again."""
        return self._link.over and not self.mending

    @property
    def mending(self) -> bool:
        """Whether there is no stream just now, and another is on its way."""
        assert isinstance(self._link, LastingLink)
        return self._link.mending

    # --- sending ------------------------------------------------------------------------------------------------

    def know(
        self, request: Request, may: bool, function: object = None, about: tuple[Any, ...] | None = None
    ) -> None:
        """Before a request is sent: whether it may be sent again, should the stream break before it is answered."""
        self._known[request.ident] = Known(may or may_repeat(function), about)

    def fed(self, request: Request) -> None:
        """It gets input of which nothing is kept: it cannot be repeated."""
        self._known[request.ident].may = False

    def send(self, kind: int, ident: int, segments: Sequence[Any], flags: int = 0) -> None:
        """As Connection.send; waits for a stream if there is none. What is lost on the way is told where it is awaited."""
        with self._sending(ident, kind, segments, flags) as goes:
            if goes:
                super().send(kind, ident, segments, flags)

    def send_frame(self, kind: int, ident: int, payload: bytes = b"", flags: int = 0) -> None:
        """As `send`, one bare frame."""
        with self._sending(ident, kind, [payload], flags, bare=True) as goes:
            if goes:
                super().send_frame(kind, ident, payload, flags)

    @contextmanager
    def _sending(
        self, ident: int, kind: int, segments: Sequence[Any], flags: int, bare: bool = False
    ) -> Iterator[bool]:
        """While something is sent the stream is not exchanged. False if its request is lost: it must not go any more."""
        request = self._requests.get(ident)
        self._enter(request)
        try:
            if request is None or ident not in self._requests:
                yield False
                return
            known = self._known.setdefault(ident, Known(may=kind == wire.PING))
            known.begun = True
            if known.may:
                known.messages.append((kind, _kept(request, segments), flags, bare))
            if known.about is not None and not bare:
                self.announce(*known.about)  # to a far end that came after it was announced
            with suppress(Lost):
                yield True
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _enter(self, request: Request | None) -> None:
        """Wait for a stream, and have it stay."""
        with self._changed:
            while self.mending and not self.closed:
                left = None if request is None else self._left(request, None)
                if request is not None and left is not None and left <= 0:
                    self._drop_request(request)
                    raise TimedOut("the route was not open again in time", hop=self.place)
                self._changed.wait(left)
            self._inside += 1

    def provide(self, *parts: str) -> None:
        """As Connection.provide. Either the far end that there is has them then, or the next one gets them."""
        with self._lock:
            super().provide(*parts)

    def post(self, kind: int, ident: int, payload: bytes) -> None:
        """As Connection.post; what is posted while there is no stream is for a far end that is gone."""
        if not self._link.over:
            super().post(kind, ident, payload)

    def _check_open(self) -> None:
        if self.over or self.closed:
            raise self._lost()

    def _not_sent(self, error: Exception, ident: int = 0) -> OutriderError:
        if isinstance(error, Stalled) and not error.untouched:
            self._requests.pop(ident, None)
            self._link.end("the far end took nothing more of what was sent")
            return TimedOut("the far end did not take within its time what was sent to it", hop=self.place)
        return super()._not_sent(error, ident)

    def _complete(self, request: Request, answered: Any) -> None:
        self._known.pop(request.ident, None)
        self._tries = 0
        super()._complete(request, answered)

    def _drop_request(self, request: Request) -> None:
        self._requests.pop(request.ident, None)
        self._known.pop(request.ident, None)

    def drop(self, ident: int) -> None:
        """As Connection.drop."""
        self._known.pop(ident, None)
        super().drop(ident)

    def cancel_and_wait(self, request: Request, slot: Slot | None = None, why: str = "Cancelled") -> None:
        """As Connection.cancel_and_wait. While there is no stream, there is nobody to wait for."""
        if self.mending:
            self._drop_request(request)
            tracing.given_up(self.traced_as, request, why)
            return
        super().cancel_and_wait(request, slot, why)

    def _overdue(self, request: Request) -> None:
        if not self.mending:
            super()._overdue(request)
            return
        self._drop_request(request)
        request.overdue = TimedOut("not done in its time", hop=self.place)
        request.finish(request.overdue)
        self._finish_background(request)

    # --- the stream breaks --------------------------------------------------------------------------------------

    def _fell_silent(self, seconds: float) -> None:
        self._link.end(f"nothing was heard for {seconds:g} s")

    def _ended(self, reason: str) -> None:
        """The stream is over. What may be repeated waits for the next; the rest is lost."""
        assert isinstance(self._link, LastingLink)
        with self._lock:
            final = self.closed or self.inherited or self._failed is not None
            if not final:
                if self._link.mending:
                    return
                self._ending = reason
                self._link.mending = True
                mender = threading.Thread(target=self._mend, name="outrider-reconnect", daemon=True)
                self._mender = mender
        if final:
            super()._ended(reason)
            return
        mender.start()
        self._sort_out()

    def _may_go_on(self, request: Request) -> bool:
        known = self._known.get(request.ident)
        if known is None or not known.begun:
            return True  # nothing of it has been sent
        cancelled = request.future is not None and request.future.cancelled()
        started = request.arriving is not None or cancelled or request.overdue is not None
        return known.may and not started and known.times < self.options.reconnect

    def _why_not(self, request: Request, known: Known | None) -> tuple[str, str | None]:
        """Why a request is lost: words, and a hint."""
        if known is not None and known.times:
            return f"it was sent {known.times + 1} times, and is given up", None
        return STARTED if request.arriving else UNDECLARED

    def _sort_out(self) -> None:
        """What cannot go on is lost, and told so at once."""
        with self._lock:
            hopeless = [request for request in self._requests.values() if not self._may_go_on(request)]
            for request in hopeless:
                del self._requests[request.ident]
        for request in hopeless:
            why, hint = self._why_not(request, self._known.pop(request.ident, None))
            if request.credit is not None:
                request.credit.close()
            lost = Lost(f"the far end is gone: {self._ending}; {why}", hop=self.place, hint=hint)
            waited_for = request.arriving or request
            if not waited_for.done:
                waited_for.finish(lost)
                tracing.given_up(self.traced_as, request, "Lost")
            request.tell()
            self._finish_background(request)

    def _mend(self) -> None:
        """In a thread of its own: end what is left of the old route, and open it again, if that can be."""
        said = self._lost()
        self._let_go_of_stream()
        limit = self.options.open_timeout
        if limit is None and not any(hop.scheduler for hop in self.chain.hops):
            limit = opening.OPEN_TIMEOUT
        deadline = None if limit is None else time.monotonic() + limit
        error: OutriderError | None = None
        pause = FIRST_PAUSE
        while self._tries < self.options.reconnect and not self.closed:
            self._tries += 1
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                self._try_again(left)
                return
            except OutriderError as failed:
                error = failed
            if self._tries < self.options.reconnect:
                with self._changed:
                    self._changed.wait_for(lambda: self.closed, pause if left is None else min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        self._end_for_good(said, error)

    def _let_go_of_stream(self) -> None:
        """Nobody reads or writes the broken stream any more after this, and its process is gone."""
        stream, link = self._stream, self._link
        with self._lock:
            if self.closed:  # whoever closes does it
                return
            self._let_go = True
        hub().forget(stream.reader.fd)
        link.stop_writing()
        stream.process.end(END_WAIT)
        for lock in (link._writing, link.reading):  # whoever is still at it sees the end now
            _wait_for(lock)
        for fd in (stream.reader.fd, stream.write_fd):
            hub().forget(fd)
        self._dropped.detach()
        closing.release(stream, link)
        with self._changed:
            self._changed.wait_for(lambda: not self._inside)

    def _try_again(self, left: float | None) -> None:
        """One attempt, within so many seconds; OutriderError if it fails."""
        options = self.options if left is None else replace(self.options, open_timeout=left)
        fresh = self._open_again(options)
        if self._prepare is not None:
            self._prepare(fresh)
        self._go_on_with(fresh)

    def _open_again(self, options: Options) -> Fresh:
        with self._trying(opening.Opening(self.chain, options)) as attempt:
            return Fresh(self.chain, options, attempt)

    @contextmanager
    def _trying(self, attempt: opening.Opening) -> Iterator[opening.Opening]:
        """While a route is being opened, closing this connection ends that."""
        with self._changed:
            self._attempt = attempt
            if self.closed:
                attempt.cancel()
        try:
            yield attempt
        finally:
            self._attempt = None

    def _go_on_with(self, fresh: Fresh) -> None:
        """The new far end has nothing of what the old one had: what is still wanted goes there again."""
        with self._lock:
            if self.closed:
                fresh.close()
                return
            self._take_over(fresh)
            again = [self._requests[ident] for ident, known in sorted(self._known.items()) if known.begun]
        self._after_exchange()
        with suppress(OutriderError):
            for request in again:
                self._send_again(request)

    def _own(self, stream: opening.OpenStream) -> None:
        """From now on this is the stream."""
        self._stream = stream
        self._let_go = False
        self._guard(stream)

    def _whole_again(self) -> None:
        """There is a stream: whoever waits for one goes on."""
        assert isinstance(self._link, LastingLink)
        with self._changed:
            self._link.mending = False
            self._changed.notify_all()
        self._link.wake_all()

    def _after_exchange(self) -> None:
        if self.options.heartbeat is not None:
            heartbeat.start(self, self.options.heartbeat)
        self._arm()

    def _take_over(self, fresh: Fresh) -> None:
        assert isinstance(self._link, LastingLink)
        stream = fresh.hand_over()
        self._own(stream)
        self.far, self.noise, self.traced_as = fresh.far, fresh.noise, fresh.traced_as
        for session in self.sessions:
            session.far = fresh.far
        self.modules = ModuleServer(trusted=self.options.trust == "pickle")
        parts, self._provided = self._provided, set()
        self._link.exchange(stream.reader, stream.write_fd)
        with self._changed:  # nobody's request goes ahead of the parts that it needs
            self._link.mending = False
            with suppress(OutriderError):
                self.provide(*parts)
        self._whole_again()

    def _send_again(self, request: Request) -> None:
        known = self._known.get(request.ident)
        if known is None:
            return
        known.times += 1
        _forget_output(request)
        if known.about is not None:
            self.announce(*known.about)
        for kind, segments, flags, bare in list(known.messages):
            if bare:
                super().send_frame(kind, request.ident, segments[0], flags)
            else:
                super().send(kind, request.ident, segments, flags)

    def _end_for_good(self, said: OutriderError, error: OutriderError | None) -> None:
        """No attempt has led anywhere."""
        assert isinstance(self._link, LastingLink)
        more = "" if error is None else f"; and it could not be opened again: {error.message}"
        with self._lock:
            self._failed = Lost(
                f"{said.message}{more}", hop=said.hop, hint=said.hint if error is None else error.hint
            )
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        """There will be no other stream."""
        assert isinstance(self._link, LastingLink)
        self._link.mending = False
        super()._ended(self._ending or "the stream ended")
        self._link.wake_all()
        with self._changed:
            self._changed.notify_all()

    def _lost(self) -> OutriderError:
        return super()._lost() if self._failed is None or self.closed else copy(self._failed)

    # --- the end ------------------------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.cancel()
        with self._lock:
            let_go = self._let_go
        if not let_go:
            super()._say_goodbye()
        if self.mending:
            self._stop_waiting()

    def _release(self) -> None:
        mender = self._mender
        if mender is not None and threading.current_thread() is not mender and not hub().is_current():
            mender.join(STALLED_WAIT)
        if not self._let_go:
            super()._release()

    def disinherit(self) -> None:
        """In a forked child: neither the stream nor one that is being opened is its own."""
        super().disinherit()
        process: local_process.RouteProcess | None = getattr(self._attempt, "process", None)
        if process is not None:
            process.returncode = 0
            process.close_pipes()


def _wait_for(lock: LockType) -> None:
    """Until whoever holds it has let go."""
    with lock:
        pass


def _kept(request: Request, segments: Sequence[Any]) -> list[Any]:
    """Segments to send again. A future's caller may change its arrays in the meantime, one that waits does not."""
    if request.future is None:
        return list(segments)
    return [segment if isinstance(segment, bytes) else bytearray(segment) for segment in segments]


def _forget_output(request: Request) -> None:
    """What it has printed so far comes again."""
    request.room += sum(map(len, (request.output or {}).values()))
    request.output = request.dropped = None
