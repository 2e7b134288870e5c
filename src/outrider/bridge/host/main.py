"""The whole host's end: `server.sh`, which owns the folder and serves images with only a shell, and the socket beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from outrider.bridge.host.policy import SERVER, Policy, Refused
from outrider.bridge.host.serving import Server

CLIENT = Path(__file__).parent.parent / "client.py"


def serve(
    folder: str,
    rules: list[str],
    *,
    carrier: str = "auto",
    jobs: int = 64,
    grace: int = 5,
    audit: str | None = None,
    any_user: bool = False,
) -> int:
    """Serves until a signal comes; gives the exit status. `rules`: the options of server.sh that say what may run.

    `audit`: the file of the trail; None for `folder`.audit.jsonl beside it, "none" for no trail.
    """
    try:
        policy = Policy(rules)
    except Refused as refused:
        sys.stderr.write(f"outrider bridge: {refused}\n")
        return 125
    options = ["--dir", folder, "--carrier", carrier, "--jobs", str(jobs), "--grace", str(grace), *rules]
    options += ["--with", str(os.getpid())]
    options += ["--audit", audit] if audit else []
    options += ["--any-user"] if any_user else []
    beside = subprocess.Popen(["bash", str(SERVER), *options], stdout=subprocess.PIPE, start_new_session=True)
    assert beside.stdout is not None
    greeting = beside.stdout.readline()
    if not greeting:
        return beside.wait()
    try:
        if carrier in ("auto", "socket"):
            trail = None if audit == "none" else audit or os.path.realpath(folder) + ".audit.jsonl"
            token = Path(folder, "v1", "server").read_text().split()[3]
            server = Server(folder, policy, token, jobs=jobs, grace=grace, audit=trail, any_user=any_user)
            _put(CLIENT, os.path.join(folder, "v1"))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, server.stop)
            _show(greeting, beside)
            server.serve()
        else:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda *_: beside.terminate())
            _show(greeting, beside)
            return beside.wait()
    finally:
        if beside.poll() is None:
            beside.terminate()
            beside.wait()
        beside.stdout.close()
    return 0


def _put(file: Path, folder: str) -> None:
    """A copy of `file`, through no link that a container may have put there."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        copy = os.open(file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=held)
        with open(copy, "wb") as target, file.open("rb") as source:
            shutil.copyfileobj(source, target)
    finally:
        os.close(held)


def _show(greeting: bytes, beside: subprocess.Popen[bytes]) -> None:
    """What is served and what that means, once everything is; the rest of it is what the pipe holds."""
    assert beside.stdout is not None
    os.set_blocking(beside.stdout.fileno(), False)
    rest = beside.stdout.read() or b""
    sys.stdout.write(os.fsdecode(greeting + rest))
    sys.stdout.flush()
