"""The live table of a group on a terminal: what each member does, for how long, and the last line that it printed."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from outrider.cli.many import Gathered, Shown, brief
from outrider.groups.fanout import Result, Stage
from outrider.near.request import printable

LINE_KEPT = 400
_STYLES = {"failed": "red", "cancelled": "yellow", "waiting": "yellow", "running": "bold", "done": "green"}
# Who does something, or failed, is shown first: a terminal has fewer rows than a group has members.
_ORDER = {"running": 0, "opening": 1, "waiting": 2, "failed": 3, "cancelled": 4, "done": 5, "not started": 6}


class Live(Gathered):
    """The table while they work, and then everything gathered."""

    def __init__(self, names: list[str], what: str) -> None:
        super().__init__(names, what)
        self.on_output, self.on_stage = self._output, self._stage
        self._started = time.monotonic()
        # name → stage, since when, and until when; each is replaced whole, as several threads write.
        self._stages: dict[str, tuple[Stage, float, float | None]] = {}
        self._last: dict[str, bytes] = {}
        self._console = Console(stderr=True)
        self._live = RichLive(
            get_renderable=self._table, console=self._console, refresh_per_second=5, transient=True
        )

    def __enter__(self) -> Shown:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        super().__exit__(*error)

    def arrived(self, result: Result) -> None:
        super().arrived(result)
        if result.error is not None:
            self._last[result.name] = brief(result).partition("\n")[0].encode(errors="replace")

    def _stage(self, name: str, stage: Stage) -> None:
        now = time.monotonic()
        since = self._stages[name][1] if name in self._stages else now
        self._stages[name] = (stage, since, now if stage in ("done", "failed", "cancelled") else None)

    def _output(self, name: str, stream: str, piece: bytes) -> None:
        kept = self._last.get(name, b"") + piece
        lines = [line for line in kept.split(b"\n") if line.strip()]
        end = b"\n" if kept.endswith(b"\n") else b""
        self._last[name] = (lines[-1][:LINE_KEPT] if lines else b"") + end

    def _table(self) -> Any:
        now = time.monotonic()
        stages = dict(self._stages)
        rows = max(3, self._console.size.height - 3)
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        shown = sorted(stages.items(), key=lambda item: (_ORDER[item[1][0]], item[1][1]))[:rows]
        for name, (stage, since, until) in shown:
            line = printable(self._last.get(name, b"").decode(errors="replace").strip())
            took = f"{(until or now) - since:.1f} s"
            table.add_row(Text(printable(name)), Text(stage, style=_STYLES.get(stage, "")), took, Text(line))
        table.add_row(Text(self._head(stages, now), style="dim"))
        return table

    def _head(self, stages: dict[str, tuple[Stage, float, float | None]], now: float) -> str:
        counts: dict[str, int] = {}
        for stage, _, _ in stages.values():
            counts[stage] = counts.get(stage, 0) + 1
        counts["to go"] = len(self.names) - len(stages)
        words = [f"{count} {stage}" for stage, count in counts.items() if count]
        return ", ".join([*words, f"{now - self._started:.0f} s"])
