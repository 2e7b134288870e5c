"""What comes back: a completed command, a completed call, and who answered."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any


def signal_name(number: int) -> str:
    """ "SIGKILL" for 9; a number without a name is named by itself."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class FarEnd:
    """Who serves at the end of a route."""

    host: str
    user: str
    pid: int
    python: tuple[int, int, int]
    executable: str


@dataclass(frozen=True)
class CompletedCommand:
    """A command that ended. `returncode` is negative after a signal, as in subprocess; `duration` is in seconds."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    duration: float
    far: FarEnd

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, such as "SIGKILL"; None if it ended by itself."""
        return signal_name(-self.returncode) if self.returncode < 0 else None

    @property
    def text(self) -> str:
        """stdout as text, without the last newline."""
        return self.stdout.decode(errors="replace").removesuffix("\n")


@dataclass(frozen=True)
class CompletedCall:
    """A call that returned: its value, what it printed, and where it ran for how many seconds."""

    value: Any
    stdout: bytes
    stderr: bytes
    duration: float
    far: FarEnd

    @property
    def host(self) -> str:
        return self.far.host

    @property
    def pid(self) -> int:
        return self.far.pid

    @property
    def python(self) -> tuple[int, int, int]:
        return self.far.python


@dataclass(frozen=True)
class ItemResult:
    """What came of one item: `index` is its place among the items, `name` the member that it went to."""

    index: int
    name: str
    value: Any = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True if the call returned."""
        return self.error is None
