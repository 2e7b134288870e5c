"""The host as an attack may want it: things to steal, to reach and to hurt, and what must be as it was afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.sandbox.program import attack_program, foreign_program
from tests.world.machine import Machine, all_pids, find_program, other_runs

_libc = ctypes.CDLL(None, use_errno=True)


class Scene:
    """One host, with a secret in every place where a job could look for it."""

    def __init__(self, machine: Machine) -> None:
        self.secret = "SECRET-" + secrets.token_hex(8)
        self.folder = machine.make_folder("attacks")
        self.attack = attack_program(self.folder)
        self.foreign = foreign_program(self.folder)
        self.places = self._secrets()
        self.shared = machine.make_folder("attacks-shared", 0o777)
        self.shared.chmod(0o777)
        self.reached: list[str] = []
        self._listeners = [self._listen(socket.AF_INET, ("127.0.0.1", 0))]
        self.port = self._listeners[0].getsockname()[1]
        self.abstract = "outrider-attack-" + secrets.token_hex(4)
        self._listeners.append(self._listen(socket.AF_UNIX, "\0" + self.abstract))
        self.socket_path = str(self.folder / "socket")
        self._listeners.append(self._listen(socket.AF_UNIX, self.socket_path))
        Path(self.socket_path).chmod(0o777)
        self.victim = subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True)
        self.segment = _libc.shmget(0, 4096, 0o1666)
        os.environ["OUTRIDER_TEST_SECRET"] = self.secret

    def _secrets(self) -> list[str]:
        for name, mode in (("secret-of-mine", 0o600), ("secret-of-all", 0o644)):
            (self.folder / name).write_text(self.secret)
            (self.folder / name).chmod(mode)
        other = Path(f"/home/outrider-b/.outrider-attack-{self.secret[-8:]}")
        other.write_text(self.secret)
        return [str(self.folder / "secret-of-mine"), str(self.folder / "secret-of-all"), str(other)]

    def _listen(self, family: int, name: Any) -> socket.socket:
        listener = socket.socket(family)
        listener.bind(name)
        listener.listen(16)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    self.reached.append(str(name))

        threading.Thread(target=accept, name="outrider-hub", daemon=True).start()
        return listener

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.victim.kill()
        self.victim.wait()
        _libc.shmctl(self.segment, 0, None)
        Path(self.places[-1]).unlink(missing_ok=True)
        os.environ.pop("OUTRIDER_TEST_SECRET", None)

    def unhurt(self) -> list[str]:
        """What an attack did to the host, as lines to read; none if nothing."""
        wrong = [f"somebody reached {name}" for name in self.reached]
        if self.victim.poll() is not None:
            wrong.append("a process of the host is dead")
        wrong += [f"{place} is changed" for place in self.places if Path(place).read_text() != self.secret]
        folders = ("/etc", "/usr", "/usr/bin", "/tmp", "/var/tmp", "/dev/shm", "/", "/root")
        wrong += [
            f"planted in {folder}" for folder in folders if Path(folder, "planted-by-an-attack").exists()
        ]
        if self.attack.stat().st_nlink != 1 or self.attack.stat().st_mode & 0o7777 != 0o755:
            wrong.append("the program itself was changed")
        wrong += [f"process {pid} of an attack lives on" for pid in self.attackers()]
        return wrong

    def attackers(self) -> Iterator[int]:
        """Processes that run our program: whatever name they took, the kernel knows."""
        own = self.attack.stat()
        for pid in all_pids():
            with contextlib.suppress(OSError):
                found = Path(f"/proc/{pid}/exe").stat()
                if (found.st_ino, found.st_dev) == (own.st_ino, own.st_dev):
                    yield pid


def stock(first: bool = False) -> dict[str, set[str]]:
    """All that a jail could leave on a host, beside processes. Of folders all count at first, and later only when no other
    run of the tests may have made them."""
    return {
        "mounts": {line for line in lines("/proc/self/mountinfo") if "outrider" in line},
        "cgroups": set(cgroups()),
        "SysV memory": objects("/proc/sysvipc/shm"),
        "SysV semaphores": objects("/proc/sysvipc/sem"),
        "SysV queues": objects("/proc/sysvipc/msg"),
        "shared memory": {
            name
            for name in os.listdir("/dev/shm")  # noqa: PTH208 - names are all we need
            if not name.startswith("outrider-bench-")
        },
        "folders": {
            f"{folder}/{name}"
            for folder in ("/tmp", "/var/tmp", "/run", "/run/lock")
            for name in os.listdir(folder)  # noqa: PTH208
            if "outrider" in name
            # The empty files are locks of isolate's boxes: to remove one would be to let two jobs have the same box.
            and not name.startswith(("outrider-world-", "outrider-isolate-"))
            and (first or not other_runs())
        },
        "settings": settings(),
    }


def objects(path: str) -> set[str]:
    """SysV objects by key, id and owner: sizes and times of other people's change all the time."""
    return {" ".join(line.split()[:3]) for line in lines(path)[1:]}


def settings() -> set[str]:
    names = ("core_pattern", "hostname", "domainname", "shmmax", "msgmax", "modprobe", "randomize_va_space")
    found = {f"{name}={''.join(lines(f'/proc/sys/kernel/{name}'))}" for name in names}
    return found | {f"ip_forward={''.join(lines('/proc/sys/net/ipv4/ip_forward'))}"}


def cgroups() -> Iterator[str]:
    """Groups of wardens that are no more: others may be at work here."""
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        if "docker" in names:
            names.remove("docker")
        for name in names:
            parts = name.split("-")
            if parts[0] == "outrider" and not Path(f"/proc/{parts[-2]}").exists():
                yield f"{folder}/{name}"


def lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def namespaces(kind: str, pids: list[int]) -> set[str]:
    """The namespaces of one kind in which some of these processes is."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))  # noqa: PTH115
    return found


def descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    except OSError:
        return 0


def engines_here() -> dict[str, str]:
    """Programs of other engines that this machine has."""
    return {
        name: found for name in ("bwrap", "isolate", "sio2jail", "proot") if (found := find_program(name))
    }
