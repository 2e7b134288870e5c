"""Calls at the far end: unpack, run, and pack the value or the exception."""

import io
import os
import pickle
import struct
import sys
import threading
import time

from . import data, wire
from .modules import MAIN

INVOKE, AS_DATA, OPTIONS = 1, 2, 4
"""Flags of CALL: a method whose object's state comes back; answer in the data codec; options stand first."""
RAISED_STATE = 1
"""Flag of RAISED: the object's state is in there too."""

DURATION = struct.Struct("<d")
SELF = "self"
"""The persistent id that stands for the invoked object itself, so that it keeps its identity."""


class CallCancelled(BaseException):
    """Raised inside a call that the near end no longer wants."""


class FarUnpickler(pickle.Unpickler):
    """Reads what the (trusted) near end sends; names of the caller's script lead to its copy here."""

    modules = None

    def find_class(self, module, name):
        if module == "__main__":
            module = MAIN
        if module == MAIN:
            self.modules.load_main()  # type: ignore[attr-defined]
        return super().find_class(module, name)


def unpack(segments, modules):
    if b"__main__" in segments[0] or MAIN.encode() in segments[0]:
        unpickler = FarUnpickler(io.BytesIO(segments[0]), buffers=segments[1:])
        unpickler.modules = modules
        return unpickler.load()
    return pickle.loads(segments[0], buffers=segments[1:])  # noqa: S301  # the far end obeys its near end anyway


class StatePickler(pickle.Pickler):
    """Packs an answer in which the invoked object is only named, not copied."""

    def __init__(self, file, subject, buffer_callback):
        super().__init__(file, 5, buffer_callback=buffer_callback)
        self.subject = subject

    def persistent_id(self, value):
        return SELF if value is self.subject else None


def _dump(value, buffers):
    """`value` as bytes; cloudpickle for what pickle cannot name, where it came along."""
    try:
        return pickle.dumps(value, 5, buffer_callback=buffers.append)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        buffers.clear()
        cloudpickle = sys.modules.get("cloudpickle")
        if cloudpickle is None:
            raise pickle.PicklingError(str(error)) from error
        return cloudpickle.dumps(value, 5, buffer_callback=buffers.append)


def state_of(subject):
    """(state, list items, dict items) that bring another copy of `subject` to where this one is."""
    reduced = subject.__reduce_ex__(4)
    if isinstance(reduced, str):
        return None, None, None
    parts = [*reduced, None, None, None, None, None][2:5]
    return (
        parts[0],
        None if parts[1] is None else list(parts[1]),
        None if parts[2] is None else list(parts[2]),
    )


def pack_value(value, as_data):
    """Segments of an answer, less the duration."""
    if as_data:
        return [data.dumps(value)]
    buffers = []
    body = _dump(value, buffers)
    return [body, *[buffer.raw() for buffer in buffers]]


def pack_state(value, subject):
    buffers = []
    file = io.BytesIO()
    StatePickler(file, subject, buffers.append).dump((value, state_of(subject)))
    return [file.getvalue(), *[buffer.raw() for buffer in buffers]]


def describe(error, as_data, duration):
    """Segments of a RAISED answer: what can be shown anywhere, then the exception itself where it can travel."""
    import traceback  # takes milliseconds to import, and most calls do not raise

    frames = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=False)
    mine = os.path.dirname("<outrider>/x")
    kept = [frame for frame in frames.stack if not frame.filename.startswith(mine)]
    frames.stack[:] = kept
    kind = type(error)
    about = {
        "kind": kind.__module__ + "." + kind.__qualname__,
        "message": _text(error),
        "traceback": "".join(frames.format()),
        "duration": duration,
        "missing": getattr(error, "name", None) if isinstance(error, ImportError) else None,
    }
    pickled = b""
    if not as_data:
        try:
            pickled = pickle.dumps(error, 5)
        except Exception:  # an exception that cannot travel is shown by its traceback instead
            pickled = b""
    return [data.dumps(about), pickled]


