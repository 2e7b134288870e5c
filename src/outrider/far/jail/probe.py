"""What the native engine can hold on this machine, for this user; found by trying."""

import os

from . import guarantees, seccomp, syscalls


class Unable(Exception):
    """The engine cannot work here at all."""


def settle():
    """Go into a mount namespace of this process's own; True if as the host's own (or a container's) administrator."""
    if not syscalls.NUMBERS:
        raise Unable("this kind of machine (%s) is not known to it" % syscalls.MACHINE)
    if not os.path.exists("/proc/self/ns/user"):
        raise Unable("the kernel has no user namespaces, or /proc is not mounted")
    try:
        syscalls.unshare(syscalls.NEWNS)
        administrator = True
    except OSError:
        administrator = False
        _own_namespace()
    syscalls.mount(None, "/", flags=syscalls.REC | syscalls.SLAVE)
    return administrator


def _own_namespace():
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.NEWUSER | syscalls.NEWNS)
    except OSError as error:
        raise Unable("this user may make no user namespace (%s)" % error.strerror) from None
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", "%d %d 1" % (uid, uid)),
        ("gid_map", "%d %d 1" % (gid, gid)),
    ):
        try:
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
        except OSError as error:
            raise Unable("its user namespace may have no users (%s)" % error.strerror) from None


def _can_count():
    """True if the kernel counts a tree's processor time for this user."""
    try:
        os.close(syscalls.count_time())
        return True
    except OSError:
        return False


def _release():
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def missing(cgroups, ids):
    """{guarantee: why it is not held here}."""
    found = {}
    if not cgroups.version:
        found[guarantees.MEMORY] = "it is only looked at now and then, as %s" % cgroups.reason
        if not _can_count():
            found[guarantees.CPU] = "children that nobody waits for may be missed, as %s" % cgroups.reason
        if _release() < (5, 14) and ids.alone:
            found[guarantees.PROCESSES] = "this kernel counts the user's other processes, too"
    if ids.alone:
        found[guarantees.OWN_ID] = "it runs as this user, who may not map another id"
    if syscalls.MACHINE not in seccomp.ARCHITECTURES:
        found[guarantees.CALLS] = "no filter is known for this machine"
    return found
