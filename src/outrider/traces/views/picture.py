"""A trace as an SVG picture that reads well on light and dark ground. Nothing is loaded, no script runs in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from outrider.traces.spans import Span
from outrider.traces.views.rows import Row, human, rows_of

WIDTH, LABELS, LINE, TOP = 960, 330, 20, 34
GROUND = """\
svg { color-scheme: light dark; background: #fff }
text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #24292f }
.head { font-weight: bold } .soft { fill: #6e7781 } .line { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
 svg { background: #0d1117 } text { fill: #e6edf3 } .soft { fill: #8d96a0 } .line { stroke: #30363d }
}
"""
"""The style of every picture: light or dark ground, as the reader's system has it."""
_STYLE = (
    GROUND
    + """\
.open, .close { fill: #8c959f } .hop { fill: #54aeff } .phase { fill: #b6a2f2 } .call, .command { fill: #2da44e }
.put, .get, .module { fill: #d4a72c } .failed { fill: #cf222e }
@media (prefers-color-scheme: dark) {
 .hop { fill: #388bfd } .phase { fill: #7d68c8 } .call, .command { fill: #3fb950 }
}
"""
)


def picture(spans: Sequence[Span]) -> str:
    """The whole SVG document."""
    rows = rows_of(spans)
    first = min((span.start for span in spans), default=0.0)
    whole = max(max((span.end for span in spans), default=0.0) - first, 1e-9)
    height = TOP + LINE * max(len(rows), 1) + 12
    body = [*_axis(whole, height)]
    for number, row in enumerate(rows):
        body.extend(_row(row, TOP + LINE * number, first, whole))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="where the time went">'
    )
    return "\n".join([head, f"<style>\n{_STYLE}</style>", *body, "</svg>\n"])


def _axis(whole: float, height: int) -> list[str]:
    lines = []
    for step in range(5):
        x = LABELS + (WIDTH - LABELS - 90) * step / 4
        lines.append(f'<line class="line" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 8}"/>')
        lines.append(f'<text class="soft" x="{x + 3:.1f}" y="{TOP - 14}">{human(whole * step / 4)}</text>')
    return lines


def _row(row: Row, y: int, first: float, whole: float) -> list[str]:
    middle = y + LINE - 6
    if row.span is None:
        return [f'<text class="head" x="8" y="{middle}">{shown(row.label, 120)}</text>']
    scale = (WIDTH - LABELS - 90) / whole
    x = LABELS + (row.span.start - first) * scale
    width = max((row.end - row.span.start) * scale, 1.5)
    indent = 8 + 14 * row.depth
    letters = (LABELS - indent - 8) // 7
    kind = "failed" if row.span.error else row.span.kind
    took = human(row.end - row.span.start)
    return [
        f"<g><title>{shown(row.label, 300)}: {took}</title>",
        f'<text x="{indent}" y="{middle}">{shown(row.label, letters)}</text>',
        f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{LINE - 6}" rx="2"/>',
        f'<text class="soft" x="{x + width + 4:.1f}" y="{middle}">{took}</text></g>',
    ]


def shown(text: str, letters: int) -> str:
    """A text for a picture: escaped, and cut to so many letters."""
    return escape(text if len(text) <= letters else text[: letters - 1] + "…")
