"""The table of attacks: what runs, within which limits, and what must come of it.

`verdicts` are those that may come out, joined by "|". Where it is the program that decides (a call refused, or killed
for) both are right; what must never happen is BREACH on its stdout, which every row is looked through for.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.program import all_calls

MIB = 1 << 20
LIMITS: dict[str, Any] = {
    "time": 1.0,
    "wall": 2.0,
    "memory": 64 * MIB,
    "processes": 16,
    "output": MIB,
    "disk": 16 * MIB,
    "files": 300,
    "open_files": 64,
}
TURNED_AWAY = "OK|RV"
"""The program went on after an answer that refused it, or was killed for asking."""
OWN_INIT = (("bwrap", "its process 1 belongs to the job's user, and decides only what the job itself could"),)
OWN_LISTENER = (("bwrap", "a job may watch its own calls there, as nobody else does"),)
OWN_WAYS = (("isolate", "it leaves the bounding set and prctl as they are, and no privilege can come of it"),)
TREE_MEMORY, TREE_CPU, CALLS = "memory of the tree", "cpu time of the tree", "system calls"


@dataclass(frozen=True)
class Attack:
    name: str
    words: tuple[str, ...]
    verdicts: str = "OK"
    limits: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    signal: int | None = None
    says: bytes | None = None
    stdin: bytes | None = None
    needs: tuple[str, ...] = ()
    """Guarantees without which an engine is not asked."""
    check: Callable[[Any, Any], None] | None = None
    """Looks at the result and the scene for more."""
    thin: bool = False
    """One of many alike: under each engine, run once is enough."""
    python: bool = False
    """The first word is Python source, run by the interpreter inside."""
    message: str | None = None
    """A word of the verdict's message."""
    excused: tuple[tuple[str, str], ...] = ()
    """Engines under which it may succeed, and why that hurts nobody."""


def row(name: str, words: str = "", verdicts: str = "OK", **more: Any) -> Attack:
    limits = {key: more.pop(key) for key in list(more) if key in LIMITS or key == "stack"}
    needs = more.pop("needs", ())
    needs = (needs,) if isinstance(needs, str) else needs
    return Attack(name, tuple((words or name).split()), verdicts, limits, needs=needs, **more)


def script(name: str, source: str, verdicts: str = "OK", **more: Any) -> Attack:
    made = row(name, "x", verdicts, python=True, **more)
    return Attack(**{**made.__dict__, "words": (source,)})


def cpu_near(seconds: float) -> Callable[[Any, Any], None]:
    def check(result: Any, _: Any) -> None:
        assert abs(result.usage.cpu_s - seconds) < 0.08, result.usage

    return check


def small_cpu(result: Any, _: Any) -> None:
    assert result.usage.cpu_s < 0.5, result.usage


def quick(seconds: float) -> Callable[[Any, Any], None]:
    def check(result: Any, _: Any) -> None:
        assert result.usage.wall_s < seconds, result.usage

    return check


def bounded_memory(result: Any, _: Any) -> None:
    assert result.usage.memory_bytes <= 66 * MIB, result.usage


def first_words(words: bytes) -> Callable[[Any, Any], None]:
    def check(result: Any, _: Any) -> None:
        assert result.stdout.startswith(words), result.stdout[:200]

    return check


def bounded_output(result: Any, _: Any) -> None:
    assert len(result.stdout) + len(result.stderr) <= MIB, (len(result.stdout), len(result.stderr))


