"""Sessions whose far end outlives them: leaving it with a ticket, coming back to it, and going on where a stream broke."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from outrider.errors import ConfigError, Lost, OutriderError, Refused, RouteError
from outrider.far import loader, wire
from outrider.far.keeping import DETACH, KEPT, Incoming, Outgoing
from outrider.far.link import Slot
from outrider.harmless import printable
from outrider.hops.sizes import seconds
from outrider.near import closing, heartbeat, opening
from outrider.near.connection import CALL_ANSWERS, CLOSE_WAIT, Connection
from outrider.near.hub import hub
from outrider.near.lasting import Fresh, Known, LastingConnection, LastingLink
from outrider.near.request import Request
from outrider.near.stream import NearLink, Stalled, Waited, wait_writable

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from outrider.chain import Chain
    from outrider.options import Options

TICKET = 1
"""Version of the tickets' form."""
IN_TICKET = ("python", "trust", "max_answer", "heartbeat", "patience", "open_timeout", "reconnect", "detach")
"""Options that a ticket tells, where they are not the defaults."""
PENDING_LIMIT = 1 << 16
"""Requests of a kept far end that are believed."""


class KeptLink(LastingLink):
    """A link that numbers its frames and keeps what is not confirmed: another stream goes on where the last one broke."""

    def number(self) -> None:
        """Count from now on: the next frame is the first, both ways."""
        self.out = Outgoing()
        self.incoming = Incoming(self._confirm)
        self.incoming.listen_to(self.reader)

    def begin_idents(self, last: int) -> None:
        """The far end knows requests up to this number: those from here come after."""
        self._idents = count(last + 1)

    def _confirm(self, count: int) -> None:
        self.post_frame(wire.CREDIT, 0, b"%d" % count, KEPT)

    def confirmed(self, count: int) -> None:
        """The far end has so many frames."""
        self.out.confirm(count)

    # --- writing ------------------------------------------------------------------------------------------------

    def _write(self, buffers: Sequence[Any], deadline: float | None = None) -> None:
        """As NearLink._write. What the stream does not take goes out on the next one."""
        left = -1 if deadline is None else max(0, deadline - time.monotonic())
        try:
            if not self._take_turn(left):  # type: ignore[no-untyped-call]
                raise Waited
            self._collect()
            self.out.add(b"".join(buffers))
            self._push(deadline)
        finally:
            self._let_others()
            self._flush()

    def _let_others(self) -> None:
        with suppress(RuntimeError):  # it was not this thread's turn
            self._writing.release()

    def _collect(self) -> None:
        """What was posted takes its place among what was sent."""
        with self._posting:
            for frame in self._outbox:
                self.out.add(frame)
            self._outbox = deque()
            self._outbox_size = 0

    def _push(self, deadline: float | None) -> None:
        """Write what is to be written. If Ctrl-C comes in between, whoever is next goes on with it."""
        try:
            while not self.over and (piece := self.out.next()) is not None:
                taken = 0
                try:
                    for taken in map(os.write, (self.write_fd,), (piece,)):  # noqa: B007  # as in FrameReader: no byte is written unseen
                        pass
                except BlockingIOError:
                    wait_writable(self.write_fd, deadline)
                finally:
                    if taken:
                        self.out.wrote(taken)
        except OSError:
            self.end("the stream broke")

    def post(self, kind: int, ident: int, segments: Sequence[Any]) -> None:
        """As NearLink.post, frame by frame. While there is no stream, it waits for the next."""
        for buffers in wire.message_frames(kind, ident, segments):
            self._post(b"".join(buffers))

    def _post(self, frames: bytes) -> None:
        NearLink._post(self, frames)

    def _flush(self) -> None:
        while (self._outbox or self.out.next() is not None) and not self.over:
            if (
                self._writing._is_owned()
            ):  # in a signal's handler: what that interrupted flushes when it is done
                return
            stalled = False
            try:
                if not self._writing.acquire(False):
                    return
                self._collect()
                self._push(0)
            except Stalled:
                stalled = True
            finally:
                self._let_others()
            if stalled:
                hub().watch(self.write_fd, self._flush, once=True, writing=True, unless=lambda: self.over)
                return

    # --- the next stream ----------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """As Link.end. What has arrived in part goes on arriving on the next stream."""
        if not self.over:
            self.over = True
            self.on_end(reason)
            self.wake_all()

    def resume(self, reader: wire.FrameReader, write_fd: int, received: int) -> None:
        """Go on with another stream to the same far end, which has received so many frames."""
        self.out.rewind(received)
        self.incoming.listen_to(reader)
        self.connect(reader, write_fd)
        self.over = False

    def adopt(self, other: KeptLink) -> None:
        """Go on with what another link has begun with a new far end."""
        self._arriving.clear()
        self.out, self.incoming = other.out, other.incoming
        self.incoming.confirm = self._confirm


