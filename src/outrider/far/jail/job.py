"""What init does for the next job: a starter that waits, as whom it shall run, and the files that it is given."""

import _signal as signal  # type: ignore[import-not-found]
import os

from .. import channel
from . import root, starter, syscalls

_CHANGED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD)
"""What Python and init have changed."""


def make(preparation, alone):
    """Start the next starter; (its pid, the warden's end of its channel)."""
    theirs, own = channel.pair()
    try:
        if own == starter.SOCKET:
            own = os.dup(own)
            os.close(starter.SOCKET)
        pid = _spawn(own, alone)
        told = channel.Channel(os.dup(theirs))
        told.send_bytes(preparation)
        told.close()
        return pid, theirs
    except BaseException:
        os.close(theirs)
        raise
    finally:
        os.close(own)


def _spawn(own, alone):
    """Without a copy of this process's memory. What is started has the job's user id, and so no rights in here."""
    if not alone:
        os.setresgid(root.JOB, root.JOB, 0)
        os.setresuid(root.JOB, root.JOB, 0)
    try:
        return os.posix_spawn(
            starter.NAME,
            ["starter"],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, own, starter.SOCKET)],
            setsigmask=(),
            setsigdef=_CHANGED,
        )
    finally:
        if not alone:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)


def default_signals():
    """In a process that was forked."""
    for number in _CHANGED:
        signal.signal(number, signal.SIG_DFL)
    for number in (32, 33):
        syscalls.default_signal(number)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def put(folder, inputs):
    """The job's files, as its own. The scratch space is new: nothing in it can mislead."""
    for path, contents, mode in inputs:
        path = os.path.normpath(os.path.join(folder, path))
        _make_folders(os.path.dirname(path))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(contents)
            while view:
                view = view[os.write(fd, view) :]
            os.fchown(fd, root.JOB, root.JOB)
            os.fchmod(fd, mode & 0o777)
        finally:
            os.close(fd)


def _make_folders(path):
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        os.mkdir(path, 0o755)
        os.chown(path, root.JOB, root.JOB)
