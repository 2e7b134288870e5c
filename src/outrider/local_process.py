"""A route's one local process: Ctrl-C while it starts, the terminal while it asks, its pipes, and its end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import suppress
from typing import Any


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
    """While a route opens, its process may ask on the user's own terminal (2FA, host keys): as a shell's job does."""

    def __init__(self, group: int) -> None:
        self.group = group
        self.fd: int | None = None

    def __enter__(self) -> None:
        try:
            fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.tcgetpgrp(fd) == os.getpgrp():
                os.tcsetpgrp(fd, self.group)
                self.fd = fd
                return
        except OSError:
            pass
        os.close(fd)

    def __exit__(self, *_: object) -> None:
        if self.fd is None:
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            with suppress(OSError):
                os.tcsetpgrp(self.fd, os.getpgrp())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(self.fd)


def end_process(process: subprocess.Popen[bytes], grace: float, first: float | None = None) -> None:
    """End a route's local process: by its stdin's end, within `first` seconds if that is given; then asked, then made to."""
    if process.stdin and not process.stdin.closed:
        with suppress(OSError):
            process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with suppress(OSError):
                os.killpg(process.pid, number)
        if ended_within(process, grace if number is not None or first is None else first):
            return


def ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends within so many seconds; told at once, while Popen.wait looks only ever so often."""
    try:
        fd = os.pidfd_open(process.pid)
    except (OSError, AttributeError):  # an older kernel, or it has been waited for already
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(fd)
    return process.poll() is not None


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream and not stream.closed:
            with suppress(OSError):
                stream.close()


def enlarge_pipe(fd: int) -> None:
    """A pipe of 1 MiB instead of 64 KiB, where the kernel allows it."""
    import fcntl

    with suppress(OSError):
        fcntl.fcntl(fd, 1031, 1 << 20)  # F_SETPIPE_SZ
