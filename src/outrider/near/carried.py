"""A route's stream that another session carries: as stdin and stdout of a command that runs at its far end.

So a far end is opened where no command line leads to, a jail above all. What comes from it is as little trusted as that
command's output is, and no more of it is kept here than a session keeps.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import IO, TYPE_CHECKING, Any

from outrider.command import Command
from outrider.errors import OutriderError
from outrider.far import wire
from outrider.near import calls
from outrider.near.local_process import RouteProcess
from outrider.near.opening import Opening

if TYPE_CHECKING:
    from outrider.chain import Chain
    from outrider.near.request import Request
    from outrider.options import Options
    from outrider.session import Session


LOOK = 50
"""Milliseconds between looks at whether what is printed will still be read."""


class CarriedProcess(RouteProcess):
    """A command at the far end of `session`, with pipes here as a process of this machine has them.

    `more`: what its order says besides. `answer`: what the far end said of its end, once it has ended.
    """

    def __init__(self, session: Session, command: Command, more: Mapping[str, Any]) -> None:
        self.session = session
        self.args = [os.fsencode(word) for word in command.argv]
        self.pid = os.getpid()
        self.returncode: int | None = None
        self.answer: dict[str, Any] = {}
        self.refused: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self._ended = threading.Event()
        self._ending = False
        self._arrived: deque[tuple[str, bytes] | None] = deque()
        self._news = threading.Semaphore(0)
        reader, self.stdin = _pipe()
        self.stdout, stdout = _pipe()
        self.stderr, stderr = _pipe()
        self._outputs = {"stdout": stdout, "stderr": stderr}
        for stream in self._outputs.values():
            os.set_blocking(stream.fileno(), False)
        try:
            self.request = session.start(command, stdin=_read(reader), more=more, carried=self._take)
        except BaseException:
            for stream in (reader, stdout, stderr):
                stream.close()
            self.close_pipes()
            raise
        threading.Thread(target=self._write, name="outrider-carry", daemon=True).start()
        session.connection.in_background(self.request, self._finished)

    def _take(self, name: str, piece: bytes) -> None:
        """In the thread that reads, which must not wait for whoever reads the pipe."""
        self._arrived.append((name, piece))
        self._news.release()

    def _write(self) -> None:
        """Pass on what has arrived; more may come only once it is taken, so that little is ever kept.

        That it is taken is told for many pieces at once: a word for each would be a packet of its own, and what is sent
        next would wait until that is confirmed (40 ms where nobody has turned off Nagle's algorithm, as with srun).
        """
        owed = 0
        while True:
            self._news.acquire()
            arrived = self._arrived.popleft()
            if arrived is None:
                break
            name, piece = arrived
            with suppress(OSError):  # nobody reads it any more
                self._pass_on(self._outputs[name].fileno(), piece, name == "stdout")
            owed += len(piece)
            if owed >= wire.WINDOW // 4:
                with suppress(OutriderError):
                    self.session.connection.taken(self.request.ident, owed)
                owed = 0
        for stream in self._outputs.values():
            stream.close()

    def _pass_on(self, fd: int, piece: bytes, droppable: bool) -> None:
        """Write it as it is read; what nobody will read is dropped, so that nothing waits for that to be taken."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        left = memoryview(piece)
        while left and not (droppable and self._ending):
            if poll.poll(LOOK):
                left = left[os.write(fd, left) :]

    def end(self, grace: float, first: float | None = None) -> None:
        self._ending = True
        super().end(grace, first)

    def _finished(self, request: Request) -> None:
        """In the thread that reads: the command has ended, or the session that carries it is over."""
        try:
            self.returncode = self._status(request.value)
        except OutriderError as error:
            self.error, self.returncode = error, -9
        self._arrived.append(None)
        self._news.release()
        self._ended.set()

    def _status(self, value: Any) -> int:
        if isinstance(value, BaseException):
            raise value
        room = self.session.answer_limit
        if value[0] == wire.RAISED:
            self.refused = calls.answer(value[2], {"message": str, "start": int}, room)
            self._take("stderr", self.refused["message"].encode("utf-8", "replace"))
            return int(self.refused["start"])
        self.answer = calls.answer(value[2], {"returncode": int, "duration": float}, room)
        return int(self.answer["returncode"])

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def ended_within(self, seconds: float) -> bool:
        return self._ended.wait(seconds)

    def signal_group(self, number: int) -> None:
        with suppress(OutriderError):
            self.session.control(self.request.ident, {"signal": int(number)})  # an enum is no plain data

    def foreground(self) -> AbstractContextManager[object]:
        return nullcontext()


class CarriedOpening(Opening):
    """Opens a far end that is started by a command at the far end of `session`; `chain` is the whole way, for messages.

    way: more hops, from there on.
    """

    def __init__(
        self,
        session: Session,
        chain: Chain,
        options: Options,
        more: Mapping[str, Any],
        way: Chain | None = None,
    ) -> None:
        super().__init__(chain.prefix(0) if way is None else way, options)
        self.whole = chain
        self.place = chain.label()
        self._session = session
        self._more = more

    def _start(self) -> RouteProcess:
        return CarriedProcess(self._session, self.command, self._more)


def _read(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(wire.CHUNK):
            yield piece


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "wb", buffering=0)
