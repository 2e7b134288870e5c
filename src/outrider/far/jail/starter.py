"""The process that waits in a slot to become the next job: a few dozen instructions instead of a forked Python.

It receives lists of system calls, makes them in turn, and keeps their results; the last one starts the program. A Python
costs a millisecond to fork, and half of one to give up for a program; it would also share its memory with what it starts.
The instructions, in words, are in `CODE`; a test assembles them anew.
"""

import errno
import os
import resource
import struct

from .. import channel
from . import syscalls

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAME = "/.starter"
"""Where it is in a slot."""
SOCKET = 3
"""Its end of the channel. The descriptors that come with a list get the lowest free numbers: 0, 1, 2, 4 and so on."""

CODE = {
    "x86_64": bytes.fromhex(
        "b82f000000bf03000000be0000001031d248c74628000100000f054885c07e3fbb08000110488b034885c078d3"
        "488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f0548894340483d01f0ffff73064883c348ebcc488b5b38ebc6"
        "b8e7000000bf7e0000000f05"
    ),
    "aarch64": bytes.fromhex(
        "881a80d2600080d20100a2d2020080d2092080d2291400f9010000d41f0000f10d020054130180d23300a2f2"
        "680240f988feffb7608640a9628e41a9649642a9010000d4602200f91ffc3fb16200005473220191f6ffff17"
        "731e40f9f4ffff17c80b80d2c00f80d2010000d4"
    ),
}
"""wait:   recvmsg(3, message, 0) into `list`; leave with 126 if there is none or it fails
next:   take the number and the six arguments of an entry, and make the call; a negative number: go to `wait`
        keep the result; if it is an error, go on with the entry that this one names for that, else with the next one"""

_MACHINES = {"x86_64": 62, "aarch64": 183}
_PAGE = 0x10000
_CODE_AT, _DATA_AT = 0x400000, 0x10000000
_CONTROL_AT, _VECTOR_AT = _DATA_AT + 0x100, _DATA_AT + 0x80
LIST_AT, ROOM = _DATA_AT + _PAGE, 0x30000
LARGE_AT, LARGE_ROOM = _DATA_AT + 0x100000, 0x400000
"""Where a list is that is too large for a message: it comes in a file."""
ENTRY = struct.Struct("<9q")
"""number, six arguments, where to go on if it fails, result."""
HEAD = 8
END = -1

CALLS = {
    name: numbers[0 if syscalls.MACHINE == "x86_64" else 1]
    for name, numbers in {
        "read": (0, 63),
        "write": (1, 64),
        "close": (3, 57),
        "rt_sigaction": (13, 134),
        "pread64": (17, 67),
        "pwrite64": (18, 68),
        "sendto": (44, 206),
        "sendmsg": (46, 211),
        "execve": (59, 221),
        "fcntl": (72, 25),
        "chdir": (80, 49),
        "setsid": (112, 157),
        "capset": (126, 91),
        "clock_gettime": (228, 113),
        "exit_group": (231, 94),
        "openat": (257, 56),
        "perf_event_open": (298, 241),
        "prlimit64": (302, 261),
        "seccomp": (317, 277),
        "landlock": (444, 444),
        "landlock_restrict_self": (446, 446),
    }.items()
}
NAMES = {number: name for name, number in CALLS.items()}
_CLOEXEC, _SETFD, _NOSIGNAL, _MONOTONIC = 1, 2, 0x4000, 1
_AT_FDCWD, _OPEN_FOLDER = -100, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def program(machine):
    """The starter as a file that can be run."""
    head, part = 64, 56
    start = head + 3 * part
    code = CODE[machine]
    message = struct.pack("<QQQQQQQ", 0, 0, _VECTOR_AT, 1, _CONTROL_AT, 0, 0).ljust(0x80, b"\0")
    message += struct.pack("<QQ", LIST_AT, ROOM)
    whole = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, _MACHINES[machine], 1, _CODE_AT + start, head, 0, 0,
                        head, part, 3, 64, 0, 0)  # fmt: skip
    size = start + len(code)
    room = LARGE_AT + LARGE_ROOM - _DATA_AT
    for kind, flags, offset, at, in_file, in_memory in (
        (1, 5, 0, _CODE_AT, size, size),
        (1, 6, _PAGE, _DATA_AT, len(message), room),
        (0x6474E551, 6, 0, 0, 0, 0),  # its stack holds no instructions
    ):
        whole += struct.pack("<IIQQQQQQ", kind, flags, offset, at, at, in_file, in_memory, _PAGE)
    return (whole + code).ljust(_PAGE, b"\0") + message


