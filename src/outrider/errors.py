"""Every error that Outrider raises: one tree, each with its data and a hint that says what to do next.

All are picklable (an error may itself have travelled) and `transient` says whether trying again can help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from outrider.harmless import printable_lines


class OutriderError(Exception):
    """The base of all. `str()` gives the message, where it happened, and a `hint:` line."""

    transient: bool = False
    exit_code: ClassVar[int] = 125
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hop: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hop = hop
        self.hint = hint or self.default_hint

    def details(self) -> list[str]:
        """More lines between the message and the hint; a subclass shows its data here."""
        return []

    def __str__(self) -> str:
        lines = [f"{self.hop}: {self.message}" if self.hop else self.message, *self.details()]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return printable_lines("\n".join(lines))  # much of it is what far programs say

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[OutriderError], args: tuple[Any, ...], state: dict[str, Any]) -> OutriderError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _tail(output: str, lines: int = 12) -> list[str]:
    """The last lines of some output, indented, for showing inside an error."""
    return [f"  | {line}" for line in output.rstrip().splitlines()[-lines:]]


def _without(message: str, output: str) -> str:
    """Some output without the lines that the message repeats, or that repeat it."""
    kept = (line for line in output.splitlines() if line.strip() not in message and message not in line)
    return "\n".join(kept)


class RouteError(OutriderError):
    """A hop could not be passed. Names the hop, the command that was run for it and what it said."""

    default_hint = "walk the route with `outrider check ROUTE` to see how far it gets"

    def __init__(
        self,
        message: str,
        *,
        hop: str | None = None,
        hint: str | None = None,
        argv: Sequence[str] = (),
        stderr: str = "",
        returncode: int | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message, hop=hop, hint=hint)
        self.transient = transient
        self.argv = tuple(argv)
        self.stderr = stderr
        self.returncode = returncode

    def details(self) -> list[str]:
        return _tail(_without(self.message, self.stderr))


class FarError(OutriderError):
    """Your code raised at the far end, and its own exception type could not be brought here.

    `kind` is the far type's name, `traceback` the far traceback as text, `far_stderr` the end of what it printed.
    """

    default_hint = "the far traceback above shows where; `outrider debug` stops there"

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        traceback: str = "",
        far_stderr: str = "",
        hop: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hop=hop, hint=hint)
        self.kind = kind
        self.traceback = traceback
        self.far_stderr = far_stderr

    def details(self) -> list[str]:
        return [*self.traceback.rstrip().splitlines(), *_tail(self.far_stderr)]


class CommandFailed(OutriderError):
    """A command run with `check=True` ended with another status than 0. `completed` has all of it."""

    default_hint = "pass check=False to look at the status yourself"

    def __init__(
        self, message: str, *, completed: Any = None, hop: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hop=hop, hint=hint)
        self.completed = completed

    def details(self) -> list[str]:
        stderr = getattr(self.completed, "stderr", b"")
        return _tail(stderr.decode(errors="replace") if isinstance(stderr, bytes) else str(stderr))


class Lost(OutriderError):
    """The far end vanished: a dropped link, a killed process, a node gone. The call may or may not have run."""

    transient = True
    default_hint = "the call may have run: repeat it only if running it twice is harmless"

    def __init__(
        self, message: str, *, stderr: str = "", hop: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hop=hop, hint=hint)
        self.stderr = stderr

    def details(self) -> list[str]:
        return _tail(_without(self.message, self.stderr))


class TimedOut(OutriderError, TimeoutError):
    """The time given was up. What ran at the far end has been ended, with all its processes."""

    default_hint = "give more time with timeout=SECONDS, or look at where it waits with `outrider debug`"


class Cancelled(OutriderError):
    """You cancelled it. What ran at the far end has been ended, with all its processes."""

    exit_code = 130
    default_hint = "nothing is left running; call again when you are ready"


class Refused(OutriderError):
    """A policy says no; nothing was done."""

    default_hint = "the message names the rule; whoever set it can change it"


class SandboxEnded(OutriderError):
    """The jail of a call ended it before it returned. `verdict`: TLE, MLE, OLE, RV, RE or SE; `usage`: what it used."""

    default_hint = "give it more with time=, wall=, memory=, output= or disk=, if that is what it should have"

    def __init__(
        self,
        message: str,
        *,
        verdict: str = "",
        usage: Any = None,
        engine: str = "",
        stderr: str = "",
        hop: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hop=hop, hint=hint)
        self.verdict = verdict
        self.usage = usage
        self.engine = engine
        self.stderr = stderr

    def details(self) -> list[str]:
        return _tail(self.stderr)


class Unserializable(OutriderError):
    """Something in the call, or in its answer, cannot travel."""

    default_hint = "send plain data, or the recipe to make the object there, instead of the object"


class VersionMismatch(OutriderError):
    """Near and far Python (or Outrider) cannot work together for this call. Raised before anything runs."""

    default_hint = (
        "name another interpreter with route.options(python='python3.X'), or move the function to a module"
    )


class ConfigError(OutriderError):
    """A configuration, a route's text or an option is wrong. Names the file, the line and the key where known."""

    exit_code = 2
    default_hint = "`outrider config show --origin` lists what is set, and where"

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        hop: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = ":".join(str(part) for part in (file, line) if part is not None)
        if not where and not hint:
            hint = "a route reads like 'ssh:alice@login | sudo:grader'; docs/reference/text.md has every form"
        super().__init__(f"{where}: {message}" if where else message, hop=hop, hint=hint)
        self.file, self.line, self.key = file, line, key
