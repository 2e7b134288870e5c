"""The lives of jobs: which phase each was in, and when. Times of two machines are brought into an order here. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

from outrider.batch.states import State
from outrider.harmless import printable
from outrider.traces.views.rows import human

QUEUED, HELD, STAGING, RUNNING, FETCHING = "queued", "held", "staging", "running", "fetching"
UNKNOWN = "unknown"
"""Somewhere between submitted and ended: nobody knows when it began to run."""
PHASES = (RUNNING, STAGING, FETCHING, UNKNOWN, QUEUED, HELD)
"""What many jobs together are said to be in: the first of these that any of them is in."""
FAULTS = (State.FAILED, State.LOST)
FINE = 1.0
"""Seconds by which times may contradict each other without a word: schedulers tell whole seconds."""

Stretch = tuple[str, float, float | None]


@dataclass(frozen=True)
class Life:
    """A job's life. spans: (phase, start, end) in seconds since 1970, in order; an end of None: it is still in that phase.

    state: of `State`. group: the name of the array that it belongs to, or "".
    """

    name: str
    spans: tuple[Stretch, ...] = ()
    state: str = ""
    group: str = ""

    def seconds(self, *phases: str) -> float | None:
        """How long it was in a phase, or in several; None if it was not."""
        found = [end - start for name, start, end in self.spans if name in phases and end is not None]
        return sum(found) if found else None


def life(
    name: str,
    state: str,
    times: Mapping[str, float | None],
    *,
    staging: tuple[float, float | None] | None = None,
    fetching: tuple[float, float | None] | None = None,
    group: str = "",
) -> Life:
    """A life from what is known of a job. times: `submitted`, `started`, `ended`, each None or missing where not known."""
    submitted, started, ended = (times.get(key) for key in ("submitted", "started", "ended"))
    final = state in State.__members__.values() and State(state).final
    waits = HELD if state == State.HELD else QUEUED
    spans: list[Stretch] = [(STAGING, *staging)] if staging else []
    if started is not None:
        if submitted is not None:
            spans.append((waits, submitted, started))
        # Over, and nobody knows when: that it began is all that can be shown.
        spans.append((RUNNING, started, started if final and ended is None else ended))
    elif submitted is not None and ended is not None:
        spans.append((QUEUED if state == State.CANCELLED else UNKNOWN, submitted, ended))
    elif submitted is not None:
        running = UNKNOWN if state == State.RUNNING else waits
        spans.append((running, submitted, submitted if final else None))
    if fetching:
        spans.append((FETCHING, *fetching))
    return Life(name, tuple(spans), str(state), group)


# --- order --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Orderly:
    """Lives whose spans all end, none before it begins, none after now; in the order of their beginning.

    moved, furthest: how many lives had to be changed for that by more than `FINE`, and by how many seconds at the most.
    """

    lives: tuple[Life, ...]
    start: float
    end: float
    moved: int = 0
    furthest: float = 0.0

    @property
    def length(self) -> float:
        """Seconds from the first beginning to the last end; never 0."""
        return max(self.end - self.start, 1e-6)


def orderly(lives: Iterable[Life], now: float) -> Orderly:
    """Bring the times into an order. now: seconds since 1970, by the clock of this machine."""
    found: list[Life] = []
    moves: list[float] = []
    for one in lives:
        spans, by = _in_order(one.spans, now)
        name, state, group = map(printable, (one.name, one.state, one.group))
        found.append(Life(name, spans, state, group))
        if by > FINE:
            moves.append(by)
    found.sort(key=lambda one: one.spans[0][1] if one.spans else math.inf)
    starts = [one.spans[0][1] for one in found if one.spans]
    ends = [end for one in found for _, _, end in one.spans if end is not None]
    first, last = min(starts, default=now), max(ends, default=now)
    return Orderly(tuple(found), first, last, len(moves), max(moves, default=0.0))


def _in_order(spans: Sequence[Stretch], now: float) -> tuple[tuple[Stretch, ...], float]:
    """Spans one after the other, and by how many seconds something had to be moved for it.

    A clock that is behind has a job run before it was submitted, one that is ahead, in times to come. How long it was in
    a phase is told by one clock and is kept.
    """
    placed: list[tuple[str, float, float]] = []
    furthest = 0.0
    for phase, start, end in spans:
        until = max(now, start) if end is None else end
        if not (math.isfinite(start) and math.isfinite(until)):
            continue
        behind = max(0.0, placed[-1][2] - start) if placed else 0.0
        furthest = max(furthest, behind, start - until)
        placed.append((printable(phase), start + behind, max(start, until) + behind))
    if placed and placed[-1][2] > now:
        phase, start, end = placed[-1]
        ahead = end - now
        furthest = max(furthest, ahead)
        placed[-1] = (phase, min(max(start - ahead, placed[0][1]), now), now)
    for index in reversed(range(len(placed) - 1)):
        phase, start, end = placed[index]
        latest = placed[index + 1][1]
        placed[index] = (phase, min(start, latest), min(end, latest))
    return tuple(placed), furthest


# --- many ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of a picture: one life, or, if `many` is more than 1, what a group of so many was in, taken together."""

    life: Life
    many: int = 1


