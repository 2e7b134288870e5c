"""Spans as rows, for text and picture: what is alike and many is told once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from outrider.near.request import printable
from outrider.traces.spans import Span

SHOWN = 3
"""Requests of one name that are shown each by itself, before the rest of them is summed up."""
MANY = 6
FINE = 1 / 200
"""Parts of a request that take less of the whole time than this are left to finer tools."""


@dataclass(frozen=True)
class Row:
    """A line: indented by `depth`; no bar if there is no `span`. `many`: how many requests it stands for."""

    depth: int
    label: str
    span: Span | None = None
    end: float = 0.0
    many: int = 1


def rows_of(spans: Sequence[Span]) -> list[Row]:
    """All rows: for each far end a heading, then what was done with it in the order of time."""
    rows: list[Row] = []
    whole = max((span.end for span in spans), default=0.0) - min((span.start for span in spans), default=0.0)
    numbers = sorted({span.session for span in spans})
    for number in numbers:
        own = [span for span in spans if span.session == number]
        known = next((span for span in own if span.host), own[0])
        who = f"  ({known.user} on {known.host})" if known.host else ""
        rows.append(Row(0, printable(f"{known.place}{who}")))
        rows.extend(_many(own, whole * FINE))
    return rows


def _many(spans: list[Span], fine: float) -> Iterator[Row]:
    for _, run in groupby(spans, key=lambda span: (span.kind, span.name, span.error)):
        alike = list(run)
        shown = alike if len(alike) <= MANY or alike[0].kind == "open" else alike[:SHOWN]
        for span in shown:
            yield from _rows(span, 1, 0.0 if span.kind == "open" else fine)
        rest = alike[len(shown) :]
        if rest:
            median = human(statistics.median(span.duration for span in rest))
            worst = human(max(span.duration for span in rest))
            label = f"{label_of(rest[0])} × {len(rest)}, median {median}, max {worst}"
            yield Row(1, label, rest[0], max(span.end for span in rest), len(rest))


def _rows(span: Span, depth: int, fine: float) -> Iterator[Row]:
    yield Row(depth, label_of(span), span, span.end)
    for child in span.children:
        if child.kind == "hop" or child.error or child.duration >= fine:
            yield from _rows(child, depth + 1, fine)


def label_of(span: Span) -> str:
    """What a row is called."""
    label = span.name
    if span.kind in ("call", "command", "module") and label:
        label = f"{span.kind} {label}"
    about = span.about
    if span.kind in ("put", "get"):
        files = about.get("files", 0)
        label += f" {files} file{'' if files == 1 else 's'}, {size(about.get('bytes', 0))}"
        if about.get("bytes_per_second"):
            label += f", {size(about['bytes_per_second'])}/s"
    if about.get("returncode"):
        label += f" → {about['returncode']}"
    if span.error and label != "failed":
        label += f" ✗ {span.error}"
    return printable(label) or span.kind


def human(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