class KeptBeatingLink(KeptLink, heartbeat.BeatingLink):
    """The same with heartbeats."""

    def connect(self, reader: wire.FrameReader, write_fd: int) -> None:
        super().connect(reader, write_fd)
        self.listen_to(reader)


class KeptFresh(Fresh):
    """Another far end that is to be kept."""

    def _new_link(self, stream: opening.OpenStream) -> NearLink:
        link = KeptLink(
            stream.reader, stream.write_fd, self._handle, self._interrupted, self._ended, self._room
        )
        link.number()
        return link

    def _handle(self, kind: int, ident: int, flags: int, segments: Sequence[Any]) -> None:
        if not _confirmed(self._link, kind, ident, flags, segments):
            super()._handle(kind, ident, flags, segments)


class KeptOpening(opening.Opening):
    """Opens a far end that is to be kept, or, with a path, the way to one that is."""

    def __init__(self, chain: Chain, options: Options, order: Mapping[str, Any]) -> None:
        super().__init__(chain, options)
        self._order = order

    def _greets_with(self) -> dict[str, Any]:
        parts = ("attaching",) if self._order["path"] is not None else ("attaching", "keeping", "cancelling")
        keep = {
            "era": None,
            "of": None,
            "received": None,
            "take": False,
            **self._order,
            "seconds": limit_of(self.options),
            "heartbeat": heartbeat.told(self.options),
            "sources": {part: loader.source(part) for part in parts},
        }
        hello = {**super()._greets_with(), "keep": keep, "heartbeat": None}
        if self._order["path"] is not None:
            hello.update(cwd=None, env={}, tempdir=False)
        return hello

    def _unsettled(self, problem: str) -> OutriderError:
        what, _, more = problem.partition("kept: ")[2].partition(":")
        if not what:
            return super()._unsettled(problem)
        found = REFUSALS.get(what)
        if found is None:
            return RouteError(
                f"the far end cannot be kept there: {printable(more or what).strip()}",
                hop=self.place,
                hint="it needs a temporary folder with free space, and Python's socket module",
            )
        kind, message, hint = found
        error = kind(message, hop=self.place, hint=hint)
        error.kept = what  # type: ignore[attr-defined]
        return error


REFUSALS: dict[str, tuple[type[OutriderError], str, str]] = {
    "gone": (
        Lost,
        "the kept far end is gone",
        "its time was up, it was ended or its machine restarted; or this route leads to another machine, user or /tmp",
    ),
    "other": (Lost, "another near end has taken the far end over", "two programs use the same ticket"),
    "attached": (
        Refused,
        "another near end is attached to this far end",
        "detach that one, or take it over: attach(ticket, take=True)",
    ),
    "secret": (Refused, "the ticket does not fit this far end", "use the last ticket that it gave"),
    "folder": (
        Refused,
        "the folder of the kept far end is not its user's alone",
        "somebody may have put it there",
    ),
}


