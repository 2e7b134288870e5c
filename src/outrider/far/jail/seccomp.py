"""Which system calls a job may make: the filter, as BPF instructions, and the names of what it stops.

All that is not named here is allowed up to the newest known call: the jail holds without the filter, which closes the
kernel's doors that no program under judgement needs. Three answers: an error (what programs probe harmlessly), an error
for some arguments only, and *stopped*: the call never returns, and the job ends with the verdict RV.
"""

import struct

EPERM, ENOSYS, EPROTONOSUPPORT, EAFNOSUPPORT = 1, 38, 93, 97
NEWEST = 469
"""The newest call that this list was checked against; what is newer does not exist for a job."""

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine: (its mark in the kernel's audit numbers, its column in the tables)."""
OTHER_ABIS = {0x40000003: "i386", 0xC000003E: "x86_64", 0x40000028: "arm", 0xC00000B7: "aarch64"}
X32 = 0x40000000

_ALLOW, _ERROR, _STOP, _KILL = 0x7FFF0000, 0x00050000, 0x7FC00000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16

# name: (number on x86_64, number on aarch64); one number where both have the same.
STOPPED = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "open_by_handle_at": (304, 265),
    "iopl": (172, None),
    "ioperm": (173, None),
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "open_tree_attr": 467,
}
NOT_PERMITTED = {
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "kcmp": (312, 272),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": 443,
    "vhangup": (153, 58),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "memfd_secret": 447,
    "fanotify_mark": (301, 263),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "statmount": 457,
    "listmount": 458,
    "lsm_set_self_attr": 460,
}
NOT_THERE = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435}
UNCOUNTED = {"shmget": (29, 194), "memfd_create": (319, 279)}
"""Memory that belongs to no process: not there where nothing counts it."""
WITH_ARGUMENTS = {
    "clone": (56, 220),
    "unshare": (272, 97),
    "ptrace": (101, 117),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "setrlimit": (160, 164),
    "prlimit64": (302, 261),
}
WITH_MODES = {
    "chmod": (90, None, 1),
    "fchmod": (91, 52, 1),
    "fchmodat": (268, 53, 2),
    "fchmodat2": (452, 452, 2),
    "creat": (85, None, 1),
    "mknod": (133, None, 1),
    "mknodat": (259, 33, 2),
    "open": (2, None, 2),
    "openat": (257, 56, 3),
}
"""(number on x86_64, number on aarch64, which argument is the mode). openat2 has it in memory, where no filter can look."""
OPENAT2 = 437
NOT_TOWARDS_INIT = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "pidfd_open": 434,
}
"""Where init has the job's own user id, the kernel alone would allow these."""
NEW_NAMESPACES = 0x7E020000
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
PROTOCOLS = (0, 1, 6, 17, 58)
"""Of the internet: what the kind of socket implies, ICMP, TCP, UDP, ICMPv6. Others are modules that asking loads."""
TIOCSTI, TIOCLINUX, TIOCCONS = 0x5412, 0x541C, 0x541D
NO_RANDOMIZATION = 0x0040000
LIMIT_OF_CORES = 4
CREATES = 0x00400040
"""O_CREAT and what is peculiar to O_TMPFILE: without them, open has no mode."""
SET_IDS = 0o6000


def _make(code, value, true=0, false=0):
    return struct.pack("=HBBI", code, true, false, value)


def _return(value):
    return _make(_RETURN, value)


def _error(number):
    return _return(_ERROR | number)


def _argument(index, high=False):
    """Load half of an argument; nearly all that are looked at are ints to the kernel, which are the low one."""
    return _make(_LOAD, _ARGUMENTS_AT + 8 * index + (4 if high else 0))


