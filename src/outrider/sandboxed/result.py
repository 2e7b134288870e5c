"""What comes of one sandboxed job: its verdict, what it used, and what was brought back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from outrider.errors import FarError
from outrider.harmless import printable
from outrider.results import CompletedCommand

VERDICTS = ("OK", "RE", "TLE", "MLE", "OLE", "RV", "SE")
_SECONDS = ("cpu_s", "user_s", "system_s", "wall_s")
_NUMBERS = ("memory_bytes", "processes", "output_bytes", "disk_bytes", "written_bytes", "switches")


@dataclass(frozen=True)
class Usage:
    """What all processes of a job used together, orphans included; None for what could not be told.

    `cpu_s`: seconds of the processor, of which `user_s` in the programs and `system_s` in the kernel; `wall_s`: seconds that
    passed; `memory_bytes`: the most at once; `processes`: the most at once; `output_bytes`: printed; `disk_bytes`: files
    that it left; `written_bytes`: all that it wrote; `switches`: how often its processes gave way to others.
    """

    cpu_s: float | None = None
    wall_s: float | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    output_bytes: int | None = None
    user_s: float | None = None
    system_s: float | None = None
    disk_bytes: int | None = None
    written_bytes: int | None = None
    switches: int | None = None


@dataclass(frozen=True)
class SandboxResult(CompletedCommand):
    """A sandboxed command that ended, by itself or not.

    `verdict`: OK; RE, it ended with another exit code than 0 or by a signal; TLE, MLE, OLE, it needed too much time, memory
    or output; RV, it did what is forbidden; SE, a fault of ours. `message` says more. `engine`: which one ran it; `missing`:
    what that could not guarantee; `sources`: where each figure came from. `outputs`: contents of the files asked for by
    `collect`; `refused`: why others were not brought.
    """

    verdict: str = "SE"
    message: str = ""
    engine: str = ""
    missing: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    sources: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.verdict == "OK"

    @property
    def exit_code(self) -> int | None:
        """None if a signal ended it."""
        return self.returncode if self.returncode >= 0 else None

    def report(self) -> dict[str, Any]:
        """All but its output, as plain data."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "signal": -self.returncode if self.returncode < 0 else None,
            "message": self.message,
            "engine": self.engine,
            "missing": list(self.missing),
            "usage": asdict(self.usage),
            "sources": dict(self.sources),
        }


def parsed(report: object) -> dict[str, Any]:
    """The fields of a SandboxResult that a far end told; FarError if it does not keep to their form."""
    if not isinstance(report, dict) or report.get("verdict") not in VERDICTS:
        raise _bad()
    usage = report.get("usage")
    if not isinstance(usage, dict):
        raise _bad()
    figures: dict[str, Any] = {name: _number(usage.get(name), float) for name in _SECONDS}
    figures.update({name: _number(usage.get(name), int) for name in _NUMBERS})
    missing = report.get("missing", [])
    if not isinstance(missing, (list, tuple)) or not all(isinstance(name, str) for name in missing):
        raise _bad()
    return {
        "verdict": report["verdict"],
        "message": printable(_text(report.get("message", ""))),
        "engine": printable(_text(report.get("engine", ""))),
        "missing": tuple(printable(name) for name in missing),
        "usage": Usage(**figures),
        "sources": _mapping(report.get("sources", {}), str),
        "outputs": _mapping(report.get("outputs", {}), bytes),
        "refused": _mapping(report.get("refused", {}), str),
    }


def _number(value: object, kind: type) -> Any:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e18:  # type: ignore[operator]
        raise _bad()
    return kind(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _bad()
    return value


def _mapping(value: object, kind: type) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad()
    found = {}
    for name, item in value.items():
        if isinstance(item, (bytearray, memoryview)) and kind is bytes:
            item = bytes(item)
        if not isinstance(name, str) or not isinstance(item, kind):
            raise _bad()
        found[name] = printable(item) if isinstance(item, str) else item
    return found


def _bad() -> FarError:
    return FarError(
        "its report of a sandboxed job is none",
        hint="the far end does not keep to the protocol: do not trust it",
    )
