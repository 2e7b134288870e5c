"""The end of a cancelled call, with all that it started, and without hurting other calls."""

import os
import sys
import time
from _thread import allocate_lock, start_new_thread

from . import data, processes, wire
from .calls import CallCancelled, importing, unpack, within
from .quick import signal

CANCEL_GRACE = 2.0
"""Seconds that a cancelled call has to end."""
CANCEL_HELP = 0.2
"""Seconds after which the processes that it started are ended, in case it waits for one of them."""
CANCEL_BLOCKED = 0.6
"""Seconds after which a call is given up that has not run a step of Python since it was interrupted."""
AGAIN = 0.7
"""Seconds until a call that goes on all the same is interrupted once more."""


def cancel(far, ident):
    """Have a call end that has been read, and is not answered yet; any other has been, and needs nothing more."""
    far.calls.cancelled.add(ident)
    if ident in far.calls.threads:
        start_new_thread(Cancelling(far, ident).run, ())
    else:
        far.calls.cancelled.discard(ident)


class Cancelling:
    """One call that is to end: interrupted, helped by ending what it waits for, given up if it only sleeps.

    What neither ends nor sleeps, C code or Python that catches everything, can only be ended with the whole far end.
    """

    def __init__(self, far, ident):
        self.far = far
        self.calls = far.calls
        self.ident = ident
        self.calls.sweep = lambda: sweep(far)
        self.interrupted = None
        self.place = None
        self.asked = False
        self.given_up = False

    def run(self):
        """In a thread of its own."""
        with Quickly():
            self._end()
        self.calls.interrupt.discard(self.ident)
        if not self.given_up:  # else its thread looks for it, and then forgets it
            self.calls.cancelled.discard(self.ident)

    def _end(self):
        started = time.monotonic()
        helped = False
        while self.ident in self.calls.threads:
            now = time.monotonic()
            if self.interrupted is None or now > self.interrupted + AGAIN:
                self._interrupt()
            if not helped and now > started + CANCEL_HELP:
                helped = True
                self._end_children()
            if now > started + CANCEL_BLOCKED and self._is_blocked():
                return self._give_up()
            if now > started + CANCEL_GRACE:
                return self._give_up() if self._may_stay() else self._end_all()
            time.sleep(0.02)

    def _interrupt(self):
        """By a signal in the main thread, else at its next step of Python code; not while it does what all share."""
        items = self.calls.streams.get(self.ident)
        if items is None:
            self._interrupt_now()
        else:  # a generator: in its own code only
            items.cancel(self._interrupt_now)

    def _interrupt_now(self):
        thread = self.calls.threads.get(self.ident)
        if thread == self.far.main_thread:
            if self.asked and self.ident not in self.calls.interrupt:  # the handler has taken it
                self.asked = False
                self._was_interrupted(thread)
            else:
                self.asked = True
                self.calls.interrupt.add(self.ident)
                signal.pthread_kill(thread, signal.SIGURG)
            return
        shield = self.far.link.shield
        with shield.gate:
            if not self.calls.threads.get(self.ident):  # it is over, or is just beginning
                return
            if thread in shield.inside:
                shield.due[thread] = CallCancelled("cancelled")
            elif importing(sys._current_frames().get(thread)) or not _raise_in(thread):
                return
        self._was_interrupted(thread)

    def _was_interrupted(self, thread):
        self.interrupted = time.monotonic()
        self.place = self._place(thread)

    @staticmethod
    def _place(thread):
        """Where a thread is: its frame, and the step in it."""
        frame = sys._current_frames().get(thread)
        return None if frame is None else (id(frame), frame.f_lasti)

    def _is_blocked(self):
        """It has not come to a step of Python since it was interrupted, nor has it used the processor."""
        thread = self.calls.threads.get(self.ident)
        if not thread or self.place is None or self._place(thread) != self.place:
            return False
        return thread != self.far.main_thread and self._sleeps()

    def _may_stay(self):
        """Whether its thread does no harm: it imports, and ends after that; or it sleeps, and has not refused to end."""
        thread = self.calls.threads.get(self.ident)
        unpacks = within(sys._current_frames().get(thread), lambda code: code is unpack.__code__)
        if unpacks or thread in self.far.link.shield.due:
            return True
        refused = thread == self.far.main_thread and self.interrupted is not None
        return self._sleeps() and not refused

    def _task(self):
        """The kernel's words on the call's thread; None where it does not tell."""
        thread = self.calls.threads.get(self.ident)
        threading = sys.modules.get("threading")
        native = os.getpid() if thread == self.far.main_thread else None
        for other in threading.enumerate() if threading is not None and native is None else ():
            if other.ident == thread:
                native = other.native_id
        try:
            with open("/proc/self/task/%d/stat" % (native or 0), "rb") as file:
                return native, file.read().rpartition(b")")[2].split()
        except OSError:
            return native, None

    def _sleeps(self):
        """Whether its thread only waits: looked at twice."""
        before = self._task()[1]
        time.sleep(0.05)
        after = self._task()[1]
        return bool(before and after and before[0] == after[0] == b"S" and before[11:13] == after[11:13])

    def _end_children(self):
        """End the processes that it waits for, with all that they started."""
        native, _ = self._task()
        try:
            with open("/proc/self/task/%d/children" % (native or 0), "rb") as file:
                pids = {int(pid) for pid in file.read().split()} - self.far.own_pids()
        except OSError:  # a kernel that does not tell which thread started what
            pids = self._awaited()
        if pids:
            end_trees(pids)
        elif len(self.calls.threads) == 1:
            sweep(self.far, busy=1)

    def _awaited(self):
        """Processes that the call's own Python code has at hand as Popen objects."""
        found = set()
        popen = getattr(sys.modules.get("subprocess"), "Popen", ())
        frame = sys._current_frames().get(self.calls.threads.get(self.ident))
        while frame is not None:
            values = list(frame.f_locals.values())
            found |= {value.pid for value in values if isinstance(value, popen) and value.returncode is None}
            frame = frame.f_back
        return found

    def _give_up(self):
        """Answer for it. Its thread stays until what it waits for has come, and ends then."""
        thread = self.calls.threads.pop(self.ident, None)
        if thread is None:
            return
        self.given_up = True
        self.far.output.finish(thread)
        about = {
            "kind": "outrider.CallCancelled",
            "message": "its thread still sleeps",
            "traceback": "",
            "missing": None,
        }
        self.far.link.send(wire.RAISED, self.ident, [data.dumps(about), b""], 0)

    def _end_all(self):
        self.far.ended("stuck")