class KeptConnection(LastingConnection):
    """A connection for `detach`. With `reconnect`, a stream that breaks loses nothing as long as the far end is there."""

    names = True

    def __init__(
        self,
        chain: Chain,
        options: Options,
        prepare: Callable[[Connection], None] | None = None,
        ticket: Mapping[str, Any] | None = None,
        take: bool = False,
    ) -> None:
        refuse_unless_kept(chain)
        self._secret = ticket["secret"] if ticket else os.urandom(16).hex()
        self._gone = False
        self._detached: str | None = None
        order: dict[str, Any] = {"secret": self._secret, "path": None}
        if ticket is not None:
            order.update(path=ticket["path"], of=ticket["era"], received=ticket["received"], take=take)
        self.kept: dict[str, Any] = {}
        self.futures: dict[int, Future[Any]] = {}
        super().__init__(chain, options, None if ticket else prepare, KeptOpening(chain, options, order))
        self._prepare = prepare
        try:
            self.kept = _checked(self._stream.hello, attached=ticket is not None)
        except BaseException:
            self.close()
            raise
        if ticket is not None:
            self._kept_link.begin_idents(self.kept["last"])

    def _new_link(self, stream: opening.OpenStream) -> NearLink:
        parts = stream.reader, stream.write_fd, self._handle, self._interrupted, self._ended, self._room
        beats = self.options.heartbeat
        link = KeptLink(*parts) if beats is None else KeptBeatingLink(beats, *parts)
        link.number()
        return link

    @property
    def _kept_link(self) -> KeptLink:
        assert isinstance(self._link, KeptLink)
        return self._link

    def _handle(self, kind: int, ident: int, flags: int, segments: Sequence[Any]) -> None:
        if not _confirmed(self._link, kind, ident, flags, segments):
            super()._handle(kind, ident, flags, segments)

    def post(self, kind: int, ident: int, payload: bytes) -> None:
        """As Connection.post; while there is no stream, it waits for the next."""
        Connection.post(self, kind, ident, payload)

    def close(self, grace: float = CLOSE_WAIT, why: str = "") -> None:
        """As Connection.close. Without a stream the far end would not hear of it: for that one is waited for a little."""
        if self.mending and self._mender is not threading.current_thread() and not hub().is_current():
            with self._changed:
                self._changed.wait_for(lambda: self.closed or not self.mending, grace)
        super().close(grace, why)

    # --- leaving, and coming back -------------------------------------------------------------------------------

    def ticket(self) -> str:
        """What another process needs to come to this far end, as one line of JSON."""
        if self._detached is not None:
            return self._detached
        try:
            route: str | None = self.chain.to_string()
        except OutriderError:  # a password by a callable, say: then only the route itself leads back
            route = None
        default = type(self.options)()
        options = {
            name: getattr(self.options, name)
            for name in IN_TICKET
            if getattr(self.options, name) != getattr(default, name)
        }
        told = {"outrider": TICKET, "route": route, "options": options, "secret": self._secret}
        return json.dumps({**told, "path": self.kept["path"], "era": None, "received": None})

    def detach(self) -> str:
        """Leave the far end with all that runs there; what is waited for here is Lost. Gives the ticket."""
        self._check_owner()
        self._enter(None)
        with self._changed:
            self._inside -= 1
        if self.closed or self.over:
            raise self._lost()
        ticket = json.loads(self.ticket())
        self._detached = json.dumps(ticket)
        with suppress(OutriderError):
            self.post(wire.BYE, 0, DETACH)
            self._link.wait(Slot(), CLOSE_WAIT)  # until the far end has let go: what was under way arrives
        self._link.end("the session was detached")  # whatever came of it, no other BYE goes out
        ticket.update(era=self.kept["era"], received=self._kept_link.incoming.count)
        self._detached = json.dumps(ticket)
        self.close()
        return self._detached

    def _lost(self) -> OutriderError:
        if self._detached is not None:
            return Lost(
                "the session was detached", hop=self.place, hint="its calls go on: outrider.attach(ticket)"
            )
        error = super()._lost()
        if not self.closed and not self._gone and self._failed is None and not self.options.reconnect:
            error.hint = f"its work goes on for {self.options.detach}: outrider.attach(far.ticket)"
        return error

    def pending(self) -> list[dict[str, Any]]:
        """What was under way when this near end came."""
        return list(self.kept.get("pending", ()))

    def adopt(self, about: Mapping[str, Any], label: str | None) -> Request:
        """The request for something that another near end has started."""
        request = Request(about["id"], None, self.options.answer_limit, None, CALL_ANSWERS, label)
        self._requests[request.ident] = request
        self.know(request, False)
        return request

    # --- the stream breaks --------------------------------------------------------------------------------------

    def _ended(self, reason: str) -> None:
        if self._detached is not None:
            self._failed = Lost("the session was detached", hop=self.place)
        super()._ended(reason)

    def _may_go_on(self, request: Request) -> bool:
        return (bool(self.options.reconnect) and not self._gone) or super()._may_go_on(request)

    def _why_not(self, request: Request, known: Known | None) -> tuple[str, str | None]:
        if self._gone:
            return super()._why_not(request, known)
        return (
            f"it goes on there for {self.options.detach}",
            "outrider.attach(far.ticket) comes back to it; with reconnect=N the session does so itself",
        )

    def _drop_request(self, request: Request) -> None:
        known = self._known.get(request.ident)
        if known is not None and known.begun:
            with suppress(OutriderError):
                self.post(wire.CANCEL, request.ident, b"")
        super()._drop_request(request)

    def _try_again(self, left: float | None) -> None:
        if not self._gone:
            try:
                self._resume(left)
                return
            except OutriderError as error:
                what = getattr(error, "kept", "")
                if what == "other":
                    self._tries = self.options.reconnect
                if what != "gone":
                    raise
            self._gone = True
            self._sort_out()
        super()._try_again(left)
        self._gone = False

    def _resume(self, left: float | None) -> None:
        """Go on with the far end that was kept: nothing is lost, and nothing is done twice."""
        order = {
            "secret": self._secret,
            "path": self.kept["path"],
            "era": self.kept["era"],
            "received": self._kept_link.incoming.count,
        }
        options = self.options if left is None else replace(self.options, open_timeout=left)
        with self._trying(KeptOpening(self.chain, options, order)) as attempt:
            stream = attempt.open()
        kept = _checked(stream.hello, attached=True)
        if stream.passage:
            stream.passage.over(*self.traced_as)
        with self._lock:
            if self.closed:
                closing.let_go_of(stream)
                return
            self._own(stream)
            try:
                self._kept_link.resume(stream.reader, stream.write_fd, kept["received"])
            except ValueError as error:
                raise Lost(f"broken protocol: {error}", hop=self.place) from None
            self._whole_again()
        self._kept_link._flush()
        self._after_exchange()

    def _open_again(self, options: Options) -> Fresh:
        order = {"secret": self._secret, "path": None}
        with self._trying(KeptOpening(self.chain, options, order)) as attempt:
            return KeptFresh(self.chain, options, attempt)

    def _take_over(self, fresh: Fresh) -> None:
        assert isinstance(fresh._link, KeptLink)
        self._kept_link.adopt(fresh._link)
        self.kept = _checked(fresh._stream.hello, attached=False)
        super()._take_over(fresh)


