"""The far end: greets, sets itself up as the near end asks, then serves until the stream ends."""

import os
import select
import sys
import time
from _collections import deque  # type: ignore[import-not-found]
from _thread import RLock, allocate_lock, get_ident, start_new_thread

from . import data, link, wire
from .guardian import SESSION_MARK, Guardian
from .quick import release, signal

TICK = 0.005
"""Seconds between the stand-in's looks at whether the main thread is stuck in a call; a fifth of it in a crowd."""
IDLE_TICKS = 20
"""Looks without any call, after which it rests until the next begins."""
STARTS = (wire.RUN, wire.FILES, wire.ISOLATED)
"""What takes its time to start: the main thread does so while others may read."""
FAR_IDENTS = 0x80000000
LIMIT = 1 << 40


class Typed(dict):  # type: ignore[type-arg]
    """{call: a slot with what was typed for its debugger}: made by whoever comes first, that or the debugger."""

    def __missing__(self, ident):
        slot = link.Slot()
        slot.value = deque()
        return self.setdefault(ident, slot)


class Far:
    """The far end's own state. Made once."""

    def __init__(self):
        self.status = 0
        self.temporary = None
        self.more = {}
        self.pump = None
        self.commands = None
        self.files = None
        self.isolation = None
        self.inputs = Typed()
        self.handlers = {}
        self.making = RLock()
        self.order = allocate_lock()
        self.starting = {}
        self.closing = allocate_lock()
        self.main_thread = get_ident()
        self.main_ident = None
        self.main_waits = False
        self.main_wake = allocate_lock()
        self.main_wake.acquire()
        self.taken = allocate_lock()
        self.serial = 0
        self.crowded_until = 0.0
        self.resting = False
        self.stir = allocate_lock()
        self.stir.acquire()
        self.inbox = deque()
        wire_in, wire_out = self._take_descriptors()
        reader = wire.FrameReader(wire_in)
        self.link = link.Link(reader, wire_out, self.handle, self.ended, LIMIT, FAR_IDENTS)
        kind, _, _, segments = self.link.next_message() or os._exit(0)
        if kind != wire.HELLO:
            os._exit(3)
        hello = data.loads(segments[0])
        # In a job the greeting is a file, which other elements of its array, and other attempts, read too.
        self.mark = os.urandom(12).hex() if hello.get("spool") else hello["session"]
        if hello["heartbeat"]:
            self._listen(reader, *hello["heartbeat"])
        self.session_mark = "%s=%s" % (SESSION_MARK, self.mark)
        self.guardian = Guardian(self.session_mark)
        self.link.send(wire.HELLO, 0, [data.dumps(self.about(self._settle(hello)))])
        self._prepare(hello["python"])
        if hello.get("spool"):  # in a job: what it may need has come along
            from .in_job import begin

            begin(self, hello["spool"])

    def _listen(self, reader, seconds, looks):
        """With heartbeats: whoever reads wakes in each interval, and ends all if the near end has been silent for too many.

        They are counted, and not the seconds, so that time in which this process did not run is one.
        """
        fill = reader.fill
        poll = select.poll()
        poll.register(reader.fd, select.POLLIN)

        def patiently():
            silent = 0
            while not poll.poll(seconds * 1000):
                silent += 1
                if silent >= looks:
                    self.ended("nothing was heard from the near end")
            return fill()

        reader.fill = patiently

    def _prepare(self, near_python):
        """Get ready for calls, while the greeting is on its way there and the first request on its way here."""
        self.guardian.start()
        from .calls import Calls
        from .modules import NearModules
        from .output import CallOutput, replace_streams

        self.output = CallOutput(self.link)
        replace_streams(self.output)
        self.modules = NearModules(self.link, near_python)
        self.modules.install()
        self.calls = Calls(self.link, self.output, self.modules, self.inputs)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self):
        """In a child that a call forks: it is no far end, and what it does must not reach its parent's stream."""
        self.closing.acquire(False)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (self.link.reader.fd, self.link.write_fd):
            os.dup2(null, fd, inheritable=False)
        os.close(null)
        for number, handler in self.handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)
        self.calls.forked()

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
        os.environ[SESSION_MARK] = self.mark
        try:
            if hello["keep"]:  # its program comes along, as nothing can be asked for yet
                __spec__.loader.sources.update(hello["keep"]["sources"])  # type: ignore[union-attr]
                from .attaching import begin

                begin(self, hello["keep"])
            if hello["tempdir"]:
                import tempfile

                self.temporary = tempfile.mkdtemp(prefix="outrider-")
                self.guardian.start()
                self.guardian.watch_folder(self.temporary)
                os.environ["TMPDIR"] = self.temporary
                os.chdir(self.temporary)
            if hello["cwd"] is not None:
                os.chdir(os.path.expanduser(hello["cwd"]))
        except OSError as error:
            return str(error)
        return None

    def about(self, problem):
        user = str(os.getuid())
        try:
            import pwd

            user = pwd.getpwuid(os.getuid()).pw_name
        except (ImportError, KeyError):
            pass
        return {
            "problem": problem,
            "python": list(sys.version_info[:3]),
            "host": os.uname().nodename,
            "user": user,
            "pid": os.getpid(),
            "executable": sys.executable or "",
            "cwd": os.getcwd() if problem is None else "",
            "kept": self.more,
        }

    def with_commands(self):
        """The commands that run here; imported when the first is to be started."""
        with self.making:  # two may be started at once, one by the main thread
            if self.commands is None:
                from .commands import Commands

                self.commands = Commands(self.link, self.with_pump(), self.guardian, self.mark)
            return self.commands

    def with_pump(self):
        """What reads the output of processes that are not of an ordinary call."""
        with self.making:
            if self.pump is None:
                from .pump import Pump

                self.pump = Pump(self.link)
            return self.pump

    def with_isolation(self):
        """The calls that run in processes of their own."""
        with self.making:
            if self.isolation is None:
                from .isolation import Isolation

                self.with_pump()
                self.isolation = Isolation(self)
            return self.isolation

    def with_files(self):
        """The transfers that run here; imported when the first is to be started."""
        with self.making:
            if self.files is None:
                from .files import FarFiles

                self.files = FarFiles(self.link)
            return self.files

    def serve(self):
        """The main thread's life: read a message, and run it here if it is a call."""
        self.handlers = {
            signal.SIGURG: self._interrupted,
            signal.SIGTERM: lambda *_: self.ended("terminated"),
            signal.SIGHUP: lambda *_: self.ended("hung up"),
            # Not SIG_IGN, which every command started here would inherit: Ctrl-C in a far shell would do nothing.
            signal.SIGINT: lambda *_: None,
        }
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        start_new_thread(self._stand_in, ())
        reading = self.link.reading
        while True:
            if reading.acquire(False):
                try:
                    message = self.link.next_message()
                    if message is None:
                        return  # the stream is over: `ended` is at work in whichever thread saw it first
                    # Before another reads on, as what follows may build on it.
                    if message[0] == wire.CALL and not self.link.reader.buffered():
                        self.calls.threads[message[1]] = self.main_thread
                    elif message[0] in STARTS:
                        self.starting[message[1]] = []
                    else:
                        self.handle(*message)
                        continue
                finally:
                    reading.release()
            else:
                try:
                    message = self.inbox.popleft()
                except IndexError:
                    self.main_waits = True
                    self.main_wake.acquire(True, 0.05)
                    self.main_waits = False
                    continue
                release(self.taken)
            if message[0] == wire.CALL:
                self._run_here(message)
            else:
                self._start_here(message)

    def _start_here(self, message):
        """Start what takes its time; what others have read for it meanwhile follows."""
        self.handle(*message)
        with self.order:
            for later in self.starting.pop(message[1]):
                self.handle(*later)

    def _run_here(self, message):
        _, ident, flags, segments = message
        del message
        self.serial += 1
        if self.resting:
            release(self.stir)
        self.main_ident = ident
        try:
            self.calls.run(ident, flags, segments)
        except self.calls.Cancelled:  # it came just after the call had ended, or before it had begun
            if ident in self.calls.threads:
                self.calls.run(ident, flags, segments)
        finally:
            self.main_ident = None

    def _interrupted(self, _, frame):
        wanted = self.main_ident is not None and self.main_ident in self.calls.threads
        if wanted and self.main_ident in self.calls.interrupt and not self.calls.importing(frame):
            self.calls.interrupt.discard(self.main_ident)
            if self._shielded():
                return
            if self.main_thread not in self.link.shield.inside:
                raise self.calls.Cancelled("cancelled")
            self.link.shield.due[self.main_thread] = self.calls.Cancelled("cancelled")

    def _shielded(self):
        """True while a generator's item is on its way out: half a frame must not be the last."""
        items = self.calls.streams.get(self.main_ident)
        return items is not None and items.shielded

    def _stand_in(self):
        """Reads the stream while the main thread is busy with a call that takes its time."""
        last = -1
        time.sleep(10 * TICK)  # what follows takes a millisecond: not before the first answer
        from . import processes

        processes.note_own()
        processes.become_subreaper()
        idle = 0
        while True:
            time.sleep(TICK if time.monotonic() > self.crowded_until else TICK / 5)
            serial = self.serial
            if self.main_ident is None or serial != last:
                idle = idle + 1 if serial == last else 0
                last = serial
                if idle > IDLE_TICKS:  # nothing happens: rest until the main thread starts another call
                    idle = 0
                    processes.reap_orphans()
                    self.resting = True
                    # Else one has just begun, and did not see that it should wake this thread.
                    if self.serial == last:
                        self.stir.acquire()
                    self.resting = False
                continue
            if self.link.reading.acquire(False):
                try:
                    self._read_for_main()
                except Exception as error:
                    self.link.end("cannot go on: %s" % error)
                finally:
                    self.link.reading.release()
                    self.link.pass_on()
                    release(self.main_wake)
                processes.reap_orphans()

    def _read_for_main(self):
        """Read until a call comes while the main thread waits for one: it then reads for itself again."""
        reader = self.link.reader
        while not self.link.over:
            message = self.link.next_message()
            if message is None:
                return
            if message[0] == wire.CALL and not reader.buffered() and self._main_takes(message):
                return
            self.handle(*message)
            if self.link.has_waiters() or (self.main_waits and not reader.buffered()):
                return

    def _main_takes(self, message):
        """Give a call to the main thread, if that is through with its last one, or is just sending a small answer.

        Whoever waited for that may have sent the next call before the main thread is back in its loop.
        """
        if self.output.has_call(self.main_thread):
            return False
        self.calls.threads[message[1]] = self.main_thread
        self.inbox.append(message)
        release(self.main_wake)
        until = time.monotonic() + 4 * TICK
        while self.inbox and time.monotonic() < until:
            self.taken.acquire(True, TICK)
        try:
            self.inbox.pop()
        except IndexError:
            return True
        return False

    def handle(self, kind, ident, flags, segments):
        """Deal with one message; called by whichever thread reads, and which so cannot ask for a module just then."""
        if ident in self.starting and kind not in STARTS and self._kept(kind, ident, flags, segments):
            return
        thread = get_ident()
        self.modules.silent.add(thread)
        try:
            self._deal(kind, ident, flags, segments)
        except Exception as error:  # for want of a thread, a descriptor, memory
            self._refuse(kind, ident, error)
        finally:
            self.modules.silent.discard(thread)

    def _refuse(self, kind, ident, error):
        """What cannot be begun fails alone; without what keeps the others going, all ends."""
        if kind != wire.CALL and kind not in STARTS:
            self.link.end("cannot go on: %s" % error)
            return
        for started in (self.calls.threads, *[part.running for part in self._parts()]):
            started.pop(ident, None)
        about = {"kind": type(error).__name__, "message": str(error), "traceback": "", "start": 125}
        about["hint"] = "what may be used up there: threads and processes (ulimit -u), memory, open files"
        self.link.send(wire.RAISED, ident, [data.dumps(about), b""])

    def _parts(self):
        return [part for part in (self.commands, self.isolation, self.files) if part is not None]

    def _kept(self, *message):
        """Keep what was read for a request that the main thread is just starting; False if it has been started by now."""
        with self.order:
            later = self.starting.get(message[1])
            if later is not None:
                later.append(message)
            return later is not None

    def _deal(self, kind, ident, flags, segments):
        if kind == wire.CALL:
            self.crowded_until = time.monotonic() + 1
            self.calls.run_in_thread(ident, flags, segments, self.main_thread)
        elif kind == wire.ISOLATED:
            self.with_isolation().start(ident, flags, segments)
        elif kind == wire.RUN:
            self.with_commands().start(ident, data.loads(segments[0]))
        elif kind == wire.DATA:
            self._input(ident, segments[0], flags & wire.END)
        elif kind == wire.CREDIT and flags & wire.ITEMS:
            if self.isolation is not None and ident in self.isolation.running:
                self.isolation.running[ident].grant(segments[0])
            if ident in self.calls.streams:
                self.calls.streams[ident].grant(int(segments[0]))
        elif kind == wire.CREDIT:
            self.output.grant(ident, int(segments[0]))
            if self.pump is not None:
                self.pump.grant(ident, int(segments[0]))
            if self.files is not None:
                self.files.grant(ident, int(segments[0]))
        elif kind == wire.SOURCE:
            self.modules.answer(ident, segments)
        elif kind == wire.CANCEL:
            self._cancel(ident)
        elif kind == wire.CONTROL and self.commands is not None and ident in self.commands.running:
            self.commands.running[ident].control(data.loads(segments[0]))
        elif kind == wire.FILES:
            self.with_files().start(ident, data.loads(segments[0]))
        elif kind == wire.PING:
            self.link.send(wire.PONG, ident, segments)
        elif kind == wire.BYE:
            self.link.end("the near end said goodbye")

    def _input(self, ident, piece, ends):
        if self.commands is not None and ident in self.commands.running:
            self.commands.running[ident].input(piece, ends)
        elif self.files is not None and self.files.knows(ident):
            self.files.input(ident, piece, ends)
        elif ident in self.calls.threads:
            self.inputs[ident].value.extend([piece, None] if ends else [piece])
            self.inputs[ident].wake()

    def _cancel(self, ident):
        if self.commands is not None and ident in self.commands.running:
            self.commands.cancel(ident)
        elif self.files is not None and self.files.knows(ident):
            self.files.cancel(ident)
        elif self.isolation is not None and ident in self.isolation.running:
            start_new_thread(self.isolation.running[ident].cancel, ())
        else:
            from .cancelling import cancel

            cancel(self, ident)

    def own_pids(self):
        """Processes not of ordinary calls: the guardian, commands and isolated calls, with all that they started."""
        return {self.guardian.pid}.union(*[part.pids() for part in self._parts() if part is not self.files])

    def ended(self, reason):
        """The end, however it came: nothing stays."""
        if self.closing.acquire(False):
            from .ending import clean_up

            try:
                clean_up(self, reason)
            finally:
                os._exit(self.status)


def main():
    far = Far()
    try:
        far.serve()
    finally:  # however the main thread ends: the process must not, before all is cleaned up
        far.ended("the main thread ended")
        while True:
            signal.pause()
