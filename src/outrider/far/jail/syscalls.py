"""The kernel's calls that Python has no name for, through ctypes. OSError where they fail, with the call's name.

The library is called with Python's lock held: there is one thread only, and a forked child must find nothing to take back.
"""

import _socket
import ctypes
import fcntl
import os
import struct

_libc = ctypes.PyDLL(None, use_errno=True)

MACHINE = os.uname().machine
NUMBERS = {
    "x86_64": {"clone": 56, "pivot_root": 155, "perf_event_open": 298, "rt_sigaction": 13},
    "aarch64": {"clone": 220, "pivot_root": 41, "perf_event_open": 241, "rt_sigaction": 134},
}.get(MACHINE, {})
"""Empty on a machine whose numbers are not known here."""
OPENAT2, CLOSE_RANGE, MOUNT_SETATTR = 437, 436, 442
"""Calls newer than 5.0 have the same number everywhere."""

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
SIGCHLD = 17

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 1, 2, 4, 8, 32, 4096
REC, PRIVATE, SLAVE = 16384, 1 << 18, 1 << 19
DETACH = 2

PDEATHSIG, DUMPABLE, CAPBSET_DROP, SECUREBITS, NO_NEW_PRIVS, AMBIENT = 1, 4, 24, 28, 38, 47
NOROOT_LOCKED = 0xEF
"""SECBIT: no privileges by being root, none changed by setuid, no ambient ones; each locked."""


def check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (what, os.strerror(number)))
    return result


def _bytes(text):
    return text if text is None or isinstance(text, bytes) else os.fsencode(text)


def clone(flags):
    """As fork, into new namespaces: the child's pid, or 0 in the child."""
    return check(_libc.syscall(NUMBERS["clone"], ctypes.c_ulong(flags | SIGCHLD), 0, 0, 0, 0), "clone")


def unshare(flags):
    check(_libc.unshare(flags), "unshare")


def mount(source, target, kind=None, flags=0, data=None):
    call = _libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data))
    check(call, "mount on %s" % os.fsdecode(target))


def umount(target):
    check(_libc.umount2(_bytes(target), DETACH), "umount of %s" % os.fsdecode(target))


def pivot_root(new, old):
    check(_libc.syscall(NUMBERS["pivot_root"], _bytes(new), _bytes(old)), "pivot_root")


def restrict_mounts(path, attributes):
    """Set mount attributes (RDONLY, NOSUID, NODEV) on `path` and all below; OSError before Linux 5.12."""
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    recursive = 0x8000
    call = _libc.syscall(MOUNT_SETATTR, -100, _bytes(path), recursive, wanted, ctypes.c_size_t(32))
    check(call, "mount_setattr of %s" % os.fsdecode(path))


def prctl(option, value=0, third=0):
    zero = ctypes.c_ulong(0)
    call = _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(third), zero, zero)
    return check(call, "prctl %d" % option)


def default_signal(number):
    """For 32 and 33, too, which the C library keeps to itself and has what it starts ignore."""
    check(_libc.syscall(NUMBERS["rt_sigaction"], number, bytes(32), None, ctypes.c_size_t(8)), "rt_sigaction")


def drop_bounding_set():
    """No program that is started from here on can gain a capability."""
    number = 0
    while _libc.prctl(CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) == 0:
        number += 1


def has_capability(number):
    """True if this process has it in its own user namespace."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def open_beneath(folder, path, flags):
    """Open `path` below the open `folder`, through no link; None where the kernel has no such call (before 5.6)."""
    resolve = 0x08 | 0x04 | 0x01  # BENEATH, NO_SYMLINKS, NO_XDEV
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, resolve)
    fd = _libc.syscall(OPENAT2, folder, _bytes(path), how, ctypes.c_size_t(24))
    if fd < 0 and ctypes.get_errno() in (38, 1):
        return None
    return check(fd, "open of %s" % os.fsdecode(path))


def close_all_but(kept):
    """Close every descriptor that is not among `kept`."""
    first = 0
    for fd in [*sorted(kept), 1 << 31]:
        if fd > first and _libc.syscall(CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(fd - 1), 0) < 0:
            os.closerange(first, min(fd, os.sysconf("SC_OPEN_MAX")))
        first = fd + 1


def stopped_call(listener):
    """(pid, machine, call number, arguments) of what a filter stopped, or None if it is gone meanwhile."""

    room = bytearray(80)
    try:
        fcntl.ioctl(listener, 0xC0502100, room)  # SECCOMP_IOCTL_NOTIF_RECV
    except OSError:
        return None
    _, pid, _, number, machine, _, *arguments = struct.unpack("=QIIiIQ6Q", room)
    return pid, machine, number, arguments


def _task_clock():
    software, task_clock, size = 1, 1, 64
    disabled, inherit, no_kernel, no_hypervisor, on_exec = 1, 2, 32, 64, 1 << 12
    flags = disabled | inherit | no_kernel | no_hypervisor | on_exec
    return struct.pack("=IIQQQQQ", software, size, task_clock, 0, 0, 0, flags).ljust(size, b"\0")


TASK_CLOCK = _task_clock()
"""What to ask perf_event_open for: a process's time on processors, and that of all it starts, from the next exec on.

Read it as an unsigned 64-bit number of nanoseconds.
"""


def count_time():
    """A descriptor that counts this process's time so."""
    room = ctypes.create_string_buffer(TASK_CLOCK, len(TASK_CLOCK))
    close_on_exec = ctypes.c_ulong(8)
    call = _libc.syscall(NUMBERS["perf_event_open"], room, 0, -1, -1, close_on_exec)
    return check(call, "perf_event_open")


def sethostname(name):
    check(_libc.sethostname(name, ctypes.c_size_t(len(name))), "sethostname")


def raise_loopback():
    """Bring up `lo` of a new network namespace: programs talk to themselves over it."""

    with_flags = struct.Struct("16sh14x")
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(probe, 0x8914, with_flags.pack(b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: UP, RUNNING
    except OSError:
        pass
    finally:
        probe.close()
