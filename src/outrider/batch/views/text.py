"""Lives of jobs as text: a line for each, with a bar where it lies in time. Plain letters, no colours."""

from __future__ import annotations

import time
import unicodedata

from outrider.batch.views import lives as lived
from outrider.batch.views.lives import Life, Orderly, Row, took

BARS = {
    lived.QUEUED: "░",
    lived.HELD: "·",
    lived.STAGING: "▒",
    lived.RUNNING: "█",
    lived.FETCHING: "▓",
    lived.UNKNOWN: "▚",
}
OTHER = "▪"
LEVELS = " ▁▂▃▄▅▆▇█"
_ASCII = str.maketrans(
    {
        "░": ".",
        "·": "-",
        "▒": ":",
        "█": "#",
        "▓": "%",
        "▚": "?",
        "▪": "+",
        "…": "~",
        "×": "x",
        "–": "-",
        "µ": "u",
    }
    | dict(zip("▁▂▃▄▅▆▇", "..::++#", strict=True))
)
NARROW = 60


def text(found: Orderly, width: int = 80, ascii_only: bool = False, limit: int = 40) -> str:
    """The lines, no longer than `width` (at least 60) letters. `ascii_only`: for a terminal that has nothing else."""
    if not found.lives:
        return "no jobs\n"
    width = max(width, NARROW)
    rows = lived.rows_of(found.lives, max(limit, 1))
    names = min(max(_cells(row.life.name) for row in rows), width * 3 // 10)
    states = min(max(len("state"), *(len(row.life.state) for row in rows)), 9)
    room = width - names - states - 22
    lines = [*_head(found), ""]
    lines += _strips(found, names + states + 20, room)
    lines.append(
        f"{'':<{names}}  {'state':<{states}} {'queued':>8} {'ran':>8}  0{took(found.length):>{room - 1}}"
    )
    lines += [_line(row, found, names, states, room) for row in rows]
    lines += ["", _legend(found), *lived.notes(found, rows)]
    shown = "\n".join(part for line in lines for part in _wrapped(line.rstrip(), width)) + "\n"
    return shown.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else shown


def _head(found: Orderly) -> list[str]:
    begins = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(found.start))
    count = len(found.lives)
    jobs = "1 job" if count == 1 else f"{count:,} jobs"
    return [f"{jobs}, {took(found.length)} from {begins}", lived.counted(found.lives)]


def _strips(found: Orderly, before: int, room: int) -> list[str]:
    """How many were queued and running over the time: all jobs count here, also those that have no line."""
    if len(found.lives) < 3:
        return []
    lines = []
    for phase in (lived.QUEUED, lived.RUNNING):
        counts = lived.busy(found.lives, phase, found.start, found.length, room)
        if most := max(counts):
            bar = "".join(LEVELS[-(-count * 8 // most)] for count in counts)
            lines.append(f"{f'{phase}, at most {most:,}':<{before}}  {bar}"[: before + 2 + room])
    return [*lines, ""] if lines else []


def _line(row: Row, found: Orderly, names: int, states: int, room: int) -> str:
    one = row.life
    if row.many > 1:
        label = _cut(f"{one.name}: {one.state}", names + states + 20)
        return f"{_padded(label, names + states + 20)}  {_bar(one, found, room)}"
    queued, ran = took(one.seconds(lived.QUEUED, lived.HELD)), took(one.seconds(lived.RUNNING))
    name = _padded(_cut(one.name, names), names)
    return f"{name}  {_cut(one.state, states):<{states}} {queued:>8} {ran:>8}  {_bar(one, found, room)}"


def _bar(one: Life, found: Orderly, room: int) -> str:
    """In each column the phase that took most of it. That it ran is always seen, however short it was."""
    scale = room / found.length
    shares: list[dict[str, float]] = [{} for _ in range(room)]
    for phase, start, end in one.spans:
        assert end is not None
        begin, until = (start - found.start) * scale, (end - found.start) * scale
        first = min(int(begin), room - 1)
        for column in range(first, min(max(int(until), first), room - 1) + 1):
            share = min(until, column + 1) - max(begin, column)
            shares[column][phase] = shares[column].get(phase, 0.0) + max(share, 1e-9)
    most = [max(share, key=share.__getitem__) if share else "" for share in shares]
    if lived.RUNNING not in most:
        ran = max(range(room), key=lambda column: shares[column].get(lived.RUNNING, 0.0))
        if lived.RUNNING in shares[ran]:
            most[ran] = lived.RUNNING
    return "".join(BARS.get(phase, OTHER) if phase else " " for phase in most)


def _legend(found: Orderly) -> str:
    there = {phase for one in found.lives for phase, _, _ in one.spans}
    known = [f"{bar} {phase}" for phase, bar in BARS.items() if phase in there]
    return "  ".join([*known, *([f"{OTHER} other"] if there - {*BARS} else [])])


def _wrapped(line: str, width: int) -> list[str]:
    """A sentence of words over as many lines as it needs; a line that fits stays as it is."""
    if _cells(line) <= width:
        return [line]
    import textwrap

    return textwrap.wrap(line, width, subsequent_indent="  ")


def _cells(text: str) -> int:
    """Columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _cut(text: str, width: int) -> str:
    if _cells(text) <= width:
        return text
    while _cells(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))
