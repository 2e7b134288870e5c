"""The sandbox's filter of system calls, instruction by instruction, as the kernel would run it."""

from __future__ import annotations

import struct

import pytest

from outrider.far.jail import seccomp

ALLOW, ERROR, STOP, KILL = 0x7FFF0000, 0x00050000, 0x7FC00000, 0x80000000
MARKS = {machine: about[0] for machine, about in seccomp.ARCHITECTURES.items()}
NEW_USER, VM, VFORK = 0x10000000, 0x100, 0x4000


def answer(program: bytes, number: int, mark: int, *arguments: int) -> int:
    """What the filter returns for one call; fails if it would not end, or jump out of itself."""
    call = struct.pack("=iIQ6Q", number, mark, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    at, loaded = 0, 0
    while True:
        kind, true, false, value = code[at]
        at += 1
        if kind == 0x06:
            return value
        if kind == 0x20:
            (loaded,) = struct.unpack_from("=I", call, value)
        elif kind == 0x05:
            at += value
        else:
            met = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[kind]
            at += true if met else false


@pytest.fixture(params=sorted(MARKS))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def number(machine: str, numbers: int | tuple[int | None, ...]) -> int | None:
    return numbers if isinstance(numbers, int) else numbers[seccomp.ARCHITECTURES[machine][1]]


def test_every_call_that_is_named_gets_its_answer(machine: str) -> None:
    program = seccomp.program(machine)
    for names, expected in (
        (seccomp.STOPPED, STOP),
        (seccomp.NOT_PERMITTED, ERROR | seccomp.EPERM),
        (seccomp.NOT_THERE, ERROR | seccomp.ENOSYS),
        (seccomp.UNCOUNTED, ALLOW),
    ):
        for name, numbers in names.items():
            found = number(machine, numbers)
            if found is not None:
                assert answer(program, found, MARKS[machine]) == expected, name


def test_what_is_not_named_is_allowed_and_what_is_too_new_is_not_there(machine: str) -> None:
    program = seccomp.program(machine)
    groups = (seccomp.STOPPED, seccomp.NOT_PERMITTED, seccomp.NOT_THERE, seccomp.WITH_ARGUMENTS)
    named = {number(machine, numbers) for names in groups for numbers in names.values()}
    for call in range(seccomp.NEWEST + 1):
        if call not in named:
            assert answer(program, call, MARKS[machine], 2) == ALLOW, call
    assert answer(program, seccomp.NEWEST + 1, MARKS[machine]) == ERROR | seccomp.ENOSYS
    assert answer(program, 511, MARKS[machine]) == ERROR | seccomp.ENOSYS


def test_other_abis_are_stopped_whatever_the_number(machine: str) -> None:
    program = seccomp.program(machine)
    for mark in {*seccomp.OTHER_ABIS, 0, 0xFFFFFFFF} - {MARKS[machine]}:
        for call in (0, 1, 165, seccomp.NEWEST, 0x7FFFFFFF):
            assert answer(program, call, mark) == STOP
    if machine == "x86_64":
        assert answer(program, seccomp.X32, MARKS[machine]) == STOP
        assert answer(program, seccomp.X32 | 520, MARKS[machine]) == STOP
        assert "x32" in seccomp.name_of(machine, MARKS[machine], seccomp.X32 | 520)
    assert "i386" in seccomp.name_of(machine, 0x40000003, 21)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (VM | VFORK | 17,), ALLOW),
        ("clone", (NEW_USER | 17,), STOP),
        ("clone", (NEW_USER | 17 | 1 << 40,), STOP),
        ("unshare", (0x400,), ALLOW),
        ("unshare", (NEW_USER,), STOP),
        ("unshare", (0x80,), STOP),
        ("ptrace", (0,), ERROR | seccomp.EPERM),
        ("ptrace", (16,), STOP),
        ("socket", (seccomp.UNIX, 1, 0), ALLOW),
        ("socket", (seccomp.INET, 1, 0), ALLOW),
        ("socket", (seccomp.NETLINK, 3, 0), ALLOW),
        ("socket", (seccomp.NETLINK, 3, 9), ERROR | seccomp.EAFNOSUPPORT),
        ("socket", (40, 1, 0), ERROR | seccomp.EAFNOSUPPORT),
        ("socket", (38, 5, 0), ERROR | seccomp.EAFNOSUPPORT),
        ("ioctl", (0, seccomp.TIOCSTI), ERROR | seccomp.EPERM),
        ("ioctl", (0, seccomp.TIOCSTI | 1 << 32), ERROR | seccomp.EPERM),
        ("ioctl", (0, 0x5401), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (8,), ERROR | seccomp.EPERM),
        ("setpriority", (0, 0, 5), ALLOW),
        ("setpriority", (0, 1, 5), ERROR | seccomp.EPERM),
        ("setpriority", (2, 0, 5), ERROR | seccomp.EPERM),
        ("ioprio_set", (1, 1), ERROR | seccomp.EPERM),
        ("ioprio_set", (1, 2), ALLOW),
    ],
)
def test_calls_are_told_apart_by_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    call = number(machine, seccomp.WITH_ARGUMENTS[name])
    assert call is not None
    assert answer(seccomp.program(machine), call, MARKS[machine], *arguments) == expected


def test_init_is_out_of_reach_and_others_are_not(machine: str) -> None:
    program = seccomp.program(machine)
    for name, numbers in seccomp.NOT_TOWARDS_INIT.items():
        call = number(machine, numbers)
        assert call is not None
        assert answer(program, call, MARKS[machine], 1) == ERROR | seccomp.EPERM, name
        assert answer(program, call, MARKS[machine], 2) == ALLOW, name


def test_without_a_listener_it_kills_and_without_a_count_hidden_memory_is_not_there(machine: str) -> None:
    program = seccomp.program(machine, listens=False, counted=False)
    mount = number(machine, seccomp.STOPPED["mount"])
    clone = number(machine, seccomp.WITH_ARGUMENTS["clone"])
    assert mount is not None and clone is not None
    assert answer(program, mount, MARKS[machine]) == KILL
    assert answer(program, clone, MARKS[machine], NEW_USER) == KILL
    for name, numbers in seccomp.UNCOUNTED.items():
        call = number(machine, numbers)
        assert call is not None
        assert answer(program, call, MARKS[machine]) == ERROR | seccomp.ENOSYS, name


def test_what_was_stopped_is_named(machine: str) -> None:
    for name, numbers in seccomp.STOPPED.items():
        call = number(machine, numbers)
        if call is not None:
            assert seccomp.name_of(machine, MARKS[machine], call).endswith(" " + name)
