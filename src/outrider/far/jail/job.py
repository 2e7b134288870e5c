"""The child of a slot's init that becomes the job: gives up every privilege, waits for its order, and starts the program.

All that can be done ahead is done before the order comes; what is written before it joins its control group is not
counted as the job's.
"""

import _signal as signal  # type: ignore[import-not-found]
import errno
import os
import resource
import struct
import time

from .. import channel
from . import root, syscalls

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND, NOT_ALLOWED = 127, 126


def make(view, about, began, close):
    """In init: the next child; (its pid, the warden's end of its channel). It notes in `began`, shared, when it began."""
    theirs, own = channel.pair()
    pid = syscalls.clone(0)
    if pid == 0:
        try:
            close()
            os.close(theirs)
            _live(view, channel.Channel(own), about, began)
        finally:
            os._exit(NOT_ALLOWED)
    os.close(own)
    return pid, theirs


def _live(view, own, about, began):
    order = {"argv": ()}
    try:
        told = _get_ready(view, about)
        own.send({"armed": [*told]}, [*told.values()])
        for fd in told.values():
            os.close(fd)
        order, fds = own.receive()
        if order is None:
            os._exit(0)
        _become(order, fds)
        order["prepared"] = True
        _start(order, began)
    except FileNotFoundError as error:
        _fail(own, error, NOT_FOUND, False)
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


def _get_ready(view, about):
    """From a process with all privileges in its namespaces to one without any; {what: descriptor for the warden}."""
    os.setsid()
    os.chdir(view.folder)
    default_signals()
    told = {"box": os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}
    if about["count_time"]:
        try:
            told["time"] = syscalls.count_time()
        except OSError:  # forbidden here
            pass
    # 1, not 0: a program that takes core dumps on the host is then not started either. The filter keeps it so.
    soft, hard = (
        min(1, most % (1 << 64)) for most in resource.getrlimit(resource.RLIMIT_CORE)
    )  # -1: without limit
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    os.setresgid(root.JOB, root.JOB, root.JOB)
    os.setresuid(root.JOB, root.JOB, root.JOB)
    syscalls.drop_capabilities()
    if view.network:
        try:
            syscalls.keep_to_own_sockets()
        except OSError:  # an older kernel; docs/sandbox-threats.md says so
            pass
    told["filter"] = syscalls.listen_to_filter(about["filter"])
    return told


def default_signals():
    for number in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGINT,
        signal.SIGCHLD,
    ):  # what Python and init have changed
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _become(order, fds):
    """Put the job's files there, and go inside its limits. `fds`: the three of the program, then those that join groups."""
    if order["inputs"]:
        _put_inputs(order["inputs"])
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for kind, soft, hard in order["limits"]:
        resource.setrlimit(kind, (soft, hard))
    for fd in fds[3:]:
        os.write(fd, b"0")
    syscalls.close_on_exec_from(3)


def _put_inputs(inputs):
    """The job's files, as its own. The scratch space is new: nothing in it can mislead."""
    here = os.getcwd()
    for path, contents, mode in inputs:
        path = os.path.normpath(os.path.join(here, path))
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(contents)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode & 0o777)
        finally:
            os.close(fd)


def _start(order, began):
    """Start the program, looked for as a shell does."""
    argv, env = order["argv"], order["env"]
    if order["cwd"]:
        os.chdir(order["cwd"])
    began[:] = struct.pack("d", time.monotonic())
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