def _text(error):
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def plain(function, args, kwargs):
    value = function(*args, **kwargs)
    if hasattr(value, "__await__"):
        import asyncio

        async def wait():
            return await value

        return asyncio.run(wait())
    return value


class Calls:
    """Runs calls; one at a time in the main thread, which can be interrupted, others in threads."""

    def __init__(self, link, output, modules, inputs):
        self.link = link
        self.output = output
        self.modules = modules
        self.inputs = inputs
        self.threads = {}
        self.cancelled = set()

    def run(self, ident, flags, segments):
        """Run one call in this thread and send its answer."""
        started = time.monotonic()
        self.threads[ident] = threading.get_ident()
        self.output.begin(ident)
        try:
            kind, answer, reply_flags = self._answer(ident, flags, segments, started)
        except CallCancelled as cancelled:
            kind, answer, reply_flags = wire.RAISED, describe(cancelled, True, time.monotonic() - started), 0
        self.threads.pop(ident, None)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # the call closed or replaced them
            pass
        self.output.finish()
        self.cancelled.discard(ident)
        self.link.send(kind, ident, answer, reply_flags)

    def _answer(self, ident, flags, segments, started):
        options = {}
        as_data = bool(flags & AS_DATA)
        subject = None
        try:
            if flags & OPTIONS:
                options = data.loads(segments[0])
                segments = segments[1:]
            call = unpack(segments, self.modules)
            if flags & INVOKE:
                subject, method, args, kwargs = call
                function = getattr(subject, method)
            else:
                function, args, kwargs = call
            del call, segments
            if ident in self.cancelled:
                raise CallCancelled("cancelled before it began")
            if options.get("debug"):
                function = self._debugged(ident, function)
            value = plain(function, args, kwargs)
            duration = time.monotonic() - started
            packed = (
                pack_state(value, subject) if flags & INVOKE and not as_data else pack_value(value, as_data)
            )
            packed[0] = DURATION.pack(duration) + packed[0]
            return wire.RESULT, packed, 0
        except (CallCancelled, GeneratorExit):
            raise
        except BaseException as error:
            answer = describe(error, as_data, time.monotonic() - started)
            if flags & INVOKE and options.get("state_on_error") and subject is not None:
                try:
                    return wire.RAISED, answer + pack_state(None, subject), RAISED_STATE
                except Exception:  # the exception itself matters more than a state that cannot travel
                    pass
            return wire.RAISED, answer, 0

    def _debugged(self, ident, function):
        """`function` under pdb, talking over the call's own channels."""
        import pdb  # noqa: T100  # this is the debugger that the user asked for

        reader, writer = os.pipe()
        self.inputs[ident] = writer
        talk = CallTalk(self.link, ident)
        debugger = pdb.Pdb(stdin=os.fdopen(reader, "r"), stdout=talk, nosigint=True, readrc=False)  # type: ignore[arg-type]
        debugger.prompt = "(far pdb) "

        def run(*args, **kwargs):
            try:
                return debugger.runcall(function, *args, **kwargs)
            except Exception as error:
                talk.write("raised %r; the debugger stands where it was raised\n" % (error,))
                debugger.reset()
                debugger.interaction(None, error.__traceback__)
                raise
            finally:
                os.close(self.inputs.pop(ident))

        return run

    def cancel(self, ident, main_thread):
        """Interrupt a running call: by a signal in the main thread, else at its next step of Python code."""
        self.cancelled.add(ident)
        thread = self.threads.get(ident)
        if thread is None:
            return
        if thread == main_thread:
            import signal

            signal.pthread_kill(main_thread, signal.SIGURG)
            return
        try:
            import ctypes

            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(CallCancelled)
            )
        except (ImportError, AttributeError):
            pass


class CallTalk(io.TextIOBase):
    """Text that goes straight to the near end as output of one call."""

    def __init__(self, link, ident):
        self.link = link
        self.ident = ident

    def write(self, text):
        self.link.send_frame(wire.DATA, self.ident, text.encode("utf-8", "replace"), wire.STDOUT)
        return len(text)
