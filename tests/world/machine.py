"""This machine as the test world uses it: programs, ports, folders, servers, and what killed runs left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

HERE = Path(__file__).parent
RECIPE = (HERE / "recipe.txt").read_text().strip()
USERS = ("outrider-a", "outrider-b", "outrider-c", "outrider-n", "outrider-p")
# What this test run starts carries it in its environment, through ssh and sudo too: so we know our own.
MARK = "TEST_WORLD_ID"
SHARED = Path("/run/outrider-tests")
PREFIX = "outrider-world-"


def unavailable(reason: str) -> NoReturn:
    """Skip the test that asked for something that this machine cannot give, and say what that is."""
    pytest.skip(f"the test world lacks something: {reason}")


def find_program(name: str) -> str | None:
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin")


def program(name: str, package: str) -> str:
    return find_program(name) or unavailable(f"no program {name}: 'make world' installs it from {package}")


def need_root() -> None:
    if os.geteuid() != 0:
        unavailable("it needs root: run 'make test'")


def run(argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("timeout", 60)
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, **options)


def must_run(argv: Sequence[str | Path], **options: Any) -> str:
    """The output of a command without which a fixture cannot go on."""
    done = run(argv, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def cache() -> Path:
    # conftest.py notes it here before it fakes HOME.
    return Path(os.environ["OUTRIDER_TEST_CACHE"])


def root_folder(name: str) -> Path:
    folder = cache() / "roots" / f"{name}-{RECIPE}"
    if not folder.is_dir():
        unavailable(f"no root folder {name} in {cache()}: run 'make world'")
    return folder


def image_tar(name: str) -> Path:
    tar = cache() / "images" / f"{name}-{RECIPE}.tar"
    if not tar.is_file():
        unavailable(f"no image {name} in {cache()}: run 'make world'")
    return tar


# Processes, by what /proc says


def start_time(pid: int) -> int | None:
    """With the pid, what names one process for good: pids come round again. None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def mark_of(pid: int) -> str | None:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    found = [word for word in environ.split(b"\0") if word.startswith(MARK.encode() + b"=")]
    return os.fsdecode(found[-1]).partition("=")[2] if found else None


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are all we need


def kill(pids: Sequence[int], grace: float) -> None:
    """Ask them to end, then make them; by pid and start time, so that a reused pid is not hit."""
    known = {pid: start_time(pid) for pid in pids}

    def alive() -> list[int]:
        return [pid for pid, start in known.items() if start is not None and start_time(pid) == start]

    for sign, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for pid in alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        if wait_for(lambda: not alive(), seconds):
            return


def kill_marked(mark: str) -> None:
    kill([pid for pid in all_pids() if pid != os.getpid() and mark_of(pid) == mark], grace=2)


_running: list[Machine] = []


