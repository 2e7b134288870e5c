"""Commands at the far end: started in a process group of their own, fed, watched, and ended with all that they started."""

import os
import signal
import subprocess
import threading
import time
from collections import deque

from . import data, processes, wire

GRACE = 1.5
"""Seconds between asking a command to end (TERM) and making it (KILL)."""
LINGER = 0.2
"""Seconds that a finished command's output may stay open, held by a process that it left behind."""
TIOCSWINSZ, TIOCSCTTY = 0x5414, 0x540E
"""Linux's numbers; the termios module, which has them, is missing on slim systems."""


class Command:
    """One running command of request `ident`."""

    def __init__(self, link, pump, guardian, mark, ident, order):
        self.link = link
        self.pump = pump
        self.guardian = guardian
        self.ident = ident
        self.mark = "%s=%s.%d" % (processes.COMMAND_MARK, mark, ident)
        self.cancelled = False
        self.started = time.monotonic()
        self._open_outputs = 1 if order["tty"] or order["merge"] else 2
        self._outputs_done = threading.Event()
        self._input = deque()
        self._input_ready = threading.Semaphore(0)
        self._terminal = None
        self._terminal_lock = threading.Lock()
        try:
            self._start(order)
        except BaseException:
            self.abandon()
            raise

    def _start(self, order):
        env = dict(os.environ, **order["env"])
        name, _, value = self.mark.partition("=")
        env[name] = value
        common = {"cwd": order["cwd"], "env": env, "start_new_session": True, "close_fds": True}
        if order["tty"]:
            self._start_on_terminal(order, common)
            return
        stdin = subprocess.PIPE if order["stdin"] else subprocess.DEVNULL
        stderr = subprocess.STDOUT if order["merge"] else subprocess.PIPE
        self.process = subprocess.Popen(
            order["argv"], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, bufsize=0, **common
        )
        self._started()
        if order["stdin"]:
            stdin_pipe = self.process.stdin
            assert stdin_pipe is not None
            self._feed(os.dup(stdin_pipe.fileno()))
            stdin_pipe.close()
        self._read(self.process.stdout, wire.STDOUT)
        if not order["merge"]:
            self._read(self.process.stderr, wire.STDERR)

    def _read(self, stream, channel):
        fd = os.dup(stream.fileno())
        stream.close()
        self.pump.add(fd, self.ident, channel, self._output_ended)

    def _start_on_terminal(self, order, common):
        import fcntl
        import struct

        rows, columns = order["tty"]
        self._terminal, far_side = os.openpty()
        fcntl.ioctl(far_side, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def own_terminal():
            fcntl.ioctl(0, TIOCSCTTY, 0)

        try:
            self.process = subprocess.Popen(
                order["argv"],
                stdin=far_side,
                stdout=far_side,
                stderr=far_side,
                preexec_fn=own_terminal,
                **common,
            )
        finally:
            os.close(far_side)
        self._started()
        self._feed(os.dup(self._terminal), on_terminal=True)
        self.pump.add(os.dup(self._terminal), self.ident, wire.STDOUT, self._output_ended)

    def _started(self):
        self.guardian.watch_group(self.process.pid)

    def _output_ended(self):
        self._open_outputs -= 1
        if self._open_outputs <= 0:
            self._outputs_done.set()

    def _feed(self, fd, on_terminal=False):
        """Hand what arrives to the command's stdin, from a thread: a command that does not read must not stop others.

        What it has taken is told for many pieces at once: a packet for each would hold up what the command answers.
        """

        def run():
            taken = 0
            while True:
                self._input_ready.acquire()
                piece = self._input.popleft()
                if piece is None:
                    break
                try:
                    wire.write_all(fd, [piece])
                except OSError:  # it closed its stdin, or ended: what comes after is of no use to it
                    pass
                taken += len(piece)
                if taken >= wire.WINDOW // 4:
                    self.link.send_frame(wire.CREDIT, self.ident, b"%d" % taken)
                    taken = 0
            if on_terminal:
                try:
                    os.write(fd, b"\x04")
                except OSError:
                    pass
            os.close(fd)

        os.set_blocking(fd, True)
        threading.Thread(target=run, name="outrider-stdin", daemon=True).start()

    def input(self, piece, ends):
        if piece:
            self._input.append(piece)
            self._input_ready.release()
        if ends:
            self._input.append(None)
            self._input_ready.release()

    def control(self, order):
        """A signal for the command's group, or a new size for its terminal."""
        if "signal" in order:
            try:
                os.killpg(self.process.pid, order["signal"])
            except OSError:
                pass
        if "size" in order:
            import fcntl
            import struct

            size = struct.pack("HHHH", order["size"][0], order["size"][1], 0, 0)
            with self._terminal_lock:
                if self._terminal is not None:
                    fcntl.ioctl(self._terminal, TIOCSWINSZ, size)

    def _release(self):
        """Nothing more goes in, and nothing comes out."""
        self._input.append(None)
        self._input_ready.release()
        self.pump.forget(self.ident)
        with self._terminal_lock:
            if self._terminal is not None:
                os.close(self._terminal)
                self._terminal = None

    def abandon(self):
        """End what could be started in part only: for want of threads or descriptors."""
        process = getattr(self, "process", None)
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(1)
            except (OSError, subprocess.TimeoutExpired):  # another user's
                pass
            self.guardian.forget_group(process.pid)
        self._release()

    def cancel(self):
        """End the command and everything that it started, daemons too."""
        self.cancelled = True
        pid = self.process.pid
        processes.end(self.mark, groups=(pid,), roots=(pid,), grace=GRACE, known={pid})

    def finish(self):
        """Wait for the end, then say how it went."""
        status = self.process.wait()
        if not self._outputs_done.wait(LINGER if not self.cancelled else 0.05):
            self.pump.forget(self.ident)
        self.guardian.forget_group(self.process.pid)
        answer = {
            "returncode": status,
            "duration": time.monotonic() - self.started,
            "cancelled": self.cancelled,
        }
        self._release()
        self.link.send(wire.RESULT, self.ident, [data.dumps(answer)])


class Commands:
    """All commands that run here now."""

    def __init__(self, link, pump, guardian, mark):
        self.link = link
        self.pump = pump
        self.guardian = guardian
        self.mark = mark
        self.running = {}
        self.begun = 0
        self.starting = 0
        self.jails = None
        self.making = threading.Lock()

    def start(self, ident, order):
        with self.making:
            self.begun += 1
            self.starting += 1
        try:
            self._start(ident, order)
        finally:
            with self.making:
                self.starting -= 1

    def _start(self, ident, order):
        command = None
        try:
            if order.get("sandbox") is not None:
                self._with_jails().start(ident, order)
                return
            command = Command(self.link, self.pump, self.guardian, self.mark, ident, order)
            self.running[ident] = command
            threading.Thread(
                target=self._finish, args=(ident, command), name="outrider-wait", daemon=True
            ).start()
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError, ImportError) as error:
            if command is not None:
                del self.running[ident]
                command.abandon()
            self.link.send(wire.RAISED, ident, [data.dumps(self._refusal(order, error))])

    def _with_jails(self):
        """What runs sandboxed commands; imported when the first is to be started."""
        with self.making:  # two may be started at once
            if self.jails is None or self.jails.gone:
                from .sandbox import Jails

                self.jails = Jails(self.link, self.guardian, self.running, self.mark)
                self.pump.elsewhere = self.jails.grant
            return self.jails

    @staticmethod
    def _refusal(order, error):
        """Why a command could not be started, told apart as a shell does: 127 not found, 126 not allowed."""
        status = 125
        if isinstance(error, FileNotFoundError):
            status = 127
            if order["cwd"] and not os.path.isdir(order["cwd"]):
                status = 125
        elif isinstance(error, PermissionError):
            status = 126
        return {"start": status, "message": str(error), "kind": type(error).__name__}

    def _finish(self, ident, command):
        try:
            command.finish()
        finally:
            self.running.pop(ident, None)
        processes.reap_orphans()

    def pids(self):
        """All processes of the commands that run here, grandchildren too."""
        found = set()
        if self.jails is not None:
            pid = self.jails.process.pid
            found = {pid} | processes.find(self.jails.mark, (pid,), (pid,))
        for command in list(self.running.values()):
            pid = command.process.pid
            found |= {pid} | processes.find(command.mark, (pid,), (pid,))
        return found

    def cancel(self, ident):
        command = self.running.get(ident)
        if command is not None:
            threading.Thread(target=command.cancel, daemon=True).start()

    def end_all(self):
        if self.jails is not None:
            self.jails.close()
        for command in list(self.running.values()):
            try:
                os.killpg(command.process.pid, signal.SIGTERM)
            except OSError:
                pass
