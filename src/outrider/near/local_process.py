"""The process that a route's stream comes from: Ctrl-C as it starts, the terminal while it asks, its end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import AbstractContextManager, suppress
from typing import IO, Any


class InterruptLater:
    """Ctrl-C within this block counts at its end: not between a process's start and somebody's knowing of it."""

    def __enter__(self) -> None:
        self._interrupted = False
        self._handler: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: object) -> None:
        self._interrupted = True

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._interrupted:
                self._handler(signal.SIGINT, None)


class Foreground:
    """While a route opens, its process may ask on the user's own terminal (2FA, host keys): as a shell's job does.

    Of several that open at once, the first has the terminal.
    """

    _changing = threading.Lock()

    def __init__(self, group: int) -> None:
        self.group = group
        self.fd: int | None = None

    def __enter__(self) -> None:
        try:
            fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        with self._changing, suppress(OSError):
            if os.tcgetpgrp(fd) == os.getpgrp():
                hand_terminal(fd, self.group)
                self.fd = fd
                return
        os.close(fd)

    def __exit__(self, *_: object) -> None:
        if self.fd is not None:
            with suppress(OSError):
                hand_terminal(self.fd, os.getpgrp())
            os.close(self.fd)


def hand_terminal(fd: int, group: int) -> None:
    """Make `group` the terminal's own. Who asks for that from the background would else be stopped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(fd, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class RouteProcess:
    """What a route's stream comes from: a process here, or one that another session carries."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    pid: int
    returncode: int | None
    args: Any

    def poll(self) -> int | None:
        """How it ended: negative after a signal; None if it has not."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> int:
        """As `poll`, once it has ended; subprocess.TimeoutExpired if that takes longer than `timeout` seconds."""
        raise NotImplementedError

    def foreground(self) -> AbstractContextManager[object]:
        """While a route opens, its process may ask on the user's own terminal."""
        raise NotImplementedError

    def signal_group(self, number: int) -> None:
        """Signal it with all that it started; nothing happens if it has ended."""
        raise NotImplementedError

    def ended_within(self, seconds: float) -> bool:
        """Whether it ends within so many seconds; told at once."""
        raise NotImplementedError

    def end(self, grace: float, first: float | None = None) -> None:
        """End it: by its stdin's end, within `first` seconds if that is given; then asked, then made to."""
        if self.stdin and not self.stdin.closed:
            with suppress(OSError):
                self.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self.signal_group(number)
            if self.ended_within(grace if number is not None or first is None else first):
                return

    def close_pipes(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream and not stream.closed:
                with suppress(OSError):
                    stream.close()


class LocalProcess(subprocess.Popen[bytes], RouteProcess):
    """A process here, the leader of a group of its own."""

    def foreground(self) -> Foreground:
        return Foreground(self.pid)

    def signal_group(self, number: int) -> None:
        with suppress(OSError):
            os.killpg(self.pid, number)
            if number == signal.SIGTERM:  # one that is stopped would not hear it
                os.killpg(self.pid, signal.SIGCONT)

    def ended_within(self, seconds: float) -> bool:
        try:
            fd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # an older kernel, or it has been waited for already
            with suppress(subprocess.TimeoutExpired):
                self.wait(seconds)
            return self.returncode is not None
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(fd)
        return self.poll() is not None


def enlarge_pipe(fd: int) -> None:
    """A pipe of 1 MiB instead of 64 KiB, where the kernel allows it."""
    import fcntl

    with suppress(OSError):
        fcntl.fcntl(fd, 1031, 1 << 20)  # F_SETPIPE_SZ