class Calls:
    """A list of system calls under construction, with the bytes that they point to."""

    def __init__(self, at=LIST_AT):
        self.at = at + HEAD
        self.entries = []
        self.marks = {}
        self.parts = []

    def add(self, name, *arguments, otherwise="failed"):
        """`arguments`: numbers, or bytes to point to. `otherwise`: the mark to go on at if it fails."""
        self.entries.append((CALLS[name], arguments, otherwise))

    def mark(self, name):
        self.marks[name] = len(self.entries)

    def end(self):
        self.entries.append((END, (), None))

    def fail(self):
        """What is done at "failed": the results go back, and it ends."""
        self.mark("failed")
        size = HEAD + ENTRY.size * (len(self.entries) + 2)
        self.add("sendto", SOCKET, self.at - HEAD, size, _NOSIGNAL, 0, 0)
        self.add("exit_group", 126)

    def packed(self):
        """The bytes of it all: a mark by which what comes back is known, the entries, and what they point to."""
        places, tail = {}, [b""]
        end = self.at + ENTRY.size * len(self.entries)
        size = 0

        def place(value):
            nonlocal size
            if not isinstance(value, (bytes, tuple)):
                return value
            if value not in places:
                pieces = _pointers(value, place) if isinstance(value, tuple) else value
                pieces += bytes(-len(pieces) % 8)
                places[value] = end + size
                size += len(pieces)
                tail.append(pieces)
            return places[value]

        entries = []
        for number, arguments, otherwise in self.entries:
            values = [place(value) for value in arguments] + [0] * (6 - len(arguments))
            target = otherwise or 0
            if otherwise in self.marks:
                target = self.at + ENTRY.size * self.marks[otherwise]
            entries.append(ENTRY.pack(number, *values, target, 0))
        return b"".join([channel.RESULTS.ljust(HEAD, b"\0"), *entries, *tail])


def _pointers(values, place):
    """Of a tuple: bytes to point to, or numbers of 64 bits as they are; a list of texts ends with a 0 of its maker's."""
    return b"".join(struct.pack("<Q", place(value) & 0xFFFFFFFFFFFFFFFF) for value in values)


def _text(value):
    text = os.fsencode(value)
    if b"\0" in text:
        raise ValueError("embedded null byte in %r" % value)
    return text + b"\0"


def _setting(name, value):
    if not name or "=" in name:
        raise ValueError("no name of an environment variable: %r" % name)
    return _text(name)[:-1] + b"=" + _text(value)


def _cores():
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    return struct.pack("<QQ", *(min(1, most % (1 << 64)) for most in (soft, hard)))


def preparation(folder, filter_program, count_time, network):
    """From init's child, which has no rights left by being started, to what waits for its order, within the filter."""
    calls = Calls()
    calls.add("setsid")
    for number in (32, 33):  # the C library's own, which it has what it starts ignore
        calls.add("rt_sigaction", number, bytes(32), 0, 8)
    calls.add("chdir", _text(folder))
    calls.add("openat", _AT_FDCWD, b".\0", _OPEN_FOLDER)
    # 1, not 0: a program that takes core dumps on the host is then not started either. The filter keeps it so.
    calls.add("prlimit64", 0, 4, _cores(), 0)
    calls.add("capset", struct.pack("<II", 0x20080522, 0), bytes(24))
    if network:
        _keep_to_own_sockets(calls, ["box"], filter_program, count_time)
    else:
        _within(calls, ["box"], filter_program, count_time, "")
    calls.fail()
    return calls.packed()


def _keep_to_own_sockets(calls, told, filter_program, count_time):
    """Where the network is the host's: no abstract socket of others can be reached. Before Linux 6.12 it goes on without."""
    abstract_sockets, signals = 1, 2
    here = len(told)
    calls.add("landlock", struct.pack("<QQQ", 0, 0, abstract_sockets | signals), 24, 0, otherwise="open")
    calls.add("landlock_restrict_self", here, 0, otherwise="ruled")
    calls.mark("ruled")
    calls.add("close", here)
    calls.mark("open")
    _within(calls, told, filter_program, count_time, "")


def _within(calls, told, filter_program, count_time, suffix):
    if count_time:
        told_too = [*told, "time"]
        calls.add("perf_event_open", syscalls.TASK_CLOCK, 0, -1, -1, 8, otherwise="uncounted")
        _tell(calls, told_too, filter_program)
        calls.mark("uncounted")  # forbidden here
    _tell(calls, told, filter_program)


