"""Calls in a process of their own: forked from the far end, with all that it has imported, and ended alone.

The fork is of the far end itself, by the thread that looks after the call, so that calls run side by side and start with the
modules that are there. What other threads hold at that moment is not touched in the child: it has a stream of its own to
its parent, new locks for importing, and none of the parent's pipes and connections, but /dev/null in their place.
"""

import os
import select
import sys
import time
from _thread import allocate_lock, start_new_thread

from . import calls, data, link, output, processes, wire
from .quick import signal, threading_of

LINGER = 0.2
"""Seconds that a finished call's output may stay open, held by a process that it left behind."""
LIMIT = 1 << 40


class Isolation:
    """All calls that run in processes of their own now."""

    def __init__(self, far):
        self.far = far
        self.running = {}

    def start(self, ident, flags, segments):
        one = self.running[ident] = IsolatedCall(self, ident)
        threading = threading_of(self.far.main_thread)
        threading.Thread(target=one.run, args=(flags, segments), daemon=True).start()

    def known(self):
        """Pids that a thread here waits for."""
        return {one.pid for one in list(self.running.values()) if one.pid}

    def pids(self):
        """All processes of these calls, what they started too."""
        found = self.known()
        for one in list(self.running.values()):
            if one.pid:
                found |= processes.find(one.mark, (one.pid,), (one.pid,))
        return found


class IsolatedCall:
    """One call, seen from the far end."""

    def __init__(self, isolation, ident):
        self.isolation = isolation
        self.far = isolation.far
        self.ident = ident
        self.mark = "%s=%s.%d" % (processes.COMMAND_MARK, self.far.mark, ident)
        self.pid = 0
        self.cancelled = False
        self.started = time.monotonic()
        self.answered = False
        self._large = []
        self._down = -1
        self._down_lock = allocate_lock()
        self._open_outputs = 2
        self._outputs_done = allocate_lock()
        self._outputs_done.acquire()

    def run(self, flags, segments):
        """The life of a thread of the far end: fork, hand on what the child says, tell how it ended."""
        try:
            try:
                up, down = self._fork(flags, segments)
            except OSError as error:
                self._failed("cannot start a process for the call: %s" % error)
                return
            segments.clear()
            self.far.guardian.watch_group(self.pid)
            if self.cancelled:
                self.cancel()
            self._down = down
            try:
                self._relay(up)
            finally:
                os.close(up)
                with self._down_lock:
                    self._down = -1
                    os.close(down)
            self._finish(os.waitpid(self.pid, 0)[1])
        finally:
            self.isolation.running.pop(self.ident, None)

    def _fork(self, flags, segments):
        up, child_up = os.pipe()
        child_down, down = os.pipe()
        outputs, writers = zip(os.pipe(), os.pipe())
        pid = os.fork()
        if not pid:
            try:
                Child(self, child_down, child_up, writers).run(flags, segments)
            finally:
                os._exit(70)
        self.pid = pid
        for fd in (child_up, child_down, *writers):
            os.close(fd)
        for fd, channel in zip(outputs, (wire.STDOUT, wire.STDERR)):
            self.far.with_pump().add(fd, self.ident, channel, self._output_ended)
        return up, down

    def _output_ended(self):
        self._open_outputs -= 1
        if not self._open_outputs:
            self._outputs_done.release()

    def _relay(self, up):
        """Hand on frames until the child has ended."""
        reader = wire.FrameReader(up)
        poll = select.poll()
        poll.register(up, select.POLLIN)
        death = None
        try:
            death = os.pidfd_open(self.pid)  # Python 3.9, Linux 5.3
            poll.register(death, select.POLLIN)
        except (AttributeError, OSError):
            pass
        try:
            while True:
                ready = [fd for fd, _ in poll.poll(None if death is not None else 50)]
                if up in ready:
                    if not self._read(reader):
                        return
                elif ready or (death is None and self._has_ended()):
                    return  # what it started may still hold the pipe, but nothing is in there
        finally:
            if death is not None:
                os.close(death)

    def _has_ended(self):
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _read(self, reader):
        if not reader.fill():
            return False
        while True:
            got = reader.next()
            if got is None:
                return True
            kind, ident, flags, payload = got
            if kind == wire.IMPORT:
                try:
                    start_new_thread(self._import, (ident, payload))
                except RuntimeError:  # no thread is left: what the child says waits meanwhile
                    self._import(ident, payload)
            else:
                self._answer(kind, flags, payload)

    def _import(self, ident, payload):
        """The child lacks a module: ask the near end for it."""
        try:
            found = self.far.modules.ask(data.loads(wire.split_segments(payload, LIMIT)[0]))
        except ImportError:  # the near end is gone
            return
        self._tell(*wire.message_frames(wire.SOURCE, ident, found))

    def grant(self, payload):
        """The near end has taken items of the call's."""
        if self._down >= 0:
            self._tell([wire.frame(wire.CREDIT, self.ident, bytes(payload))])

    def _tell(self, *frames):
        with self._down_lock:
            try:
                for buffers in frames:
                    wire.write_all(self._down, buffers)
            except OSError:  # the child is gone
                pass

    def _answer(self, kind, flags, payload):
        if kind in (wire.RESULT, wire.RAISED):
            self._outputs_done.acquire(True, LINGER)  # the child closes its output before it answers
            self.answered = not flags & wire.LARGE
        if flags & wire.LARGE:
            self._large = [kind, sum([size for size, _ in wire.read_table(payload, LIMIT)[0]])]
        elif kind == wire.PART:
            self._large[1] -= len(payload)
            if self._large[0] != wire.ITEM and not self._large[1]:
                self.answered = True
        self.far.link.send_frame(kind, self.ident, payload, flags)

    def cancel(self):
        """End it at once, with all that it started."""
        self.cancelled = True
        if self.pid and self.ident in self.isolation.running:
            _kill_group(self.pid, signal.SIGSTOP)  # nothing escapes while its descendants are looked for
            alive = processes._parents()
            found = processes._descendants(alive, {self.pid} & set(alive))
            _kill_group(self.pid, signal.SIGKILL)
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass

    def _finish(self, status):
        """The child is gone: what it left is ended, and if it did not answer, it is told why."""
        if status or self.cancelled:  # else it saw to that itself
            processes.end(self.mark, groups=(self.pid,))
        else:
            _kill_group(self.pid, signal.SIGKILL)
        self.far.guardian.forget_group(self.pid)
        if not self.answered:
            self._outputs_done.acquire(True, LINGER)
            if self.cancelled:
                self._failed("cancelled", kind="outrider.CallCancelled")
            else:
                self._failed(*self._how_ended(status))
        self.far.pump.forget(self.ident)

    def _how_ended(self, status):
        if os.WIFSIGNALED(status):
            import signal as names

            number = os.WTERMSIG(status)
            try:
                name = names.Signals(number).name
            except ValueError:
                name = "signal %d" % number
            return "the call's process was ended by %s" % name, HINTS.get(
                name, "its stderr may show where it was"
            )
        return (
            "the call's process ended with status %d before it had answered" % os.WEXITSTATUS(status),
            "os._exit and the like end it at once; return a value, or raise an exception",
        )

    def _failed(self, message, hint=None, kind="Ended"):
        about = {"kind": kind, "message": message, "traceback": "", "missing": None, "hint": hint}
        about["duration"] = time.monotonic() - self.started
        self.far.link.send(wire.RAISED, self.ident, [data.dumps(about), b""], 0)


