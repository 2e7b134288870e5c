"""What comes of one sandboxed job: its verdict, what it used, and what was brought back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from outrider.errors import FarError
from outrider.harmless import printable
from outrider.results import CompletedCall, CompletedCommand

VERDICTS = ("OK", "RE", "TLE", "MLE", "OLE", "RV", "SE")
LONGEST = 4096
"""Characters of a message, or of a name, that are kept."""
MOST_NAMES = 100
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

    `verdict`: OK; RE, it ended with another exit code than 0 or by a signal; TLE, MLE, OLE, it needed too much time,
    memory or output; RV, it did what is forbidden; SE, a fault of ours. `message` says more. `engine`: which one ran
    it; `missing`: what that could not guarantee, and `reasons` why; `sources`: where each figure came from. `outputs`:
    contents of the files asked for by `collect`; `refused`: why others were not brought.
    """

    verdict: str = "SE"
    message: str = ""
    engine: str = ""
    missing: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    reasons: Mapping[str, str] = field(default_factory=dict)
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
            "refused": dict(self.refused),
        }


@dataclass(frozen=True)
class SandboxCall(CompletedCall):
    """A call that returned from its jail; `verdict` and so on are those of the Python that ran it, as in a SandboxResult.

    Where the end of its jail is not known yet, as that of a generator, `usage` is empty.
    """

    verdict: str = "OK"
    message: str = ""
    engine: str = ""
    missing: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    reasons: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def failed(message: str) -> dict[str, Any]:
    """The report of a job that could not be run at all, as plain data."""
    return {
        "verdict": "SE",
        "exit_code": None,
        "signal": None,
        "message": message,
        "engine": "",
        "missing": [],
        "usage": asdict(Usage()),
        "sources": {},
        "refused": {},
    }


# --- reading what a far end told --------------------------------------------------------------------------------------


def parsed(report: object, asked: Collection[str] | None = None) -> dict[str, Any]:
    """The fields of a SandboxResult that a far end told; FarError if it does not keep to their form.

    asked: the paths that were to be collected; no other can have come.
    """
    if type(report) is not dict:
        raise _bad()
    verdict, usage = report.get("verdict"), report.get("usage")
    if type(verdict) is not str or verdict not in VERDICTS or type(usage) is not dict:
        raise _bad()
    figures: dict[str, Any] = {name: _number(usage.get(name), (int, float)) for name in _SECONDS}
    figures.update({name: _number(usage.get(name), (int,)) for name in _NUMBERS})
    missing = report.get("missing", [])
    if type(missing) not in (list, tuple) or len(missing) > MOST_NAMES:
        raise _bad()
    outputs, refused = _mapping(report.get("outputs", {}), bytes), _mapping(report.get("refused", {}), str)
    if asked is not None and not {*outputs, *refused} <= {*asked}:
        raise _bad()
    return {
        "verdict": verdict,
        "message": _text(report.get("message", "")),
        "engine": _text(report.get("engine", "")),
        "missing": tuple(_text(name) for name in missing),
        "reasons": _mapping(report.get("reasons", {}), str),
        "usage": Usage(**figures),
        "sources": _mapping(report.get("sources", {}), str),
        "outputs": outputs,
        "refused": refused,
    }


def status(answer: Mapping[str, Any]) -> int:
    """A returncode that a far end told; FarError for what is none."""
    if not -128 < answer["returncode"] < 256:
        raise _bad()
    return int(answer["returncode"])


def _number(value: Any, kinds: tuple[type, ...]) -> Any:
    if value is None:
        return None
    if type(value) not in kinds or not 0 <= value < 1e18:
        raise _bad()
    return float(value) if float in kinds else value


def _text(value: object) -> str:
    if type(value) is not str:
        raise _bad()
    return printable(value[:LONGEST])


def _mapping(value: object, kind: type) -> dict[str, Any]:
    if type(value) is not dict or len(value) > 10000:
        raise _bad()
    found = {}
    for name, item in value.items():
        if kind is bytes and type(item) in (bytearray, memoryview):
            item = bytes(item)
        if type(name) is not str or type(item) is not kind:
            raise _bad()
        found[name] = _text(item) if kind is str else item
    return found


def _bad() -> FarError:
    return FarError(
        "its report of a sandboxed job is none",
        hint="the far end does not keep to the protocol: do not trust it",
    )
