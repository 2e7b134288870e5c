"""A slot, as the warden sees it: its init, its control group, and the channel to the child that waits for a job."""

import mmap
import os
import struct

from .. import channel
from . import init, starter, syscalls

BUILDING, ARMED, RUNNING, CLEANED, GONE = "building", "armed", "running", "cleaned", "gone"
SOON = (BUILDING, CLEANED)
"""It will be armed."""


class Slot:
    """Namespaces with an init in them. Built at once; armed when init says so."""

    engine = "native"
    missing = ()
    extra = 0

    def __init__(self, key, view, ids, group, shape, about):
        self.key = key
        self.view = view
        self.group = group
        self.shape = shape
        self.ids = ids.take()
        self.alone = ids.alone
        self.state = BUILDING
        self.used = False
        self.job = None
        self.child = None
        self.box = -1
        own, theirs = channel.pair()
        self.listener = self.timer = -1
        self.note = channel.in_memory(bytes(16))
        self.shared = mmap.mmap(self.note, 16, prot=mmap.PROT_READ)
        try:
            self.pid = self._clone(theirs, about)
            self.init = channel.Channel(own)
            ids.write(self.pid, self.ids)
            self.init.send({"do": "begin"})
            self.arm(shape)
        finally:
            os.close(theirs)

    def _clone(self, theirs, about):
        flags = syscalls.NEWUSER | syscalls.NEWPID | syscalls.NEWNS | syscalls.NEWUTS
        flags |= syscalls.NEWCGROUP
        pid = syscalls.clone(flags | (0 if self.view.network else syscalls.NEWNET))
        if pid == 0:
            try:
                init.live(theirs, self.view, about, self.alone)
            finally:
                os._exit(1)
        return pid

    @property
    def began(self):
        """When the job became its program, on the monotonic clock; 0.0 before."""
        seconds, parts = struct.unpack("qq", self.shared[:])
        return seconds + parts / 1e9

    @property
    def owner(self):
        """The job's (uid, gid) on the host."""
        return self.ids if self.alone else (self.ids[0] + 1, self.ids[1] + 1)

    def wait_for(self, fd):
        """`fd`: the channel to the next child."""
        self.child = starter.Starter(fd, self)

    def armed(self, told, fds):
        """The child is ready, and says what it has for the warden."""
        given = dict(zip(told, fds))
        self.box, self.listener, self.timer = (given.get(name, -1) for name in ("box", "filter", "time"))
        self.state = ARMED

    def arm(self, shape):
        """Have init make the next child, with a scratch space of this shape: (bytes, inodes)."""
        self.state = BUILDING
        self.shape = shape
        os.pwrite(self.note, bytes(16), 0)
        self.init.send({"do": "arm", "shape": shape})

    def let_go(self):
        """What belongs to the child that has ended."""
        if self.child is not None:
            self.child.close()
            self.child = None
        for fd in (self.box, self.listener, self.timer):
            if fd >= 0:
                os.close(fd)
        self.box = self.listener = self.timer = -1

    def end(self):
        """Kill init, and the kernel all with it; safe to call again."""
        if self.state != GONE:
            self.state = GONE
            self.kill()
            self.init.close()
            self.let_go()
            self.shared.close()
            os.close(self.note)

    def kill(self):
        """Kill init, which ends its channel."""
        try:
            os.kill(self.pid, 9)
        except OSError:
            pass

    def reaped(self):
        """True once init is no more."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True
