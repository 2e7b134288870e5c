"""Jobs and arrays as HTML for notebooks, from plain facts. No I/O.

All that names, reasons and places hold is escaped. There is no style sheet, which would be one for the whole notebook, no
script, and nothing is loaded. Colours of text and ground are the notebook's own, light or dark.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from html import escape

from outrider.batch.states import State
from outrider.batch.views.lives import QUEUED, RUNNING, life, orderly, took
from outrider.harmless import printable

LONGEST = 500
"""Letters of one fact that are shown, at the most."""
FAILURES = 5
_COLOURS = {
    State.COMPLETED: "#2da44e",
    State.RUNNING: "#388bfd",
    State.PENDING: "#8c959f",
    State.HELD: "#6e7781",
    State.CANCELLED: "#d4a72c",
    State.FAILED: "#cf222e",
    State.LOST: "#a371f7",
}
_OTHER = "#8c959f"
_LINE = "1px solid rgba(128, 128, 128, 0.35)"
_BOX = f"display: inline-block; max-width: 100%; padding: 6px 10px; border: {_LINE}; border-radius: 6px"
_TABLE = "border-collapse: collapse; margin: 4px 0 0; background: transparent"
_HEAD = "text-align: left; font-weight: normal; opacity: 0.75; padding: 1px 12px 1px 0; vertical-align: top; border: 0"
_APART = "margin-left: 0.8em"
_PLAIN = "background: transparent"
_ANYWHERE = "overflow-wrap: anywhere"
_CELL = "text-align: left; padding: 1px 0; overflow-wrap: anywhere; border: 0"
_DOT = "display: inline-block; width: 0.7em; height: 0.7em; border-radius: 50%; margin-right: 0.4em"


def job_html(
    *,
    key: str,
    state: str,
    name: str = "",
    ident: str = "",
    reason: str = "",
    place: str = "",
    index: int | None = None,
    times: Mapping[str, float | None] | None = None,
    now: float | None = None,
) -> str:
    """One job. times: `submitted`, `started`, `ended`, in seconds since 1970, each None or missing where not known."""
    title = (name or key) + ("" if index is None else f"[{index}]")
    facts = {"state": state, "reason": reason, "place": place, "id": ident, "key": key if name else ""}
    rows = [_row(what, _shown(fact)) for what, fact in facts.items() if fact and what != "state"]
    rows += [_row(what, told) for what, told in _times(state, times or {}, now)]
    return _box("job", title, _state(state), rows)


def array_html(
    *,
    key: str,
    counts: Mapping[str, int],
    name: str = "",
    ident: str = "",
    place: str = "",
    failures: Iterable[tuple[int, str]] = (),
    times: Mapping[str, float | None] | None = None,
    now: float | None = None,
) -> str:
    """Many jobs. counts: how many are in each state. failures: (index, reason) of some that failed; five are shown."""
    whole = sum(counts.values())
    over = sum(count for state, count in counts.items() if _final(state))
    order = [*State, *sorted(set(counts) - {*State})]
    known = [(state, counts[state]) for state in order if counts.get(state)]
    facts = {"place": place, "id": ident, "key": key if name else ""}
    rows = [_row(what, _shown(fact)) for what, fact in facts.items() if fact]
    rows += [
        _row(what, told) for what, told in _times("" if over < whole else State.COMPLETED, times or {}, now)
    ]
    failed = list(failures)
    rows += [_row(f"[{index}]", _shown(reason)) for index, reason in failed[:FAILURES]]
    if len(failed) > FAILURES:
        rows.append(_row("more", f"{len(failed) - FAILURES:,} others failed"))
    words = ", ".join(f"{count:,} {_shown(state)}" for state, count in known) or "no jobs"
    parts = "".join(
        f'<span style="margin-right: 1em">{_state(state, count)}</span>' for state, count in known
    )
    rows.insert(0, _row("jobs", parts or "none"))
    return _box("array", name or key, f"{over:,} of {whole:,} over", rows, _bar(known, whole, words))


def _bar(known: list[tuple[str, int]], whole: int, words: str) -> str:
    """A progress bar: from the left what is over, then what runs, then what waits."""
    if not whole:
        return ""
    shares = sorted(known, key=lambda part: (not _final(part[0]), part[0] != State.RUNNING))
    pieces = "".join(
        f'<span title="{count:,} {_shown(state)}" style="width: {100 * count / whole:.4g}%; background: {_colour(state)}'
        f'{"" if _final(state) or state == State.RUNNING else "; opacity: 0.35"}"></span>'
        for state, count in shares
    )
    return (
        f'<div role="img" aria-label="{words}" style="display: flex; width: 24em; max-width: 100%; height: 0.7em; '
        f'margin: 6px 0 2px; border-radius: 4px; overflow: hidden">{pieces}</div>'
    )


def _times(state: str, times: Mapping[str, float | None], now: float | None) -> list[tuple[str, str]]:
    """(what, told): when it was submitted, and how long it waited and ran; clocks that differ are allowed for."""
    found = orderly([life("", state, times)], time.time() if now is None else now).lives[0]
    told = []
    if found.spans and times.get("submitted") is not None:
        told.append(("submitted", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(found.spans[0][1]))))
    for what, phase in (("waited", QUEUED), ("ran", RUNNING)):
        seconds = found.seconds(phase)
        if seconds is not None:
            told.append((what, took(seconds)))
    return told


def _box(kind: str, title: str, state: str, rows: list[str], bar: str = "") -> str:
    table = f'<table style="{_TABLE}"><tbody>{"".join(rows)}</tbody></table>' if rows else ""
    heading = f'<strong style="{_ANYWHERE}">{_shown(title)}</strong> <span style="{_APART}">{state}</span>'
    return f'<div role="group" aria-label="{kind} {_shown(title)}" style="{_BOX}"><div>{heading}</div>{bar}{table}</div>'


def _row(what: str, told: str) -> str:
    return f'<tr style="{_PLAIN}"><th scope="row" style="{_HEAD}">{what}</th><td style="{_CELL}">{told}</td></tr>'


def _state(state: str, count: int | None = None) -> str:
    dot = f'<span aria-hidden="true" style="{_DOT}; background: {_colour(state)}"></span>'
    return dot + ("" if count is None else f"{count:,} ") + _shown(state)


def _colour(state: str) -> str:
    return next((colour for known, colour in _COLOURS.items() if known == state), _OTHER)


def _final(state: str) -> bool:
    return any(known == state and known.final for known in State)


def _shown(text: object) -> str:
    plain = printable(str(text))
    return escape(plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…")