TIME = [
    row("hog", verdicts="TLE", time=0.2, message="processor time", check=cpu_near(0.2)),
    row("hog-in-kernel", verdicts="TLE", time=0.2, message="processor time", check=cpu_near(0.2)),
    row("sleeper", verdicts="TLE", wall=0.3, message="took longer", check=small_cpu),
    row("deaf-hog", verdicts="TLE", time=0.2, message="processor time"),
    row("hog-in-threads", verdicts="TLE", time=0.2, message="processor time"),
    row("hog-in-four-children", verdicts="TLE", time=0.2, message="processor time", needs=TREE_CPU),
    row("hog-in-orphan", verdicts="TLE", time=0.2, message="processor time", needs=TREE_CPU),
    row("orphan-is-counted", "hog-in-orphan 0.3", check=cpu_near(0.3), needs=TREE_CPU),
    row("hog-in-ignored-children", verdicts="TLE", time=0.2, message="processor time", needs=TREE_CPU),
    row(
        "ignored-children-are-counted",
        "hog-in-ignored-children 0.15",
        check=cpu_near(0.3),
        needs=TREE_CPU,
    ),
    row("hog-in-short-lives", verdicts="TLE", time=0.2, message="processor time", needs=TREE_CPU),
    row("hog-in-vfork", verdicts="TLE", time=0.2, message="processor time", needs=TREE_CPU),
    row("hog-in-daemon", verdicts="OK", check=quick(0.6)),
    row("stop-self", verdicts="TLE", wall=0.3, message="took longer"),
    row("stop-all", verdicts="TLE", wall=0.3, message="took longer"),
    row("fake-timeout", verdicts="RE", signal=signal.SIGXCPU),
    row("raise-limits"),
    row("set-clock", verdicts=TURNED_AWAY),
    row("more-priority", verdicts=TURNED_AWAY),
    row("timers", verdicts="OK|MLE|RE|TLE"),
]

MEMORY = [
    row("memory", verdicts="MLE"),
    row("memory-populated", verdicts="MLE|OK|RE"),
    row("memory-locked", verdicts="MLE|OK|RE"),
    row("memory-in-many-processes", verdicts="MLE", needs=TREE_MEMORY),
    row("memory-hidden-in-child", verdicts="MLE", needs=TREE_MEMORY),
    row("memory-in-sysv", verdicts="MLE|OK|RE", needs=TREE_MEMORY),
    row("memory-in-sysv-detached", verdicts="MLE|OK|RE", needs=TREE_MEMORY),
    row("memory-in-memfd", verdicts="MLE|OK|RE", needs=TREE_MEMORY),
    row("memory-in-many-memfds", verdicts="MLE|OK|RE", needs=TREE_MEMORY),
    row("memory-in-box", "memory-in-tmpfs .", verdicts="OK", says=b"held"),
    row("memory-in-box-without-disk-limit", "memory-in-tmpfs .", "MLE", disk=1 << 30, needs=TREE_MEMORY),
    row("memory-in-tmp", "memory-in-tmpfs /tmp", verdicts="OK|MLE"),
    row("memory-in-shm", "memory-in-tmpfs /dev/shm", verdicts="OK|MLE"),
    row("memory-in-deleted-file", verdicts="OK|MLE"),
    row("stack", verdicts="RE|MLE", stack=8 * MIB),
    row("memory-in-many-mappings", verdicts="MLE|OK|RE"),
    row("memory-in-page-tables", verdicts="MLE|OK|RE", needs=TREE_MEMORY),
    row("huge-reservation", verdicts="OK", says=b"given"),
    row("memory-in-pipes", verdicts="MLE|OK", open_files=512, needs=TREE_MEMORY),
    row("memory-in-sockets", verdicts="MLE|OK|RV", open_files=512, needs=TREE_MEMORY),
    row("memory-in-attributes", verdicts="MLE|OK|RV", needs=TREE_MEMORY),
    row("memory-in-message-queues", verdicts="MLE|OK|RE|RV"),
    row("flying-descriptors", verdicts="OK|MLE|RV|TLE"),
    row("memory-in-flight", verdicts="MLE|OK", needs=TREE_MEMORY),
    row("epolls", verdicts="OK|MLE"),
]

