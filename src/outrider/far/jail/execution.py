"""One job under way: its limits, its clocks, why it was ended, and its report."""

import math
import os
import resource
import stat
import struct
import time

from . import cgroups, collecting, seccomp, starter, syscalls, verdict

TYPES = False
if TYPES:
    from typing import Any

PATIENCE = 2.0
"""Seconds for a slot to end a job, before it is ended with it."""
SOONEST = 0.004
"""Seconds between two looks at a job's processor time, at the least."""
SELDOM = 0.25
ROUGHLY = 1 << 20
"""Bytes that the kernel may tell too few of what a process had: it counts in batches, for each processor."""
PROCESSORS = os.cpu_count() or 1


class Execution:
    """From the order to the report. `answer` is called once with the report's parts."""

    def __init__(self, ident, order, fds, answer):
        self.ident = ident
        self.order = order
        self.spec = order["spec"]
        self.limits = self.spec["limits"]
        self.fds = fds
        self.answer = answer
        self.slot: Any = None
        self.cause: Any = None
        self.began: Any = None
        self.killed_at: Any = None
        self.first_kill: Any = None
        self.failed: Any = None
        self.tries = 0
        self.starts = 0
        self.next_look: Any = None
        self.pace = SOONEST
        self.memory_killed = False

    @property
    def key(self):
        """Which view it needs."""
        spec = self.spec
        binds = tuple((source, inside, bool(writable)) for source, inside, writable in spec["binds"])
        return spec["root"], binds, bool(spec["network"]), spec["folder"]

    @property
    def shape(self):
        return self.limits.get("disk"), self.limits.get("files")

    # --- starting -----------------------------------------------------------------------------------------------

    def start(self, slot):
        """Hand the order to the child that waits in `slot`."""
        self.slot = slot
        slot.job = self
        slot.used = True
        memory, processes = self.limits.get("memory"), self.limits.get("processes")
        if slot.group is not None:
            slot.group.prepare(memory, None if processes is None else processes + slot.extra)
        else:
            self._watch(memory)
        if not slot.alone:
            self._give_pipes(slot.owner)
        environment = {
            "PATH": starter.PATH,
            "HOME": self.spec["folder"],
            "TMPDIR": "/tmp",  # the job's own
            "LANG": "C.UTF-8",
            "USER": "job",
            "LOGNAME": "job",
        }
        environment.update(self.order["env"])
        order = {
            "argv": self.order["argv"],
            "env": environment,
            "cwd": self.order["cwd"],
            "inputs": self.spec["inputs"],
            "limits": rlimits(self.limits, slot),
        }
        self.began = time.monotonic()
        joins = [] if slot.group is None else slot.group.joins
        slot.child.send(order, [*self.fds, *joins])
        self.close_fds()
        self.next_look = self.began + SOONEST

    def take_back(self):
        """After a start that failed: True if it may be tried in another slot."""
        self.slot.job = self.slot = None
        self.starts += 1
        return bool(self.fds) and self.starts < 3

    def _watch(self, memory):
        order = {
            "do": "watch",
            "memory": memory,
            "cpu": self.limits.get("time"),
            "folder": self.spec["folder"],
        }
        self.slot.init.send(order)

    def _give_pipes(self, owner):
        """A program may open /dev/stdout again, which asks whose the pipe is."""

        for fd in self.fds:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                try:
                    os.fchown(fd, *owner)
                except OSError:
                    pass

    def close_fds(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    # --- while it runs ------------------------------------------------------------------------------------------

    def due(self):
        """When somebody must look at it next, on the monotonic clock."""
        times = [self.next_look]
        if self.limits.get("wall") is not None and self.cause is None:
            times.append(self.began + self.limits["wall"])
        if self.killed_at is not None:
            times = [self.killed_at + PATIENCE]
        return min(times)

    def look(self, now):
        """End it if it is over a limit; else say when to look again."""
        wall, limit = self.limits.get("wall"), self.limits.get("time")
        if self.killed_at is not None:
            if now >= self.killed_at + PATIENCE:
                self._make_end(now)
            return None
        self._note_start()
        if wall is not None and now - self.began >= wall:
            return self.end(verdict.TLE, verdict.over_wall(self.limits))
        if now < self.next_look:
            return None
        group = self.slot.group
        self.pace = min(SELDOM if group is None else group.step, 2 * self.pace)
        self.next_look = now + self.pace
        if group is not None and group.version:
            group.look()
        if group is not None and self.limits.get("memory") is not None and group.memory_killed():
            return self.end("memory", "")
        used = self.seconds() if limit is not None else None
        if used is not None:
            if used > limit:
                return self.end(verdict.TLE, verdict.over_cpu(self.limits))
            step = (limit - used) / PROCESSORS
            self.next_look = now + min(self.pace, max(SOONEST, step))

    def _note_start(self):
        """The clock runs from when the program began, not from when it was ordered."""
        if self.slot.began:
            self.began = self.slot.began

    def seconds(self):
        """Processor time so far; None where only init knows."""
        if self.slot.group is not None:
            return self.slot.group.seconds()
        if self.slot.timer >= 0:
            return struct.unpack("=Q", os.read(self.slot.timer, 8))[0] / 1e9
        return None

    def end(self, kind, words):
        """Have all of it killed; the first reason counts."""
        if self.cause is None:
            self.cause = (kind, words)
        if self.killed_at is None:
            self.killed_at = self.first_kill = time.monotonic()
            try:
                self.slot.init.send({"do": "kill"})
            except OSError:
                pass

    def _make_end(self, now):
        """Init does not manage to: something of it hangs in the kernel. If that cannot even be killed, it is left behind."""
        self.killed_at = now
        self.tries += 1
        if self.slot.group is not None:
            self.slot.group.kill()
        self.slot.kill()

    def stopped(self, machine):
        """The filter has stopped a call of it."""
        found = syscalls.stopped_call(self.slot.listener)
        if found is not None:
            _, call_machine, number, _ = found
            self.end(verdict.RV, "it made %s" % seccomp.name_of(machine, call_machine, number))

    # --- the report ---------------------------------------------------------------------------------------------

    def report(self, about, missing, engine="native"):
        """All there is to say; `about` is what init told, or None if it told nothing."""
        ended = time.monotonic() if about is None else about["ended"]
        figures, sources = self._figures(about, ended)
        status = None if about is None else about["status"]
        watched = (about or {}).get("watched") or {}
        cause = self.cause
        if cause is None and watched.get("cause"):
            cause = (
                (verdict.TLE, verdict.over_cpu(self.limits)) if watched["cause"] == "cpu" else ("memory", "")
            )
        if about is None and cause is None:
            cause = (verdict.SE, "the slot ended before its job")
        kind, code, signal, message = verdict.judge(
            cause, status, self.limits, figures, self._memory_killed(about)
        )
        if self.failed is not None and self.cause is None:
            kind = verdict.SE if self.failed["ours"] else verdict.RE
            message, code = self.failed["failed"], self.failed.get("code") or code
        if figures.pop("refused_processes", False) and kind in (verdict.RE, verdict.OK):
            message = (
                message + "; " if message else ""
            ) + "it wanted more than %s processes" % self.limits.get("processes")
        outputs, refused = {}, {}
        if self.spec["outputs"] and self.slot.box >= 0:
            outputs, refused = collecting.collect(self.slot.box, self.spec["folder"], self.spec["outputs"])
        return {
            "verdict": kind,
            "exit_code": code,
            "signal": signal,
            "message": message,
            "engine": engine,
            "missing": sorted(missing),
            "reasons": dict(missing),
            "ended": ended if self.first_kill is None else min(ended, self.first_kill),
            "sources": sources,
            "usage": figures,
            "outputs": outputs,
            "refused": refused,
        }

    def _memory_killed(self, about):
        limit = self.limits.get("memory")
        if self.slot.group is not None:
            return self.slot.group.memory_killed()
        return limit is not None and about is not None and about["largest"] > limit

    def _figures(self, about, ended):
        """(usage, where each figure comes from)."""
        self._note_start()
        used = dict.fromkeys(
            (
                "cpu_s",
                "user_s",
                "system_s",
                "memory_bytes",
                "processes",
                "disk_bytes",
                "written_bytes",
                "switches",
            )
        )
        sources = {"wall_s": "clock", "output_bytes": "pipes"}
        if about is not None:
            watched = about["watched"] or {}
            used.update(
                cpu_s=max(about["user_s"] + about["system_s"], watched.get("cpu", 0.0)),
                user_s=about["user_s"],
                system_s=about["system_s"],
                memory_bytes=_largest(about, watched),
                processes=max(watched.get("processes") or 0, about["left"] + 1),
                switches=about["switches"],
                written_bytes=about["written"],
            )
            sources.update(cpu_s="rusage", memory_bytes="sampling", processes="sampling")
            sources.update(switches="rusage", written_bytes="io accounting")
        if self.slot.group is not None:
            counted = self.slot.group.figures()
            with_files = counted.pop("with_files", None)
            if with_files is not None:
                counted["memory_bytes"] = _surely(counted, with_files, about)
            used.update((name, value) for name, value in counted.items() if value is not None)
            where = self.slot.group.source
            sources.update((name, where) for name, value in counted.items() if value is not None)
            sources.pop("refused_processes", None)
        elif self.slot.timer >= 0:
            used["cpu_s"] = self.seconds()
            sources["cpu_s"] = "perf"
        if used["processes"] is not None:
            used["processes"] = max(1, used["processes"] - self.slot.extra)
        used["wall_s"] = ended - self.began if self.began else 0.0
        if self.slot.box >= 0:
            about_disk = os.fstatvfs(self.slot.box)
            used["disk_bytes"] = (about_disk.f_blocks - about_disk.f_bfree) * about_disk.f_frsize
            sources["disk_bytes"] = "scratch space, in the end"
        return used, sources

    def finish(self):
        """Let go of what it held."""
        self.close_fds()
        if self.slot is not None:
            self.slot.job = None


def _surely(counted, with_files, about):
    """A peak of memory that is not too small where the job has read files: each process, or thread, may have had as much
    as the largest of them; with the files' contents it cannot have been more than the kernel has counted.
    """
    if (
        about is None or not about["launcher"]
    ):  # other engines' own reports leave out whom they did not wait for
        return with_files
    largest = about["largest"] + ROUGHLY
    return min(with_files, max(counted["memory_bytes"], largest * (counted["processes"] or 1)))


def _largest(about, watched):
    """The largest memory seen. What the kernel tells of a program includes the process that it was before: a Python."""
    told = about["largest"]
    seen = watched.get("memory", 0)
    return seen if told <= about["launcher"] and seen else max(told, seen)


_known = {}


def rlimits(limits, slot):
    """[(resource, soft, hard)] of a job, never above what this process may set."""
    key = (slot.group is not None and bool(slot.group.version), *sorted(limits.items()))
    if key not in _known:
        if len(_known) > 100:
            _known.clear()
        _known[key] = _rlimits(limits, slot)
    return _known[key]


def _rlimits(limits, slot):
    most = resource.RLIM_INFINITY
    wanted = {
        resource.RLIMIT_MEMLOCK: (65536, 65536),
        resource.RLIMIT_NOFILE: _both(limits.get("open_files"), (1024, 4096)),
        resource.RLIMIT_STACK: _both(limits.get("stack"), (8 << 20, most)),
    }
    for name in ("RLIMIT_NICE", "RLIMIT_RTPRIO"):
        wanted[getattr(resource, name)] = (0, 0)
    if limits.get("time") is not None:
        seconds = math.ceil(limits["time"]) + 1
        wanted[resource.RLIMIT_CPU] = (seconds, seconds)
    if limits.get("disk") is not None:
        wanted[resource.RLIMIT_FSIZE] = _both(limits["disk"], None)
    processes = limits.get("processes")
    wanted[resource.RLIMIT_NPROC] = _both(
        (cgroups.MOST_PROCESSES if processes is None else processes) + 1, None
    )
    if limits.get("memory") is not None and not (slot.group and slot.group.version):
        wanted[resource.RLIMIT_DATA] = _both(4 * limits["memory"] + (256 << 20), None)
    return [(kind, *_within(kind, pair)) for kind, pair in wanted.items()]


def _both(value, otherwise):
    return otherwise if value is None else (value, value)


def _within(kind, wanted):
    hard = resource.getrlimit(kind)[1]
    return tuple(value if hard == resource.RLIM_INFINITY else _lower(value, hard) for value in wanted)


def _lower(value, hard):
    return hard if value == resource.RLIM_INFINITY else min(value, hard)
