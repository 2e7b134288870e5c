"""Sandboxed commands at the far end: handed to the warden with their pipes; their output counted, kept and sent on here."""

import os
import select
import subprocess
import sys
import threading
import time
from collections import deque

from . import channel, data, processes, wire

TYPES = False
if TYPES:  # typing is slow to import, and annotations of attributes are not evaluated
    from typing import Any

PIECE = 65536
CLOSING = 3.0
"""Seconds that the warden has to end all jails, and to remove what is left of them."""
# The warden is started with nothing but its channel: its program comes as the first message.
BOOT = """\
import os,marshal,zlib
s=marshal.loads(zlib.decompress(os.read(0,1<<18)))
exec(compile(s["jail.boot"],"<outrider>/jail/boot.py","exec"),{"sources":s})
"""
FOLDER = "/box"
DEFAULTS = {
    "engine": None,
    "limits": {},
    "network": False,
    "fresh": False,
    "strict": False,
    "allow_missing": [],
    "root": None,
    "binds": [],
    "inputs": [],
    "outputs": [],
    "folder": FOLDER,
}


class Refused(OSError):
    """The job cannot be run as asked."""


def checked(spec):
    """`spec` with its defaults; Refused if a value is of the wrong kind, since the warden trusts it to be right."""
    whole = dict(DEFAULTS, **spec)
    for name, value in whole.items():
        if name not in DEFAULTS:
            raise Refused("the sandbox has no option %r" % name)
        like = DEFAULTS[name]
        if not (isinstance(value, str) or value is None if like is None else isinstance(value, type(like))):
            raise Refused("the sandbox's option %s is of the wrong kind: %r" % (name, value))
    for name, value in whole["limits"].items():
        if value is not None and (type(value) not in (int, float) or value < 0):
            raise Refused("the sandbox's limit of %s is no number: %r" % (name, value))
    return whole


class JailedCommand:
    """One sandboxed command of request `ident`: the far end's side of it."""

    def __init__(self, jails, ident, order):
        self.jails = jails
        self.ident = ident
        self.process = jails.process
        self.mark = jails.mark
        self.spec = checked(order["sandbox"])
        self.limit = self.spec["limits"].get("output")
        self.credit = wire.WINDOW
        self.count = 0
        self.backlog = deque()
        self.open_outputs = {}
        self.paused = set()  # what is not read for want of credit; who drains may find it a second time
        self.cancelled = False
        self.answer: Any = None
        self.started = time.monotonic()
        self._feeding: Any = None
        self._stdin = -1
        self._start(order)

    def _start(self, order):
        if order["tty"]:
            raise Refused("a sandboxed command has no terminal")
        theirs = []
        try:
            if order["stdin"]:
                reader, self._stdin = os.pipe()
                os.set_blocking(self._stdin, False)
            else:
                reader = os.open(os.devnull, os.O_RDONLY)
            theirs.append(reader)
            for flag in (wire.STDOUT,) if order["merge"] else (wire.STDOUT, wire.STDERR):
                reader, writer = os.pipe()
                theirs.append(writer)
                os.set_blocking(reader, False)
                self.open_outputs[reader] = flag
            message = {"do": "run", "id": self.ident, "argv": list(order["argv"]), "spec": self.spec}
            message.update(env=dict(order["env"]), cwd=order["cwd"])
            self.jails.begin(self, message, theirs if len(theirs) == 3 else [*theirs, theirs[1]])
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    # --- output: called by the jails' thread ----------------------------------------------------------------------

    def read(self, fd):
        """Take a piece of its output; what is over the limit is dropped, and the job ends. False if there is none now."""
        size = PIECE if self.limit is not None else min(PIECE, self.credit)
        if size <= 0:  # without a limit, only as much as the other end takes
            self.jails.pause(fd)
            self.paused.add(fd)
            self.flush()  # more may have been granted just before this was known to wait for it
            return False
        try:
            piece = os.read(fd, size)
        except BlockingIOError:
            return False
        if not piece:
            del self.open_outputs[fd]
            self.paused.discard(fd)
            self.jails.drop(fd)
            return False
        piece = self.counted(piece)
        if piece:
            self.backlog.append((self.open_outputs[fd], piece))
            self.flush()
        return True

    def counted(self, piece):
        """What of a piece of its output is within the limit; where that is not all, the job ends."""
        self.count += len(piece)
        over = 0 if self.limit is None else max(0, self.count - self.limit)
        if over:
            self.end("OLE", "it printed more than %d bytes" % self.limit)
        return piece[: max(0, len(piece) - over)]

    def flush(self):
        """Send on as much as the other end takes."""
        while self.paused and self.credit > 0:
            fd = self.paused.pop()
            if fd in self.open_outputs:
                self.jails.watch(fd, self)
        while self.backlog and self.credit > 0:
            with self.jails.lock:  # credit may come meanwhile
                flag, piece = self.backlog.popleft()
                if len(piece) > self.credit:
                    self.backlog.appendleft((flag, piece[self.credit :]))
                    piece = piece[: self.credit]
                self.credit -= len(piece)
            self.jails.link.send_frame(wire.DATA, self.ident, piece, flag)

    def drain(self):
        """All that it had printed when it died: everybody who could write is dead."""
        for fd in list(self.open_outputs):
            while fd in self.open_outputs and self.read(fd):
                pass

    def over(self):
        """True once nothing is left to be sent but the result; who has cancelled takes no more of its output."""
        return self.answer is not None and (self.cancelled or not (self.open_outputs or self.backlog))

    def result(self):
        report, status = self.answer["report"], self.answer["status"]
        usage = report["usage"]
        usage["output_bytes"] = self.count
        if self.limit is not None and self.count > self.limit and report["verdict"] in ("OK", "RE"):
            report["verdict"], report["message"] = "OLE", "it printed more than %d bytes" % self.limit
        return {
            "returncode": -(status & 0x7F) if status & 0x7F else status >> 8,
            "duration": usage["wall_s"],
            "cancelled": self.cancelled,
            "sandbox": report,
        }

    # --- input and control: called by who reads the stream ------------------------------------------------------------

    def input(self, piece, ends):
        """Hand over what fits at once; the rest from a thread, as the job takes it."""
        if self._feeding is None:
            piece = self._write_now(piece)
            if not piece:
                if ends:
                    self._close_stdin()
                return
            self._feeding = deque()
            self._ready = threading.Semaphore(0)
            threading.Thread(target=self._feed, name="outrider-stdin", daemon=True).start()
        for part in ([piece] if piece else []) + ([None] if ends else []):
            self._feeding.append(part)
            self._ready.release()

    def _write_now(self, piece):
        try:
            done = os.write(self._stdin, piece) if piece else 0
        except BlockingIOError:
            done = 0
        except OSError:  # it has closed its stdin, or ended
            done = len(piece)
        self._taken(done)
        return piece[done:]

    def _taken(self, size):
        if size:
            self.jails.link.send_frame(wire.CREDIT, self.ident, b"%d" % size)

    def _feed(self):
        os.set_blocking(self._stdin, True)
        while True:
            self._ready.acquire()
            piece = self._feeding.popleft()
            if piece is None:
                break
            try:
                wire.write_all(self._stdin, [piece])
            except OSError:
                pass
            self._taken(len(piece))
        self._close_stdin()

    def _close_stdin(self):
        fd, self._stdin = self._stdin, -1
        if fd >= 0:
            os.close(fd)

    def control(self, order):
        if "signal" in order:
            self.jails.tell({"do": "signal", "id": self.ident, "signal": int(order["signal"])})

    def cancel(self, known=()):
        self.cancelled = True
        self.end("SE", "it was cancelled")
        self.jails.wake()  # it may have ended, and wait for its output to be taken

    def end(self, kind, words):
        self.jails.tell({"do": "kill", "id": self.ident, "kind": kind, "words": words})

    def close(self):
        """Let go of its pipes; who feeds it then hears that nobody reads."""
        self.paused.clear()
        for fd in list(self.open_outputs):
            del self.open_outputs[fd]
            self.jails.drop(fd)
        if self._feeding is None:
            self._close_stdin()
        else:
            self._feeding.append(None)
            self._ready.release()