PROCESSES = [
    row("fork-count", "fork-count 64", processes=16, needs="processes"),
    row("thread-count", "thread-count 64", processes=16, needs="processes"),
    row("fork-bomb", verdicts="TLE|MLE", processes=16, time=0.3, wall=0.6, needs="processes"),
    row("leave-daemon", check=quick(0.6)),
    row("daemon-holds-stdout", check=quick(0.6)),
    row("daemon-talks-on", verdicts="OK|OLE", check=quick(0.6)),
    row("hydra", verdicts="OK|RE|TLE", check=quick(1.5), needs="processes"),
    row("false-brother", "false-brother 0", verdicts="RE", exit_code=7),
    row("false-brother-by-signal", "false-brother 267", verdicts="RE", exit_code=7),
    row("signal-everyone"),
    row("harm-init", verdicts=TURNED_AWAY),
    row("stopped-and-killed", verdicts="OK|RV|TLE"),
    row("kill-all"),
    row("exit-256", "exit-code 256", verdicts="OK", exit_code=0),
    row("exit-511", "exit-code 511", verdicts="RE", exit_code=255),
    row("exit-negative", "exit-code -1", verdicts="RE", exit_code=255),
    row("leader-gone", verdicts="RE", exit_code=5),
    row("exec-in-thread", verdicts="RE", exit_code=9),
    row("trace-init", verdicts=TURNED_AWAY),
    row("look-into-init", excused=OWN_INIT),
    row("leave-room-through-proc", excused=OWN_INIT),
    row("inherited-descriptors"),
    row("tricks-of-prctl", verdicts=TURNED_AWAY, excused=OWN_WAYS),
    row("become-root", verdicts=TURNED_AWAY),
    row("setuid-programs", verdicts=TURNED_AWAY),
    row("own-program"),
    row("write-through-memory"),
    row("orphans-in-sessions", check=quick(0.6)),
]

SYSTEM = [
    *(row(f"call-{name}", f"call {name}", TURNED_AWAY, needs=CALLS, thin=True) for name in all_calls()),
    row("foreign-call", verdicts=TURNED_AWAY, needs=CALLS),
    row("x32-call", verdicts=TURNED_AWAY, needs=CALLS),
    row("high-bits", verdicts=TURNED_AWAY, needs=CALLS),
    row("unshare-any", verdicts=TURNED_AWAY, needs=CALLS),
    row("clone-any", verdicts=TURNED_AWAY, needs=CALLS),
    row("clone3-any", verdicts=TURNED_AWAY, needs=CALLS),
    row("enter-any", verdicts=TURNED_AWAY),
    row("personality-any", verdicts=TURNED_AWAY, needs=CALLS),
    row("filter-listener", verdicts=TURNED_AWAY, needs=CALLS, excused=OWN_LISTENER),
    row("own-filter", verdicts="OK|RV|RE", needs=CALLS),
    row("dispatch", verdicts="OK|RV|RE", needs=CALLS),
    row("write-kernel"),
    row("map-ids"),
    row("control-groups"),
    row("terminal", verdicts=TURNED_AWAY),
]

FILES = [
    row("private-places"),
    row("write-everywhere"),
    row("chroot-escape", verdicts=TURNED_AWAY),
    row("old-root"),
    row("make-devices", verdicts=TURNED_AWAY),
    row("all-devices"),
    row("by-handle", verdicts=TURNED_AWAY),
    row("fill-disk", needs="disk"),
    row("fill-with-many", needs="disk", files=3000),
    row("fill-tmp", "fill-disk /tmp/filled", needs="disk", verdicts="OK|MLE"),
    row("fill-shm", "fill-disk /dev/shm/filled", needs="disk", verdicts="OK|MLE"),
    row("many-inodes", "many-inodes 5000", needs="inodes"),
    row("sparse"),
    row("deep", "deep 5000"),
    row("nasty-names"),
    row("links-out"),
    row("plant-setuid", verdicts=TURNED_AWAY),
    row("core-dump", verdicts="RE|RV", signal=None),
]

NETWORK = [
    row("dns", verdicts=TURNED_AWAY, needs="network"),
    row("path-sockets", verdicts=TURNED_AWAY),
    row("vsock", verdicts=TURNED_AWAY, needs=CALLS),
    row("odd-families", verdicts=TURNED_AWAY, needs=CALLS),
    row("raw-sockets", verdicts=TURNED_AWAY),
    row("leave-sockets"),
    row("leave-sockets-again", "leave-sockets"),
    row("leave-circle"),
    row("leave-circle-again", "leave-circle"),
    row("talk-to-self"),
]

