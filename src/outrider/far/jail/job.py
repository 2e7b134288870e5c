"""The child of a slot's init that becomes the job: waits for its order, gives up every privilege, and starts the program."""

import _signal as signal  # type: ignore[import-not-found]
import errno
import os
import resource
import time

from .. import channel
from . import root, syscalls

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND, NOT_ALLOWED = 127, 126


def wait(view, own, joins, shape, alone):
    """The child's life, from its making on. `own`: the channel to the warden; `alone`: one user id is all there is."""
    root.scratch(view, *shape)
    box = os.open(view.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    own.send({"armed": 1}, [box])
    os.close(box)
    order, fds = own.receive()
    if order is None:
        os._exit(0)
    try:
        _become(view, own, order, fds, joins, shape, alone)
        _start(order)
    except FileNotFoundError as error:
        _fail(own, error, NOT_FOUND, False)
    except PermissionError as error:
        _fail(own, error, NOT_ALLOWED, "prepared" not in order)
    except OSError as error:
        _fail(own, error, NOT_ALLOWED, "prepared" not in order)
    except BaseException as error:
        _fail(own, error, NOT_ALLOWED, True)


def _fail(own, error, status, ours):
    text = getattr(error, "strerror", None) or str(error)
    name = getattr(error, "filename", None)
    text = "%s: %s" % (name, text) if isinstance(name, str) else text
    try:
        own.send({"failed": text, "ours": ours})
    finally:
        os._exit(status)


def _become(view, own, order, fds, joins, shape, alone):
    """From a process with all privileges in its namespaces to one without any, inside its limits."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    if tuple(order["shape"]) != tuple(shape):
        root.resize(view, *order["shape"])
    os.chdir(view.folder)
    _put_inputs(order["inputs"])
    root.bind_late(view)
    os.setsid()
    _default_signals()
    told = _count_time() if order["count_time"] else {}
    for fd in joins:
        os.write(fd, b"0")
    try:
        syscalls.unshare(syscalls.NEWCGROUP)
    except OSError:  # before Linux 4.6
        pass
    for kind, soft, hard in order["limits"]:
        resource.setrlimit(kind, (soft, hard))
    _give_up_privileges(alone)
    if order["filter"]:
        told["filter"] = syscalls.listen_to_filter(order["filter"])
    own.send({"starting": time.monotonic(), "told": [*told]}, [*told.values()])
    syscalls.close_on_exec_from(3)
    order["prepared"] = True


def _count_time():
    try:
        return {"time": syscalls.count_time()}
    except OSError:  # forbidden here
        return {}


def _put_inputs(inputs):
    """The job's files, as its own. The scratch space is new: nothing in it can mislead."""
    here = os.getcwd()
    for path, contents, mode in inputs:
        path = os.path.normpath(os.path.join(here, path))
        _make_folders(os.path.dirname(path))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(contents)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode & 0o777)
            os.fchown(fd, root.JOB, root.JOB)
        finally:
            os.close(fd)


def _make_folders(path):
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        os.mkdir(path, 0o755)
        os.chown(path, root.JOB, root.JOB)


def _default_signals():
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _give_up_privileges(alone):
    syscalls.drop_bounding_set()
    try:
        syscalls.prctl(syscalls.AMBIENT, 4)
    except OSError:  # before Linux 4.3
        pass
    syscalls.prctl(syscalls.SECUREBITS, syscalls.NOROOT_LOCKED)
    if not alone:
        os.setgroups([])
    os.setresgid(root.JOB, root.JOB, root.JOB)
    os.setresuid(root.JOB, root.JOB, root.JOB)
    syscalls.drop_capabilities()
    syscalls.prctl(syscalls.NO_NEW_PRIVS, 1)


def _start(order):
    """Start the program, looked for as a shell does."""
    argv, env = order["argv"], order["env"]
    if order["cwd"]:
        try:
            os.chdir(order["cwd"])
        except OSError as error:
            raise type(error)(error.errno, error.strerror, order["cwd"]) from None
    if "/" in argv[0]:
        os.execve(argv[0], argv, env)
    worst = OSError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    for folder in env.get("PATH", PATH).split(":"):
        try:
            os.execve(os.path.join(folder, argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            worst = error
    raise worst


def arm(view, joins, shape, alone, close):
    """In init: the next child, in namespaces of its own; (its pid, the warden's end of its channel)."""
    theirs, own = channel.pair()
    flags = syscalls.NEWNS | syscalls.NEWIPC
    pid = syscalls.clone(flags)
    if pid == 0:
        try:
            os.close(theirs)
            close()
            wait(view, channel.Channel(own), joins, shape, alone)
        finally:
            os._exit(NOT_ALLOWED)
    os.close(own)
    return pid, theirs
