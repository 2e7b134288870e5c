"""A trace in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.traces.spans import Span


def chrome(spans: Sequence[Span]) -> dict[str, Any]:
    """The trace as what JSON can hold: a process for each far end, a thread for each of what went on at once."""
    events: list[dict[str, Any]] = []
    lanes: dict[int, list[float]] = {}
    for span in sorted(spans, key=lambda span: (span.start, -span.duration)):
        own = lanes.setdefault(span.session, [])
        lane = next((number for number, end in enumerate(own) if end <= span.start), len(own))
        own[lane:] = [span.end, *own[lane + 1 :]]
        events.extend(_event(part, lane + 1) for part in span.walk())
    names = {span.session: span for span in reversed(spans)}
    names.update({span.session: span for span in spans if span.host})
    for number, span in sorted(names.items()):
        who = f" ({span.user}@{span.host})" if span.host else ""
        events.append(_named("process_name", number, 0, f"{span.place}{who}"))
        count = len(lanes[number])
        events.extend(_named("thread_name", number, lane, f"lane {lane}") for lane in range(1, count + 1))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(span: Span, lane: int) -> dict[str, Any]:
    more: dict[str, Any] = {**span.about, **({"error": span.error} if span.error else {})}
    return {
        "name": span.name or span.kind,
        "cat": span.kind,
        "ph": "X",
        "ts": round(span.start * 1e6, 3),
        "dur": round(span.duration * 1e6, 3),
        "pid": span.session,
        "tid": lane,
        "args": more,
    }


def _named(what: str, session: int, lane: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "ts": 0, "pid": session, "tid": lane, "args": {"name": name}}
