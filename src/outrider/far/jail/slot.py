"""A slot, as the warden sees it: its init, its control group, and the channel to the child that waits for a job."""

import os

from .. import channel
from . import init, syscalls

BUILDING, ARMED, RUNNING, GONE = "building", "armed", "running", "gone"


class Slot:
    """Namespaces with an init in them. Built at once; armed when init says so."""

    def __init__(self, key, view, ids, group, shape):
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
        joins = [] if group is None else group.join_files()
        try:
            self.pid = self._clone(theirs, joins)
            self.init = channel.Channel(own)
            ids.write(self.pid, self.ids)
            self.init.send({"do": "begin"})
            self.arm(shape)
        finally:
            for fd in (theirs, *joins):
                os.close(fd)

    def _clone(self, theirs, joins):
        flags = syscalls.NEWUSER | syscalls.NEWPID | syscalls.NEWNS | syscalls.NEWIPC | syscalls.NEWUTS
        network = self.view.network
        pid = syscalls.clone(flags | (0 if network else syscalls.NEWNET))
        if pid == 0:
            try:
                init.live(theirs, os.getppid(), self.view, joins, self.alone, network)
            finally:
                os._exit(1)
        return pid

    @property
    def owner(self):
        """The job's (uid, gid) on the host."""
        return self.ids if self.alone else (self.ids[0] + 1, self.ids[1] + 1)

    def arm(self, shape):
        """Have init make the next child, with a scratch space of this shape: (bytes, inodes)."""
        self.state = BUILDING
        self.shape = shape
        self.init.send({"do": "arm", "shape": shape})

    def let_go(self):
        """What belongs to the child that has ended."""
        if self.child is not None:
            self.child.close()
            self.child = None
        if self.box >= 0:
            os.close(self.box)
            self.box = -1

    def end(self):
        """Kill init, and the kernel all with it; safe to call again."""
        if self.state != GONE:
            self.state = GONE
            try:
                os.kill(self.pid, 9)
            except OSError:
                pass
            self.init.close()
            self.let_go()

    def reaped(self):
        """True once init is no more."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True
