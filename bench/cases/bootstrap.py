"""What an opening costs besides the hops: bytes on the wire, and time that the far end's start adds to bare python3."""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from pathlib import Path

from bench.harness import FLOOR, OURS, Bench
from bench.report import Case, Goal
from outrider import Route, local
from outrider.far import loader

BYTES = Case(
    "bootstrap-bytes",
    "Bytes to the far end until the first result, its command line included",
    "KB",
    goals=(Goal("limit", 20),),
)
STARTS = Case("starts", "From its start until it greets; the floor: until bare python3 writes a byte", "ms")
ADDED = Case("start-added", "What the far end's start adds to bare python3", "ms", goals=(Goal("limit", 8),))


def measure(bench: Bench) -> None:
    for case in (BYTES, STARTS, ADDED):
        bench.begin(case)
    opening, first_result = recorded(bench.world.folder)
    bench.results.add(BYTES.name, "local", OURS, len(first_result) / 1e3)
    once = partial(start, opening)
    bench.turns("local", (OURS, FLOOR), bench.count(41, 15), once, [STARTS.name])
    pairs = zip(*(bench.results.values[STARTS.name, "local", who] for who in (OURS, FLOOR)), strict=True)
    bench.results.add(ADDED.name, "local", OURS, [ours - bare for ours, bare in pairs])


def recorded(folder: Path) -> tuple[bytes, bytes]:
    """What our near end writes to a far end: until it has greeted, and until the first result has come."""
    record = folder / "record"
    tee = folder / "python-with-tee"
    tee.write_text(f'#!/bin/sh\nprintf %s "$*" > {record}.line\ntee {record} | exec python3 "$@"\n')
    tee.chmod(0o755)
    with Route(local()).options(python=str(tee)).open() as far:
        opening = record.read_bytes()
        far.call(max, 3, 7)
        whole = record.read_bytes()
    return opening, Path(f"{record}.line").read_bytes() + whole


def start(opening: bytes, who: str) -> dict[str, float]:
    """Milliseconds until it says that it is there."""
    argv = ["python3", "-c", loader.LOADER if who == OURS else "import os; os.write(1, b'\\n.')"]
    started = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        if who == OURS:
            process.stdin.write(opening)
        said = b""
        # After the loader's own line comes the greeting of the program that it was sent.
        while not said.partition(b"\n")[2]:
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                raise RuntimeError("it ended without a greeting")
            said += piece
        seconds = time.perf_counter() - started
        process.stdin.close()
    return {STARTS.name: seconds * 1e3}
