"""What init itself can see of a job, where no control group counts: by looking, again and again, at its own /proc."""

import os
import time

STEP = 0.01
"""Seconds between two looks."""
SOON = 0.003
"""Seconds to the first one."""
CLOCK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def _read(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)


_kept = {}


def _read_kept(path):
    """The same of a file that is looked at after each job: it stays open. In init alone, whose own they are."""
    if path not in _kept:
        try:
            _kept[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
    try:
        return os.pread(_kept[path], 65536, 0)
    except OSError:
        return b""


def written():
    """Bytes that this process, and the children that it has collected, have written so far."""
    for line in _read_kept("/proc/self/io").splitlines():
        name, _, value = line.partition(b":")
        if name == b"wchar":
            return int(value)
    return 0


def connections():
    """Traces of a job in this network namespace, by which it could tell the next one something: connections that outlive it
    for a while, names of sockets that the kernel has not collected yet, and bytes that its loopback has counted.
    """
    left = 0
    for line in _read("/proc/net/sockstat").splitlines():
        if line.startswith(b"TCP:"):
            words = line.split()
            left = int(words[words.index(b"orphan") + 1]) + int(words[words.index(b"tw") + 1])
    for line in _read("/proc/net/dev").splitlines():
        name, _, counted = line.partition(b":")
        if name.strip() == b"lo":
            left += int(counted.split()[0])
    return left + sum(len(line.split()) > 7 for line in _read("/proc/net/unix").splitlines()[1:])


def _pids():
    return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def memory_of(pid):
    """Bytes in memory of one process, each shared page by its share where the kernel tells."""
    for line in _read("/proc/%s/smaps_rollup" % pid).splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    words = _read("/proc/%s/statm" % pid).split()
    return (int(words[1]) - int(words[2])) * PAGE if len(words) > 2 else 0


def seconds_of(pid):
    """(processor time of a process and of the children that it has waited for, threads)."""
    after = _read("/proc/%s/stat" % pid).rpartition(b")")[2].split()
    if len(after) < 18:
        return 0.0, 0
    return sum(int(ticks) for ticks in after[11:15]) / CLOCK, int(after[17])


class Watch:
    """Looks at all processes of the slot; ends the job when it is over its limits."""

    def __init__(self, order):
        self.memory_limit = order["memory"]
        self.cpu_limit = order["cpu"]
        self.folder = order["folder"]
        self.memory = 0
        self.cpu = 0.0
        self.processes = 0
        self.cause = None
        self.next = time.monotonic() + SOON

    def wait(self):
        """Milliseconds until the next look."""
        return max(0, self.next - time.monotonic()) * 1000

    def exceeded(self):
        now = time.monotonic()
        if now < self.next:
            return False
        memory, cpu, processes = self._look()
        self.memory = max(self.memory, memory)
        self.cpu = max(self.cpu, cpu)
        self.processes = max(self.processes, processes)
        self.next = now + max(STEP, 4 * (time.monotonic() - now))
        if self.cause is None and self.memory_limit is not None and self.memory > self.memory_limit:
            self.cause = "memory"
        if self.cause is None and self.cpu_limit is not None and self.cpu > self.cpu_limit:
            self.cause = "cpu"
        return self.cause is not None

    def _look(self):
        scratch = os.statvfs(self.folder)
        memory, cpu, processes = (scratch.f_blocks - scratch.f_bfree) * scratch.f_frsize, 0.0, 0
        for pid in _pids():
            seconds, threads = seconds_of(pid)
            memory += memory_of(pid)
            cpu += seconds
            processes += threads
        return memory, cpu, processes

    def seen(self):
        return {"memory": self.memory, "cpu": self.cpu, "processes": self.processes, "cause": self.cause}
