"""The starter: its instructions, and that it makes the calls that it is sent, and no others."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.far import channel
from outrider.far.jail import starter, syscalls

X86_64 = """
.intel_syntax noprefix
wait:   mov eax, 47
        mov edi, 3
        mov esi, 0x10000000
        xor edx, edx
        mov qword ptr [rsi+40], 0x100
        syscall
        test rax, rax
        jle leave
        mov ebx, 0x10010008
next:   mov rax, [rbx]
        test rax, rax
        js wait
        mov rdi, [rbx+8]
        mov rsi, [rbx+16]
        mov rdx, [rbx+24]
        mov r10, [rbx+32]
        mov r8, [rbx+40]
        mov r9, [rbx+48]
        syscall
        mov [rbx+64], rax
        cmp rax, -4095
        jae failed
        add rbx, 72
        jmp next
failed: mov rbx, [rbx+56]
        jmp next
leave:  mov eax, 231
        mov edi, 126
        syscall
"""
AARCH64 = """
wait:   movz x8, #212
        movz x0, #3
        movz x1, #0x1000, lsl #16
        movz x2, #0
        movz x9, #0x100
        str x9, [x1, #40]
        svc #0
        cmp x0, #0
        b.le leave
        movz x19, #0x8
        movk x19, #0x1001, lsl #16
next:   ldr x8, [x19]
        tbnz x8, #63, wait
        ldp x0, x1, [x19, #8]
        ldp x2, x3, [x19, #24]
        ldp x4, x5, [x19, #40]
        svc #0
        str x0, [x19, #64]
        cmn x0, #4095
        b.hs failed
        add x19, x19, #72
        b next
failed: ldr x19, [x19, #56]
        b next
leave:  movz x8, #94
        movz x0, #126
        svc #0
"""


@pytest.mark.parametrize(("machine", "text"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_the_instructions_are_those_of_the_listing(machine: str, text: str, tmp_path: Path) -> None:
    native = machine == syscalls.MACHINE and shutil.which("as")
    tool = (
        shutil.which("as") if native else shutil.which(f"{machine}-linux-gnu-as") or shutil.which("llvm-mc")
    )
    if tool is None or shutil.which("objcopy") is None:
        pytest.skip(f"no assembler for {machine}")
    argv = [tool, f"-triple={machine}", "-filetype=obj"] if tool.endswith("llvm-mc") else [tool]
    (tmp_path / "listing.s").write_text(text)
    subprocess.run([*argv, "-o", "listing.o", "listing.s"], cwd=tmp_path, check=True)
    assert starter.CODE[machine] in (tmp_path / "listing.o").read_bytes()


def inherited() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all we need
        with contextlib.suppress(OSError):
            found += [int(name)] if os.get_inheritable(int(name)) else []
    return found


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path)
    yield made
    made.channel.close()


class Started:
    """A starter outside of any jail."""

    def __init__(self, folder: Path) -> None:
        path = folder / "starter"
        path.write_bytes(starter.program(syscalls.MACHINE))
        path.chmod(0o755)
        ours, theirs = channel.pair()
        self.channel = channel.Channel(ours)
        actions = [(os.POSIX_SPAWN_DUP2, theirs, starter.SOCKET)]
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in inherited() if fd != starter.SOCKET]
        self.pid = os.posix_spawn(path, ["starter"], {}, file_actions=actions)
        os.close(theirs)

    def run(
        self, argv: list[str], paths: list[str], size: int = 0, cwd: str | None = None
    ) -> tuple[bytes, int]:
        reader, writer = os.pipe()
        note = channel.in_memory(bytes(16))
        given = [writer, writer, writer, note]
        body = starter.order(argv, {"A": "b" * size}, cwd, paths, [], 0, [])
        if len(body) > channel.LARGE:
            body = starter.order(argv, {"A": "b" * size}, cwd, paths, [], 0, [], starter.LARGE_AT, 1)
            given.append(channel.in_memory(body))
            body = starter.from_file(len(body), len(given))
        self.channel.send_bytes(body, given)
        for fd in {*given}:
            os.close(fd)
        with os.fdopen(reader, "rb") as file:
            printed = file.read()
        return printed, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("size", [1, 100_000])
def test_it_becomes_the_first_program_that_can_be_started(started: Started, size: int) -> None:
    script = 'printf "%s|" "$@" ${#A}; ls /proc/$$/fd | tr "\\n" ","; exit 7'
    argv = ["sh", "-c", script, "-", "a b", "", "\udcff"]
    printed, code = started.run(argv, ["/nothing/sh", "/etc/passwd", "/bin/sh"], size)
    assert printed == b"a b||\xff|%d|0,1,2," % size
    assert code == 7


@pytest.mark.parametrize(
    ("paths", "cwd", "words", "code"),
    [
        (["/nothing/x", "/etc/passwd/x"], None, "x: No such file or directory", 127),
        (["/nothing/x", "/etc/passwd", "/nothing/y"], None, "/etc/passwd: Permission denied", 126),
        (["/bin/true"], "/nothing", "/nothing: No such file or directory", 127),
    ],
)
def test_what_fails_is_told(
    started: Started, paths: list[str], cwd: str | None, words: str, code: int
) -> None:
    assert started.run(["x"], paths, cwd=cwd) == (b"", 126)
    message, _ = started.channel.receive()
    assert starter.failure(message["results"], "x", paths, cwd) == (words, code)


def test_it_leaves_when_nobody_is_there_to_ask(started: Started) -> None:
    started.channel.close()
    assert os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1]) == 126


def test_what_no_program_can_be_given_is_refused() -> None:
    for argv, env in ((["a\0b"], {}), (["a"], {"B": "c\0"}), (["a"], {"B=": "c"}), (["a"], {"": "c"})):
        with pytest.raises(ValueError, match=r"null byte|environment variable"):
            starter.order(argv, env, None, ["/bin/true"], [], 0, [])
