"""Which sandbox engines work at a far end, and what each cannot guarantee there: found by running nothing in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from outrider.errors import OutriderError
from outrider.far.jail import guarantees
from outrider.harmless import printable
from outrider.hops.sandbox import ENGINES

if TYPE_CHECKING:
    from outrider.sandboxed.session import Sandbox

ALL = tuple(name for key, name in vars(guarantees).items() if key.isupper() and isinstance(name, str))

BY_ITSELF = ("native", "isolate", "bwrap")
"""Those that are taken without being named, or are of some use."""


@dataclass(frozen=True)
class Engine:
    """`missing`: guarantees that it cannot give there, and `reasons` why; `why`: it does not work there at all."""

    name: str
    missing: tuple[str, ...] = ()
    why: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return not self.why

    @property
    def words(self) -> str:
        """What there is to say, for a person."""
        if self.why:
            return f"no: {self.why}"
        return "works; missing: " + ("; ".join(self.missing) or "nothing")

    def __str__(self) -> str:
        if self.why:
            return f"no {self.name}: {self.why}"
        return f"{self.name}, without " + ", ".join(self.missing) if self.missing else self.name

    def report(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "missing": list(self.missing), "works": self.works}


def engines(box: Sandbox) -> list[Engine]:
    """All engines, best first."""
    return [tried(box, name) for name in ENGINES]


def tried(box: Sandbox, name: str, timeout: float | None = None) -> Engine:
    """What one engine can, whatever is asked of `box`. `timeout`: seconds."""
    plain = box.limited(
        engine=name, allow_missing=ALL, strict=False, time=None, wall="10s", memory=None, processes=None
    )
    try:
        done = plain.run(["/bin/sh", "-c", ":"], timeout=timeout)
    except OutriderError as error:
        return Engine(name, why=error.message)
    if not done.ok:
        said = printable(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        return Engine(name, why=f"{done.verdict}: {said or done.message}")
    return Engine(name, done.missing, reasons=done.reasons)
