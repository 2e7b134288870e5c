"""Lives of jobs as an SVG picture that reads well on light and dark ground. Nothing is loaded, no script runs in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby

from outrider.batch.views import lives as lived
from outrider.batch.views.lives import Life, Orderly, Row, took
from outrider.traces.views.picture import GROUND, shown

WIDTH, LABELS, STATES, LINE, MARGIN = 960, 250, 110, 20, 12
LEFT = LABELS + STATES
ROOM = WIDTH - LEFT - 70
STRIP = 48
_STYLE = (
    GROUND
    + """\
.queued { fill: #afb8c1 } .held { fill: #d8dee4 } .staging { fill: #b6a2f2 } .running { fill: #2da44e }
.fetching { fill: #d4a72c } .unknown, .other { fill: #8c959f } .fault { fill: #cf222e } .base { fill: none; stroke: #afb8c1 }
@media (prefers-color-scheme: dark) {
 .queued { fill: #57606a } .held { fill: #30363d } .staging { fill: #7d68c8 } .running { fill: #3fb950 }
 .fault { fill: #f85149 }
}
"""
)
KNOWN = (lived.QUEUED, lived.HELD, lived.STAGING, lived.RUNNING, lived.FETCHING, lived.UNKNOWN)


def picture(found: Orderly, limit: int = 200) -> str:
    """The whole SVG document, with at most `limit` rows."""
    rows = lived.rows_of(found.lives, max(limit, 1))
    notes = lived.notes(found, rows)
    begins = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(found.start))
    jobs = "1 job" if len(found.lives) == 1 else f"{len(found.lives):,} jobs"
    title = f"{jobs}, {took(found.length)} from {begins}"
    counts = lived.counted(found.lives)
    strip = STRIP if len(found.lives) > 2 else 0
    top = 4 * LINE + strip + 28
    bottom = top + LINE * len(rows)
    height = bottom + LINE * len(notes) + MARGIN
    body = [
        f'<text class="head" x="8" y="{LINE}">{shown(title, 120)}</text>',
        f'<text class="soft" x="8" y="{2 * LINE}">{shown(counts, 130)}</text>',
        *_legend(found),
        *(_strip(found, 4 * LINE - 8, strip) if strip else ()),
        *_axis(found, top, bottom),
    ]
    for number, row in enumerate(rows):
        body += _row(row, top + LINE * number, found)
    body += [
        f'<text class="soft" x="8" y="{bottom + LINE * number}">{shown(note, 130)}</text>'
        for number, note in enumerate(notes, 1)
    ]
    told = ". ".join(
        [counts, *notes, "A line for each job: when it was queued, staging, running and fetching"]
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d">'
    )
    naming = [f'<title id="t">{shown(title, 300)}</title>', f'<desc id="d">{shown(told, 2000)}</desc>']
    return "\n".join([head, *naming, f"<style>\n{_STYLE}</style>", *body, "</svg>\n"])


def _legend(found: Orderly) -> Iterator[str]:
    there = {phase for one in found.lives for phase, _, _ in one.spans}
    x = LEFT
    for phase in [name for name in KNOWN if name in there] + (["other"] if there - {*KNOWN} else []):
        yield f'<rect class="{phase}" x="{x}" y="{3 * LINE - 10}" width="10" height="10" rx="2"/>'
        yield f'<text class="soft" x="{x + 14}" y="{3 * LINE}">{phase}</text>'
        x += 90


def _strip(found: Orderly, y: int, height: int) -> Iterator[str]:
    """How many were queued and running over the time; all jobs count here, also those that have no line."""
    columns = ROOM // 2
    for phase, style in ((lived.RUNNING, "running"), (lived.QUEUED, "base")):
        counts = lived.busy(found.lives, phase, found.start, found.length, columns)
        most = max(counts)
        if not most:
            continue
        scale = (height - 8) / most
        points = [f"{LEFT},{y + height}"]
        for count, run in groupby(range(columns), key=counts.__getitem__):
            held = list(run)
            level = f"{y + height - count * scale:.1f}"
            points += [f"{LEFT + 2 * held[0]},{level}", f"{LEFT + 2 * held[-1] + 2},{level}"]
        points.append(f"{LEFT + 2 * columns},{y + height}")
        line = 16 if phase == lived.QUEUED else 32
        told = f"{phase} at once: at most {most:,}"
        yield f'<polygon class="{style}" points="{" ".join(points)}"><title>{told}</title></polygon>'
        yield f'<text class="soft" x="8" y="{y + line}">{told}</text>'


def _axis(found: Orderly, top: int, bottom: int) -> Iterator[str]:
    for step in range(5):
        x = LEFT + ROOM * step / 4
        yield f'<line class="line" x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text class="soft" x="{x + 3:.1f}" y="{top - 10}">{took(found.length * step / 4)}</text>'


def _row(row: Row, y: int, found: Orderly) -> Iterator[str]:
    one, middle = row.life, y + LINE - 6
    fault = one.state in lived.FAULTS
    yield f"<g><title>{shown(f'{one.name}: {_told(one, row.many)}', 400)}</title>"
    letters = (LABELS - 16) // 7 if row.many == 1 else (LEFT - 16) // 7
    label = one.name if row.many == 1 else f"{one.name}: {one.state}"
    yield f'<text x="8" y="{middle}">{shown(label, letters)}</text>'
    if row.many == 1:
        style = "fault" if fault else "soft"
        yield f'<text class="{style}" x="{LABELS}" y="{middle}">{shown(one.state, (STATES - 8) // 7)}</text>'
    scale = ROOM / found.length
    end = LEFT
    for phase, start, until in one.spans:
        assert until is not None
        style = "fault" if fault and phase == lived.RUNNING else phase if phase in KNOWN else "other"
        x, width = LEFT + (start - found.start) * scale, (until - start) * scale
        if width < 1 and phase != lived.RUNNING:
            continue
        width = max(width, 1.5)
        what = f"<title>{shown(phase, 60)}: {took(until - start)}</title>"
        yield f'<rect class="{style}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{LINE - 6}" rx="1">{what}</rect>'
        end = max(end, round(x + width))
    ran = one.seconds(lived.RUNNING)
    yield (
        f'<text class="soft" x="{end + 4}" y="{middle}">{took(ran)}</text>' if ran is not None else ""
    ) + "</g>"


def _told(one: Life, many: int) -> str:
    parts = [f"{phase} {took(end - start)}" for phase, start, end in one.spans if end is not None]
    return ", ".join([one.state, *parts] if many == 1 else [one.state])
