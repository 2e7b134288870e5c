"""The near end of an open far end: calls, commands and files, many at once, over one stream."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Any, TypeVar

from outrider import calls, opening
from outrider.chain import Chain
from outrider.command import Argument, Command
from outrider.errors import CommandFailed, Lost, OutriderError, Refused, RouteError, TimedOut
from outrider.far import data, wire
from outrider.far.calls import AS_DATA, DURATION, INVOKE, OPTIONS, RAISED_STATE
from outrider.far.link import Link, Slot
from outrider.hub import hub
from outrider.options import OnOutput, Options
from outrider.request import Credit, LabelledOutput, Request
from outrider.results import CompletedCall, CompletedCommand, FarEnd

T = TypeVar("T")
Input = bytes | IO[bytes] | Iterable[bytes] | None
CANCEL_WAIT = 5.0
"""Seconds to wait for the far end to confirm that something cancelled has ended."""
CLOSE_WAIT = 3.0
_live: weakref.WeakSet[Session] = weakref.WeakSet()


class Session:
    """An open far end. Made by `route.open()`; closed by `close()` or the end of a `with` block.

    All methods may be used from many threads at once. A forked child must open a session of its own.
    """

    def __init__(self, chain: Chain, options: Options) -> None:
        self.chain = chain
        self.options = options
        self.place = chain.label()
        stream = opening.Opening(chain, options).open()
        self._stream = stream
        self.noise = stream.noise
        self.far = _far_end(stream.hello)
        self._requests: dict[int, Request] = {}
        self._background = 0
        self._closed = False
        self._ending: str | None = None
        self._lock = threading.Lock()
        self._modules = calls.ModuleServer()
        self._link = Link(stream.reader, stream.write_fd, self._handle, self._ended, options.max_answer)
        self._session_output = LabelledOutput(self.label)
        _live.add(self)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.place} on {self.far.host}, {'closed' if self._closed else 'open'}>"

    @property
    def label(self) -> str:
        """What stands before each line that a call prints."""
        return self.far.host

    # --- calls --------------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call `fn(*args, **kwargs)` there and return its value; an exception there is raised here.

        Raises FarError where the exception's own type cannot be brought here, TimedOut, Cancelled, Lost.
        """
        value: T = self.call_detailed(fn, *args, **kwargs).value
        return value

    def call_detailed(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CompletedCall:
        """As `call`, with what it printed, how long it took, and where it ran."""
        request, shown = self._start_call((fn, args, kwargs), 0, {})
        return self._finish_call(self._wait(request), shown)

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
        if self.options.trust == "data":
            raise Refused(
                "an object's state does not come back from an untrusted far end",
                hop=self.place,
                hint="return plain data from a function instead, with call()",
            )
        sent = calls.known_names(subject)
        options = {"state_on_error": True} if state_on_error else {}
        request, shown = self._start_call((subject, method, tuple(args), dict(kwargs or {})), INVOKE, options)
        self._wait(request)
        kind, flags, segments = request.value
        if kind == wire.RAISED:
            if flags & RAISED_STATE:
                _, state = calls.unpack(segments[2:], "pickle", subject)
                calls.restore(subject, state, sent)
            return self._finish_call(request, shown)
        done = self._finish_call(request, shown, subject)
        value, state = done.value
        calls.restore(subject, state, sent)
        return CompletedCall(value, done.stdout, done.stderr, done.duration, done.far)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Start a call and return a future of its value; cancelling the future ends the call there."""
        future: SessionFuture[T] = SessionFuture(self)
        request, shown = self._start_call((fn, args, kwargs), 0, {}, future)
        future.ident = request.ident

        def finish(done: Request) -> None:
            try:
                value = self._finish_call(done, shown).value
            except BaseException as error:
                _settle(future, None, error)
            else:
                _settle(future, value, None)

        self._in_background(request, finish)
        return future

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
        if not self.options.debug:
            raise Refused(
                "debugging is not enabled for this route",
                hop=self.place,
                hint="allow it on this side: route.options(debug=True), or [debug] allow = true in your configuration",
            )
        request, _ = self._start_call((fn, args, kwargs), 0, {"debug": True}, on_output=_raw_output)
        threading.Thread(target=self._feed, args=(request, _terminal_lines()), daemon=True).start()
        value: T = self._finish_call(self._wait(request), None).value
        return value

    def _start_call(
        self,
        call: tuple[Any, ...],
        flags: int,
        options: dict[str, Any],
        future: Future[Any] | None = None,
        on_output: OnOutput | None = None,
    ) -> tuple[Request, LabelledOutput | None]:
        segments = calls.pack(call, self.far.python)
        if self.options.trust == "data":
            flags |= AS_DATA
        if options:
            flags |= OPTIONS
            segments.insert(0, data.dumps(options))
        shown = None
        if on_output is None:
            on_output = self.options.on_output
            if on_output is None and self.options.show:
                on_output = shown = LabelledOutput(self.label)
        request = self._new_request(on_output)
        request.future = future
        if "debug" in options:
            request.credit = Credit()
        self._send(wire.CALL, request.ident, segments, flags)
        return request, shown

    def _finish_call(
        self, request: Request, shown: LabelledOutput | None, subject: Any = None
    ) -> CompletedCall:
        if shown is not None:
            shown.finish()
        if isinstance(request.value, BaseException):
            raise request.value
        kind, _, segments = request.value
        stdout, stderr = request.printed("stdout"), request.printed("stderr")
        if kind == wire.RAISED:
            raise calls.exception(segments, self.options.trust, self.place, stderr)
        duration = DURATION.unpack_from(segments[0])[0]
        body = memoryview(segments[0])[DURATION.size :]
        value = calls.unpack([body, *segments[1:]], self.options.trust, subject)
        if request.fault is not None:
            raise request.fault
        return CompletedCall(value, stdout, stderr, duration, self.far)

    # --- commands -----------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[Argument] | str,
        *,
        stdin: Input = None,
        env: dict[str, str] | None = None,
        cwd: Argument | None = None,
        check: bool = False,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        tty: bool | tuple[int, int] = False,
        merge: bool = False,
    ) -> CompletedCommand:
        """Run a command there and wait for it.

        argv: a list of arguments, or a string for `sh -c`. stdin: bytes, a file, or an iterable of bytes; None: nothing.
        check: raise CommandFailed unless it ends with 0. timeout: seconds, else the options'. tty: give it a terminal, of
        (rows, columns) or of this terminal's size. merge: stderr into stdout, in order. on_output: called as it prints.
        """
        command = Command(["sh", "-c", argv] if isinstance(argv, str) else argv, env, cwd)
        request = self._new_request(on_output)
        order = {
            "argv": list(command.argv),
            "env": dict(command.env),
            "cwd": command.cwd,
            "stdin": stdin is not None,
            "merge": merge,
            "tty": list(_terminal_size(tty)) if tty else None,
        }
        request.credit = Credit()
        self._send(wire.RUN, request.ident, [data.dumps(order)])
        if stdin is not None:
            self._give(request, stdin)
        self._wait(request, timeout)
        return self._completed(command, request, check)

    def _give(self, request: Request, stdin: Input) -> None:
        """Feed stdin: what fits into the window at once, the rest from a thread as the command takes it."""
        if isinstance(stdin, (bytes, bytearray, memoryview)) and len(stdin) <= wire.CHUNK:
            self._send_frame(wire.DATA, request.ident, bytes(stdin), wire.STDIN | wire.END)
            return
        threading.Thread(
            target=self._feed, args=(request, _pieces(stdin)), name="outrider-feed", daemon=True
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
                    self._send_frame(wire.DATA, request.ident, bytes(view[:size]), wire.STDIN)
                    view = view[size:]
            self._send_frame(wire.DATA, request.ident, b"", wire.STDIN | wire.END)
        except OutriderError:
            pass  # the session is over, which the waiting thread hears of
        except BaseException as error:  # the caller's own iterator failed: told where it waits
            request.fault = error
            with suppress(OutriderError):
                self._send_frame(wire.CANCEL, request.ident)

    def _completed(self, command: Command, request: Request, check: bool) -> CompletedCommand:
        kind, _, segments = request.value
        answer = data.loads(segments[0])
        if request.fault is not None:
            raise request.fault
        if kind == wire.RAISED:
            raise _not_started(command, answer, self.place)
        completed = CompletedCommand(
            command.argv,
            answer["returncode"],
            request.printed("stdout"),
            request.printed("stderr"),
            answer["duration"],
            self.far,
        )
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
        """Copy a file or folder there; see `outrider.transfer.put`. Returns the number of files that had to travel."""
        from outrider import transfer

        return transfer.put(self, os.fsdecode(local), os.fsdecode(remote), progress)

    def get(
        self, remote: Argument, local: Argument, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Copy a file or folder from there; see `outrider.transfer.get`. Returns the number of files that had to travel."""
        from outrider import transfer

        return transfer.get(self, os.fsdecode(remote), os.fsdecode(local), progress)

    # --- signals and the end ------------------------------------------------------------------------------------

    def ping(self, timeout: float = 10.0) -> float:
        """Seconds that a trivial message takes there and back."""
        started = time.monotonic()
        request = self._new_request(None)
        self._send(wire.PING, request.ident, [b"ping"])
        self._wait(request, timeout)
        return time.monotonic() - started

    def control(self, ident: int, order: dict[str, Any]) -> None:
        """Send a signal or a window size to the running command `ident`."""
        self._send(wire.CONTROL, ident, [data.dumps(order)])

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminals of all commands that run here their new size."""
        for ident in list(self._requests):
            self.control(ident, {"size": [rows, columns]})

    def close(self) -> None:
        """End the far end with all that runs there; safe to call again, and from `atexit`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with suppress(OSError):
            self._link.try_send(wire.BYE, 0, [b"bye"], 0.2)
        process = self._stream.process
        hub().forget(self._stream.reader.fd)
        with suppress(OSError):
            assert process.stdin
            process.stdin.close()
        opening.end_process(process, CLOSE_WAIT)
        self._link.end("the session was closed")
        self._stream.stderr.ended.wait(0.2)
        hub().forget(self._stream.stderr.fd)
        opening.close_pipes(process)
        _live.discard(self)

    # --- requests -----------------------------------------------------------------------------------------------

    def _new_request(self, on_output: OnOutput | None) -> Request:
        if self._closed or self._link.over:
            raise self._lost()
        request = Request(self._link.new_ident(), on_output)
        self._requests[request.ident] = request
        return request

    def _send(self, kind: int, ident: int, segments: Sequence[Any], flags: int = 0) -> None:
        try:
            self._link.send(kind, ident, segments, flags)
        except (OSError, ValueError):
            self._link.end("the stream broke")
            raise self._lost() from None

    def _send_frame(self, kind: int, ident: int, payload: bytes = b"", flags: int = 0) -> None:
        try:
            if kind == wire.CANCEL:
                self._link.send(kind, ident, [payload])
            else:
                self._link.send_frame(kind, ident, payload, flags)
        except (OSError, ValueError):
            self._link.end("the stream broke")
            raise self._lost() from None

    def _wait(self, request: Request, timeout: float | None = None) -> Request:
        limit = timeout if timeout is not None else self.options.timeout
        try:
            done = self._link.wait(request, limit)
        except BaseException as error:  # Ctrl-C above all: what runs there ends too
            self._cancel_and_wait(request)
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"cancelled at {self.place}; nothing of it is left running there")
            raise
        finally:
            self._arm()
        if not done and self._link.over:
            raise self._lost()
        if not done:
            self._cancel_and_wait(request)
            raise TimedOut(f"not done within {limit:g} s", hop=self.place)
        if isinstance(request.value, BaseException):
            raise request.value
        return request

    def _wait_for(self, slot: Slot) -> None:
        """Read, or wait while another reads, until `slot` is done or the stream is over."""
        try:
            if not self._link.wait(slot, self.options.timeout) and not self._link.over:
                raise TimedOut(f"nothing moved for {self.options.timeout:g} s", hop=self.place)
        finally:
            self._arm()

    def _cancel_and_wait(self, request: Request) -> None:
        """Cancel there, and wait for the answer that says so; if none comes, the session is not worth keeping."""
        with suppress(OutriderError):
            self._send_frame(wire.CANCEL, request.ident)
            if self._link.wait(request, CANCEL_WAIT) or self._link.over:
                self._requests.pop(request.ident, None)
                return
        self.close()

    def _in_background(self, request: Request, finished: Callable[[Request], None]) -> None:
        """Let the hub read for a request that nobody waits for."""
        with self._lock:
            request.finished = finished
            self._background += 1
            done = request.done
        if done:
            self._finish_background(request)
        if self._link.over:
            self._ended(self._ending or "the stream ended")
        self._arm()

    def _finish_background(self, request: Request) -> None:
        with self._lock:
            finished, request.finished = request.finished, None
            if finished is not None:
                self._background -= 1
        if finished is not None:
            finished(request)

    def _arm(self) -> None:
        if self._background and not self._link.has_waiters() and not self._link.over and not self._closed:
            if self._link.reader.buffered():
                self._read_in_background()
            else:
                hub().watch(self._stream.reader.fd, self._read_in_background, once=True)

    def _read_in_background(self) -> None:
        """In the hub's thread: read what is there, unless somebody else is reading."""
        if self._link.reading.acquire(False):
            try:
                while not self._link.over and self._link.readable(0):
                    self._link.read_one()
                    if self._link.has_waiters():
                        break
            finally:
                self._link.reading.release()
            self._link.pass_on()
            self._arm()

    def _handle(self, kind: int, ident: int, flags: int, segments: Sequence[Any]) -> None:
        """Deal with one message from the far end; called by whichever thread reads."""
        if kind == wire.IMPORT:
            asked = data.loads(segments[0])
            self._send(wire.SOURCE, ident, [data.dumps(self._modules.answer(str(asked["module"])))])
            return
        request = self._requests.get(ident)
        if kind == wire.DATA:
            self._output(request, ident, flags, segments[0])
        elif request is None:
            return  # an answer to what was given up already
        elif kind == wire.CREDIT:
            if request.credit is not None:
                request.credit.grant(int(segments[0]))
            request.tell()
        elif kind in (wire.RESULT, wire.RAISED, wire.PONG):
            self._requests.pop(ident, None)
            if request.credit is not None:
                request.credit.close()
            request.finish((kind, flags, segments))
            request.tell()
            self._finish_background(request)

    def _output(self, request: Request | None, ident: int, flags: int, piece: bytes) -> None:
        channel = flags & wire.CHANNEL
        if request is not None:
            request.take(channel, piece, bool(flags & wire.END))
            request.tell()
        elif ident == 0 and self.options.show and channel in (wire.STDOUT, wire.STDERR):
            self._session_output("stdout" if channel == wire.STDOUT else "stderr", piece)
        if piece:
            self._send_frame(wire.CREDIT, ident, b"%d" % len(piece))

    def _ended(self, reason: str) -> None:
        """The stream is over: whatever is under way is lost."""
        self._ending = self._ending or reason
        for request in list(self._requests.values()):
            self._requests.pop(request.ident, None)
            if request.credit is not None:
                request.credit.close()
            if not request.done:
                request.finish(self._lost())
            request.tell()
            self._finish_background(request)

    def _lost(self) -> OutriderError:
        if self._closed:
            return Lost("the session is closed", hop=self.place, hint="open another with route.open()")
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
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{reason}; {self._stream.process.args[0].decode()} {how}"  # type: ignore[index,union-attr]


