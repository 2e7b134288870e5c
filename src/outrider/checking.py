"""How far a route gets: its hops tried one after the other, each with what is found there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from outrider.errors import OutriderError, RouteError
from outrider.results import FarEnd
from outrider.route import Route
from outrider.session import Session

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
# As text, so that nothing of ours has to be there.
_LOOK = """\
import importlib.util, sys
for name in sys.argv[1:]:
    try: found = importlib.util.find_spec(name)
    except Exception: found = None
    if found is None: print(name)
# A module may be there while the library that it needs is not.
for name in ("ctypes", "ssl", "sqlite3"):
    if name in sys.argv:
        try: __import__(name)
        except ImportError: print(name)
"""


@dataclass(frozen=True)
class HopReport:
    """What was found after one hop. Times are in seconds; `error` and `blamed` only if it is not reached.

    `blamed`: the hop at fault as the error names it. `missing`: modules of Python's own that are not there.
    `noise`: what logins printed before the far end could greet.
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


def check(route: Route) -> Iterator[HopReport]:
    """A report for each hop in order, as soon as it is known; the first one not reached is the last.

    Every step opens a far end of its own: a scheduler hop so gets a short job for itself and for each hop
    behind it.
    """
    if not route.hops:
        yield check_prefix(route, 0)
    for number in range(1, len(route.hops) + 1):
        report = check_prefix(route, number)
        yield report
        if not report.reached:
            return


def check_prefix(route: Route, number: int) -> HopReport:
    """A report on the first `number` hops together."""
    part = route.prefix(number)
    hop = Route(*part.hops[-1:]).label()
    started = time.monotonic()
    try:
        with part.open() as far:
            opened_in = time.monotonic() - started
            return _reached(number, hop, opened_in, far)
    except OutriderError as error:
        return _not_reached(number, hop, time.monotonic() - started, error)


def _reached(number: int, hop: str, opened_in: float, far: Session) -> HopReport:
    end = far.far
    missing = _missing(far, end)
    if missing:
        hint = "install the full python3 there, or do without " + ", ".join(missing)
    else:
        hint = ""
    return HopReport(
        number,
        hop,
        True,
        opened_in,
        user=end.user,
        host=end.host,
        python=".".join(map(str, end.python)),
        executable=end.executable,
        latency=statistics.median(far.ping() for _ in range(PINGS)),
        missing=missing,
        noise=far.noise.decode(errors="replace").strip(),
        hint=hint,
    )


def _missing(far: Session, end: FarEnd) -> tuple[str, ...]:
    with suppress(RouteError):  # it cannot start its own Python once more: the far end serves nevertheless
        asked = far.run([end.executable or "python3", "-c", _LOOK, *MODULES], timeout=30)
        return tuple(sorted(set(asked.stdout.decode().split())))
    return ()


def _not_reached(number: int, hop: str, seconds: float, error: OutriderError) -> HopReport:
    said = [error.message, *(line.strip() for line in error.details())]
    return HopReport(
        number,
        hop,
        False,
        seconds,
        blamed=error.hop or "",
        error="\n".join(said),
        hint=error.hint or "",
    )