def _confirmed(link: NearLink, kind: int, ident: int, flags: int, segments: Sequence[Any]) -> bool:
    """Whether a message was no more than a word on what has arrived there."""
    if kind != wire.CREDIT or ident or not flags & KEPT:
        return False
    assert isinstance(link, KeptLink)
    link.confirmed(int(segments[0]))
    return True


def limit_of(options: Options) -> int:
    """Seconds that a far end waits unattended."""
    return seconds(options.detach or 0, hop="options", key="detach")


def refuse_unless_kept(chain: Chain) -> None:
    """ConfigError if a far end at the end of this route would not outlive the programs that lead there."""
    for hop in chain.tail_settings()[0].hops:
        if not hop.outlived:
            raise ConfigError(
                f"a far end behind {hop.name} cannot be kept: what {hop.name} started ends with it, or is out of reach",
                hop=repr(hop),
                key="detach",
                hint="keep the far end before this hop, and pass it from there; or leave detach out",
            )


def _checked(hello: Mapping[str, Any], attached: bool) -> dict[str, Any]:
    """What a far end says of its being kept; RouteError if it says anything else."""
    kept = hello.get("kept")
    types: dict[str, type] = {"path": str, "era": int}
    if attached:
        types.update(received=int, last=int, pending=list)
    good = isinstance(kept, dict) and all(type(kept.get(name)) is kind for name, kind in types.items())
    if good and attached:
        assert isinstance(kept, dict)
        good = (
            len(kept["pending"]) <= PENDING_LIMIT
            and kept["received"] >= 0
            and 0 <= kept["last"] < 1 << 31
            and all(_is_pending(about) for about in kept["pending"])
        )
    if not good:
        raise RouteError("the far end does not say how it is kept", hint="do not trust that far end")
    assert isinstance(kept, dict)
    return kept


def _is_pending(about: Any) -> bool:
    if (
        not isinstance(about, dict)
        or type(about.get("id")) is not int
        or type(about.get("since")) is not float
    ):
        return False
    if about.get("kind") == "call":
        return type(about.get("name")) is str
    argv = about.get("argv")
    return about.get("kind") == "command" and type(argv) is list and all(type(word) is str for word in argv)


def read_ticket(ticket: str) -> dict[str, Any]:
    """The parts of a ticket; ConfigError if it is none."""
    try:
        read = json.loads(ticket)
        good = read["outrider"] == TICKET and all(
            isinstance(read[name], kind)
            for name, kind in (
                ("secret", str),
                ("path", str),
                ("options", dict),
                ("route", (str, type(None))),
            )
        )
        good = good and set(read["options"]) <= set(IN_TICKET) and {"era", "received"} <= set(read)
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good:
        raise ConfigError(
            "this is no ticket", key="ticket", hint="give what far.detach() or far.ticket gave, whole"
        )
    return dict(read)
