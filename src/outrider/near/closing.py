"""Letting go of an open route: never waiting for a lock that may not come, and never closing a descriptor under its user."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress

from outrider.far import wire
from outrider.near import opening
from outrider.near.hub import hub
from outrider.near.local_process import RouteProcess
from outrider.near.stream import NearLink

LOCK_WAIT = 0.2
"""Seconds to wait for another thread to leave the stream."""
LONGEST_PAUSE = 10.0


def say_goodbye(stream: opening.OpenStream, link: NearLink) -> None:
    """Send the last word, if that is possible at once; whatever waits is woken, and the far end's input ends."""
    with suppress(OSError, wire.ProtocolError):
        link.post(wire.BYE, 0, [b"bye"])
    hub().forget(stream.reader.fd)
    link.end("the session was closed")
    link.stop_writing()
    with suppress(OSError):
        assert stream.process.stdin
        stream.process.stdin.close()


def release(stream: opening.OpenStream, link: NearLink, pause: float = LOCK_WAIT) -> None:
    """Close what is left of the stream, once its process has ended."""
    if not hub().is_current():
        stream.stderr.ended.wait(LOCK_WAIT)
    hub().forget(stream.stderr.fd)
    if link.reads_here() or not link.reading.acquire(True, 0 if hub().is_current() else LOCK_WAIT):
        # The thread that reads is in a callback, or was interrupted by this: it must not find another file under the
        # number. A callback may last for ever, so this is tried ever less often.
        hub().later(pause, lambda: release(stream, link, min(2 * pause, LONGEST_PAUSE)))
        return
    try:
        stream.process.close_pipes()
    finally:
        link.reading.release()


def let_go_of(stream: opening.OpenStream) -> None:
    """Close a stream that nobody has used yet."""
    stream.process.end(LOCK_WAIT)
    hub().forget(stream.stderr.fd)
    stream.process.close_pipes()


def end_processes(processes: Iterable[RouteProcess], grace: float) -> None:
    """Wait `grace` seconds for all together to end; then ask them to, and then make them."""
    left = list(processes)
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        for process in left:
            if number is not None:
                process.signal_group(number)
        deadline = time.monotonic() + grace
        while (
            left := [process for process in left if process.poll() is None]
        ) and time.monotonic() < deadline:
            time.sleep(0.005)


def let_go(place: str, process: RouteProcess, stderr: opening.StderrTail) -> None:
    """A session was dropped without being closed. A finalizer may run in any thread, anywhere: the hub does the work."""

    def close() -> None:
        hub().forget(stderr.fd)
        process.end(LOCK_WAIT)
        process.close_pipes()

    with suppress(RuntimeError):  # the interpreter is ending, which closes the stream as well
        hub().soon(lambda: threading.Thread(target=close, name="outrider-closing", daemon=True).start())
    warnings.warn(f"a session at {place} was never closed", ResourceWarning, stacklevel=2)
