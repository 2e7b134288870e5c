"""How a far end inside a job differs from others: nobody can be asked, and its stream ends after the calls."""

import os
import sys

from . import calls as module
from . import processes, wire
from .quick import signal

STOPPED = 85
"""Exit status after a checkpoint: how to go on stands behind the answer, and its size in 20 digits behind that."""


class Now:
    """The call that runs: what it was sent as, and what it is."""

    ident = flags = 0
    call = None
    asked = terminated = False


class NoItems:
    """Stands for the module that sends a generator's items, one by one as they are asked for."""

    @staticmethod
    def stream(*_):
        raise TypeError(
            "a job cannot return a generator, whose items nobody is there to take: return a list of them"
        )


def begin(far, settings):
    """Serve calls one after the other, as they stand in the file that is the stream."""

    def warned(*_):
        if not _asked(far, "the time is nearly up") and Now.terminated:  # while it was asked
            far.ended("terminated")

    far.output.LIMIT = 1 << 62
    far.modules.ask = _asked_in_vain
    far._stand_in = int  # nothing is left to be done
    processes.adopt_all()
    sys.modules[__package__ + ".generators"] = NoItems  # type: ignore[assignment]
    far.link.reader.buffered = bool
    _note_failures(far)
    if settings["checkpoint"]:
        _note_calls(far)
        signal.signal(signal.SIGUSR1, warned)
    ended = far.ended

    def ended_by_signal(reason):
        if reason == "terminated" and _asked(far, reason):
            return
        if reason != "the stream ended":
            far.status = 128 + signal.SIGTERM
        ended(reason)

    far.ended = ended_by_signal


def _asked_in_vain(question):
    if "data" in question:
        raise FileNotFoundError(2, "a job cannot ask for data of the caller's package", question["data"])


def _note_failures(far):
    """The exit status tells the scheduler, and jobs that wait for this one, whether the calls returned."""
    send = far.link.send

    def noting(kind, ident, *rest):
        if kind == wire.RAISED:
            far.status = 1
        return send(kind, ident, *rest)

    far.link.send = noting


def _note_calls(far):
    run, unpack = far.calls.run, module.unpack

    def noting_run(ident, flags, *rest):
        Now.ident, Now.flags, Now.call = ident, flags, None
        try:
            return run(ident, flags, *rest)
        finally:
            Now.call = None

    def noting_unpack(*arguments):
        Now.call = unpack(*arguments)
        return Now.call

    far.calls.run = noting_run
    module.unpack = noting_unpack


def _asked(far, why):
    """In the main thread, in the midst of the call: ask its function for a checkpoint, and leave how to go on from it.

    True if that is being done already: the signal comes from the scheduler, and from the script as well. If it fails, the
    call goes on as long as it may.
    """
    call = vars(Now)["call"]
    Now.terminated |= why == "terminated"
    if Now.asked:
        return True
    if not call or not hasattr(call[0], "checkpoint"):
        return False
    Now.asked = True
    checkpoint = call[0].checkpoint
    try:
        sys.stdout.flush()
        rest = _continuation(call, checkpoint(*call[1], **call[2])) + _unread(far)
    except Exception:
        import traceback

        sys.stderr.write("no checkpoint could be made:\n" + traceback.format_exc())
        Now.asked = False
        return False
    if not far.closing.acquire(False):
        return False
    from .ending import clean_up

    try:
        stream = os.dup(far.link.write_fd)  # the link lets go of its own
        clean_up(far, "stopped at a checkpoint: " + why)
        os.set_blocking(stream, True)
        wire.write_all(stream, [rest, b"%020d" % len(rest)])
    finally:
        os._exit(STOPPED)


def _continuation(call, told):
    """The message of the call to go on with. told: new arguments as a tuple, changed named ones as a dict, or None."""
    function, args, kwargs = call
    if isinstance(told, dict):
        kwargs = dict(kwargs, **told)
    elif told is not None:
        args, kwargs = tuple(told), {}
    segments = module.pack_value((function, args, kwargs), False, list(sys.version_info[:2]))
    frames = wire.message_frames(wire.CALL, Now.ident, segments, Now.flags)
    return b"".join([bytes(buffer) for frame in frames for buffer in frame])


def _unread(far):
    """The calls that were not begun."""
    reader = far.link.reader
    rest = [reader._buffer[reader._at :]]
    while rest[-1] or len(rest) == 1:
        rest.append(os.read(reader.fd, 1 << 20))
    return b"".join(rest)
