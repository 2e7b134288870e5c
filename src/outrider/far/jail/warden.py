"""The warden: a small process of one thread that builds slots, keeps some ready, and looks after the jobs in them.

It never runs anything of a job's itself. It ends with its far end, and all jails with it.
"""

import _signal as signal  # type: ignore[import-not-found]
import gc
import os
import select
import time

from .. import channel
from . import cgroups, execution, guarantees, ids, probe, root, seccomp, slot, starter, syscalls, verdict

TYPES = False
if TYPES:
    from typing import Any

READY = 2
"""Slots of one kind that are kept ready beyond those that run."""
KEPT = 16
"""Slots of one kind that are kept at the most."""
REST = 1.0
"""Seconds without a job after which no more are kept than READY."""


def main(fd):
    """The life of the process. `fd`: the channel to the far end."""
    own = os.dup(fd)
    os.set_inheritable(own, False)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    syscalls.close_all_but({0, 1, 2, own})
    warden = None
    far = channel.Channel(own)
    for number in range(1, 65):  # whatever was ignored by who started the far end
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: far.hang_up())  # heard between two steps: none is left half done
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    try:
        try:
            warden = Warden(far)
        except (probe.Unable, OSError) as error:
            far.send({"unable": str(error)})
            return
        gc.freeze()
        warden.serve()
    except SystemExit:
        pass
    except Exception as error:
        far.send({"broken": "%s: %s" % (type(error).__name__, error)})
    finally:
        if warden is not None:
            warden.close()
        os._exit(0)


