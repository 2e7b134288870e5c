"""Calls in jails: a far end of its own for each, started inside, whose stream the sandbox's session carries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from outrider.errors import Lost, OutriderError, RouteError, SandboxEnded, TimedOut
from outrider.far import wire
from outrider.near.carried import CarriedOpening, CarriedProcess
from outrider.near.connection import Connection
from outrider.near.request import LabelledOutput
from outrider.sandboxed.result import parsed
from outrider.session import Session

if TYPE_CHECKING:
    from outrider.near.generators import FarGenerator
    from outrider.options import Options
    from outrider.sandboxed.session import Sandbox

T = TypeVar("T")
SETTLES = 2.0
"""Seconds in which a jail whose stream has ended is surely ended, too."""
NO_PYTHON = (
    "that Python is not inside: options(python=...) names one that is, or ro= shows the folder that it is in"
)
_HINTS = {
    "RE": "it ended the Python that ran it: look at what it does, and at what it printed",
    "RV": "the message names the system call that is not allowed in a sandbox",
    "SE": "this is no fault of the function: `outrider sandbox check` tells what works there",
}


class Jail(CarriedOpening):
    """One jail with a far end in it. `cancel()` ends it, from any thread, also while it opens."""

    def __init__(self, box: Sandbox, options: Options, job: Mapping[str, Any], output: int | None) -> None:
        self._box = box
        self._printed = None if output is None else Printed(output, options, self.stop)
        if self._printed is not None:
            options = options.changed({"on_output": self._printed})
        self._settings = options
        self._process: CarriedProcess | None = None
        self._asked = job["outputs"]
        super().__init__(box, box.whole, options, {"sandbox": job})

    def _start(self) -> CarriedProcess:
        process = super()._start()
        assert isinstance(process, CarriedProcess)
        self._process = process
        return process

    def session(self) -> Session:
        """Open it, for calls."""
        found = Session(self._box.whole, self._settings, Connection(self._box.whole, self._settings, self))
        if self._printed is not None:
            self._printed.label(found.label)
        return found

    def cancel(self) -> None:
        super().cancel()
        self.stop()

    def stop(self) -> None:
        """End what runs in it; nobody is told who wanted that."""
        process = self._process
        if process is not None:
            with suppress(OutriderError):
                process.session.connection.post(wire.CANCEL, process.request.ident, b"")

    def report(self, seconds: float) -> dict[str, Any] | None:
        """What is told of its end, as the fields of a result; None if that is not known within so many seconds."""
        process = self._process
        if process is None or not process.ended_within(seconds) or "sandbox" not in process.answer:
            return None
        return parsed(process.answer["sandbox"], self._asked)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Where the jail was ended, errors of the stream to it become one that says why."""
        try:
            yield
            self._check_printed()
        except (Lost, TimedOut, RouteError) as error:
            self._check_printed()
            ended = self._ended(0.0 if isinstance(error, TimedOut) else SETTLES, getattr(error, "stderr", ""))
            if ended is None:
                raise
            raise ended from error
        finally:
            if self._printed is not None:
                self._printed.finish()

    def _check_printed(self) -> None:
        if self._printed is None or not self._printed.over:
            return
        fields = self.report(SETTLES) or {"usage": None, "engine": ""}
        raise SandboxEnded(
            f"OLE: it printed more than {self._printed.limit} bytes",
            verdict="OLE",
            usage=fields["usage"],
            engine=fields["engine"],
            hop=self.place,
        )

    def _ended(self, seconds: float, stderr: str) -> OutriderError | None:
        fields = self.report(seconds)
        if self._process is not None and self._process.refused is not None:
            return self._box.refusal(self._process.refused)
        if fields is None or fields["verdict"] == "OK" or self._cancelled:
            return None
        return SandboxEnded(
            f"{fields['verdict']}: {fields['message']}",
            verdict=fields["verdict"],
            usage=fields["usage"],
            engine=fields["engine"],
            stderr=stderr,
            hop=self.place,
            hint=NO_PYTHON if self._not_there() else _HINTS.get(fields["verdict"]),
        )

    def _not_there(self) -> bool:
        return self._process is not None and self._process.returncode in (126, 127)

    def run(self, work: Callable[[Session], T]) -> T:
        """Open it for `work`, and close it; if that gives a generator, when this has ended."""
        with self.blamed():
            session = self.session()
            try:
                value = work(session)
            except BaseException:
                session.close()
                raise
            session.closing_after(value)
        return value


class Printed:
    """Takes what calls in a jail print: shows it, or hands it on, and calls `stop` once it is more than `limit` bytes.

    The far end inside counts nothing: it is the untrusted code's own.
    """

    def __init__(self, limit: int, options: Options, stop: Callable[[], None]) -> None:
        self.limit = limit
        self.over = False
        self._left = limit
        self._stop = stop
        self._on_output = options.on_output
        self._show = options.show and options.on_output is None
        self._shown: LabelledOutput | None = None

    def label(self, text: str) -> None:
        """What stands before each line that is shown."""
        if self._show:
            self._shown = LabelledOutput(text)

    def __call__(self, name: str, piece: bytes) -> None:
        if self.over:
            return
        within = piece[: self._left]
        self._left -= len(within)
        taker = self._shown or self._on_output
        if taker is not None and within:
            taker(name, within)
        if len(within) < len(piece):
            self.over = True
            self._stop()

    def finish(self) -> None:
        """Show a last line that has no end."""
        if self._shown is not None:
            self._shown.finish()


class JailedGenerator(Iterator[T]):
    """The items of a generator in a jail, which is ended with it: as of `outrider.near.generators.FarGenerator`."""

    def __init__(self, items: FarGenerator[T], jail: Jail) -> None:
        self._items, self._jail = items, jail
        self._then: Callable[[], None] | None = None

    def __next__(self) -> T:
        try:
            with self._jail.blamed():
                return next(self._items)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and its jail."""
        try:
            self._items.close()
        finally:
            self._end()

    def then(self, do: Callable[[], None]) -> None:
        """Have something done when it has ended, however it did."""
        self._then = do

    def _end(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def __del__(self) -> None:
        then = getattr(self, "_then", None)
        if then is not None:  # closing a session takes its time, and this may run in the midst of anything
            threading.Thread(target=then, daemon=True).start()


class SandboxFuture(Future[T]):
    """A future of a call in a jail of its own, which cancel() ends."""

    def __init__(self) -> None:
        super().__init__()
        self.jail: Jail | None = None

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        if self.jail is not None:
            self.jail.cancel()
        return True

    def work(self, make: Callable[[], Jail], call: Callable[[Jail], T]) -> None:
        """Do the call, in a thread for that."""
        try:
            self.jail = make()
            if self.cancelled():
                return
            value = call(self.jail)
        except BaseException as error:
            with suppress(Exception):  # cancelled meanwhile: nobody waits for it
                self.set_exception(error)
        else:
            with suppress(Exception):
                self.set_result(value)
