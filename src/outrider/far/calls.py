"""Calls at the far end: unpack, run, pack the value. What few calls need (a failure, a state) is imported then."""

import io
import os
import sys
import time
from _thread import get_ident

from . import data, packing, wire
from .modules import MAIN
from .pickling import pickle
from .quick import struct, threading_of

INVOKE, AS_DATA, OPTIONS = 1, 2, 4
"""Flags of CALL: a method whose object's state comes back; answer in the data codec; options stand first."""
RAISED_STATE = 1
"""Flag of RAISED: the object's state is in there too."""

DURATION = struct.Struct("<d")


def _plain():
    yield


async def _awaited():
    yield


GENERATORS = type(_plain()), type(_awaited())


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
    if b"_main__" in segments[0]:  # __main__ or MAIN
        unpickler = FarUnpickler(io.BytesIO(segments[0]), buffers=segments[1:])
        unpickler.modules = modules
        return unpickler.load()
    return pickle.loads(segments[0], buffers=segments[1:])  # the far end obeys its near end anyway


def pack_value(value, as_data, near_python):
    """Segments of an answer; by cloudpickle what pickle cannot name, if the near end's Python can run such code."""
    if as_data:
        buffers = []
        return [data.dumps(value, buffers), *buffers]
    if type(value) in packing.SMALL:
        return [pickle.dumps(value, 5)]
    try:
        return packing.dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        if near_python != list(sys.version_info[:2]):
            raise
        try:
            cloudpickle = __import__("cloudpickle")  # the near end's own
        except ImportError:
            raise error from None
        return packing.dump(value, cloudpickle.Pickler)


def within(frame, found):
    """Whether a thread that is at `frame` has come there through code that `found(code)` is true of."""
    while frame is not None:
        if found(frame.f_code):
            return True
        frame = frame.f_back
    return False


def importing(frame):
    """Whether an import is under way there: its locks would stay locked for other threads, its module be half there."""
    return within(frame, lambda code: code.co_filename.startswith("<frozen importlib"))


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

    Cancelled = CallCancelled
    importing = staticmethod(importing)

    def __init__(self, link, output, modules, inputs):
        self.link = link
        self.output = output
        self.modules = modules
        self.inputs = inputs
        self.threads = {}  # {request: its thread, 0 until it has one}, from when a call is read until it is answered
        self.cancelled = set()
        self.streams = {}
        self.interrupt = set()  # those that the main thread's signal handler is to interrupt
        self.in_fork = False
        self.sweep = bool  # what to do between the end of a cancelled call and its answer

    def run_in_thread(self, ident, flags, segments, main_thread):
        """Run one call beside the one that the main thread is busy with."""
        threading = threading_of(main_thread)
        if (
            sys.getswitchinterval() > 0.0005
        ):  # the thread that reads waits so long for each call that computes
            sys.setswitchinterval(0.0005)
        self.threads[ident] = 0
        threading.Thread(target=self.run, args=(ident, flags, segments, True), daemon=True).start()

    def run(self, ident, flags, segments, beside=False):
        """Run one call in this thread and send its answer."""
        started = time.monotonic()
        outcome = None
        try:
            if beside:
                self.threads[ident] = get_ident()
            self.output.begin(ident)
            outcome = self._answer(ident, flags, segments, started, beside)
            wanted = self._leave(ident, beside)
        except CallCancelled:
            wanted = self._leave(ident, beside)
        if not wanted:  # it was given up, and answered for
            if self.in_fork:  # a child that the call forked came back from it too: one answer is enough
                os._exit(outcome is None or outcome[0] != wire.RESULT)
            self.cancelled.discard(ident)
            return
        if outcome is None:
            self.sweep()
            outcome = wire.RAISED, self._failure(CallCancelled("cancelled"), True, started), 0
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # the call closed or replaced them
            pass
        self.output.finish()
        self.link.send(outcome[0], ident, outcome[1], outcome[2])

    def forked(self):
        """In a child that a call forks: none of the calls is its own to answer."""
        self.in_fork = True
        self.threads.clear()
        self.output.forked()
        self.modules.ask = self.modules.cannot_ask

    def _leave(self, ident, beside):
        """From here on nothing interrupts this thread; false if nobody waits for its call any more."""
        while beside:
            try:
                # None is set while this is held, and what was set before is raised here.
                with self.link.shield.gate:
                    get_ident()
                    get_ident()
                    self.link.shield.leave()
                    return self.threads.pop(ident, None) is not None
            except CallCancelled:
                pass
        return self.threads.pop(ident, None) is not None

    def _answer(self, ident, flags, segments, started, beside):
        options = {}
        as_data = bool(flags & AS_DATA)
        subject = None
        try:
            if ident in self.cancelled:
                raise CallCancelled("cancelled before it began")
            if flags & OPTIONS:
                options = data.loads(segments[0])
                del segments[0]
            if beside:  # what it imports is not interrupted: importlib's locks would stay locked for all
                with self.link.shield:
                    call = unpack(segments, self.modules)
            else:
                call = unpack(segments, self.modules)
            segments.clear()  # large arguments go when the function lets go of them
            if flags & INVOKE:
                subject, method, args, kwargs = call
                function = getattr(subject, method)
            else:
                function, args, kwargs = call
            del call
            if options.get("debug"):
                from .debugging import debugged

                function = debugged(self.link, self.inputs, ident, function)
            value = plain(function, args, kwargs)
            del args, kwargs
            if type(value) in GENERATORS:
                from .generators import stream

                value = stream(self, ident, flags, value, as_data, started)
            duration = time.monotonic() - started
            packed = (
                self._with_state(value, subject, as_data)
                if flags & INVOKE
                else pack_value(value, as_data, self.modules.near_python)
            )
            head = DURATION.pack(duration)
            whole = len(packed) == 1 and len(packed[0]) < packing.LARGE
            return wire.RESULT, [head + packed[0]] if whole else [head, *packed], 0
        except (CallCancelled, GeneratorExit):
            raise
        except BaseException as error:
            answer = self._failure(error, as_data, started)
            if flags & INVOKE and options.get("state_on_error") and subject is not None:
                try:
                    return wire.RAISED, answer + self._with_state(None, subject, as_data), RAISED_STATE
                except Exception:  # the exception itself matters more than a state that cannot travel
                    pass
            return wire.RAISED, answer, 0

    @staticmethod
    def _with_state(value, subject, as_data):
        from .state import pack_state, state_of

        if as_data:
            return pack_value((value, state_of(subject)), True, None)
        return pack_state(value, subject)

    @staticmethod
    def _failure(error, as_data, started):
        from .failures import describe

        return describe(error, as_data, time.monotonic() - started)
