"""Spans: what a trace shows, made of its raw records once somebody looks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from outrider.traces.tracing import GREET, START, Asked, Done, Opened, Place, Record


@dataclass(frozen=True)
class Span:
    """Something that took its time.

    `kind`: open, hop, phase, call, command, put, get, module or close. `start`: seconds since the trace began.
    `duration`: seconds. `place`: the label of the route; `user` and `host` at its end, where it was reached. `session`: the
    number of the open far end, from 1. `error`: the name of what was raised, or "". `about`: more, by name: `bytes`,
    `files`, `returncode`, `seconds_there`.
    """

    kind: str
    name: str
    start: float
    duration: float
    children: tuple[Span, ...] = ()
    error: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    session: int = 0
    place: str = ""
    user: str = ""
    host: str = ""
    sender: Any = None

    @property
    def end(self) -> float:
        """Seconds since the trace began."""
        return self.start + self.duration

    def walk(self) -> Iterator[Span]:
        """This span and all within it, the outer ones first."""
        yield self
        for child in self.children:
            yield from child.walk()


def spans_of(records: Iterable[Record], zero: int) -> tuple[Span, ...]:
    """The outermost spans in the order of their beginning; `zero`: the clock's time when the trace began."""
    numbers: dict[Place, int] = {}
    found = [span_of(record, zero, numbers) for record in records]
    return tuple(sorted(found, key=lambda span: (span.start, -span.duration)))


def span_of(record: Record, zero: int, numbers: dict[Place, int]) -> Span:
    """One record as a span; `numbers` gives each far end its number, and remembers it."""
    if isinstance(record, Opened):
        return _opening(record, _Clock(zero, record.place, numbers))
    if isinstance(record, Done):
        clock = _Clock(zero, record.place, numbers)
        return clock.whole(
            record.kind, record.name, record.began, record.ended, record.sender, record.error, record.about
        )
    return _request(record, _Clock(zero, record[0], numbers))


class _Clock:
    """Turns a record's nanoseconds into spans of one far end."""

    def __init__(self, zero: int, place: Place, numbers: dict[Place, int]) -> None:
        self.zero = zero
        self.place = place
        self.number = numbers.setdefault(place, len(numbers) + 1)

    def span(
        self,
        kind: str,
        name: str,
        began: int,
        ended: int,
        children: tuple[Span, ...] = (),
        error: str = "",
        **more: Any,
    ) -> Span:
        _, place, user, host = self.place
        return Span(
            kind,
            name,
            (began - self.zero) / 1e9,
            max(0, ended - began) / 1e9,
            children,
            error,
            session=self.number,
            place=place,
            user=user,
            host=host,
            **more,
        )

    def whole(
        self, kind: str, name: str, began: int, ended: int, sender: Any, error: str, about: dict[str, Any]
    ) -> Span:
        if about.get("bytes") and ended > began:
            about = {**about, "bytes_per_second": about["bytes"] / ((ended - began) / 1e9)}
        return self.span(kind, name, began, ended, error=error, sender=sender, about=about)


def _request(record: Asked, clock: _Clock) -> Span:
    _, (kind, name, began, packed, sent, sender), arriving, arrived, ended, seconds, error, about = record
    parts = [("pack", began, packed), ("send", packed, sent), ("wait", sent, arriving or arrived or ended)]
    if arriving:
        parts.append(("receive", arriving, arrived))
    if arrived:
        parts.append(("unpack", arrived, ended))
    children = []
    for phase, start, end in parts:
        inner: tuple[Span, ...] = ()
        if phase == "wait" and seconds >= 0:
            # The far end's clock is another one: how long it worked is known, and where within the wait is not.
            worked = min(int(seconds * 1e9), max(0, end - start))
            at = start + (end - start - worked) // 2
            inner = (clock.span("phase", "run", at, at + worked),)
        if end > start or phase == "wait":
            children.append(clock.span("phase", phase, start, end, inner))
    more = dict(about or {})
    if seconds >= 0:
        more["seconds_there"] = seconds
    return clock.span(kind, str(name), began, ended, tuple(children), error, sender=sender, about=more)


def _opening(record: Opened, clock: _Clock) -> Span:
    stretches: list[Span] = []
    phases: list[tuple[int, int, str, int, int]] = []  # first hop, last hop, name, began, ended
    began, first = record.began, 0
    for ended, hop, phase in record.events:
        if phase == GREET:
            stretches.append(clock.span("hop", GREET, began, ended))
        else:
            phases.append((min(first, hop), hop, phase, began, ended))
            first = hop
            if phase == START:
                stretches.append(_stretch(record, phases, clock))
                phases, first = [], hop + 1
        began = ended
    if record.error:
        last = len(record.hops) - 1
        first = min(first, last)
        until = next((mark for mark in record.marks if mark >= first), last)
        phases.append((first, until, "failed", began, record.ended))
        stretches.append(_stretch(record, phases, clock, record.error))
    return clock.span(
        "open", "open", record.began, record.ended, tuple(stretches), record.error, sender=record.sender
    )


def _stretch(
    record: Opened, phases: list[tuple[int, int, str, int, int]], clock: _Clock, error: str = ""
) -> Span:
    """From one sign of life to the next: one hop mostly, or several between which nothing could be told."""
    first, last = min(phase[0] for phase in phases), max(phase[1] for phase in phases)
    label = " | ".join(record.hops[first : last + 1])
    one = first == last
    children = []
    for start, end, phase, began, ended in phases:
        whose = "" if one else " | ".join(record.hops[start : end + 1]) + ": "
        failed = error if phase == "failed" else ""
        if phase == START and last == len(record.hops) - 1:
            phase = "start python3"
        children.append(clock.span("phase", whose + phase, began, ended, error=failed))
    if len(children) == 1 and (error or last < len(record.hops) - 1):
        children = []
    return clock.span("hop", label, phases[0][3], phases[-1][4], tuple(children), error)