def rows_of(lives: Sequence[Life], limit: int) -> list[Row]:
    """At most `limit` rows: all lives if they are so few, else groups taken together and some lives by themselves.

    These are first what failed and what is not over yet, then others all over the time.
    """
    if len(lives) <= limit:
        return [Row(one) for one in lives]
    groups: dict[str, list[Life]] = {}
    for one in lives:
        if one.group:
            groups.setdefault(one.group, []).append(one)
    large = sorted((own for own in groups.values() if len(own) > 1), key=len, reverse=True)[
        : max(1, limit // 2)
    ]
    rows = [Row(together(own), len(own)) for own in large]
    rows += [Row(one) for one in _telling(lives, limit - len(rows))]
    return sorted(rows, key=lambda row: (_start(row.life), -row.many))


def _start(one: Life) -> float:
    return one.spans[0][1] if one.spans else math.inf


def _telling(lives: Sequence[Life], room: int) -> list[Life]:
    faults = [index for index, one in enumerate(lives) if one.state in FAULTS]
    active = [index for index, one in enumerate(lives) if one.state in (State.RUNNING, State.HELD)]
    taken = dict.fromkeys([*_spread(faults, room // 2), *_spread(active, room // 4)])
    others = [index for index in range(len(lives)) if index not in taken]
    return [lives[index] for index in sorted([*taken, *_spread(others, room - len(taken))])]


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """So many of them, evenly."""
    if len(indices) <= count:
        return list(indices)
    return [indices[number * len(indices) // count] for number in range(count)]


def together(lives: Sequence[Life]) -> Life:
    """One life that stands for a group: at each time the phase of those furthest on."""
    spans: list[Stretch] = []
    for start, end, counts in steps(lives):
        phase = next((name for name in PHASES if counts[name]), "") or next(iter(+counts), "")
        if not phase or end <= start:
            continue
        if spans and spans[-1][0] == phase and spans[-1][2] == start:
            spans[-1] = (phase, spans[-1][1], end)
        else:
            spans.append((phase, start, end))
    return Life(f"{lives[0].group} × {len(lives)}", tuple(spans), counted(lives))


def steps(lives: Iterable[Life]) -> Iterator[tuple[float, float, Counter[str]]]:
    """(from, to, how many are in each phase) for each stretch in which nothing changes; the counter is used again."""
    spans = [(start, end, phase) for one in lives for phase, start, end in one.spans if end is not None]
    begins = sorted((start, 1, phase) for start, end, phase in spans if end > start)
    ends = sorted((end, -1, phase) for start, end, phase in spans if end > start)
    counts: Counter[str] = Counter()
    before: float | None = None
    for at, change, phase in merge(ends, begins):
        if before is not None and at > before:
            yield before, at, counts
        counts[phase] += change
        before = at


def busy(lives: Iterable[Life], phase: str, start: float, length: float, columns: int) -> list[int]:
    """How many were in a phase at once, at the most, in each of so many columns of the time from `start` on."""
    found = [0] * columns
    for begin, end, counts in steps(lives):
        if counts[phase]:
            first = min(columns - 1, max(0, int((begin - start) / length * columns)))
            last = min(columns - 1, max(first, math.ceil((end - start) / length * columns) - 1))
            for column in range(first, last + 1):
                found[column] = max(found[column], counts[phase])
    return found


def counted(lives: Iterable[Life]) -> str:
    """ "40 completed, 2 failed": in the order of the states."""
    counts = Counter(one.state for one in lives)
    known = [*State, *sorted(set(counts) - {*State})]
    return ", ".join(
        f"{counts[state]:,} {printable(state) or 'in no known state'}" for state in known if counts[state]
    )


def took(seconds: float | None) -> str:
    """Seconds as a person reads them, also very many of them."""
    if seconds is None:
        return "–"
    if seconds < 0.0005:
        return "0 s"
    if seconds < 99.995:
        return human(seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}m {rest:02}s"
    return f"{hours}h {minutes:02}m" if hours < 48 else f"{hours // 24}d {hours % 24:02}h"


def notes(found: Orderly, rows: Sequence[Row]) -> list[str]:
    """What a reader must know of a picture: what is not in it, and what was changed."""
    told = []
    alone = sum(row.many == 1 for row in rows)
    if alone < len(found.lives):
        hidden = {id(one) for one in found.lives} - {id(row.life) for row in rows}
        missing = counted(one for one in found.lives if id(one) in hidden)
        told.append(f"{len(hidden):,} of {len(found.lives):,} jobs have no line of their own: {missing}")
    untimed = sum(not one.spans for one in found.lives)
    if untimed:
        told.append(f"no times are known of {untimed:,} job{'' if untimed == 1 else 's'}")
    if found.moved:
        jobs = "1 job" if found.moved == 1 else f"{found.moved:,} jobs"
        by = took(found.furthest)
        told.append(f"the clocks differ: times of {jobs} were moved, by up to {by}, into a possible order")
    return told