def _if(code, value, then):
    """`then` if the loaded value is so."""
    return _make(code, value, 0, len(then) // 8) + then


def _bodies():
    """What is looked at in the calls whose arguments matter: {name: instructions that end with a return}."""
    stop, allow, refuse = _return(_STOP), _return(_ALLOW), _error(EPERM)
    protocol = (
        _argument(2) + b"".join(_if(_EQUAL, kind, allow) for kind in PROTOCOLS) + _error(EPROTONOSUPPORT)
    )
    # A limit of 0 for core dumps starts the host's crash reporter, where there is one; ours, 1, does not. So it stays.
    pretend = _error(0)
    if_given = _argument(2) + _if(_EQUAL, 0, _argument(2, high=True) + _if(_EQUAL, 0, allow)) + pretend
    init_or_all = _if(_EQUAL, 0, _argument(1) + _if(_EQUAL, 1, refuse) + allow)
    return {
        "clone": _argument(0) + _if(_ANY_BIT, NEW_NAMESPACES, stop) + allow,
        "unshare": _argument(0) + _if(_ANY_BIT, NEW_NAMESPACES | 0x80, stop) + allow,
        "ptrace": _argument(0) + _if(_EQUAL, 0, refuse) + stop,  # 0: TRACEME, which debuggers' children try
        "socket": _argument(0)
        + _if(_EQUAL, UNIX, allow)
        + b"".join(_if(_EQUAL, kind, protocol) for kind in (INET, INET6))
        + _if(_EQUAL, NETLINK, _argument(2) + _if(_EQUAL, 0, allow))
        + _error(EAFNOSUPPORT),
        "socketpair": _argument(0) + _if(_EQUAL, UNIX, allow) + _error(EAFNOSUPPORT),
        "ioctl": _argument(1)
        + b"".join(_if(_EQUAL, what, refuse) for what in (TIOCSTI, TIOCLINUX, TIOCCONS))
        + allow,
        "personality": _argument(0)
        + b"".join(_if(_EQUAL, kind, allow) for kind in (0, 0xFFFFFFFF, NO_RANDOMIZATION))
        + refuse,
        "setpriority": _argument(0) + init_or_all + _if(_EQUAL, 2, refuse) + allow,
        "ioprio_set": _argument(0)
        + _if(_EQUAL, 1, _argument(1) + _if(_EQUAL, 1, refuse) + allow)
        + _if(_EQUAL, 3, refuse)
        + allow,
        "setrlimit": _argument(0) + _if(_EQUAL, LIMIT_OF_CORES, pretend) + allow,
        "prlimit64": _argument(0)
        + _if(_EQUAL, 1, refuse)
        + _argument(1)
        + _if(_EQUAL, LIMIT_OF_CORES, if_given)
        + allow,
    }


def _number(numbers, column):
    return numbers if isinstance(numbers, int) else numbers[column]


def _tree(cases):
    """A search by halves for the loaded number: as a filter is set, the kernel tries it for every call that there is."""
    if len(cases) <= 2:
        return b"".join(_if(_EQUAL, number, then) for number, then in cases) + _return(_ALLOW)
    middle = len(cases) // 2
    below, above = _tree(cases[:middle]), _tree(cases[middle:])
    return _make(_AT_LEAST, cases[middle][0], 0, 1) + _make(_JUMP, len(below) // 8) + below + above


def program(machine, listens=True, counted=True, shared=False):
    """The filter. `listens`: what is stopped is reported, else it kills. `counted`: a cgroup counts the memory.
    `shared`: what the job writes may be on the host, where a set-user-id program of its making would lend others its rights.
    """
    mark, column = ARCHITECTURES[machine]
    stop = _return(_STOP if listens else _KILL)
    parts = [_make(_LOAD, _MACHINE_AT), _make(_EQUAL, mark, 1, 0), stop, _make(_LOAD, _NUMBER_AT)]
    if machine == "x86_64":
        parts.append(_if(_AT_LEAST, X32, stop))
    parts.append(_if(_AT_LEAST, NEWEST + 1, _error(ENOSYS)))

    cases = {}

    def on(numbers, then):
        number = _number(numbers, column)
        if number is not None:
            cases[number] = then

    towards_init = _argument(0) + _if(_EQUAL, 1, _error(EPERM)) + _return(_ALLOW)
    for name, body in _bodies().items():
        on(WITH_ARGUMENTS[name], body.replace(_return(_STOP), stop))
    for names, then in (
        (NOT_TOWARDS_INIT, towards_init),
        (NOT_PERMITTED, _error(EPERM)),
        (NOT_THERE, _error(ENOSYS)),
        ({} if counted else UNCOUNTED, _error(ENOSYS)),
        (STOPPED, stop),
    ):
        for numbers in names.values():
            on(numbers, then)
    if shared:
        cases[OPENAT2] = _error(ENOSYS)
        for name, (*numbers, mode) in WITH_MODES.items():
            look = _argument(mode) + _if(_ANY_BIT, SET_IDS, _error(EPERM)) + _return(_ALLOW)
            if name in ("open", "openat"):
                look = _argument(mode - 1) + _if(_ANY_BIT, CREATES, look) + _return(_ALLOW)
            on(numbers, look)
    return b"".join(parts) + _tree(sorted(cases.items()))


def name_of(machine, call_machine, number):
    """What was stopped, in words."""
    mark, column = ARCHITECTURES[machine]
    if call_machine != mark:
        return "a system call of another ABI (%s, number %d)" % (
            OTHER_ABIS.get(call_machine, hex(call_machine)),
            number,
        )
    if machine == "x86_64" and number >= X32:
        return "a system call of another ABI (x32, number %d)" % (number - X32)
    for names in (STOPPED, WITH_ARGUMENTS):
        for name, numbers in names.items():
            if _number(numbers, column) == number:
                return "the system call %s" % name
    return "system call %d" % number
