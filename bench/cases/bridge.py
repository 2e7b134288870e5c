"""Out of a container to its host: each carrier beside a loop in bash that speaks the protocol of the tool it replaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.harness import FLOOR, OURS, Bench
from bench.report import Case, Goal
from outrider import bridge

OLD = "the old protocol"
CARRIERS = {
    "socket": ("socket", "from Python, over the socket", 1.5, 0.35, 5.0),
    "fifo": ("fifo", "by the shim, over FIFOs", 3.0, 0.35, 5.0),
    "files": ("files", "by the shim, over plain files", 6.0, 0.35, None),
}
# As that tool does: one request at a time, its id on a queue, its reply in files.
LOOP = """\
touch reqs; tail -n 0 -f reqs | while read -r id; do
  bash "$id.cmd" </dev/null >"$id.stdout" 2>"$id.stderr"; echo $? >"$id.code"
done
"""
DATA = os.urandom(1 << 20)


def measure(bench: Bench) -> None:
    if not bench.targets(("local",)):
        return
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name, old(Path(name)) as ask_old:
        shim_alone(bench, Path(name) / "alone")
        for carrier, (how, words, once, many, large) in CARRIERS.items():
            with served(Path(name) / carrier, carrier) as start:
                cases = (
                    (Case(f"bridge-true-{how}", f"`true` on the host, {words}", "ms", goals=(Goal("limit", once),)),
                     partial(one, start), partial(ask_old, ["true"]), bench.count(100, 20)),
                    (Case(f"bridge-many-{how}", f"20 of `sleep 0.2` at once, {words}", "ms",
                          goals=(Goal("limit", many * 1e3),)),
                     partial(at_once, start), partial(ask_old, ["sleep 0.2"] * 20), bench.count(5, 1)),
                    (Case(f"bridge-large-{how}", f"1 MiB through `cat`, {words}", "ms",
                          goals=() if large is None else (Goal("limit", large),)),
                     partial(through_cat, start), None, bench.count(30, 5)),
                )  # fmt: skip
                for case, ours, theirs, rounds in cases:
                    bench.begin(case)
                    runs = {OURS: ours, FLOOR: partial(FLOORS[case.name.split("-")[1]])}
                    if theirs is not None:
                        runs[OLD] = theirs
                    once_each = partial(timed, runs, case.name)
                    once_each(OURS)
                    bench.turns("local", list(runs), rounds, once_each, [case.name])


def timed(runs: dict[str, Callable[[], object]], case: str, who: str) -> dict[str, float]:
    started = time.perf_counter()
    runs[who]()
    return {case: (time.perf_counter() - started) * 1e3}


Start = Callable[..., "subprocess.Popen[bytes]"]


@contextmanager
def served(folder: Path, carrier: str) -> Iterator[Start]:
    """Gives what starts a command: in this process over the socket, by its shim otherwise."""
    words = ["--dir", str(folder), "--carrier", carrier, "--allow", "true,cat,sleep"]
    server = subprocess.Popen([sys.executable, "-m", "outrider.bridge.host", *words], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    before = os.environ.get("OUTRIDER_BRIDGE")
    os.environ["OUTRIDER_BRIDGE"] = str(folder)

    def shim(argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([str(folder / "bin" / argv[0]), *argv[1:]], **options)  # type: ignore[call-overload, no-any-return]

    try:
        yield bridge.Popen if carrier == "socket" else shim
    finally:
        if before is None:
            del os.environ["OUTRIDER_BRIDGE"]
        else:
            os.environ["OUTRIDER_BRIDGE"] = before
        server.terminate()
        server.wait()
        server.stdout.close()


def one(start: Start) -> None:
    assert start(["true"], stdin=subprocess.DEVNULL).wait() == 0


def at_once(start: Start) -> None:
    running = [start(["sleep", "0.2"], stdin=subprocess.DEVNULL) for _ in range(20)]
    assert {process.wait() for process in running} == {0}


def through_cat(start: Start) -> None:
    with start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.communicate(DATA)[0] == DATA


def shim_alone(bench: Bench, folder: Path) -> None:
    """What a shim adds to the command on its own side: its answer lies there before it asks, so nobody else works for it."""
    case = Case("bridge-shim", "a shim's own time, over that of `true`", "ms", goals=(Goal("limit", 2.0),))
    bench.begin(case)
    (folder / "bin").mkdir(parents=True)
    shutil.copy(Path(bridge.__file__).parent / "client.sh", folder / "bin" / "true")
    (folder / "bin" / "true").chmod(0o755)

    def started(command: str) -> float:
        begun = time.perf_counter()
        assert (
            subprocess.run([command], stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}).returncode
            == 0
        )
        return (time.perf_counter() - begun) * 1e3

    def once(_: str) -> dict[str, float]:
        with answered(folder):
            return {case.name: started(str(folder / "bin" / "true")) - started("true")}

    once(OURS)
    bench.turns("local", [OURS], bench.count(100, 20), once, [case.name])


@contextmanager
def answered(folder: Path) -> Iterator[None]:
    """A slot for one request, as the server with FIFOs makes them, in which the outcome lies already."""
    slots = folder / "v1"
    slots.mkdir()
    (slots / "server").write_text(f"outrider-bridge 1 fifo {'0' * 48}\nenv \nquiet true\n0 none none\n")
    (slots / "known").write_text(
        f"version=1 carrier=fifo token={'0' * 48}\npatterns='' quiet='true'\npid=0 its_boot=none space=none\n"
    )
    (slots / "head").write_text("1 1\n")
    (slots / "1.req").touch()
    for pipe in ("in", "out", "err", "ctl", "go", "end"):
        os.mkfifo(slots / f"1.{pipe}")
    held = os.open(slots / "1.end", os.O_RDWR)
    os.write(held, b"exit 0 \n")
    try:
        yield
    finally:
        os.close(held)
        shutil.rmtree(slots)


FLOORS: dict[str, Callable[[], None]] = {
    "true": partial(one, subprocess.Popen),
    "many": partial(at_once, subprocess.Popen),
    "large": partial(through_cat, subprocess.Popen),
}


@contextmanager
def old(folder: Path) -> Iterator[Callable[[list[str]], None]]:
    """The old protocol's loop, and a client that looks for its replies as its clients do."""
    folder = folder / "old"
    folder.mkdir()
    loop = subprocess.Popen(["bash", "-c", LOOP], cwd=folder, start_new_session=True)
    while not (folder / "reqs").exists():
        time.sleep(0.01)

    def ask(scripts: list[str]) -> None:
        ids = [uuid.uuid4().hex for _ in scripts]
        for number, script in zip(ids, scripts, strict=True):
            (folder / f"{number}.cmd").write_text(script + "\n")
            with (folder / "reqs").open("a") as queue:
                queue.write(number + "\n")
        for number in ids:
            pause, code = 0.01, folder / f"{number}.code"
            while not (code.exists() and code.read_text()):
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)

    try:
        yield ask
    finally:
        os.killpg(loop.pid, 15)
        loop.wait()
