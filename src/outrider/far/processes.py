"""Nothing outlives the far end: finding its processes and folders, and ending them.

What runs on behalf of a session is found three ways, since each alone can be escaped by accident: process groups
that were started here, descendants by parent pid (daemons too, where this process can be their subreaper), and an
environment variable that every program started here inherits.
"""

import _signal as signal  # type: ignore[import-not-found]  # see quick; this file must stand alone, see guardian
import os
import stat
import sys
import time
from _thread import allocate_lock

COMMAND_MARK = "OUTRIDER_COMMAND"


REAPING = allocate_lock()
LEAVING = []
"""Not empty while something is started that is to stay, and must not come to this process as an orphan."""


def become_subreaper(yes=1):
    """Let orphaned descendants come to this process instead of to init, or no longer; False where that cannot be had."""
    try:
        import _ctypes  # all of ctypes takes milliseconds to import

        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        with REAPING:
            return bool(yes and LEAVING) or not _ctypes.call_function(prctl, (36, yes, 0, 0, 0))
    except (ImportError, OSError, AttributeError):
        return False


ADOPTING = []
"""Not empty if whatever lost its parent here has come to this process, from its start on."""


def adopt_all():
    """Before anything is started here: from now on nothing gets away."""
    note_own()
    if become_subreaper():
        ADOPTING.append(True)


def _is_alone(spare):
    """Whether surely nothing has been left by what ran here, which spares a look at each process of the machine."""
    return bool(ADOPTING) and os.path.exists("/proc/thread-self/children") and _children() <= spare


OWN = set()
"""Children that were started here, and are their starters' to wait for; all others are orphans that came here."""


def note_own():
    """From now on have the pids of all children noted as they start: afterwards nothing tells them from orphans."""
    import _posixsubprocess

    for module in (os, _posixsubprocess, sys.modules.get("subprocess")):
        for name in ("posix_spawn", "posix_spawnp", "fork_exec", "_fork_exec"):
            start = getattr(module, name, None)
            if start is not None:
                setattr(module, name, _noting(start))
    os.register_at_fork(after_in_parent=_note_youngest, after_in_child=OWN.clear)
    OWN.update(_children())


def _noting(start):
    def noting(*args, **options):
        pid = start(*args, **options)
        OWN.add(pid)
        return pid

    return noting


def _note_youngest():
    OWN.update([int(pid) for pid in _read("/proc/thread-self/children").split()[-1:]])


def _children():
    found = set()
    for task in os.listdir("/proc/self/task") if os.path.isdir("/proc/self") else ():
        found.update(map(int, _read("/proc/self/task/%s/children" % task).split()))
    return found


def _ended_orphans():
    own = set(OWN)
    children = _children()
    OWN.difference_update(own - children)
    stats = {pid: _stat(pid) for pid in children - OWN}
    return {pid for pid, found in stats.items() if found and found[0] == b"Z"}


def reap_orphans():
    """Collect orphans that came here and have ended, as init would. Two looks: what just starts may not be noted yet."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            found = _ended_orphans()
            if found:
                time.sleep(0.005)
                reap(found & _ended_orphans())
    except OSError:  # no child at all
        pass


def _read(path):
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)
    except OSError:
        return b""


def _stat(pid):
    """(state, parent pid, start in clock ticks since the machine's own) of a process; None if it is gone."""
    after = _read("/proc/%s/stat" % pid).rpartition(b")")[2].split()
    return (after[0], int(after[1]), int(after[19])) if len(after) > 19 else None


def _parents():
    """{pid: parent pid} of the processes that can have been started from here: not zombies, ours, younger than this one.

    Each look at another process costs, and there may be thousands of them.
    """
    here, user = os.getpid(), os.getuid()
    mine = _stat("self")
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if user and os.stat("/proc/" + name).st_uid not in (
                user,
                0,
            ):  # 0: ours too, where it hides its memory
                continue  # another user's, not to be signalled anyway
        except OSError:
            continue
        found = _stat(name)
        if found and mine and found[0] != b"Z" and found[2] >= mine[2] and int(name) != here:
            parents[int(name)] = found[1]
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


def end(mark, groups=(), roots=(), spare=(), grace=0.5, known=frozenset()):
    """End all that `find` finds, but `spare`: first asked (TERM), after `grace` seconds made to (KILL).

    `known` are children that somebody else waits for.
    """
    groups, spare = set(groups), set(spare) | {os.getpid()}
    if _is_alone(spare):
        return
    ended = left = find(mark, groups, roots) - spare
    if not left:
        return
    _signal_all(left, groups, signal.SIGTERM)
    _signal_all(left, (), signal.SIGCONT)
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = find(mark, groups, roots) - spare
        ended = ended | left
        reap(ended - left - known)
    for _ in range(50):  # what forks while it is being killed takes more than one round
        if not left:
            return
        _signal_all(left, groups, signal.SIGKILL)
        time.sleep(0.01)
        left = find(mark, groups, roots) - spare
        ended = ended | left
        reap(ended - left - known)


def reap(pids):
    """Collect those of `pids` that have ended as children of this process: its own, or come to it as their subreaper."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
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


def after_death(mark, groups, folders):
    """What the guardian does when the far end was killed: `groups` by number, `folders` as hexadecimal bytes."""
    end(mark, [int(group) for group in groups.split()])
    left = [os.fsdecode(bytes.fromhex(folder)) for folder in folders.split()]
    for _ in range(500):  # a control group stays until the last one in it has died
        for folder in left:
            remove_tree(folder)
        left = [folder for folder in left if os.path.isdir(folder)]
        if not left:
            break
        time.sleep(0.01)