def _tell(calls, told, filter_program):
    """Set the filter, and send the descriptors on."""
    set_filter, new_listener = 1, 8
    calls.add("seccomp", set_filter, new_listener, (len(filter_program) // 8, filter_program))
    told = [*told, "filter"]
    body = channel.plain({"armed": told})
    size = 16 + 4 * len(told)
    rights = struct.pack("<QII%di" % len(told), size, 1, 1, *range(len(told)))
    vector = (body, len(body))
    calls.add("sendmsg", SOCKET, (0, 0, vector, 1, rights, size, 0), _NOSIGNAL)
    for fd in range(len(told)):
        calls.add("close", fd)
    calls.end()


def order(argv, env, cwd, paths, limits, joins, gate, at=LIST_AT, extra=0):
    """Become the program: the first of `paths` that can be started. Descriptors: three of the program, `joins`, one that
    notes when it began, with `gate` one to wait for; `extra` more that are only closed."""
    calls = Calls(at)
    first = SOCKET + 1
    note = first + joins
    calls.add("fcntl", SOCKET, _SETFD, _CLOEXEC)
    if gate:
        calls.add("read", note + 1, bytes(8), 1)
    for fd in range(first, note):
        calls.add("write", fd, b"0", 1)
        calls.add("close", fd)
    clock = bytes(15) + b"\1"  # a place of its own
    calls.add("clock_gettime", _MONOTONIC, clock)
    calls.add("pwrite64", note, clock, 16, 0)
    for fd in range(note, note + 1 + bool(gate) + extra):
        calls.add("close", fd)
    for kind, soft, hard in limits:
        calls.add("prlimit64", 0, kind, struct.pack("<QQ", soft % (1 << 64), hard % (1 << 64)), 0)
    if cwd:
        calls.add("chdir", _text(cwd))
    words = (*map(_text, argv), 0)
    texts = (*(_setting(name, value) for name, value in env.items()), 0)
    for number, path in enumerate(paths):
        calls.add("execve", _text(path), words, texts, otherwise="exec%d" % number)
        calls.mark("exec%d" % number)
    calls.fail()
    return calls.packed()


def from_file(size, fd):
    """A list that reads a larger one from `fd`, and goes on there."""
    calls = Calls()
    calls.add("pread64", fd, LARGE_AT, size, 0)
    calls.add("close", -1, otherwise=LARGE_AT + HEAD)
    calls.fail()
    return calls.packed()


def results(body):
    """[(name of the call, 0 or the number of its error)] of what came back, as far as it got."""
    found = []
    for at in range(HEAD, len(body) - ENTRY.size + 1, ENTRY.size):
        entry = ENTRY.unpack_from(body, at)
        found.append((NAMES.get(entry[0], str(entry[0])), -entry[-1] if -4096 < entry[-1] < 0 else 0))
    return found


def failure(body, name, paths, cwd):
    """(what failed, in words; the exit code for that, or None if it is not the program's fault)."""
    found = [(call, number) for call, number in results(body) if number and call != "close"]
    tried = [number for call, number in found if call == "execve"]
    if not tried:
        call, number = found[-1] if found else ("starting", errno.EIO)
        if call == "chdir":
            return "%s: %s" % (cwd, os.strerror(number)), 127 if number == errno.ENOENT else 126
        return "%s: %s" % (call, os.strerror(number)), None
    others = [number for number in tried if number not in (errno.ENOENT, errno.ENOTDIR)]
    if not others:
        return "%s: %s" % (name, os.strerror(tried[0] if len(tried) == 1 else errno.ENOENT)), 127
    worst = next((number for number in others if number != errno.EACCES), errno.EACCES)
    return "%s: %s" % (paths[tried.index(worst)], os.strerror(worst)), 126


class Starter:
    """The warden's end of its channel."""

    def __init__(self, fd, slot):
        self._channel = channel.Channel(fd)
        self.fd = fd
        self._slot = slot
        self._asked = "the starter", [], None

    def send(self, message, fds):
        """Have it become the program that `message` tells of. `fds`: the three of the program, then what joins groups."""
        argv, env = message["argv"], message["env"]
        folders = [""] if "/" in argv[0] else env.get("PATH", PATH).split(":")
        paths = [os.path.join(folder, argv[0]) for folder in folders]
        self._asked = argv[0], paths, message["cwd"]
        gate = [self._put(message["inputs"])] if message["inputs"] else []
        given = [*fds, self._slot.note, *gate]
        asked = argv, env, message["cwd"], paths, message["limits"], len(fds) - 3, gate
        try:
            body = order(*asked)
            if len(body) <= channel.LARGE:
                return self._channel.send_bytes(body, given)
            body = order(*asked, LARGE_AT, 1)
            if len(body) > LARGE_ROOM:
                raise ValueError("its arguments and its environment are too long")
            given.append(channel.in_memory(body))
            gate.append(given[-1])
            return self._channel.send_bytes(from_file(len(body), len(given)), given)
        finally:
            for fd in gate:
                os.close(fd)

    def _put(self, inputs):
        """Have init put the job's files there; a descriptor from which something can be read when they are."""
        reader, writer = os.pipe()
        try:
            self._slot.init.send({"do": "put", "inputs": inputs}, [writer])
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return reader

    def receive(self):
        message, fds = self._channel.receive()
        if message is not None and "results" in message:
            words, code = failure(message["results"], *self._asked)
            message = {"failed": words, "ours": code is None, "code": code}
        return message, fds

    def close(self):
        self.fd = -1
        self._channel.close()
