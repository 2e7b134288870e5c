"""Outrider's own options of a route or session, apart from the arguments of what is called on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from outrider.errors import ConfigError
from outrider.hops.nearness import nearest
from outrider.hops.sizes import seconds, size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OnOutput = Callable[[str, bytes], None]
"""Called with "stdout" or "stderr" and a piece of what was printed there, as it arrives."""

Paths = Sequence[str] | Mapping[str, str]
"""Files to copy: paths that are the same on both sides, or {from: to}."""


LIMITS = ("nice", "memory", "cpu_time", "processes", "open_files")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to open and use a far end.

    timeout: seconds that one call, command or transfer may take; None: any time.
    open_timeout: seconds from the start until the far end greets; None: as long as the hops themselves wait (a
        scheduler's queue may take days). Where no hop is a scheduler's, None means 60.
    python: the far interpreter, a name or a path; 3.8 or newer.
    cwd, env: folder and additional environment of the far end. They travel on the wire, no process list shows them.
    trust: "pickle": values and exceptions come back as what they are. "data": only plain data is accepted, and
        nothing that comes back can run code here.
    show: print what calls print, live and labelled with the place. on_output: take it yourself instead.
    push, pull: files or folders that go there before each call, and come back after it, also after one that raised:
        so changes to files are kept. A list names paths that are the same on both sides, relative ones against this
        process's folder here and the far end's folder there; a mapping gives both, {from: to}.
    max_answer: bytes of one answer and what was printed for it, at the most; None: 256 MiB with trust="data", else 64 GiB.
        Output beyond it is left out, with a note; a larger answer fails its call. At least 64 KiB.
    debug: allow this route to start a debugger for a call (`outrider debug`).
    heartbeat: seconds after which a far end that was not heard is asked for a sign of life; after three such intervals
        in silence the session ends with Lost. None: no heartbeats.
    patience: seconds after which the far end, with heartbeats, ends its work when it has heard nothing from here; at
        least six heartbeats. None: 60, or 20 heartbeats if that is more.
    reconnect: how often in a row a stream that broke is opened again. Calls that were declared idempotent are then
        repeated, the others raise Lost. 0: never.
    idempotent: calls and commands may run twice: what is unanswered when the stream breaks is repeated.
    detach: how long the far end goes on with its work when its near end is gone, seconds or "2h", for another near end to
        come to it. None: it ends its work with the near end.
    isolate: run each call in a process of its own, forked from the far end, that can be ended alone and at once.
    nice, memory, cpu_time, processes, open_files: limits for the far end, or with isolate for each call: how much nicer to
        be; bytes of data of one process ("512M", "2G"); seconds of processor time of one process; processes of the far
        account in all; descriptors of one process. What a call starts inherits them.
    """

    timeout: float | None = None
    open_timeout: float | None = None
    python: str = "python3"
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    trust: Literal["pickle", "data"] = "pickle"
    show: bool = True
    on_output: OnOutput | None = None
    push: Paths = ()
    pull: Paths = ()
    max_answer: int | None = None
    debug: bool = False
    heartbeat: float | None = None
    patience: float | None = None
    reconnect: int = 0
    idempotent: bool = False
    detach: str | float | None = None
    isolate: bool = False
    nice: int | None = None
    memory: str | int | None = None
    cpu_time: int | None = None
    processes: int | None = None
    open_files: int | None = None

    def __post_init__(self) -> None:
        if self.trust not in ("pickle", "data"):
            raise ConfigError(f"trust is 'pickle' or 'data', not {self.trust!r}", key="trust")
        for name in ("push", "pull"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(
                    f"{name} is a list of paths or a mapping {{from: to}}, not one text", key=name
                )
        if self.max_answer is not None and not self.max_answer >= 1 << 16:
            raise ConfigError(
                f"max_answer is at least 65536 bytes, not {self.max_answer!r}", key="max_answer"
            )
        for name, value in self.limits.items():
            least = -20 if name == "nice" else 1
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} is a whole number of at least {least}, not {value!r}", key=name)
        if type(self.reconnect) is not int or self.reconnect < 0:
            raise ConfigError(
                f"reconnect is a whole number of attempts, 0 for none, not {self.reconnect!r}",
                key="reconnect",
            )
        if self.detach is not None:
            seconds(self.detach, hop="options", key="detach")
        for name in ("timeout", "open_timeout", "heartbeat", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is a number of seconds above 0 or None, not {value!r}", key=name)
        self._check_patience()

    def _check_patience(self) -> None:
        if self.patience is None:
            return
        if self.heartbeat is None:
            raise ConfigError(
                "patience counts the silence between heartbeats, and there are none",
                key="patience",
                hint="set heartbeat=SECONDS, too",
            )
        if self.patience < 6 * self.heartbeat:
            raise ConfigError(
                f"patience is at least six heartbeats, {6 * self.heartbeat:g} s, not {self.patience!r}",
                key="patience",
            )

    @property
    def limits(self) -> dict[str, int]:
        """The limits that are set, memory in bytes."""
        found = {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}
        if "memory" in found:
            found["memory"] = size(str(found["memory"]), hop="options")
        return found

    @property
    def answer_limit(self) -> int:
        """`max_answer`, or what stands for None."""
        if self.max_answer is not None:
            return self.max_answer
        return 1 << 28 if self.trust == "data" else 1 << 36

    def changed(self, changes: Mapping[str, Any]) -> Options:
        """These options with some changed; a name that is none is a ConfigError."""
        return changed(self, changes)


Changed = TypeVar("Changed", bound="DataclassInstance")


def changed(options: Changed, changes: Mapping[str, Any]) -> Changed:
    """A dataclass of options with some changed; a name that is none is a ConfigError."""
    names = sorted(item.name for item in fields(options))
    for name in changes:
        if name not in names:
            hint = nearest(name, names) or f"the options are {', '.join(names)}"
            raise ConfigError(f"no option {name!r}", key=name, hint=hint)
    return replace(options, **changes)
