"""The near end of an open far end: calls, commands and files, many at once, over one stream."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar, cast

from outrider.chain import Chain
from outrider.command import Argument, Command
from outrider.errors import (
    CommandFailed,
    ConfigError,
    FarError,
    Lost,
    OutriderError,
    Refused,
    RouteError,
    TimedOut,
)
from outrider.far import data, loader, wire
from outrider.far.calls import AS_DATA, INVOKE, OPTIONS, RAISED_STATE
from outrider.near import calls, stdio
from outrider.near.connection import CALL_ANSWERS, Connection
from outrider.near.request import Credit, Request, printable
from outrider.options import LIMITS, OnOutput, Options, Paths
from outrider.results import CompletedCall, CompletedCommand, FarEnd
from outrider.traces import tracing
from outrider.traces.tracing import clock

if TYPE_CHECKING:
    from concurrent.futures import Future

    from outrider.near.futures import SessionFuture
    from outrider.near.kept import KeptConnection

T = TypeVar("T")
A = TypeVar("A")
NO_OPTIONS: dict[str, Any] = {}
Input = bytes | IO[bytes] | Iterable[bytes] | None


class Session:
    """An open far end. Made by `route.open()`; closed by `close()` or the end of a `with` block.

    All methods may be used from many threads at once. A forked child must open a session of its own.
    """

    def __init__(self, chain: Chain, options: Options, connection: Connection | None = None) -> None:
        self.connection = connection or _connect(chain, options)
        self.chain = chain
        self._options = options
        self.place = self.connection.place
        self.far: FarEnd = self.connection.far
        self.noise = self.connection.noise
        if self.connection.lasting is not None:
            self.connection.lasting.sessions.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.place} on {self.far.host}, {'closed' if self.connection.closed else 'open'}>"

    @property
    def settings(self) -> Options:
        """The options as they are; `options()` gives the same far end with others."""
        return self._options

    @property
    def timeout(self) -> float | None:
        """Seconds that one call, command or transfer may take; None: any time."""
        return self._options.timeout

    @property
    def trust(self) -> str:
        """How values come back: "pickle" or "data"."""
        return self._options.trust

    @property
    def answer_limit(self) -> int:
        """Bytes of one answer, or of one item of a generator, at the most."""
        return self._options.answer_limit

    @property
    def label(self) -> str:
        """What stands before each line that a call prints."""
        return self.far.host

    def options(self, **changes: Any) -> Session:
        """The same far end with other options: `far.options(timeout=5).call(f)`. What only an opening can set is refused."""
        settled = (
            "python",
            "open_timeout",
            "cwd",
            "env",
            "max_answer",
            "heartbeat",
            "patience",
            "reconnect",
            "detach",
        )
        isolated = changes.get("isolate", self._options.isolate)
        for name in settled if isolated else (*settled, *LIMITS):
            if name in changes:
                raise ConfigError(
                    f"{name} is settled when a far end is opened",
                    key=name,
                    hint=f"set it on the route: route.options({name}=...).open()",
                )
        if changes.get("trust") == "pickle" != self.connection.options.trust:
            raise ConfigError(
                "an untrusted far end stays one while it is open",
                key="trust",
                hint="set it on the route: route.options(trust='pickle').open()",
            )
        return Session(self.chain, self._options.changed(changes), self.connection)

    def over(self, connection: Connection) -> Session:
        """The same over another connection to the same far end."""
        return Session(self.chain, self._options, connection)

    # --- calls --------------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call `fn(*args, **kwargs)` there and return its value; an exception there is raised here.

        Raises FarError where the exception's own type cannot be brought here, TimedOut, Cancelled, Lost.
        """
        value: T
        if self._options.push or self._options.pull:
            value = self.call_detailed(fn, *args, **kwargs).value
            return value
        request = None
        try:  # as in _answered, whose own call would take longer than all else here
            request = self._start_call((fn, args, kwargs), 0, NO_OPTIONS)
            value, _ = self._answer(self.connection.wait(request, self.timeout))
        except BaseException:
            self._drop(request)
            raise
        return value

    def call_detailed(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CompletedCall:
        """As `call`, with what it printed, how long it took, and where it ran."""
        with self._files():
            return self._answered((fn, args, kwargs), self._completed_call)

    def invoke(self, subject: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of `subject` there; its value comes back, and what it did to `subject` is done to yours.

        If it raises, `subject` stays as it was; `invoke_detailed(..., state_on_error=True)` brings the state all the same.
        """
        return self.invoke_detailed(subject, method, args, kwargs).value

    def invoke_detailed(
        self,
        subject: Any,
        method: str,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        state_on_error: bool = False,
    ) -> CompletedCall:
        """As `invoke`, with arguments as a sequence and a mapping, so that options of ours never meet names of yours."""
        if self._options.trust == "data" and hasattr(subject, "__setstate__"):
            raise Refused(
                f"{type(subject).__name__} takes its state by __setstate__, which an untrusted far end must not reach",
                hop=self.place,
                hint="return plain data from a function instead, with call()",
            )
        with self._files():
            return self._invoke(subject, method, tuple(args), dict(kwargs or {}), state_on_error)

    def _invoke(
        self, subject: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], state_on_error: bool
    ) -> CompletedCall:
        sent = calls.known_names(subject)
        options = {"state_on_error": True} if state_on_error else {}

        def answer(request: Request) -> CompletedCall:
            kind, flags, segments = request.value
            if kind == wire.RAISED:
                if flags & RAISED_STATE and state_on_error:
                    self._restore(subject, self._unpacked(segments[2:], subject), sent)
                return self._completed_call(request)
            done = self._completed_call(request, subject)
            return replace(done, value=self._restore(subject, done.value, sent))

        return self._answered((subject, method, args, kwargs), answer, INVOKE, options)

    def _unpacked(self, segments: list[Any], subject: Any) -> Any:
        return calls.unpack(segments, self._options.trust, subject, self._options.answer_limit)

    def _restore(self, subject: Any, answered: Any, sent: set[str]) -> Any:
        """Bring `subject` to its far state; the value that came with that."""
        if self._options.trust == "data":
            if not isinstance(answered, tuple) or len(answered) != 2:
                raise FarError("its answer has no state", hop=self.place, hint="do not trust that far end")
            answered = answered[0], calls.plain_state(answered[1], subject)
        value, state = answered
        calls.restore(subject, state, sent)
        return value

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Start a call and return a future of its value; cancelling the future ends the call there."""
        from outrider.near.futures import SessionFuture

        future: SessionFuture[T] = SessionFuture(self)

        request = None
        try:
            request = self._start_call((fn, args, kwargs), 0, {}, future)
            future.ident = request.ident
            self._promise(future, request, lambda done: self._answer(done)[0])
        except BaseException:
            self._drop(request)
            raise
        return future

    def _promise(self, future: SessionFuture[T], request: Request, made_of: Callable[[Request], T]) -> None:
        """The future gets what is made of the request's answer, when that has come."""

        def finish(done: Request) -> None:
            try:
                value = made_of(done)
            except BaseException as error:
                future.settle(None, error)
            else:
                future.settle(value, None)

        self.connection.in_background(request, finish)

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], at_once: int = 8) -> Iterator[T]:
        """Values of `fn` over the items, in order, with at most `at_once` calls under way."""
        futures: list[Future[T]] = []
        items = zip(*iterables, strict=False)
        try:
            for item in items:
                futures.append(self.submit(fn, *item))
                if len(futures) >= at_once:
                    yield futures.pop(0).result()
            while futures:
                yield futures.pop(0).result()
        finally:
            for future in futures:
                future.cancel()

    def debug(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call `fn` there under pdb, on this terminal. Refused unless the near end's options allow it."""
        if not self._options.debug:
            raise Refused(
                "debugging is not enabled for this route",
                hop=self.place,
                hint="allow it on this side: route.options(debug=True), or [debug] allow = true in your configuration",
            )
        request = self._start_call((fn, args, kwargs), 0, {"debug": True}, on_output=stdio.Unlabelled())
        threading.Thread(target=self._feed, args=(request, stdio.typed_lines()), daemon=True).start()
        value: T
        value, _ = self._answer(self.connection.wait(request, self.timeout))
        return value

    def _answered(
        self,
        call: tuple[Any, ...],
        answer: Callable[[Request], A],
        flags: int = 0,
        options: dict[str, Any] = NO_OPTIONS,
    ) -> A:
        """Have a call done and answered; wherever Ctrl-C comes in between, nothing of it is left under way."""
        request = None
        try:
            request = self._start_call(call, flags, options)
            return answer(self.connection.wait(request, self.timeout))
        except BaseException:
            self._drop(request)
            raise

    def _drop(self, request: Request | None) -> None:
        """Cancel what is given up, if it is still under way."""
        if request is not None:
            with suppress(OutriderError):
                self.connection.drop(request.ident)

    def _start_call(
        self,
        call: tuple[Any, ...],
        flags: int,
        options: dict[str, Any],
        future: Future[Any] | None = None,
        on_output: OnOutput | None = None,
    ) -> Request:
        connection, settings = self.connection, self._options
        began = 0 if tracing.note is None else clock()
        names: set[str] | None = None if connection.modules.trusted else set()
        segments, by_value = calls.pack(call, self.far.python, names)
        connection.announce(call[0], by_value, names or ())
        packed = clock() if began else 0
        if settings.trust == "data":
            flags |= AS_DATA
        kind = wire.CALL
        if settings.isolate and "debug" not in options:
            kind = wire.ISOLATED
            options = {**options, "limits": settings.limits}
            connection.provide("isolation", "pump", "limits")
        if connection.lasting is not None and connection.lasting.names:
            options = {
                **options,
                "name": str(call[1] if flags & INVOKE else getattr(call[0], "__qualname__", "")),
            }
        if options:
            flags |= OPTIONS
            segments.insert(0, data.dumps(options))
        request = None
        try:
            request = connection.new_request(
                on_output or settings.on_output,
                settings.timeout,
                CALL_ANSWERS,
                label=self.label if settings.show else None,
            )
            request.future = future
            if "debug" in options:
                request.credit = Credit()
            if connection.lasting is not None:
                function = getattr(call[0], str(call[1]), None) if flags & INVOKE else call[0]
                may = settings.idempotent and "debug" not in options
                connection.lasting.know(request, may, function, (call[0], by_value, names or ()))
            connection.send(kind, request.ident, segments, flags)
            if began:
                name = str(call[1]) if flags & INVOKE else getattr(call[0], "__qualname__", "")
                request.timed = ("call", name, began, packed, clock(), tracing.where and tracing.where())
        except BaseException:
            self._drop(request)
            raise
        return request

    def _answer(self, request: Request, subject: Any = None) -> tuple[Any, float]:
        """(value, seconds that it took there) of a call that is answered; what it raised is raised."""
        timed = request.timed
        # Small answers are unpacked in no time: not even the clock is looked at for them.
        arrived = clock() if timed is not None and (request.arrival or request.shown is not None) else 0
        if request.shown is not None:
            request.shown.finish()
        if isinstance(request.value, BaseException):
            tracing.given_up(self.connection.traced_as, request, type(request.value).__name__)
            raise request.value
        if request.arriving is not None:
            from outrider.near.generators import FarGenerator

            seconds = calls.duration_of(request.value[2], self.place)
            tracing.answered(self.connection.traced_as, request, clock(), seconds)
            return FarGenerator(self, request), seconds
        try:
            value, duration = self.outcome(request, request.value, subject)
        except BaseException as error:
            if timed is not None:
                tracing.raised(self.connection.traced_as, request, error, _seconds(request.value))
            raise
        if timed is not None and (note := tracing.note_request) is not None:
            note((self.connection.traced_as, timed, request.arrival, arrived, clock(), duration, "", None))
        if request.fault is not None:
            raise request.fault
        return value, duration

    def outcome(self, request: Request, answer: Any, subject: Any = None) -> tuple[Any, float]:
        """(value, seconds that it took there) of an answer to a call; what it raised is raised."""
        if isinstance(answer, BaseException):
            raise answer
        kind, _, segments = answer
        if kind == wire.RAISED:
            stderr = request.printed("stderr")
            raise calls.exception(segments, self._options.trust, self.place, stderr, self._hint)
        duration, value = calls.returned(
            segments, self._options.trust, self.place, subject, self._options.answer_limit
        )
        return value, duration

    def closing_after(self, value: T) -> T:
        """Close the session; if `value` is a generator that runs in it, only when that has ended."""
        if type(value).__module__ == "outrider.near.generators":
            value.then(self.close)  # type: ignore[attr-defined]
        else:
            self.close()
        return value

    def _completed_call(self, request: Request, subject: Any = None) -> CompletedCall:
        value, duration = self._answer(request, subject)
        return CompletedCall(value, request.printed("stdout"), request.printed("stderr"), duration, self.far)

    def _hint(self, about: dict[str, Any]) -> str | None:
        from outrider.near import missing

        said = about.get("hint")
        if isinstance(said, str):
            return printable(said)
        return missing.hint(about, self.connection.modules, self.place, self.far.python)

    @contextmanager
    def _files(self) -> Iterator[None]:
        """Push the options' files before a call, and pull them after it, whether it returned or raised."""
        for here, there in _pairs(self._options.push):
            self.put(here, there)
        try:
            yield
        except (Lost, TimedOut, KeyboardInterrupt):
            raise  # nobody is there to pull from, or half of what it wrote
        except BaseException as raised:
            try:
                self._pull()
            except OutriderError as error:
                raised.add_note(f"and its files could not be pulled: {error}")
            raise
        self._pull()

    def _pull(self) -> None:
        for there, here in _pairs(self._options.pull):
            self.get(there, here)

    # --- commands -----------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[Argument] | str,
        *,
        stdin: Input | str = None,
        env: dict[str, str] | None = None,
        cwd: Argument | None = None,
        check: bool = False,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        tty: bool | tuple[int, int] = False,
        merge: bool = False,
    ) -> CompletedCommand:
        """Run a command there and wait for it.

        argv: a list of arguments, or a string for `sh -c`. stdin: bytes, text, a file or an iterable of bytes.
        check: raise CommandFailed unless it ends with 0. timeout: seconds, else the options'. tty: give it a terminal, of
        (rows, columns) or of this terminal's size. merge: stderr into stdout, in order. on_output: called as it prints.
        """
        command = Command(["sh", "-c", argv] if isinstance(argv, str) else argv, env, cwd)
        limit = self.timeout if timeout is None else timeout
        more = {"merge": merge, "tty": list(stdio.terminal_size(tty)) if tty else None}
        request = None
        try:
            request = self.start(command, stdin=stdin, timeout=limit, on_output=on_output, more=more)
            self.connection.wait(request, limit)
        except BaseException:
            self._drop(request)
            raise
        return self._completed(command, request, check)

    def start(
        self,
        command: Command,
        *,
        stdin: Input | str = None,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        carried: Callable[[str, bytes], None] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Request:
        """Have a command started there; the request is done when it has ended.

        `carried` takes its output instead of the request, and tells when it has (`Connection.taken`).
        """
        began = 0 if tracing.note is None else clock()
        order = {
            "argv": list(command.argv),
            "env": dict(command.env),
            "cwd": command.cwd,
            "stdin": stdin is not None,
            "merge": False,
            "tty": None,
            **(more or {}),
        }
        request = None
        try:
            request = self.connection.new_request(on_output, timeout)
            request.carried = carried
            request.credit = Credit()
            if self.connection.lasting is not None:
                self.connection.lasting.know(request, self._options.idempotent and carried is None)
            self.connection.provide("commands", "pump")
            if order.get("sandbox") is not None:
                self.connection.provide("channel", "sandbox", loader.WARDENS_PROGRAM)
            self.connection.send(wire.RUN, request.ident, [data.dumps(order)])
            if began:
                program = command.argv[0].rpartition("/")[2]
                request.timed = (
                    "command",
                    program,
                    began,
                    began,
                    clock(),
                    tracing.where and tracing.where(),
                )
            if stdin is not None:
                self._give(request, stdin)
        except BaseException:
            self._drop(request)
            raise
        return request

    def _give(self, request: Request, stdin: Input | str) -> None:
        """Feed stdin: what fits into the window at once, the rest from a thread as the command takes it."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        if isinstance(stdin, (bytes, bytearray, memoryview)) and len(stdin) <= wire.CHUNK:
            self.connection.send_frame(wire.DATA, request.ident, bytes(stdin), wire.STDIN | wire.END)
            return
        if self.connection.lasting is not None:
            self.connection.lasting.fed(request)
        threading.Thread(
            target=self._feed, args=(request, stdio.pieces(stdin)), name="outrider-feed", daemon=True
        ).start()

    def _feed(self, request: Request, pieces: Iterator[bytes]) -> None:
        assert request.credit is not None
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    size = request.credit.take(min(len(view), wire.CHUNK))
                    if not size:
                        return
                    self.connection.send_frame(wire.DATA, request.ident, bytes(view[:size]), wire.STDIN)
                    view = view[size:]
            self.connection.send_frame(wire.DATA, request.ident, b"", wire.STDIN | wire.END)
        except OutriderError:
            pass  # the session is over, which the waiting thread hears of
        except BaseException as error:  # the caller's own iterator failed: told where it waits
            request.fault = error
            with suppress(OutriderError):
                self.connection.post(wire.CANCEL, request.ident, b"")

    def _completed(self, command: Command, request: Request, check: bool) -> CompletedCommand:
        arrived = 0 if request.timed is None else clock()
        kind, _, segments = request.value
        if request.fault is not None:
            raise request.fault
        if kind == wire.RAISED:
            if arrived:
                tracing.answered(self.connection.traced_as, request, arrived, -1.0, "not started")
            raise _not_started(command, calls.answer(segments, {"message": str, "start": int}), self.place)
        answer = calls.answer(segments, {"returncode": int, "duration": float})
        completed = CompletedCommand(
            command.argv,
            answer["returncode"],
            request.printed("stdout"),
            request.printed("stderr"),
            answer["duration"],
            self.far,
        )
        if arrived:
            printed = {
                "returncode": completed.returncode,
                "bytes": len(completed.stdout) + len(completed.stderr),
            }
            tracing.answered(self.connection.traced_as, request, arrived, completed.duration, "", printed)
        if check and completed.returncode:
            how = (
                f"was ended by {completed.signal}"
                if completed.signal
                else f"ended with status {completed.returncode}"
            )
            raise CommandFailed(f"{command.argv[0]} {how}", completed=completed, hop=self.place)
        return completed

    # --- files --------------------------------------------------------------------------------------------------

    def put(
        self, local: Argument, remote: Argument, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Copy a file or folder there; see `near.transfer.put`. Returns the number of files that had to travel."""
        from outrider.near import transfer

        here, there = os.fsdecode(local), os.fsdecode(remote)
        with tracing.transfer(self.connection.traced_as, "put", progress) as (progress, about):
            about["files"] = transfer.put(self, here, there, progress)
        return int(about["files"])

    def get(
        self, remote: Argument, local: Argument, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Copy a file or folder from there; see `near.transfer.get`. Returns the number of files that had to travel."""
        from outrider.near import transfer

        there, here = os.fsdecode(remote), os.fsdecode(local)
        with tracing.transfer(self.connection.traced_as, "get", progress) as (progress, about):
            about["files"] = transfer.get(self, there, here, progress)
        return int(about["files"])

    # --- a far end that outlives its near end -------------------------------------------------------------------

    @property
    def ticket(self) -> str:
        """What `outrider.attach` needs to come to this far end should this program vanish: a line of JSON, a secret."""
        return self._kept().ticket()

    def detach(self) -> str:
        """Leave the far end to itself, with all calls and commands that run there; gives its ticket.

        What bound it to this process ends: generators, transfers, commands that are still fed or have a terminal.
        """
        return self._kept().detach()

    def pending(self) -> dict[int, Future[Any]]:
        """Futures, by id, of the calls and commands that were under way when this near end came to the far end.

        The ids are those of the futures that `submit` gave. Of a command it is a CompletedCommand that comes.
        """
        return dict(self._kept().futures)

    def _kept(self) -> KeptConnection:
        connection = self.connection.lasting
        if connection is None or not connection.names:
            raise Refused(
                "this far end ends with its near end",
                hop=self.place,
                hint="have it kept when it is opened: route.open(detach='2h')",
            )
        return cast("KeptConnection", connection)

    def take_up(self) -> None:
        """Have futures for what runs at a far end that another near end has left."""
        from outrider.near.futures import SessionFuture

        kept = self._kept()
        for about in kept.pending():
            future: SessionFuture[Any] = SessionFuture(self)
            future.ident = about["id"]
            request = kept.adopt(about, self.label if self._options.show else None)
            request.future = future
            kept.futures[future.ident] = future
            if about["kind"] == "call":
                future.name = printable(about["name"])
                self._promise(future, request, lambda done: self._answer(done)[0])
            else:
                command = Command(about["argv"])
                future.name = printable(shlex.join(command.argv))
                self._promise(future, request, partial(self._completed, command, check=False))

    # --- the end and all else ------------------------------------------------------------------------------------

    def ping(self, timeout: float = 10.0) -> float:
        """Seconds that a trivial message takes there and back."""
        started = time.monotonic()
        request = None
        try:
            request = self.connection.new_request(None, timeout, (wire.PONG,))
            self.connection.send(wire.PING, request.ident, [b"ping"])
            self.connection.wait(request, timeout)
        except BaseException:
            self._drop(request)
            raise
        return time.monotonic() - started

    def control(self, ident: int, order: dict[str, Any]) -> None:
        """Send a signal or a window size to the running command `ident`."""
        self.connection.post(wire.CONTROL, ident, data.dumps(order))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminals of all commands that run here their new size."""
        for ident in self.connection.under_way():
            self.control(ident, {"size": [rows, columns]})

    def close(self) -> None:
        """End the far end with all that runs there; safe to call again."""
        if self.connection.closed:
            return
        with tracing.timed(self.connection.traced_as, "close", "close"):
            self.connection.close()


def _connect(chain: Chain, options: Options) -> Connection:
    """Open the route, for as long as the options say."""
    prepare = limit_all if options.limits and not options.isolate else None
    if options.detach is not None:
        from outrider.near.kept import KeptConnection

        return KeptConnection(chain, options, prepare)
    if options.reconnect:
        from outrider.near.lasting import LastingConnection

        return LastingConnection(chain, options, prepare)
    connection = Connection(chain, options)
    if prepare is not None:
        prepare(connection)
    return connection


def limit_all(connection: Connection) -> None:
    """Set the limits of the whole far end, its guardian apart."""
    try:
        answered = call_far(connection, "limits", "apply", connection.options.limits)
        if answered[0] == wire.RAISED:
            about = calls.answer(answered[2], {"message": str})
            raise RouteError(
                about["message"], hop=connection.place, hint="see `ulimit -a` and `ulimit -aH` there"
            )
    except BaseException:
        connection.close()
        raise


def call_far(
    connection: Connection, module: str, function: str, argument: Any, timeout: float | None = None
) -> Any:
    """What a function of the far end's own answers: (kind, flags, segments)."""
    connection.provide(module)
    segments, flags = calls.pack_far(module, function, argument), 0
    if connection.options.trust == "data":
        flags |= AS_DATA
    request = connection.new_request(None, timeout or connection.options.open_timeout or 60)
    connection.send(wire.CALL, request.ident, segments, flags)
    connection.wait(request)
    return request.value


def _pairs(paths: Paths) -> list[tuple[str, str]]:
    return list(paths.items()) if isinstance(paths, Mapping) else [(path, path) for path in paths]


def _seconds(answer: Any) -> float:
    """How long a call took there that raised; below 0 if that is not told."""
    kind, _, segments = answer
    told = calls.answer(segments, {}).get("duration") if kind == wire.RAISED else None
    return told if type(told) is float else -1.0


def _not_started(command: Command, answer: dict[str, Any], place: str) -> OutriderError:
    program = command.argv[0]
    hints = {
        127: f"is {program} installed there, and on PATH for a non-interactive login? A login hop can load it",
        126: "the file is there but may not be executed; look at its mode and at its first line",
    }
    hint = hints.get(answer["start"], "check cwd= and the arguments")
    error = RouteError(
        f"cannot start {program}: {answer['message']}", hop=place, hint=hint, argv=command.argv
    )
    error.returncode = answer["start"]
    return error