class Machine:
    """The temp folder and the servers of one test run."""

    def __init__(self) -> None:
        need_root()
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.folder.chmod(0o755)
        self.mark = self.folder.name
        os.environ[MARK] = self.mark
        (self.folder / "owner").write_text(json.dumps([os.getpid(), start_time(os.getpid())]))
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.shared_servers: set[int] = set()
        _running.append(self)

    def make_folder(self, name: str, mode: int = 0o755) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        return folder

    def serve(
        self, name: str, argv: Sequence[str | Path], ready: Callable[[], object], seconds: float = 20
    ) -> None:
        """Start a server in the foreground of its own session; come back when it is ready."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            server = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True,
            )  # fmt: skip
        self.servers[name] = server
        self.note(server.pid)
        if not wait_for(lambda: server.poll() is not None or ready(), seconds) or server.poll() is not None:
            self.stop(name)
            raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")

    def note(self, pid: int) -> None:
        # The mark is not enough for the next run to find it: sshd writes its title over its own environment.
        (self.make_folder("pids") / f"{pid}-{start_time(pid)}").touch()

    def stop(self, name: str, grace: float = 5) -> None:
        server = self.servers.pop(name, None)
        if server is None:
            return
        family = [server.pid, *descendants(server.pid)]
        server.terminate()
        try:
            server.wait(grace)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(5)
        kill(family[1:], grace=1)

    def server_pids(self) -> set[int]:
        return {server.pid for server in self.servers.values()} | self.shared_servers

    def close(self) -> None:
        for name in reversed(list(self.servers)):
            self.stop(name)
        kill_marked(self.mark)
        remove_run(self.folder)
        os.environ.pop(MARK, None)
        _running.remove(self)


def family_tree() -> dict[int, list[int]]:
    tree: dict[int, list[int]] = {}
    for child in all_pids():
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
            tree.setdefault(parent, []).append(child)
    return tree


def children(pid: int) -> set[int]:
    return set(family_tree().get(pid, []))


def running_servers() -> set[int]:
    """The servers of this test run, if it has started any."""
    return set().union(*(machine.server_pids() for machine in _running))


def descendants(pid: int) -> list[int]:
    parents = family_tree()
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def sweep() -> None:
    """End what killed test runs left: their servers, folders, rules, links and parts of an ssh_config."""
    for folder in Path("/tmp").glob(PREFIX + "*"):
        try:
            pid, start = json.loads((folder / "owner").read_text())
        except (OSError, ValueError):
            continue  # another run is just making it
        if start_time(pid) != start:
            kill([member for pid in noted(folder) for member in (pid, *descendants(pid))], grace=2)
            kill_marked(folder.name)
            remove_run(folder)
    for user in USERS:  # of runs whose folder somebody else has removed
        for left in Path(f"/home/{user}/.ssh/config.d").glob(f"{PREFIX}*.conf"):
            if not Path("/tmp", left.stem).exists():
                left.unlink(missing_ok=True)


def noted(folder: Path) -> list[int]:
    """The servers of the run with this folder that are still there."""
    pairs = (path.name.split("-") for path in folder.glob("pids/*"))
    return [int(pid) for pid, start in pairs if str(start_time(int(pid))) == start]


def other_runs() -> set[int]:
    """What belongs to other test runs under way: their own processes, their servers, and all below."""
    found: set[int] = set()
    for folder in Path("/tmp").glob(PREFIX + "*"):
        try:
            pid, start = json.loads((folder / "owner").read_text())
        except (OSError, ValueError):
            continue
        if pid != os.getpid() and start_time(pid) == start:
            for member in (pid, *noted(folder)):
                found |= {member, *descendants(member)}
    return found


def remove_run(folder: Path) -> None:
    """What a run made outside its folder is named after it, so that any later run can take it away."""
    Path(f"/etc/sudoers.d/{folder.name}").unlink(missing_ok=True)
    for extra in Path("/etc/sudoers.d").glob(f"{folder.name}-*"):
        extra.unlink(missing_ok=True)
    for user in USERS:
        Path(f"/home/{user}/.ssh/config.d/{folder.name}.conf").unlink(missing_ok=True)
    link = Path("/etc/slurm/slurm.conf")
    if link.is_symlink() and str(link.readlink()).startswith(f"{folder}/"):
        link.unlink()
    shutil.rmtree(folder, ignore_errors=True)


class Lease:
    """Something that all test runs on the machine share: the first one starts it, the last one stops it."""

    def __init__(self, name: str) -> None:
        self.folder = SHARED / name
        self.holders = self.folder / "holders"
        self.holders.mkdir(parents=True, exist_ok=True)
        self.me = self.holders / f"{os.getpid()}-{start_time(os.getpid())}"
        self.state = self.folder / "state.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for holder in self.holders.iterdir():
                pid, _, start = holder.name.partition("-")
                if str(start_time(int(pid))) != start:
                    holder.unlink()
            yield

    def take(self, start: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """What `start` gave to the run that came first. `start` is handed what a killed run left noted."""
        with self.locked():
            known: dict[str, Any] = json.loads(self.state.read_text()) if self.state.exists() else {}
            if not known or not any(self.holders.iterdir()):
                known = start(known)
                self.state.write_text(json.dumps(known))
                self.state.chmod(0o600)
            self.me.touch()
            return known

    def release(self, stop: Callable[[dict[str, Any]], None]) -> None:
        with self.locked():
            self.me.unlink(missing_ok=True)
            if not any(self.holders.iterdir()):
                stop(json.loads(self.state.read_text()))
                self.state.unlink()
