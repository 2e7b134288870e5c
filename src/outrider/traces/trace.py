"""`outrider.trace()`: where the time goes, of everything that this process does through Outrider meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from outrider.errors import ConfigError
from outrider.traces import tracing
from outrider.traces.spans import Span, spans_of
from outrider.traces.views import chrome, picture, waterfall

SUFFIXES = (".json", ".svg", ".txt")
LIMIT = 100_000


class Trace:
    """A recording. It begins with its `with` block and ends with it; what it holds can be looked at at any time."""

    def __init__(self, file: str | os.PathLike[str] | None, limit: int, otel: Any) -> None:
        if limit < 1:
            raise ConfigError(f"a trace keeps at least 1 request, not {limit}", key="limit")
        self.file = None if file is None else os.fspath(file)
        if self.file is not None:
            check_suffix(self.file)
        self.limit = limit
        self._otel = otel
        self._exporter: Any = None
        self._kept = tracing.Kept(limit)
        self._zero = 0
        self.began_at = 0.0

    def __enter__(self) -> Trace:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Trace:
        """Begin to record; anew, if it was begun before."""
        tracing.forget(self._kept)
        self._kept = tracing.Kept(self.limit)
        self._zero, self.began_at = tracing.clock(), time.time()
        if self._otel:
            from outrider.traces.views.otel import Exporter

            self._exporter = Exporter(None if self._otel is True else self._otel)
            tracing.listen(self._exporter)
        tracing.listen(self._kept)
        return self

    def stop(self) -> None:
        """Record no more, and write the file if one was asked for. Safe to call again."""
        tracing.forget(self._kept)
        if self._exporter is not None:
            tracing.forget(self._exporter)
            self._exporter = None
        if self.file is not None and self._zero:
            self.save(self.file)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The outermost spans in the order of their beginning: openings, calls, commands, transfers."""
        return spans_of([*self._kept.others, *self._kept.requests.copy()], self._zero)

    def text(self, width: int = 80, ascii_only: bool = False) -> str:
        """The waterfall, in lines of at most `width` letters."""
        return waterfall.waterfall(self.spans, width, ascii_only)

    def svg(self) -> str:
        """The picture, a whole SVG document."""
        return picture.picture(self.spans)

    def chrome(self) -> dict[str, Any]:
        """The trace for Perfetto and chrome://tracing, as what `json.dump` takes."""
        return chrome.chrome(self.spans)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write it to a file; its suffix says how: .json for Perfetto, .svg a picture, .txt the waterfall."""
        suffix = check_suffix(os.fspath(file))
        if suffix == ".json":
            import json

            body = json.dumps(self.chrome(), default=str)
        else:
            body = self.svg() if suffix == ".svg" else self.text()
        Path(file).write_text(body, encoding="utf-8", errors="replace")


def check_suffix(file: str) -> str:
    """The suffix of a trace's file; ConfigError if it says none of the forms."""
    suffix = Path(file).suffix
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"a trace cannot be written as {Path(file).name!r}",
            key="file",
            hint="the suffix says how: .json for Perfetto and chrome://tracing, .svg a picture, .txt the waterfall",
        )
    return suffix


def from_environment() -> None:
    """Follow OUTRIDER_TRACE=FILE: trace this whole program, and write the file when it ends; `%p` is its process id."""
    import atexit

    file = os.environ["OUTRIDER_TRACE"]
    if "%p" not in file:  # the programs that this one starts would write over it
        del os.environ["OUTRIDER_TRACE"]
    whole, pid = trace(file.replace("%p", str(os.getpid()))).start(), os.getpid()

    def write() -> None:
        if os.getpid() == pid:
            whole.stop()

    atexit.register(write)


def trace(file: str | os.PathLike[str] | None = None, *, limit: int = LIMIT, otel: Any = False) -> Trace:
    """Record where the time goes: `with outrider.trace() as found: ...; print(found.text())`.

    Everything that this process does through Outrider until the block ends is recorded, in all threads, on sessions
    opened before it too; blocks may be nested. file: write it there at the end, as .json, .svg or .txt. limit: so many
    calls and commands are kept, the latest. otel: give each span to OpenTelemetry as it ends: True for the global tracer
    provider, or a provider; needs the extra `otel`.

    Raises ConfigError for a file of another suffix, ImportError for `otel` without the extra.
    """
    return Trace(file, limit, otel)
