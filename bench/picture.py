"""The picture: bars of the medians, grouped by case and target, each case to its own scale. Plain SVG, light and dark."""

from __future__ import annotations

from html import escape

from bench.report import FLOOR, OURS, Case, Results, number

SHOWN = ("warm", "cold", "second", "send-bytes-64", "receive-bytes-64", "hundred", "at-once")
"""What most people want to know; results.md has all."""
WIDTH, LEFT, RIGHT = 900, 240, 100
BAR, GAP, BETWEEN, TITLE = 13, 3, 10, 40
STYLE = """
  .page { fill: #ffffff } text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 14px } .target { font-weight: 600 } .quiet { fill: #6e7781 }
  .ours { fill: #0969da } .floor { fill: #8c959f } .peer { fill: #d4a72c }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #8b949e }
    .ours { fill: #58a6ff } .floor { fill: #6e7681 } .peer { fill: #bb8009 }
  }"""


def picture(results: Results) -> str:
    parts: list[str] = []
    y = 30
    parts.append(text(20, y, "Outrider, its peers and the floor: medians of one run", "title"))
    for case in results.cases.values():
        if case.name in SHOWN and results.contenders(case.name):
            y = panel(results, case, y + TITLE, parts)
    y += 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">'
        f"<title>Results of the bench</title><style>{STYLE}\n</style>"
        f'<rect class="page" width="{WIDTH}" height="{y}"/>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def panel(results: Results, case: Case, y: int, parts: list[str]) -> int:
    """One case from `y` downward; gives where it ends."""
    bars = {
        target: [
            (who, value)
            for who in results.contenders(case.name)
            if (value := results.median(case.name, target, who)) is not None
        ]
        for target in results.targets(case.name)
    }
    most = max(value for group in bars.values() for _, value in group) or 1
    better = "longer is better" if case.higher else "shorter is better"
    parts.append(text(20, y, f"{case.title}, {case.unit}", "title"))
    parts.append(text(WIDTH - 20, y, better, "quiet", "end"))
    y += 12
    for target, group in bars.items():
        if group:
            parts.append(text(20, y + BAR - 2, target, "target"))
        for who, value in group:
            length = max(1.0, value / most * (WIDTH - LEFT - RIGHT))
            kind = {OURS: "ours", FLOOR: "floor"}.get(who, "peer")
            parts.append(text(LEFT - 8, y + BAR - 2, who, "target" if who == OURS else "quiet", "end"))
            parts.append(
                f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
            )
            parts.append(text(LEFT + length + 6, y + BAR - 2, number(value)))
            y += BAR + GAP
        y += BETWEEN if group else 0
    return y


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'
