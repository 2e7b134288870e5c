"""The far end: greets, sets itself up as the near end asks, then serves until the stream ends."""

import io
import os
import signal
import sys
import threading
import time
from collections import deque

from . import calls, capture, data, link, processes, wire
from .modules import NearModules

TICK = 0.005
"""Seconds between the stand-in's looks at whether the main thread is stuck in a call."""
CANCEL_GRACE = 2.0
"""Seconds that a cancelled call has to end before the whole far end is ended with it."""
CANCEL_HELP = 0.2
"""Seconds after which the processes that it started are ended, in case it waits for one of them."""
FAR_IDENTS = 0x80000000
LIMIT = 1 << 40


class Far:
    """The far end's own state. Made once."""

    def __init__(self):
        wire_in, wire_out = self._take_descriptors()
        reader = wire.FrameReader(wire_in)
        self.link = link.Link(reader, wire_out, self.handle, self.ended, LIMIT, FAR_IDENTS)
        kind, _, _, segments = self.link.next_message() or os._exit(0)
        if kind != wire.HELLO:
            os._exit(3)
        hello = data.loads(segments[0])
        self.mark = hello["session"]
        self.session_mark = "%s=%s" % (processes.SESSION_MARK, self.mark)
        self.temporary = None
        self.closing = threading.Lock()
        self.guardian = processes.Guardian(self.session_mark)
        problem = self._settle(hello)
        self.output = capture.CallOutput(self.link)
        self._replace_streams()
        self.inputs = {}
        self.modules = NearModules(self.link)
        self.modules.install()
        self.calls = calls.Calls(self.link, self.output, self.modules, self.inputs)
        self._pump = None
        self._commands = None
        self._files = None
        self.main_thread = threading.get_ident()
        self.main_ident = None
        self.main_waits = False
        self.main_wake = threading.Lock()
        self.main_wake.acquire()
        self.serial = 0
        self.inbox = deque()
        self._greet(problem)

    @staticmethod
    def _take_descriptors():
        """Move the stream away from 0 and 1, so that nothing a call does can touch it."""
        import fcntl

        wire_in = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 100)
        wire_out = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 100)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        return wire_in, wire_out

    def _settle(self, hello):
        """Folder and environment as asked; what goes wrong is told in the greeting."""
        try:
            os.setpgid(0, 0)
        except OSError:  # it leads a session already
            pass
        os.environ.update(hello["env"])
        os.environ[processes.SESSION_MARK] = self.mark
        try:
            if hello["tempdir"]:
                import tempfile

                self.temporary = tempfile.mkdtemp(prefix="outrider-")
                self.guardian.watch_folder(self.temporary)
                os.environ["TMPDIR"] = self.temporary
                os.chdir(self.temporary)
            if hello["cwd"] is not None:
                os.chdir(os.path.expanduser(hello["cwd"]))
        except OSError as error:
            return str(error)
        return None

    def _replace_streams(self):
        """Python's own prints go out at once, and keep apart when several calls run."""
        for channel, name in ((wire.STDOUT, "stdout"), (wire.STDERR, "stderr")):
            raw = CallStream(self.output, channel)
            stream = io.TextIOWrapper(
                io.BufferedWriter(raw, 8192), "utf-8", "backslashreplace", line_buffering=True
            )
            setattr(sys, name, stream)
            setattr(sys, "__%s__" % name, stream)

    def _greet(self, problem):
        user = str(os.getuid())
        try:
            import pwd

            user = pwd.getpwuid(os.getuid()).pw_name
        except (ImportError, KeyError):
            pass
        about = {
            "problem": problem,
            "python": list(sys.version_info[:3]),
            "host": os.uname().nodename,
            "user": user,
            "pid": os.getpid(),
            "executable": sys.executable or "",
            "cwd": os.getcwd() if problem is None else "",
        }
        self.link.send(wire.HELLO, 0, [data.dumps(about)])

    @property
    def pump(self):
        if self._pump is None:
            self._pump = capture.Pump(self.link)
        return self._pump

    @property
    def commands(self):
        if self._commands is None:
            from .commands import (
                Commands,  # subprocess takes milliseconds to import, and many sessions only call
            )

            self._commands = Commands(self.link, self.pump, self.guardian, self.mark)
        return self._commands

    @property
    def files(self):
        if self._files is None:
            from .files import FarFiles

            self._files = FarFiles(self.link)
        return self._files

    def serve(self):
        """The main thread's life: read a message, and run it here if it is a call."""
        signal.signal(signal.SIGURG, self._interrupted)
        signal.signal(signal.SIGTERM, lambda *_: self.ended("terminated"))
        signal.signal(signal.SIGHUP, lambda *_: self.ended("hung up"))
        # Not SIG_IGN, which every command started here would inherit: Ctrl-C in a far shell would do nothing.
        signal.signal(signal.SIGINT, lambda *_: None)
        threading.Thread(target=self._stand_in, name="outrider-stand-in", daemon=True).start()
        reading = self.link.reading
        while True:
            message = None
            if self.inbox:
                message = self.inbox.popleft()
            elif reading.acquire(False):
                try:
                    message = self.link.next_message()
                finally:
                    reading.release()
                if message is not None and message[0] != wire.CALL:
                    self.handle(*message)
                    continue
            else:
                self.main_waits = True
                self.main_wake.acquire(True, 0.05)
                self.main_waits = False
                continue
            if message is None:
                return  # the stream is over: `ended` is at work in whichever thread saw it first
            self._run_here(message)

    def _run_here(self, message):
        _, ident, flags, segments = message
        del message
        self.serial += 1
        self.main_ident = ident
        try:
            self.calls.run(ident, flags, segments)
        except calls.CallCancelled:  # it came just after the call had ended
            pass
        finally:
            self.main_ident = None

    def _interrupted(self, *_):
        wanted = self.main_ident is not None and self.main_ident in self.calls.threads
        if wanted and self.main_ident in self.calls.cancelled:
            raise calls.CallCancelled("cancelled")

    def _stand_in(self):
        """Reads the stream while the main thread is busy with a call that takes its time."""
        last = -1
        time.sleep(10 * TICK)  # ctypes takes milliseconds to import: not before the first answer
        processes.become_subreaper()
        while True:
            time.sleep(TICK if self.main_ident is not None else 4 * TICK)
            serial = self.serial
            if self.main_ident is None or serial != last:
                last = serial
                continue
            if self.link.reading.acquire(False):
                try:
                    self._read_for_main()
                finally:
                    self.link.reading.release()
                    self.link.pass_on()
                    self._wake_main()

    def _read_for_main(self):
        """Read until a call comes while the main thread waits for one: it then reads for itself again."""
        while not self.link.over:
            message = self.link.next_message()
            if message is None:
                return
            if message[0] == wire.CALL and self.main_waits and not self.inbox:
                self.inbox.append(message)
                return
            self.handle(*message)
            if self.link.has_waiters() or (self.main_waits and not self.link.reader.buffered()):
                return

    def _wake_main(self):
        try:
            self.main_wake.release()
        except RuntimeError:
            pass

    def handle(self, kind, ident, flags, segments):
        """Deal with one message; called by whichever thread reads."""
        if kind == wire.CALL:
            threading.Thread(target=self.calls.run, args=(ident, flags, segments), daemon=True).start()
        elif kind == wire.RUN:
            self.commands.start(ident, data.loads(segments[0]))
        elif kind == wire.DATA:
            self._input(ident, flags, segments[0])
        elif kind == wire.CREDIT:
            self.output.grant(ident, int(segments[0]))
            if self._pump is not None:
                self._pump.grant(ident, int(segments[0]))
            if self._files is not None:
                self._files.grant(ident, int(segments[0]))
        elif kind == wire.SOURCE:
            self.modules.answer(ident, segments)
        elif kind == wire.CANCEL:
            self._cancel(ident)
        elif kind == wire.CONTROL and ident in self.commands.running:
            self.commands.running[ident].control(data.loads(segments[0]))
        elif kind == wire.FILES:
            self.files.start(ident, data.loads(segments[0]))
        elif kind == wire.PING:
            self.link.send(wire.PONG, ident, segments)
        elif kind == wire.BYE:
            self.link.end("the near end said goodbye")

    def _input(self, ident, flags, piece):
        ends = bool(flags & wire.END)
        if self._commands is not None and ident in self._commands.running:
            self._commands.running[ident].input(piece, ends)
        elif self._files is not None and self._files.knows(ident):
            self._files.input(ident, piece, ends)
        elif ident in self.inputs:
            os.write(self.inputs[ident], piece)

    def _cancel(self, ident):
        if self._commands is not None and ident in self._commands.running:
            self._commands.cancel(ident)
        elif self._files is not None and self._files.knows(ident):
            self._files.cancel(ident)
        else:
            self.calls.cancel(ident, self.main_thread)
            threading.Thread(target=self._insist, args=(ident,), daemon=True).start()

    def _insist(self, ident):
        """After a cancelled call: end what it started; and if it will not end, end the far end with it."""
        started = time.monotonic()
        helped = False
        while ident in self.calls.threads and time.monotonic() < started + CANCEL_GRACE:
            time.sleep(0.02)
            if not helped and time.monotonic() > started + CANCEL_HELP and len(self.calls.threads) == 1:
                helped = True  # it may be waiting, in C, for a process that it started
                self._end_strays()
        if ident in self.calls.threads:
            self.ended("a cancelled call did not end")
        elif not self.calls.threads:
            self._end_strays()

    def _end_strays(self):
        """End all that calls have started; commands, which are requests of their own, go on."""
        spare = {self.guardian.pid} | (self._commands.pids() if self._commands is not None else set())
        known = self._commands.known() if self._commands is not None else ()
        processes.end(self.session_mark, roots=(os.getpid(),), spare=spare, known={self.guardian.pid, *known})

    def ended(self, reason):
        """The end, however it came: nothing stays."""
        if not self.closing.acquire(False):
            return
        try:
            if self._commands is not None:
                self._commands.end_all()
            spare = {self.guardian.pid}
            processes.end(self.session_mark, roots=(os.getpid(),), spare=spare, known={self.guardian.pid})
            if self.temporary:
                os.chdir("/")
                processes.remove_tree(self.temporary)
        finally:
            os._exit(0)


class CallStream(io.RawIOBase):
    """What sys.stdout writes to: the captured descriptor, or straight out while several calls run at once."""

    def __init__(self, output, channel):
        self.output = output
        self.channel = channel

    def writable(self):
        return True

    def fileno(self):
        return self.channel

    def write(self, piece):
        if self.output.write(self.channel, piece):
            return len(piece)
        return os.write(self.channel, piece)


def main():
    far = Far()
    try:
        far.serve()
    finally:  # however the main thread ends: the process must not, before all is cleaned up
        far.ended("the main thread ended")
        while True:
            signal.pause()
