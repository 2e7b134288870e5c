"""The near end's own terminal: handed to a far program, or kept safe from what a far program prints."""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from outrider.errors import Cancelled

if TYPE_CHECKING:
    from outrider.results import CompletedCommand
    from outrider.session import Session

LEAVE = b"\x1d"
"""Ctrl-], as in telnet: three in a row leave a far program that answers to nothing else."""
_SHELL = """\
case "${SHELL:-}" in
""|*/nologin|*/false) ;;
*) [ -x "$SHELL" ] && exec "$SHELL" -l ;;
esac
exec sh -l"""


class RawTerminal:
    """A terminal in raw mode: every key goes to the far program. Restored whatever happens."""

    def __init__(self, session: Session, fd: int = 0) -> None:
        self.session = session
        self.fd = fd
        self._left = False

    def __enter__(self) -> RawTerminal:
        self._before = termios.tcgetattr(self.fd)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._handlers: dict[int, Any] = {
            number: signal.signal(number, self._signalled)
            for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP)
        }
        tty.setraw(self.fd, termios.TCSADRAIN)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, where: TracebackType | None) -> None:
        with suppress(termios.error):  # it hung up
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake)  # which ends `typed`

    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        size = os.get_terminal_size(self.fd)
        return size.lines, size.columns

    def _signalled(self, number: int, _: object) -> None:
        if number == signal.SIGWINCH:
            # The main thread may be in the midst of sending: the one that reads keys tells the far end.
            with suppress(OSError):
                os.write(self._wake, b"w")
        elif self._left:
            raise Cancelled("left by Ctrl-], three times", hop=self.session.place)
        else:
            raise SystemExit(128 + number)

    def typed(self) -> Iterator[bytes]:
        """What is typed, as it is typed; passes on the window's size too. Runs in a thread of the session."""
        presses = 0
        with os.fdopen(self._woken, "rb", buffering=0) as woken:
            while True:
                ready, _, _ = select.select([self.fd, woken.fileno()], [], [])
                if woken.fileno() in ready:
                    if not woken.read(64):
                        return
                    self.session.resize(*self.size())
                    continue
                with suppress(OSError):
                    keys = os.read(self.fd, 4096)
                if not keys:
                    return
                presses = presses + len(keys) if not keys.strip(LEAVE) else 0
                if presses >= 3:
                    self._left = True
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                yield keys


def write_all(fd: int, piece: bytes) -> None:
    """All of `piece`, past Python's buffers, so that it shows at once and a hang-up is noticed."""
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def run_on_terminal(
    session: Session,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: float | None = None,
) -> CompletedCommand:
    """Run a command there with this process's terminal as its own."""
    told = {"TERM": os.environ.get("TERM", "dumb"), **(env or {})}
    with RawTerminal(session) as terminal:
        return session.run(
            argv,
            env=told,
            cwd=cwd,
            timeout=timeout,
            tty=terminal.size(),
            stdin=terminal.typed(),
            on_output=lambda _, piece: write_all(1, piece),
        )


def shell(session: Session) -> CompletedCommand:
    """The login shell of whoever is at the far end, on this process's terminal."""
    return run_on_terminal(session, ["sh", "-c", _SHELL])
