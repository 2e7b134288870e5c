"""What no tool on top of the same programs can beat: bytes through the same hops' pipes, and a bare interpreter."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import far_side

PING_PONG = ["python3", "-c", "import os\nwhile os.write(1, os.read(0, 64)): pass"]
BARE = ["python3", "-c", "pass"]
SINK = ["sh", "-c", "cat > /dev/null"]
READ = 1 << 18
KEEP = """import os, sys
into = memoryview(bytearray(int(sys.argv[1])))
while into: into = into[os.readv(0, [into[:1 << 18]]) :]"""


class Floor:
    """The commands come whole, hops and all, as argv: `Target.argv` has made them of the route that we use ourselves."""

    process: subprocess.Popen[bytes]

    def open(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.warm(1)

    def warm(self, count: int) -> list[float]:
        """Seconds of `count` bytes there and back."""
        assert self.process.stdin and self.process.stdout
        write, read = self.process.stdin.fileno(), self.process.stdout.fileno()
        times = []
        for _ in range(count):
            started = time.perf_counter()
            os.write(write, b"x")
            os.read(read, 64)
            times.append(time.perf_counter() - started)
        return times

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def run(self, argv: list[str], cwd: str | None = None) -> float:
        """Seconds of a whole command."""
        started = time.perf_counter()
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, cwd=cwd)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr.decode()[-200:]}")
        return seconds

    def run_many(self, argv: list[str], count: int, at_once: int) -> float:
        """Seconds until a command has run that many times."""
        started = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: self.run(argv), range(count)))
        return time.perf_counter() - started

    def send(self, argv: list[str], size: int) -> dict[str, Any]:
        """A payload into the stdin of a command at the far end, until it has ended."""
        payload = memoryview(far_side.make("bytes", size))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as process:
            assert process.stdin
            time.sleep(0.5)  # until it is there: a payload travels on an open connection
            started = time.perf_counter()
            while payload:
                payload = payload[os.write(process.stdin.fileno(), payload) :]
            process.stdin.close()
            process.wait()
            return {"seconds": time.perf_counter() - started, "near": far_side.peak()}

    def receive(self, argv: list[str], size: int) -> dict[str, Any]:
        """A payload from the stdout of a command at the far end, which begins when it is given a line."""
        into = memoryview(bytearray(size))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdin and process.stdout
            time.sleep(0.5)
            started = time.perf_counter()
            process.stdin.write(b"go\n")
            while into:
                count = process.stdout.readinto(into[:READ])  # type: ignore[attr-defined]
                if not count:
                    raise RuntimeError("the payload ended early")
                into = into[count:]
            return {"seconds": time.perf_counter() - started, "near": far_side.peak()}


def keep(size: int) -> list[str]:
    """A command that keeps `size` bytes in memory, as whoever wants to use them must: `cat` does not."""
    return ["python3", "-c", KEEP, str(size)]


def source(size: int) -> list[str]:
    """A command that gives `size` bytes once it is told to."""
    return ["sh", "-c", f"read go; head -c {size} /dev/zero"]
