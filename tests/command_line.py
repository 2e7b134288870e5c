"""The real program in a process of its own: with pipes, or on a terminal that a test plays the person at."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from typing import Any

from tests.doc_pages import ROOT

OUTRIDER = (sys.executable, "-m", "outrider")


def environment(**more: str) -> dict[str, str]:
    """This process's own, with the sources and the tests' samples importable from any folder."""
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **more}


def outrider(
    *words: object, stdin: bytes = b"", env: dict[str, str] | None = None, timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    argv = [*OUTRIDER, *map(str, words)]
    return subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        env=environment(**(env or {})),
        timeout=timeout,
        check=False,
        **more,
    )


class Terminal:
    """A program on a terminal of its own: `expect` what it shows, `type` to it. It is ended with the block."""

    def __init__(
        self, argv: Sequence[str], env: dict[str, str] | None = None, size: tuple[int, int] = (24, 80)
    ) -> None:
        self.fd, far_side = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.fd)
        self.shown = b""
        self.process = subprocess.Popen(
            argv,
            stdin=far_side,
            stdout=far_side,
            stderr=far_side,
            env={**environment(), "TERM": "xterm", "PS1": "$ ", **(env or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(far_side)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.fd)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def expect(self, text: bytes, seconds: float = 30) -> bytes:
        """All that is shown up to `text`; what comes after it is kept for the next time."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            if not self._read(until):
                raise AssertionError(f"{text!r} never came; shown: {self.shown!r}")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def end(self, seconds: float = 30) -> int:
        """Wait for its end; the exit code. What it still showed is in `shown`."""
        until = time.monotonic() + seconds
        while self._read(until):
            pass
        return self.process.wait(max(0.1, until - time.monotonic()))

    def restored(self) -> bool:
        """Whether the terminal is as it was before the program started."""
        return termios.tcgetattr(self.fd) == self.before

    def _read(self, until: float) -> bool:
        if not select.select([self.fd], [], [], max(0, until - time.monotonic()))[0]:
            return False
        try:
            piece = os.read(self.fd, 65536)
        except OSError:  # the last program on it has ended
            return False
        self.shown += piece
        return bool(piece)


def on_terminal(*words: object, **more: Any) -> Terminal:
    return Terminal([*OUTRIDER, *map(str, words)], **more)
