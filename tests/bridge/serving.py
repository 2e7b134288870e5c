"""A bridge's server for the tests, and clients of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outrider import bridge

SERVER = bridge.HERE / "server.sh"
CLIENT = bridge.HERE / "client.sh"


class Served:
    """A folder that a server serves; `run` is a client of it."""

    def __init__(self, folder: Path, carrier: str, *options: str, allow: str = "") -> None:
        self.folder, self.carrier, self.options = folder, carrier, options
        self.allow = allow or "true,false,cat,sleep,pwd,sh,printenv,head"
        self.shell: list[str] = ["sh"]
        self.start()

    def argv(self) -> list[str]:
        words = ["--dir", str(self.folder), "--carrier", self.carrier, "--allow", self.allow, *self.options]
        return ["bash", str(SERVER), *words]

    def start(self, **options: Any) -> None:
        self.process = subprocess.Popen(
            self.argv(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, **options
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline().decode()
        assert "serving" in self.greeting, self.greeting

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(20)

    def client(self, name: str, *words: str | bytes) -> list[str | bytes]:
        return [*self.shell, str(self.folder / "bin" / name), *words]

    def run(self, name: str, *words: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
        options = {"capture_output": True, "timeout": 30, **options}
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.client(name, *words), check=False, **options)

    def popen(self, name: str, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.client(name, *words), **options)

    def slots(self) -> set[str]:
        return {path.name.partition(".")[0] for path in (self.folder / "v1").glob("[0-9]*")}


def eventually(holds: Callable[[], object], seconds: float = 15) -> bool:
    """Waits for something that is to come; whether it came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return bool(holds())


def running(marker: str) -> list[int]:
    """Process ids of commands that have this word among theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if marker.encode() in words and not any(
                    b"bridge" in word or word == b"/bin/sh" for word in words[:2]
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def only_on_path(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """An environment in which only these programs are found."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(f"/usr/bin/{name}")
    return {"PATH": str(folder), "HOME": os.environ.get("HOME", "/")}
