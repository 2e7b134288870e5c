"""Nothing outlives the far end: finding its processes and folders, ending them, and a guardian for when it is killed.

What runs on behalf of a session is found three ways, since each alone can be escaped by accident: process groups
that were started here, descendants by parent pid (daemons too, where this process can be their subreaper), and an
environment variable that every program started here inherits.
"""

import errno
import os
import signal
import stat
import time

SESSION_MARK = "OUTRIDER_SESSION"
COMMAND_MARK = "OUTRIDER_COMMAND"


def become_subreaper():
    """Let orphaned descendants come to this process instead of to init; needs ctypes, else does nothing."""
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    except (ImportError, OSError, AttributeError):
        pass


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _parents():
    """{pid: parent pid} of all processes that are not zombies."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            after = _read("/proc/%s/stat" % name).rpartition(b")")[2].split()
            if len(after) > 1 and after[0] != b"Z":
                parents[int(name)] = int(after[1])
    return parents


def _descendants(parents, roots):
    found, todo = set(), set(roots)
    while todo:
        found |= todo
        todo = {pid for pid, parent in parents.items() if parent in todo} - found
    return found


def find(mark, groups=(), roots=()):
    """Pids with `mark` ("NAME=value") in their environment, in one of `groups`, or descended from `roots` (not these)."""
    if not os.path.isdir("/proc/self"):
        return set()
    parents = _parents()
    wanted = mark.encode()
    found = _descendants(parents, roots) - set(roots)
    for pid in parents:
        if pid in found:
            continue
        if wanted in _read("/proc/%d/environ" % pid).split(b"\0"):
            found.add(pid)
            continue
        try:
            if os.getpgid(pid) in groups:
                found.add(pid)
        except OSError:
            pass
    return found & set(parents)


def _signal_all(pids, groups, number):
    for group in groups:
        try:
            os.killpg(group, number)
        except OSError:
            pass
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def end(mark, groups=(), roots=(), spare=(), grace=0.5, known=()):
    """End all that `find` finds, but `spare`: first asked (TERM), after `grace` seconds made to (KILL).

    `known` are children that somebody else waits for.
    """
    groups, spare = set(groups), set(spare) | {os.getpid()}
    left = find(mark, groups, roots) - spare
    if not left:
        return
    _signal_all(left, groups, signal.SIGTERM)
    _signal_all(left, (), signal.SIGCONT)
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        reap(known)
        left = find(mark, groups, roots) - spare
    for _ in range(50):  # what forks while it is being killed takes more than one round
        if not left:
            return
        _signal_all(left, groups, signal.SIGKILL)
        time.sleep(0.01)
        reap(known)
        left = find(mark, groups, roots) - spare


def reap(known=()):
    """Collect zombies that came to this process as their subreaper or as PID 1; `known` children are left alone."""
    own = os.getpid()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit() and int(name) not in known:
            after = _read("/proc/%s/stat" % name).rpartition(b")")[2].split()
            if len(after) > 1 and after[0] == b"Z" and int(after[1]) == own:
                try:
                    os.waitpid(int(name), os.WNOHANG)
                except OSError:
                    pass


def remove_tree(path):
    """Remove a folder and all in it, following no link; what cannot be removed stays."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            try:
                os.chmod(path, 0o700)
            except OSError:
                pass
            for name in os.listdir(path):
                remove_tree(os.path.join(path, name))
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:
        pass


def close_all_but(keep):
    """Close every descriptor except those in `keep`."""
    try:
        open_fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        open_fds = list(range(256))
    for fd in open_fds:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass


class Guardian:
    """A small forked process that cleans up when the far end itself is killed.

    It holds nothing but the reading end of a pipe: lines `+group N`, `-group N`, `+folder PATH`, `-folder PATH`. The
    pipe's end means that the far end is gone, however it went.
    """

    def __init__(self, mark):
        reader, self._pipe = os.pipe()
        # Everything it needs is bound before the fork, which must happen before there are threads.
        own_group = os.getpgrp()
        leads = own_group == os.getpid()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setsid()
                for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_IGN)
                close_all_but({reader})
                self._watch(reader, mark, {own_group} if leads else set())
            finally:
                os._exit(0)
        os.close(reader)

    @staticmethod
    def _watch(reader, mark, groups):
        groups, folders, pending = set(groups), set(), b""
        while True:
            try:
                piece = os.read(reader, 65536)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                break
            if not piece:
                break
            *lines, pending = (pending + piece).split(b"\0")
            for line in lines:
                what, _, value = line.partition(b" ")
                known = groups if what.endswith(b"group") else folders
                item = int(value) if known is groups else value
                (known.add if what[:1] == b"+" else known.discard)(item)
        end(mark, groups)
        for folder in folders:
            remove_tree(os.fsdecode(folder))

    def _tell(self, what, value):
        try:
            os.write(self._pipe, b"%s %s\0" % (what, value))
        except OSError:  # the guardian was killed: the far end still cleans up after itself
            pass

    def watch_group(self, group):
        self._tell(b"+group", b"%d" % group)

    def forget_group(self, group):
        self._tell(b"-group", b"%d" % group)

    def watch_folder(self, path):
        self._tell(b"+folder", os.fsencode(path))

    def forget_folder(self, path):
        self._tell(b"-folder", os.fsencode(path))
