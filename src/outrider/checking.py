"""How far a route gets: its hops tried one after the other, each with what is found there and what took how long."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from outrider.errors import Cancelled, OutriderError, RouteError
from outrider.results import FarEnd
from outrider.route import Route
from outrider.sandboxed import Sandbox
from outrider.sandboxed.engines import BY_ITSELF, Engine, tried
from outrider.session import Session
from outrider.traces.spans import Span
from outrider.traces.trace import Trace, trace

MODULES = (
    "asyncio",
    "ctypes",
    "decimal",
    "json",
    "multiprocessing",
    "pty",
    "queue",
    "shutil",
    "sqlite3",
    "ssl",
    "tempfile",
    "termios",
    "uuid",
)
"""Python's own modules that slim systems leave out, and programs often want."""
PINGS = 5
LOOK_WITHIN = 30.0
LITTLE_TIME = 0.5
"""Seconds; with less left, sandboxes are not tried."""
LITTLE = 100 << 20
"""Bytes free in the temporary folder, below which a hint says so."""
# As text, so that nothing of ours has to be there.
_LOOK = """\
import importlib.util, os, subprocess, sys
for name in sys.argv[1:]:
    try: found = importlib.util.find_spec(name)
    except Exception: found = None
    if found is None: print("missing", name)
# A module may be there while the library that it needs is not.
for name in ("ctypes", "ssl", "sqlite3"):
    if name in sys.argv:
        try: __import__(name)
        except ImportError: print("missing", name)
folder = os.environ.get("TMPDIR") or "/tmp"
try:
    status = os.statvfs(folder)
    print("free", status.f_bavail * status.f_frsize, status.f_files and status.f_favail == 0 and "full" or "ok", folder)
except OSError as error: print("free -1", "no", folder)
def said(*argv):
    try: return subprocess.check_output(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        timeout=5).decode().split("\\n")[:-1]
    except (OSError, subprocess.SubprocessError): return None
job = os.environ.get("SLURM_JOB_ID")
if job:
    left = said("squeue", "-h", "-j", job, "-o", "%L")
    about = ["Slurm job", job, "on", os.environ.get("SLURMD_NODENAME", "?")]
    about += ["in", os.environ.get("SLURM_JOB_PARTITION", "?")] + (["with", left[0].strip(), "left"] if left else [])
    print("scheduler", *about)
elif os.environ.get("FLUX_JOB_ID"):
    print("scheduler", "Flux job", os.environ["FLUX_JOB_ID"])
else:
    nodes, jobs = {}, {}
    for line in said("sinfo", "-h", "-N", "-o", "%N %T") or ():
        node, state = line.split()
        nodes[node] = state.rstrip("*~#$@+!%^-")
    own = nodes and said("squeue", "-h", "--me", "-o", "%T")
    for line in own or (): jobs[line] = jobs.get(line, 0) + 1
    if nodes:
        states = sorted(set(nodes.values()))
        words = ["%d %s" % (list(nodes.values()).count(state), state) for state in states]
        mine = ["%d %s" % (count, state.lower()) for state, count in sorted(jobs.items())] or ["none"]
        yours = "" if own is None else "; your jobs: " + ", ".join(mine)
        print("scheduler", "Slurm, nodes: " + ", ".join(words) + yours)
"""


@dataclass(frozen=True)
class Phase:
    """A part of an opening that took its time, in seconds: `hop` got so far, or several hops together."""

    hop: str
    name: str
    seconds: float


@dataclass(frozen=True)
class HopReport:
    """What was found after one hop. Times are in seconds; `error` and `blamed` only if it is not reached.

    `phases`: what the last hop's part of the opening took. `blamed`: the hop at fault as the error names it. `missing`:
    modules of Python's own that are not there. `noise`: what logins printed before the far end could greet. `tmp`: the
    folder for temporary files there, with `tmp_free` bytes (None: unknown). `scheduler`: the job that it is in, or how
    Slurm there stands; "" if there is none. `sandbox`: of the last hop, what each engine of the sandbox could not guarantee
    there; of a sandbox hop, what its own jails could not.
    """

    number: int
    hop: str
    reached: bool
    opened_in: float
    user: str = ""
    host: str = ""
    python: str = ""
    executable: str = ""
    latency: float | None = None
    missing: tuple[str, ...] = ()
    noise: str = ""
    blamed: str = ""
    error: str = ""
    hint: str = ""
    phases: tuple[Phase, ...] = ()
    tmp: str = ""
    tmp_free: int | None = None
    scheduler: str = ""
    sandbox: tuple[str, ...] = ()


