"""What a test left behind: processes, temp folders, containers, Slurm jobs.

Other things happen on a machine meanwhile, and another test run may be one of them. So a new process counts
when it carries this run's mark in its environment, when it descends from this process or from one of its
servers, or when it belongs to a test user or sits in a container and nothing says that another run owns it.
While another run is under way, containers and root's temp folders are not counted: nobody can tell whose
they are.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.world.machine import (
    PREFIX,
    USERS,
    Machine,
    all_pids,
    descendants,
    mark_of,
    other_runs,
    start_time,
    wait_for,
)

TEMP_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", *(f"/home/{user}" for user in USERS))
TEMP_NAMES = ("outrider", ".outrider", "tmp")
# Parts of a server that live as long as it does, started by it and not by us.
SERVER_PARTS = ("containerd", "dockerd", "munged", "slurmctld", "slurmd", "docker-proxy")


@dataclass(frozen=True)
class Stock:
    processes: frozenset[tuple[int, int]]
    folders: frozenset[str]
    others: frozenset[str]


class Census:
    def __init__(self, machine: Machine, others: dict[str, Callable[[], set[str]]]) -> None:
        """`others` are further things to count: a word for them, and how to list them now."""
        self.machine = machine
        self.sources = others
        self.users = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in USERS}
        self.stock = self.take_stock()

    def snapshot(self) -> None:
        """Take stock anew: what is there now was always there."""
        self.stock = self.take_stock()

    def take_stock(self) -> Stock:
        starts = ((pid, start_time(pid)) for pid in all_pids())
        known = frozenset((pid, start) for pid, start in starts if start is not None)
        return Stock(known, frozenset(temp_folders()), frozenset(self.list_others()))

    def list_others(self) -> set[str]:
        return {f"{word} {item}" for word, items in self.sources.items() for item in items()}

    def left(self) -> list[str]:
        """What is there now and was not before, as lines to read."""
        foreign = other_runs()
        found = [f"process {pid} of {owner}: {words}" for pid, owner, words in self.left_processes(foreign)]
        folders = (path for path in sorted(temp_folders() - self.stock.folders) if not has_socket(path))
        found += [f"folder {path}" for path in folders if not foreign or owner_of(path) in self.users]
        others = sorted(self.list_others() - self.stock.others)
        return found + [line for line in others if not foreign or "container" not in line]

    def left_processes(self, foreign: set[int]) -> list[tuple[int, str, str]]:
        servers = self.machine.server_pids()
        ours = {pid for server in (os.getpid(), *servers) for pid in descendants(server)}
        found = []
        for pid in all_pids():
            start = start_time(pid)
            if start is None or (pid, start) in self.stock.processes or pid in servers or pid in foreign:
                continue
            words = command_line(pid)
            if words and not is_server_part(words) and self.counts(pid, ours, alone=not foreign):
                found.append((pid, owner_name(pid), words))
        return found

    def counts(self, pid: int, ours: set[int], alone: bool) -> bool:
        mark = mark_of(pid)
        if mark == self.machine.mark or pid in ours:
            return True
        owned = owner_of(f"/proc/{pid}") in self.users or (alone and in_container(pid))
        return mark is None and owned

    def assert_nothing_left(self, timeout: float = 5) -> None:
        """Wait until nothing new is left; fail with a list of it when that takes too long."""
        if not wait_for(lambda: not self.left(), timeout):
            left = self.left()
            if left:
                pytest.fail(f"left behind after {timeout} s:\n  " + "\n  ".join(left), pytrace=False)


def temp_folders() -> set[str]:
    found = set()
    for folder in TEMP_FOLDERS:
        if Path(folder).is_dir():
            found |= {entry.path for entry in os.scandir(folder) if counts_as_temp(entry)}
    return found


def counts_as_temp(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(TEMP_NAMES) and not entry.name.startswith(PREFIX)


def has_socket(path: str) -> bool:
    """The folder of ControlMaster sockets stays for the next connection, by design."""
    folder = Path(path)
    try:
        return any(item.is_socket() for item in folder.iterdir())
    except OSError:
        return False


def command_line(pid: int) -> str:
    """Empty for kernel threads and for what has just gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(words.rstrip(b"\0").replace(b"\0", b" "))[:300]


def is_server_part(words: str) -> bool:
    name = words.partition(" ")[0].rpartition("/")[2].rstrip(":")
    # A shared ssh connection outlives its session on purpose: the master here, sshd's process there.
    return name in SERVER_PARTS or "[mux]" in words or words.startswith("sshd: ")


def owner_of(path: str) -> int:
    try:
        return Path(path).lstat().st_uid
    except OSError:
        return -1


def owner_name(pid: int) -> str:
    uid = owner_of(f"/proc/{pid}")
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def in_container(pid: int) -> bool:
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text(errors="replace")
    except OSError:
        return False
    return "/docker/" in groups or "libpod" in groups