class Warden:
    """All slots and jobs of one far end."""

    def __init__(self, far):
        gc.disable()
        self.far = far
        self.machine = syscalls.MACHINE
        self.cgroups = cgroups.Cgroups()
        self.cgroups.enter()
        self.ids = ids.Ids(probe.settle())
        self.views = root.Views()
        self.missing = probe.missing(self.cgroups, self.ids)
        self.slots = []
        self.foreign = []
        self.ending = []
        self.waiting = []
        self.jobs = {}
        self.wanted = {}
        self.preparations = {}
        self.resting: Any = None
        self.handlers = {}
        self.poll = select.poll()
        self.listen(far.fd, self._order)
        far.send({"ready": 1, "missing": self.missing, "folders": self.cgroups.folders})

    def listen(self, fd, handler):
        self.handlers[fd] = handler
        self.poll.register(fd, select.POLLIN)

    def forget(self, fd):
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    # --- the loop -----------------------------------------------------------------------------------------------

    def serve(self):
        while True:
            busy = False
            for fd, _ in self.poll.poll(self._patience()):
                busy = True
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler()
            now = time.monotonic()
            for job in list(self.jobs.values()):
                if job.slot is not None and job.due() <= now:
                    job.look(now)
                    if job.tries > 2:
                        self._lost(job.slot, "it cannot be killed")
            if not busy:
                self._in_idle_time()

    def _patience(self):
        """Milliseconds until something is due; none while there is something to prepare."""
        if self._lacking():
            return 0
        due = [job.due() for job in self.jobs.values() if job.slot is not None]
        if self.ending or self.cgroups.dying:
            due.append(time.monotonic() + 0.02)
        if self.resting is not None:
            due.append(self.resting)
        return None if not due else max(0, min(due) - time.monotonic()) * 1000

    def _in_idle_time(self):
        lacking = self._lacking()
        if lacking:
            self._build_ahead(*lacking)
        elif self.ending or self.cgroups.dying:
            self._tidy()
        if self.resting is not None and time.monotonic() >= self.resting:
            self._rest()

    def _rest(self):
        """Nothing has run for a while: what is kept beyond the usual is let go, used ones first."""
        self.resting = None
        for key in self.wanted:
            free = [each for each in self._of(key) if each.job is None]
            for each in sorted(free, key=lambda each: not each.used)[: max(0, len(free) - READY)]:
                self._retire(each)

    def _tidy(self):
        for each in [each for each in self.ending if each.reaped()]:
            self.ending.remove(each)
            self.cgroups.drop(each.group)
        self.cgroups.tidy()

    # --- slots --------------------------------------------------------------------------------------------------

    def _lacking(self):
        """(view key, shape) of a slot that should be built; None if there are enough. One that is being built will do."""
        for job in self.waiting:
            fresh = job.spec["fresh"]
            alike = sum(other.key == job.key and other.spec["fresh"] == fresh for other in self.waiting)
            if alike > sum(
                each.state in slot.SOON and not (fresh and each.used) for each in self._of(job.key)
            ):
                return job.key, job.shape
        for key, wanted in self.wanted.items():
            free = [each for each in self._of(key) if each.job is None]
            if len(free) < READY or (True in wanted and sum(not each.used for each in free) < READY):
                return key, wanted["shape"]
        return None

    def _build_ahead(self, key, shape):
        try:
            self._build(key, shape)
        except (
            root.ViewError,
            OSError,
        ) as error:  # too many processes, say: not to be tried again until somebody asks
            self.wanted.pop(key, None)
            if not self._of(key):
                for job in [job for job in self.waiting if job.key == key]:
                    self.waiting.remove(job)
                    self.refuse(job, "a slot for it cannot be built: %s" % error)

    def _of(self, key):
        return [each for each in self.slots if each.key == key]

    def _build(self, key, shape):
        view = self.views.get(key)
        group = self.cgroups.make()
        shared = any(writable for _, _, writable in view.binds)
        known = view.network, view.folder, group is None, shared
        if known not in self.preparations:
            program = seccomp.program(self.machine, counted=group is not None, shared=shared)
            self.preparations[known] = starter.preparation(view.folder, program, group is None, view.network)
        try:
            made = slot.Slot(key, view, self.ids, group, shape, {"preparation": self.preparations[known]})
        except OSError:
            self.cgroups.drop(group)
            raise
        made.missing = self.missing
        self.slots.append(made)
        self.listen(made.init.fd, lambda: self._from_init(made))
        return made

    def _from_init(self, each):
        message, fds = each.init.receive()
        if message is None or "broken" in message:
            why = "" if message is None else message["broken"]
            return self._lost(each, why)
        if "child" in message:
            each.wait_for(fds[0])
            self.listen(each.child.fd, lambda: self._from_child(each))
        elif "not put" in message:
            if each.job is not None:
                each.job.end(verdict.SE, message["not put"])
        elif "done" in message:
            self._done(each, message["done"])
        elif "left" in message:
            self._make_ready(each, clean=each.view.network or not message["left"])

    def _from_child(self, each):
        message, fds = each.child.receive()
        self.forget(
            each.child.fd
        )  # what it says from now on, init's word that it has ended is the time to hear
        if message is None:
            return
        if "armed" in message:
            each.armed(message["armed"], fds)
            self.listen(each.listener, lambda: self._stopped(each))
            self._next()
        else:
            self._lost(each, message["failed"])

    def _stopped(self, each):
        self.forget(each.listener)
        if each.job is not None:
            each.job.stopped(self.machine)

    def _lost(self, each, why):
        """Init is gone, or of no use."""
        broken_before = not each.used and each.state == slot.BUILDING
        if each.job is not None:
            self.report(each, each.job, None)
        self._retire(each)
        if broken_before:
            self.wanted.pop(each.key, None)
            if self._of(each.key):
                return
            for job in [job for job in self.waiting if job.key == each.key]:
                self.waiting.remove(job)
                self.refuse(job, "a slot for it cannot be built: %s" % (why or "its init was killed"))

    def _retire(self, each):
        """Throw a slot away."""
        if each in self.slots:
            self.slots.remove(each)
            self.forget(each.init.fd)
            self._let_go(each)
            each.end()
            self.ending.append(each)

    def _let_go(self, each):
        if each.child is not None:
            self.forget(each.child.fd)
        self.forget(each.listener)
        each.let_go()

    # --- jobs ---------------------------------------------------------------------------------------------------

    def _order(self):
        message, fds = self.far.receive()
        if message is None:
            raise SystemExit
        what = message["do"]
        if what == "run":
            self._run(execution.Execution(message["id"], message, fds, None))
        elif message["id"] in self.jobs:
            job = self.jobs[message["id"]]
            if what == "kill":
                self._cancel(job, message["kind"], message["words"])
            elif what == "signal" and job.slot is not None:
                job.slot.init.send({"do": "signal", "signal": message["signal"]})

    def _run(self, job):
        engine = job.spec["engine"]
        if engine not in (None, "native"):
            from . import foreign

            self.jobs[job.ident] = job
            return foreign.start(self, engine, job)
        why = guarantees.refusal(job.spec, self.missing, "native")
        if why:
            job.close_fds()
            return self.far.send({"id": job.ident, "refused": why})
        self.jobs[job.ident] = job
        self.waiting.append(job)
        try:
            self.views.get(job.key)
        except (root.ViewError, OSError) as error:
            self.waiting.remove(job)
            self.refuse(job, str(error))
        else:
            wanted = self.wanted.setdefault(job.key, {})
            wanted["shape"] = job.shape
            wanted[bool(job.spec["fresh"])] = True
            self._next()

    def refuse(self, job, why):
        job.finish()
        self.jobs.pop(job.ident, None)
        self.far.send({"id": job.ident, "refused": why})

    def _next(self):
        """Give those that wait the slots that are ready."""
        for job in list(self.waiting):
            ready = [
                each
                for each in self._of(job.key)
                if each.state == slot.ARMED
                and not (job.spec["fresh"] and each.used)
                and not _readable(each.init.fd)  # it has nothing to say but that it was killed
            ]
            shaped = [each for each in ready if each.shape == job.shape]
            if shaped:
                self.waiting.remove(job)
                shaped[0].state = slot.RUNNING
                self._start(shaped[0], job)
            elif ready and not any(
                each.shape == job.shape and each.state in slot.SOON for each in self._of(job.key)
            ):
                self._let_go(ready[0])
                ready[0].arm(job.shape)

    def _start(self, each, job):
        try:
            job.start(each)
        except (OSError, ValueError) as error:
            self._retire(each)
            if isinstance(error, OSError) and job.take_back():  # the slot was killed just now
                self.waiting.insert(0, job)
            else:
                self.refuse(job, str(error))

    def _cancel(self, job, kind, words):
        if job in self.waiting:
            self.waiting.remove(job)
            self.refuse(job, words)
        elif job.slot is not None:
            job.end(kind, words)

    def _done(self, each, about):
        job = each.job
        if job is None:
            return
        if _readable(each.child.fd):
            job.failed = each.child.receive()[0]
        self.report(each, job, about)
        each.state = slot.CLEANED
        self._let_go(each)
        if about["stuck"]:
            self._retire(each)

    def _make_ready(self, each, clean):
        """After a job, and its report; not after a child that was let go before it had one."""
        if each.state != slot.CLEANED:
            return
        if not clean or self._superfluous(each) or (each.group is not None and not each.group.empty()):
            self._retire(each)
        else:
            try:
                if each.group is not None:
                    each.group.renew()
                each.arm(each.shape)
            except OSError:
                self._retire(each)

    def _superfluous(self, each):
        """True if there are enough used slots of its kind that wait, or nobody takes any."""
        if False not in self.wanted.get(each.key, ()):
            return True
        others = [other for other in self._of(each.key) if other is not each]
        running = 1 + sum(other.state == slot.RUNNING for other in others)
        idle = sum(other.used and other.state in (slot.ARMED, *slot.SOON) for other in others)
        return idle > min(KEPT, max(READY, running))

    def report(self, each, job, about):
        report = job.report(about, each.missing, each.engine)
        job.finish()
        self.jobs.pop(job.ident, None)
        self.resting = None if self.jobs else time.monotonic() + REST
        status = 9 if about is None else about["status"]
        if report["exit_code"] is not None:
            status = report["exit_code"] << 8
        self.far.send({"id": job.ident, "status": status, "report": report})

    def close(self):
        """The end: all jails, and every trace of them."""
        for each in list(self.slots):
            self._retire(each)
        for each in self.foreign:
            each.send({"do": "kill"})
        deadline = time.monotonic() + 2
        while self.ending and time.monotonic() < deadline:
            self._tidy()
            time.sleep(0.002)
        for each in self.ending:
            self.cgroups.drop(each.group)
        self.cgroups.close()


def _readable(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool([1 for _, what in poll.poll(0) if what & select.POLLIN])