HINTS = {
    "SIGKILL": "if nobody sent it, the machine's memory or that of its job was used up: look there with dmesg",
    "SIGXCPU": "it has used up its cpu_time",
}


def _kill_group(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        pass


class Child:
    """The same call, in its own process."""

    def __init__(self, one, reading, writing, outputs):
        self.pid = os.getpid()
        self.one = one
        self.far = one.far
        os.setsid()
        self._leave_behind({reading, writing, *outputs})
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGURG):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for channel, fd in zip((wire.STDOUT, wire.STDERR), outputs):
            os.dup2(fd, channel, inheritable=True)
            os.close(fd)
        output.replace_streams(Direct())
        reader = wire.FrameReader(reading)
        self.link = link.Link(reader, writing, self._handle, lambda _: os._exit(70), LIMIT, 0x80000000)
        modules = self.far.modules
        modules.link = self.link
        modules.pending = {}
        del modules.ask  # it can: by way of its parent
        _renew_importing()
        name, _, value = one.mark.partition("=")
        os.environ[name] = value
        if "_ctypes" in sys.modules:
            processes.become_subreaper()

    @staticmethod
    def _leave_behind(keep):
        """Put /dev/null where the parent's pipes and connections are: two processes at one would hurt each other."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            numbers = [int(name) for name in os.listdir("/proc/self/fd")]
        except OSError:
            numbers = list(range(1024))
        for fd in numbers:
            try:
                # S_ISFIFO, S_ISSOCK
                if fd not in keep and fd > 2 and os.fstat(fd).st_mode & 0o170000 in (0o010000, 0o140000):
                    os.dup2(null, fd, inheritable=False)
            except OSError:
                pass

    def _handle(self, kind, ident, flags, segments):
        if kind == wire.SOURCE:
            self.far.modules.answer(ident, segments)
        elif kind == wire.CREDIT and ident in self.streams:
            self.streams[ident].grant(int(segments[0]))

    def run(self, flags, segments):
        started = time.monotonic()
        try:
            import faulthandler

            faulthandler.enable(2)
        except (ImportError, OSError, ValueError):
            pass
        runner = calls.Calls(self.link, Direct(), self.far.modules, {})
        runner.streams = self.streams = Streams(self.link)
        try:
            limits = data.loads(segments[0])["limits"] if flags & calls.OPTIONS else None
            if limits:
                from .limits import apply

                apply(limits)
            outcome = runner._answer(self.one.ident, flags, segments, started, False)
        except (OSError, calls.CallCancelled) as error:
            outcome = wire.RAISED, runner._failure(error, bool(flags & calls.AS_DATA), started), 0
        if os.getpid() != self.pid:  # a fork of the call's own that came back from it: one answer is enough
            os._exit(0)
        self._end_what_it_started()
        self._close_output()
        self.link.send(outcome[0], self.one.ident, outcome[1], outcome[2])
        os._exit(0)

    def _end_what_it_started(self):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except OSError:  # no child at all, as mostly
            return
        processes.end(self.one.mark, roots=(self.pid,))

    @staticmethod
    def _close_output():
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # the call closed or replaced them
            pass
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)


class Direct:
    """Output that needs no telling apart: this process has one call."""

    @staticmethod
    def write(channel, piece):
        return False

    @staticmethod
    def drain():
        pass


class Streams(dict):  # type: ignore[type-arg]
    """Generators whose items go out: while there are any, somebody must read what the near end has taken of them."""

    def __init__(self, stream):
        super().__init__()
        self.stream = stream

    def __setitem__(self, ident, items):
        super().__setitem__(ident, items)
        start_new_thread(self.stream.wait, (link.Slot(),))


def _renew_importing():
    """Locks that another thread held at the fork stay locked here for ever: forget them, and what was half imported."""
    bootstrap = sys.modules.get("_frozen_importlib")
    for name in ("_module_locks", "_blocking_on"):
        held = getattr(bootstrap, name, None)
        if held is not None:
            held.clear()
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            sys.modules.pop(name, None)
