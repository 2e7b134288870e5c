"""A trace as text: a line for each span, with a bar where it lies in time. Plain letters, no colours."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.traces.spans import Span
from outrider.traces.views.rows import Row, human, rows_of

TIME = 9
_BLOCKS = "▏▎▍▌▋▊▉█"


def waterfall(spans: Sequence[Span], width: int = 80, ascii_only: bool = False) -> str:
    """The lines, no longer than `width` (at least 60) letters. `ascii_only`: for a terminal that has nothing else."""
    rows = rows_of(spans)
    if not rows:
        return "nothing was traced\n"
    width = max(width, 60)
    first = min(span.start for span in spans)
    whole = max(max(span.end for span in spans) - first, 1e-9)
    bars = (width - TIME - 3) * 2 // 5
    labels = width - TIME - 3 - bars
    lines = [_line(row, first, whole, labels, bars) for row in rows]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return _in_ascii(text) if ascii_only else text


def _line(row: Row, first: float, whole: float, labels: int, bars: int) -> str:
    if row.span is None:
        return _cut(row.label, labels + bars + TIME + 3)
    label = _cut("  " * row.depth + row.label, labels)
    start = row.span.start
    bar = _bar((start - first) / whole * bars, (row.end - start) / whole * bars, bars)
    return f"{label:<{labels}} {human(row.end - start):>{TIME}}  {bar}"


def _bar(start: float, length: float, room: int) -> str:
    """Where and how long, in columns: whole ones and an eighth at the end; never nothing."""
    column = min(int(start), room - 1)
    eighths = max(1, round((start - column + length) * 8)) if length < 1 else max(8, round(length * 8))
    full, rest = divmod(eighths, 8)
    full = min(full, room - column)
    tip = _BLOCKS[rest - 1] if rest and column + full < room else ""
    return " " * column + "█" * full + tip


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _in_ascii(text: str) -> str:
    for letter, plain in zip(
        "█…µ×→✗" + _BLOCKS[:-1], ["#", "~", "u", "x", ">", "!", *"|||||||"], strict=True
    ):
        text = text.replace(letter, plain)
    return text.encode("ascii", "replace").decode()