class Jails:
    """The warden, and all sandboxed commands under way. One thread reads what they print and what the warden says."""

    def __init__(self, link, guardian, running, mark):
        self.link = link
        self.guardian = guardian
        self.running = running
        self.mark = mark
        self.lock = threading.Lock()
        self.commands = {}
        self.process: Any = None
        self.unable = None
        self.gone = False
        self._folders = []
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self._poll = select.epoll()
        self._owners = {}
        self._poll.register(self._wake_read, select.EPOLLIN)
        self._start()
        self._poll.register(self._fd, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="outrider-jails", daemon=True)
        self._thread.start()

    def _start(self):
        from . import program  # type: ignore[attr-defined]  # made by loader.source: all of the warden's modules

        ours, theirs = channel.pair()
        try:
            self.process = subprocess.Popen(
                [sys.executable or "python3", "-I", "-S", "-c", BOOT],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self.warden = channel.Channel(ours)
        os.register_at_fork(after_in_child=self.warden.close)
        self.guardian.watch_group(self.process.pid)
        self._fd = ours
        self.warden.send_raw(program.packed())

    # --- called by who reads the stream -------------------------------------------------------------------------------

    def start(self, ident, order):
        """Start a command; it answers for itself."""
        if order.get("joined") is None:
            self.running[ident] = JailedCommand(self, ident, order)
        else:
            from .interacting import Player

            self.running[ident] = Player(self, ident, order)

    def begin(self, command, message, fds):
        """Hand a command to the warden."""
        if self.unable is not None:
            raise Refused(self.unable)
        with self.lock:
            self.commands[command.ident] = command
        for fd in command.open_outputs:
            self.watch(fd, command)
        try:
            self.warden.send(message, fds)
        except (OSError, ValueError) as error:
            with self.lock:
                self.commands.pop(command.ident, None)
            raise Refused("the sandbox's warden cannot be told: %s" % error) from None

    def tell(self, message):
        try:
            self.warden.send(message)
        except (OSError, ValueError):  # it is gone, which its reader hears
            pass

    def watch(self, fd, command):
        """Have the thread read `fd` for `command`; an epoll takes it even while the thread waits."""
        known = fd in self._owners
        self._owners[fd] = command
        (self._poll.modify if known else self._poll.register)(fd, select.EPOLLIN)

    def heed(self, fd, command, events):
        """Tell `command` of these events at `fd`, which it writes to, and of its other end's closing."""
        known = fd in self._owners
        self._owners[fd] = command
        (self._poll.modify if known else self._poll.register)(fd, events)

    def pause(self, fd):
        self._owners.pop(fd, None)
        try:
            self._poll.unregister(fd)
        except (OSError, ValueError):  # it was not watched
            pass

    def drop(self, fd):
        """Read `fd` no more, and close it."""
        self.pause(fd)
        os.close(fd)

    def grant(self, ident, size):
        """The other end has taken `size` bytes of a command's output; False if it is none of these."""
        with self.lock:
            command = self.commands.get(ident)
            if command is None:
                return False
            command.credit += size
            waits = command.backlog or command.paused or command.answer is not None
        if waits:
            self.wake()
        return True

    def wake(self):
        try:
            os.write(self._wake_write, b"x")
        except OSError:
            pass

    def close(self):
        """Tell the warden that this is all. It ends every jail; killed while it cleans up, it would leave groups."""
        self.warden.hang_up()
        self._thread.join(CLOSING)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self):
        try:
            while not self.gone:
                for fd, _ in self._poll.poll():
                    self._deal(fd)
        except BaseException as error:  # whoever waits hears of it: nobody else reads what the warden says
            self.warden.hang_up()
            self._lost("the far end's side of the sandbox broke: %r" % (error,))
            raise

    def _deal(self, fd):
        command = self._owners.get(fd)
        if command is not None:
            command.read(fd)
            self.finish(command)
        elif fd == self._wake_read:
            os.read(fd, 4096)
            for each in list(self.commands.values()):
                each.flush()
                self.finish(each)
        elif fd == self._fd:
            self._hear()

    def _hear(self):
        try:
            message, _ = self.warden.receive()
        except (OSError, ValueError):
            message = None
        if message is None or "broken" in message:
            self.gone = True
            self._lost("the sandbox's warden was ended" + (": " + message["broken"] if message else ""))
        elif "unable" in message:
            self._lost("the native sandbox engine cannot work here: %s" % message["unable"])
        elif "ready" in message:
            self._folders = message["folders"]
            for folder in self._folders:
                self.guardian.watch_folder(folder)
        elif "refused" in message:
            self._refused(message["id"], message["refused"])
        elif message["id"] in self.commands:
            command = self.commands[message["id"]]
            command.answer = message
            command.drain()
            self.finish(command)

    def _refused(self, ident, why):
        with self.lock:
            command = self.commands.pop(ident, None)
        if command is not None:
            self.running.pop(ident, None)
            command.close()
            about = {"start": 125, "message": why, "kind": "SandboxRefused"}
            self.link.send(wire.RAISED, ident, [data.dumps(about)])

    def _lost(self, why):
        """Nothing can be run any more: every jail has ended with the warden."""
        self.unable = why
        self.pause(self._fd)
        self.guardian.forget_group(self.process.pid)
        for ident in list(self.commands):
            self._refused(ident, why)
        self.process.wait()
        self._remove_groups()

    def _remove_groups(self):
        """After a warden that was killed: the kernel kills what was in its slots, within a moment."""
        for _ in range(500):
            for folder in self._folders:
                _kill_in(folder)
                processes.remove_tree(folder)
                self.guardian.forget_folder(folder)
            self._folders = [folder for folder in self._folders if os.path.isdir(folder)]
            if not self._reap_slots() and not self._folders:
                return
            time.sleep(0.01)

    def _reap_slots(self):
        """Collect the inits of the slots, which come to this process where it is their subreaper; True if some live."""
        left = False
        for pid in os.listdir("/proc"):
            about = (
                processes._read("/proc/%s/stat" % pid).rpartition(b")")[2].split() if pid.isdigit() else []
            )
            if len(about) > 3 and int(about[3]) == self.process.pid:  # it is of the warden's session
                left = left or about[0] != b"Z"
                processes.reap([int(pid)])
        return left

    def finish(self, command):
        """Answer for a command, if nothing is left to be sent but that."""
        if not command.over():
            return
        with self.lock:
            if self.commands.pop(command.ident, None) is None:
                return
        self.running.pop(command.ident, None)
        command.close()
        self.link.send(wire.RESULT, command.ident, [data.dumps(command.result())])


def _kill_in(folder):
    """End what is left in a control group whose warden is dead: another engine's box does not end with it."""
    for path, _, _ in os.walk(folder):
        try:
            with open(os.path.join(path, "cgroup.procs")) as file:
                pids = [int(word) for word in file.read().split()]
            for pid in pids:
                if pid not in (0, os.getpid()):
                    os.kill(pid, 9)
        except OSError:
            pass