STREAMS = [
    row("flood", "flood 1", verdicts="OLE", check=bounded_output),
    row("flood-stderr", "flood 2", verdicts="OLE", check=bounded_output),
    row("print-no-more-than-allowed", "print-bytes 1048576", verdicts="OK", check=bounded_output),
    row("rewind-stdout", check=first_words(b"first words\n")),
    row("close-all", verdicts="RE", exit_code=4),
    row("spoil-streams"),
    row("forge", verdicts="RE", exit_code=3),
    row("trickle", verdicts="TLE", wall=0.3, check=first_words(b"...")),
    row("stdin-never-read", "mark there", stdin=b"x" * 4 * MIB, says=b"there"),
    row("stdin-read", "read-all", stdin=b"x" * 4 * MIB, says=b"4194304"),
    row("stdin-closed", "close-all", verdicts="RE", exit_code=4, stdin=b"x" * MIB),
]

PYTHON = [
    script("python-memory", "x = bytearray(400 << 20); print(len(x))", "MLE|RE"),
    script(
        "python-recursion", "import sys\nsys.setrecursionlimit(1 << 30)\nf = lambda: f()\nf()", "RE|MLE|TLE"
    ),
    script(
        "python-fork-bomb",
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        "TLE",
        time=0.3,
    ),
    script("python-not-unicode", "import os; os.write(1, bytes(range(256)))", says=bytes(range(256))),
    script(
        "reads-much",
        "import os\nleft = 150 << 20\nfor folder, _, names in os.walk('/usr/lib'):\n  for name in names:\n"
        "    try: left -= len(open(os.path.join(folder, name), 'rb').read(8 << 20))\n    except OSError: pass\n"
        "    if left < 0: raise SystemExit(print('read'))",
        says=b"read",
        time=5.0,
        wall=10.0,
    ),
    script("python-exit-pickle", "import os; os.write(1, b'cos\\nsystem\\n(S\"touch /tmp/owned\"\\ntR.')"),
]

ENDING = {number for number in range(1, 65) if number not in (17, 18, 23, 28, 19, 20, 21, 22)}
SIGNALS = [
    row(
        f"signal-{number}",
        f"raise-signal {number}",
        "RE|RV" if number == signal.SIGSYS else "RE" if number in ENDING else "OK",
        signal=number if number in ENDING else None,
        thin=True,
    )
    for number in range(1, 65)
    if number not in (19, 20, 21, 22)
]

TABLE = [*TIME, *MEMORY, *PROCESSES, *SYSTEM, *FILES, *NETWORK, *STREAMS, *PYTHON, *SIGNALS]

# What depends on how a jail is made, and on what there is to count with: these run under every engine, as each user, in
# fresh jails and in pooled ones. The others run where a job may find most: in pooled native jails as each user, and
# once under each other engine.
_NAMES = """
    hog deaf-hog sleeper stop-all hog-in-four-children hog-in-orphan hog-in-daemon raise-limits
    memory memory-in-many-processes memory-in-sysv memory-in-memfd memory-in-box memory-in-shm memory-in-message-queues
    fork-count thread-count fork-bomb leave-daemon daemon-holds-stdout hydra false-brother signal-everyone harm-init
    trace-init look-into-init leave-room-through-proc inherited-descriptors become-root setuid-programs own-program
    foreign-call unshare-any clone3-any enter-any write-kernel map-ids control-groups terminal
    private-places write-everywhere chroot-escape old-root make-devices fill-disk many-inodes links-out core-dump
    path-sockets raw-sockets leave-sockets talk-to-self flood rewind-stdout close-all forge stdin-read python-memory
"""
EVERYWHERE = frozenset(_NAMES.split())
assert {row.name for row in TABLE} >= EVERYWHERE