class SessionFuture(Future[T]):
    """A future whose cancel() ends the call at the far end, although it is already running there."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.ident = 0

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        with suppress(OutriderError):
            self._session._send_frame(wire.CANCEL, self.ident)
        self.set_running_or_notify_cancel()
        return True


def _settle(future: Future[Any], value: Any, error: BaseException | None) -> None:
    with suppress(Exception):  # cancelled in the meantime: nobody waits for it
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


def _far_end(hello: dict[str, Any]) -> FarEnd:
    major, minor, micro = hello["python"]
    return FarEnd(hello["host"], hello["user"], hello["pid"], (major, minor, micro), hello["executable"])


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


def _pieces(stdin: Any) -> Iterator[bytes]:
    """Pieces of bytes, a file or an iterable; text is refused by name."""
    if isinstance(stdin, (bytes, bytearray, memoryview)):
        yield bytes(stdin)
        return
    if hasattr(stdin, "read"):
        read = getattr(stdin, "read1", stdin.read)
        while piece := read(wire.CHUNK):
            yield piece.encode() if isinstance(piece, str) else piece
        return
    for piece in stdin:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"stdin is bytes, a file or an iterable of bytes; it gave {type(piece).__name__}")
        yield bytes(piece)


def _terminal_size(tty: bool | tuple[int, int]) -> tuple[int, int]:
    if isinstance(tty, tuple):
        return tty
    size = shutil.get_terminal_size()
    return size.lines, size.columns


def _raw_output(name: str, piece: bytes) -> None:
    stream = sys.stdout if name == "stdout" else sys.stderr
    stream.write(piece.decode(errors="replace"))
    stream.flush()


def _terminal_lines() -> Iterator[bytes]:
    for line in sys.stdin:
        yield line.encode()


def _close_all() -> None:
    for session in list(_live):
        session.close()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_live.clear)
