"""PID 1 of a slot: builds its inside, has a child ready to become the next job, and makes it like new after each.

A job that were itself PID 1 would not even die of its own SIGSEGV. When init goes, however it goes, the kernel kills all
that is left in the slot.
"""

import _signal as signal  # type: ignore[import-not-found]
import os
import resource
import select
import time

from .. import channel
from . import job, root, syscalls, watching

TYPES = False
if TYPES:
    from typing import Any

NAME = b"sandbox"
PATIENCE = 2.0
"""Seconds for all that a job has left to die."""


def live(fd, view, about, alone):
    """Never returns. `fd`: the channel to the warden, which writes this process's user ids first."""
    own = channel.Channel(fd)
    try:
        Init(own, view, about, alone).run()
    except BaseException as error:
        try:
            own.send({"broken": "%s: %s" % (type(error).__name__, error)})
        except OSError:
            pass
    finally:
        os._exit(1)


class Init:
    """What it holds: the channel to the warden, and the child that waits or runs."""

    def __init__(self, own, view, about, alone):
        self.own = own
        self.view = view
        self.about = about
        self.alone = alone
        self.child = 0
        self.watch = None
        self.usage: Any = None

    def run(self):
        syscalls.close_all_but({self.own.fd})
        self._signals()
        if self.own.receive()[0] is None:
            os._exit(0)
        self._settle()
        poll = select.poll()
        poll.register(self.own.fd, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while True:
            wait = None if self.watch is None else self.watch.wait()
            ready = [fd for fd, _ in poll.poll(wait)]
            if self.woken in ready:
                self._drain()
            if self.child:
                self._look_for_the_dead()
            if self.own.fd in ready:
                self._obey()
            if self.watch is not None and self.watch.exceeded():
                self._kill_all()

    def _signals(self):
        """None is let in but SIGCHLD, by whose coming the poll wakes: what a PID 1 has no handler for, it does not get."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):  # the warden's
            signal.signal(number, signal.SIG_DFL)
        self.woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _drain(self):
        try:
            while len(os.read(self.woken, 4096)) == 4096:
                pass
        except OSError:
            pass

    def _settle(self):
        if not self.alone:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        self._protect()
        os.umask(0o022)
        syscalls.sethostname(NAME)
        if not self.view.network:
            syscalls.raise_loopback()
        self.counter = root.enter(self.view)
        self._bind_children()

    @staticmethod
    def _protect():
        """Whenever its user ids have changed, the kernel takes this back."""
        syscalls.prctl(syscalls.PDEATHSIG, 9)
        syscalls.prctl(syscalls.DUMPABLE, 0)

    @staticmethod
    def _bind_children():
        """What init has it keeps, but no program that is ever started in here can gain anything."""
        syscalls.drop_bounding_set()
        try:
            syscalls.prctl(syscalls.AMBIENT, 4)
        except OSError:  # before Linux 4.3
            pass
        syscalls.prctl(syscalls.SECUREBITS, syscalls.NOROOT_LOCKED)
        syscalls.prctl(syscalls.NO_NEW_PRIVS, 1)

    def _obey(self):
        order, fds = self.own.receive()
        if order is None:
            os._exit(0)
        what = order["do"]
        if what == "arm":
            self._arm(order["shape"])
        elif what == "put":
            self._put(order["inputs"], *fds)
        elif what == "kill":
            self._kill_all()
        elif what == "watch":
            self.watch = watching.Watch(order)
        elif what == "signal" and self.child:
            try:
                os.killpg(self.child, order["signal"])
            except OSError:
                pass

    def _put(self, inputs, gate):
        """The job waits until something comes through `gate`."""
        try:
            job.put(self.view.folder, inputs)
            os.write(gate, b"x")
        except OSError as error:
            self.own.send({"not put": "%s: %s" % (error.filename, error.strerror)})
        finally:
            os.close(gate)

    def _arm(self, shape):
        """A new scratch space, new System V memory and queues, and a child that waits in them."""
        if self.child:
            os.kill(self.child, 9)
            os.waitpid(self.child, 0)
        root.renew_scratch(self.view, *shape)
        syscalls.unshare(syscalls.NEWIPC)
        self._count_from_one()
        self.usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.written = watching.written()
        self.child, theirs = job.make(self.about["preparation"], self.alone)
        self._protect()
        self.own.send({"child": 1}, [theirs])
        os.close(theirs)

    def _count_from_one(self):
        """By the numbers of its processes a job could tell the next one something."""
        if self.counter >= 0:
            try:
                os.pwrite(self.counter, b"1", 0)
            except OSError:
                os.close(self.counter)
                self.counter = -1

    def _kill_all(self):
        try:
            os.kill(-1, signal.SIGKILL)
        except OSError:
            pass

    def _look_for_the_dead(self):
        """Collect who died; when the job itself has, end all that it left and tell."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if pid == self.child:
                return self._ended(status, used)

    def _another_died(self, deadline):
        """Wait for the next to die; False if none does in time: something of it hangs in the kernel."""
        poll = select.poll()
        poll.register(self.woken, select.POLLIN)
        self._kill_all()
        if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
            return False
        self._drain()
        return True

    def _ended(self, status, used):
        ended = time.monotonic()
        left = 0
        self._kill_all()
        peak = used.ru_maxrss
        stuck = False
        while not stuck:
            try:
                pid, _, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid:
                left += 1
                peak = max(peak, used.ru_maxrss)
            else:
                stuck = not self._another_died(ended + PATIENCE)
        self.child = 0
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        before = self.usage
        about = {
            "status": status,
            "ended": ended,
            "left": left,
            "stuck": stuck,
            "user_s": now.ru_utime - before.ru_utime,
            "system_s": now.ru_stime - before.ru_stime,
            "switches": now.ru_nvcsw + now.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
            "largest": peak * 1024,
            "launcher": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "written": watching.written() - self.written,
            "watched": None if self.watch is None else self.watch.seen(),
        }
        self.watch = None
        self.own.send({"done": about})
        self.own.send({"left": 1 if stuck else watching.connections()})  # nobody waits for that
