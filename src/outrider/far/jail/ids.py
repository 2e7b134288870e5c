"""User ids of slots: two of the host's that nobody else has, where this process may map them; else its own."""

import os

from . import syscalls

TYPES = False
if TYPES:
    from typing import Any

FIRST, ROOM = 2_000_000_000, 140_000_000
"""Where nobody's accounts are, and below 2**31, which some file systems and programs take for the end."""
SETGID, SETUID = 6, 7


def _extents(kind):
    with open("/proc/self/%s_map" % kind) as file:
        return [tuple(int(word) for word in line.split()) for line in file]


def _range(kind):
    """(first id, how many) of the ids that slots may have, as this process's own namespace numbers them; None if too few."""
    for inside, _, count in _extents(kind):
        if inside <= FIRST and inside + count >= FIRST + ROOM:
            return FIRST, ROOM
    inside, _, count = max(_extents(kind), key=lambda extent: extent[0] + extent[2])
    room = min(count // 2, 10_000) // 2 * 2
    end = inside + count - 16  # the last ones are often nobody's
    return (end - room, room) if room >= 64 and end - room > 10_000 else None


class Ids:
    """`alone`: a slot has one id, which is this process's own on the host."""

    def __init__(self, may_map):
        self.ranges: Any = None
        if may_map and syscalls.has_capability(SETUID) and syscalls.has_capability(SETGID):
            ranges = _range("uid"), _range("gid")
            self.ranges = None if None in ranges else ranges
        self.alone = self.ranges is None
        self._next = int.from_bytes(os.urandom(4), "little") & ~1

    def take(self):
        """(uid, gid) of init in a new slot, on the host; the job's are one more."""
        if self.alone:
            return os.geteuid(), os.getegid()
        self._next += 2
        return tuple(first + self._next % room for first, room in self.ranges)

    def write(self, pid, ids):
        """Map them for the new user namespace of process `pid`: 0 is its init, 1000 the job."""
        maps = ["1000 %d 1\n" if self.alone else "0 %d 1\n1000 %d 1\n"] * 2
        if self.alone:
            _write("/proc/%d/setgroups" % pid, "deny")
        for kind, text, number in zip(("gid", "uid"), maps, (ids[1], ids[0])):
            _write("/proc/%d/%s_map" % (pid, kind), text % (number if self.alone else (number, number + 1)))


def _write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