class Quickly:
    """Calls that compute give way more often: else each look into /proc waits 5 ms for each of them."""

    users = 0
    before = 0.0
    lock = allocate_lock()

    def __enter__(self):
        with self.lock:
            if not Quickly.users:
                Quickly.before = sys.getswitchinterval()
                sys.setswitchinterval(0.0005)
            Quickly.users += 1

    def __exit__(self, *_):
        with self.lock:
            Quickly.users -= 1
            if not Quickly.users:
                sys.setswitchinterval(Quickly.before)


def _raise_in(thread):
    """Have CallCancelled raised at a thread's next step of Python code; needs ctypes."""
    try:
        import ctypes

        return ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread), ctypes.py_object(CallCancelled)
        )
    except (ImportError, AttributeError):
        return 0


def end_trees(pids, grace=0.5):
    """End these processes and all that descend from them: asked first, after `grace` seconds made to. Gives all of them."""
    deadline = time.monotonic() + grace
    number = signal.SIGTERM
    wanted = set(pids)
    while True:
        alive = processes._parents()
        wanted |= processes._descendants(alive, wanted & set(alive))
        left = wanted & set(alive)
        if not left or time.monotonic() > deadline + 1:
            return wanted
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        for pid in left if number else ():
            for each in (number, signal.SIGCONT):
                try:
                    os.kill(pid, each)
                except OSError:
                    pass
        number = None if number != signal.SIGKILL else number
        time.sleep(0.01)


def sweep(far, busy=0):
    """With no other call under way: end all that calls have started. Commands, requests of their own, go on."""
    for _ in range(100):
        if len(far.calls.threads) > busy:
            return
        begun = far.commands.begun if far.commands is not None else 0
        found = processes.find(far.session_mark, roots=(os.getpid(),)) - far.own_pids()
        if far.commands is None or (far.commands.begun == begun and not far.commands.starting):
            break
        time.sleep(0.005)  # one that is just being started is not known as a command's yet
    if found and len(far.calls.threads) <= busy:  # what a call starts that came meanwhile is not among them
        processes.reap(end_trees(found))