class Check:
    """A route tried hop by hop. `reports()` gives what is found; `opening` is then the trace of the last step."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.opening: Trace = trace()

    def reports(self) -> Iterator[HopReport]:
        """A report for each hop in order, as soon as it is known; the first one not reached is the last.

        Every step opens a far end of its own: a scheduler hop so gets a short job for itself and for each hop
        behind it. Raises Cancelled if it is interrupted.
        """
        if not self.route.hops:
            yield self.step(0)
        for number in range(1, len(self.route.hops) + 1):
            report = self.step(number)
            yield report
            if not report.reached:
                return

    def step(self, number: int) -> HopReport:
        """A report on the first `number` hops together."""
        part = self.route.prefix(number)
        hop = Route(*part.hops[-1:]).label()
        limit = part.settings.open_timeout
        started = time.monotonic()
        self.opening = trace()
        session: Session | None = None
        try:
            with self.opening:
                session = part.open()
            opened_in = time.monotonic() - started
            until = started + max(limit, opened_in + 1) if limit is not None else None
            found = _looked(session, until)
            if number == len(self.route.hops) and _left(until, LOOK_WITHIN) > LITTLE_TIME:
                found["sandbox"] = tuple(_jails(session, until))
            return HopReport(number, hop, True, opened_in, phases=self._phases(hop), **found)
        except Cancelled:
            raise
        except OutriderError as error:
            return self._not_reached(number, hop, time.monotonic() - started, error)
        finally:
            if session is not None:
                session.connection.close(1.0)

    def _phases(self, hop: str) -> tuple[Phase, ...]:
        """What the opening's last part took: the hop's own, and the far end's greeting, or what came instead."""
        opened = next((span for span in self.opening.spans if span.kind == "open"), None)
        stretches = opened.children if opened is not None else ()
        wanted = [span for span in stretches if span.name == "greet" or hop in span.name.split(" | ")]
        return tuple(phase for span in wanted for phase in _parts(span))

    def _not_reached(self, number: int, hop: str, seconds: float, error: OutriderError) -> HopReport:
        said = [error.message, *(line.strip() for line in error.details())]
        hint = error.hint or ""
        if "outrider check" in hint:  # that is what this is
            before = f"`outrider shell ROUTE --at {number - 1}` looks round before it, " if number > 1 else ""
            hint = f"{before}`outrider explain ROUTE` shows the command to try by hand"
            if error.hop is not None and isinstance(error, TimeoutError):
                hint += "; --timeout gives it more time"
        return HopReport(
            number,
            hop,
            False,
            seconds,
            blamed=error.hop or "",
            error="\n".join(said),
            hint=hint,
            phases=self._phases(hop),
        )


def check(route: Route) -> Iterator[HopReport]:
    """See `Check.reports`."""
    return Check(route).reports()


def _parts(span: Span) -> Iterator[Phase]:
    if not span.children:
        name = "failed" if span.error else "greet" if span.name == "greet" else "start"
        yield Phase(span.name, name, span.duration)
    for part in span.children:
        yield Phase(span.name, part.name, part.duration)


def _looked(far: Session, until: float | None) -> dict[str, Any]:
    """What is to be seen at the end of an open route, as fields of a HopReport."""
    end = far.far
    found: dict[str, Any] = {
        "user": end.user,
        "host": end.host,
        "python": ".".join(map(str, end.python)),
        "executable": end.executable,
        "noise": far.noise.decode(errors="replace").strip(),
    }
    found["latency"] = statistics.median(far.ping(_left(until, 10.0)) for _ in range(PINGS))
    if isinstance(far, Sandbox):  # its commands are in jails, and see what is in these
        return found
    with suppress(
        RouteError, TimeoutError
    ):  # it cannot start its own Python once more: it serves nevertheless
        found |= _seen(far, end, _left(until, LOOK_WITHIN))
    hints = []
    if found.get("missing"):
        hints.append("install the full python3 there, or do without " + ", ".join(found["missing"]))
    free = found.get("tmp_free")
    if free is not None and free < LITTLE:
        hints.append(f"{found['tmp']} there is nearly full: make room, or set TMPDIR")
    return {**found, "hint": "; ".join(hints)}


def _left(until: float | None, most: float) -> float:
    return most if until is None else min(most, max(0.2, until - time.monotonic()))


def _jails(far: Session, until: float | None) -> Iterator[str]:
    """What sandboxes can hold there: a line for each engine that is found, or for the one that was asked for."""
    if isinstance(far, Sandbox):
        done = far.run(["/bin/sh", "-c", ":"], timeout=_left(until, LOOK_WITHIN))
        yield str(Engine(done.engine, done.missing, done.message if done.verdict == "SE" else ""))
        return
    box = Sandbox(far.chain, options=far.settings, connection=far.connection)
    for name in BY_ITSELF:
        found = tried(box, name, _left(until, LOOK_WITHIN))
        if found.works or name == BY_ITSELF[0]:
            yield str(found)


def _seen(far: Session, end: FarEnd, seconds: float) -> dict[str, Any]:
    asked = far.run([end.executable or "python3", "-c", _LOOK, *MODULES], timeout=seconds)
    lines = [line.partition(" ") for line in asked.stdout.decode(errors="replace").splitlines()]
    found: dict[str, Any] = {"missing": tuple(sorted({rest for word, _, rest in lines if word == "missing"}))}
    for word, _, rest in lines:
        if word == "scheduler":
            found["scheduler"] = rest
        if word == "free":
            free, state, folder = rest.split(" ", 2)
            full = state == "full"  # of files, if not of bytes
            found |= {"tmp": folder, "tmp_free": None if int(free) < 0 else 0 if full else int(free)}
    return found
