"""Lives of jobs in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

from typing import Any

from outrider.batch.views import lives as lived
from outrider.batch.views.lives import Orderly


def chrome(found: Orderly) -> dict[str, Any]:
    """All lives as what JSON can hold: a process for each array, a thread for each job, and how many ran at once."""
    groups = dict.fromkeys(one.group for one in found.lives)
    numbers = {group: number for number, group in enumerate(groups, 1)}
    events = [_named("process_name", numbers[group], 0, group or "jobs") for group in groups]
    for thread, one in enumerate(found.lives, 1):
        process = numbers[one.group]
        events.append(_named("thread_name", process, thread, one.name))
        for phase, start, end in one.spans:
            assert end is not None
            events.append(
                {
                    "name": phase,
                    "cat": "job",
                    "ph": "X",
                    "ts": _micros(start - found.start),
                    "dur": _micros(end - start),
                    "pid": process,
                    "tid": thread,
                    "args": {"job": one.name, "state": one.state},
                }
            )
    events += _counters(found)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "began_at": found.start,
            "notes": lived.notes(found, [lived.Row(one) for one in found.lives]),
        },
    }


def _counters(found: Orderly) -> list[dict[str, Any]]:
    phases = {phase for one in found.lives for phase, _, _ in one.spans}
    none = dict.fromkeys(sorted(phases), 0)
    at_once = [(start, {**none, **counts}) for start, _, counts in lived.steps(found.lives)]
    ends = [(found.end, none)] if at_once else []
    return [
        {"name": "at once", "ph": "C", "ts": _micros(at - found.start), "pid": 0, "tid": 0, "args": args}
        for at, args in [*at_once, *ends]
    ]


def _micros(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": {"name": name}}
