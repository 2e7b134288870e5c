"""Interactive pairs: a contestant and a referee, each in a jail of its own, that talk with each other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outrider.command import Command
from outrider.errors import ConfigError, OutriderError
from outrider.far import wire
from outrider.far.interacting import ALONE
from outrider.near import calls
from outrider.sandboxed.given import Files
from outrider.sandboxed.result import SandboxResult, failed

if TYPE_CHECKING:
    from outrider.near.request import Request
    from outrider.options import OnOutput
    from outrider.sandboxed.session import Sandbox

LINGER = 1.0


@dataclass(frozen=True)
class Program:
    """What is to be run in a sandbox, and not yet begun: made by `Sandbox.program`."""

    box: Sandbox
    command: Command
    files: Files = field(default_factory=dict)
    collect: Sequence[str] = ()

    def order(self) -> dict[str, Any]:
        return self.box.job(self.files, self.collect)


@dataclass(frozen=True)
class Interaction:
    """How a contestant and its referee ended. Of stdout nothing is kept: each was the other's stdin."""

    contestant: SandboxResult
    referee: SandboxResult
    first: str
    """Who ended first: "contestant" or "referee"."""

    @property
    def ok(self) -> bool:
        """True if both verdicts are OK."""
        return self.contestant.ok and self.referee.ok

    @property
    def failed_first(self) -> str | None:
        """Whose verdict is not OK, and if it is both: who of them ended first. What the second did may follow from that."""
        failed = [name for name in ("contestant", "referee") if not getattr(self, name).ok]
        return self.first if len(failed) == 2 else failed[0] if failed else None

    def report(self) -> dict[str, Any]:
        """All but what they printed, as plain data."""
        return {
            "contestant": self.contestant.report(),
            "referee": self.referee.report(),
            "first": self.first,
            "failed_first": self.failed_first,
        }


def broken(message: str) -> dict[str, Any]:
    """The report of a pair that could not be run at all, as plain data."""
    return {
        "contestant": failed(message),
        "referee": failed(message),
        "first": None,
        "failed_first": None,
    }


def program(box: Sandbox, command: Command, files: Files | None, collect: Sequence[str]) -> Program:
    """See `Sandbox.program`."""
    made = Program(box, command, dict(files or {}), collect)
    made.order()  # what cannot be read is told here
    return made


def interact(
    contestant: Program,
    referee: Program,
    *,
    linger: float | None = LINGER,
    timeout: float | None = None,
    on_output: OnOutput | None = None,
) -> Interaction:
    """Run two sandboxed programs that talk: what each prints on stdout is what the other reads on stdin.

    >>> with Sandbox(time="1s", memory="64M", output="1M") as box:
    ...     judge = box.limited(time="5s")
    ...     played = interact(box.program(["./guess"], files=...), judge.program(["./referee"], files=...))
    ...     played.referee.exit_code, played.contestant.verdict, played.failed_first

    Both programs are of one session (`box` and `box.limited(...)`), so that what they say has no way to go, and each
    keeps to the limits of its own box. Both need a limit of time: two that wait for each other end by that. When one
    ends, or closes its stdout, the other reads an end of file. Writing to a referee that has ended breaks the
    contestant's pipe; what the referee tells a contestant that has ended is dropped, so that it can go on to its
    judgement. A contestant that goes on for `linger` seconds after the referee's end is ended with TLE; None: by its
    own limits only. `timeout`: seconds for all of it, after which both are ended, and TimedOut is raised.
    `on_output(name, piece)`: called with what they print on stderr, `name` being "contestant" or "referee".
    """
    _check(contestant, referee, linger)
    box = contestant.box
    limit = box.timeout if timeout is None else timeout
    box.connection.provide("commands", "pump", "channel", "sandbox", "interacting")
    players = {"referee": _Player(referee), "contestant": _Player(contestant)}
    first = None
    try:
        for name, player in players.items():
            joined = {"with": first, "referee": name == "referee", "linger": linger}
            first = player.start(joined, limit, _named(on_output, name))
        for player in players.values():
            box.connection.wait(player.begun[0], limit)
    except BaseException:
        for player in players.values():
            player.cancel()
        raise
    for player in players.values():
        player.check_begun()
    ended = {name: player.ended() for name, player in players.items()}
    results = {name: player.result() for name, player in players.items()}
    return Interaction(**results, first=min(("contestant", "referee"), key=ended.__getitem__))


class _Player:
    """One of the two, under way."""

    def __init__(self, program: Program) -> None:
        self.program, self.box = program, program.box
        self.order = program.order()
        self.begun: list[Request] = []

    def start(self, joined: dict[str, Any], limit: float | None, on_output: OnOutput | None) -> int:
        more = {"sandbox": self.order, "joined": joined, "stdin": True}
        request = self.box.start(self.program.command, timeout=limit, on_output=on_output, more=more)
        self.begun.append(request)
        return request.ident

    def cancel(self) -> None:
        for request in self.begun:
            if not request.done:
                with suppress(OutriderError):
                    self.box.connection.cancel_and_wait(request)

    def check_begun(self) -> None:
        """Raise why it was refused, unless that is only because the other was."""
        kind, _, segments = self.begun[0].value
        if kind == wire.RAISED and calls.answer(segments, {"message": str})["message"] != ALONE:
            self.result()

    def result(self) -> SandboxResult:
        return self.box.judged(self.program.command, self.begun[0], self.order["outputs"])

    def ended(self) -> float:
        """When it ended, by a clock of the far end's."""
        kind, _, segments = self.begun[0].value
        if kind == wire.RAISED:
            self.result()
        return float(calls.answer(segments, {"ended": float}, self.box.answer_limit)["ended"])


def _check(contestant: Program, referee: Program, linger: float | None) -> None:
    for name, player in (("contestant", contestant), ("referee", referee)):
        if not isinstance(player, Program):
            raise TypeError(
                f"the {name} is no program of a sandbox: {player!r}; box.program([...]) makes one"
            )
        if player.box.hop.limits()["wall"] is None:
            raise ConfigError(
                f"the {name} has no limit of time: two that wait for each other would never end",
                hop=player.box.place,
                key="wall",
                hint="set time= or wall= for both: box.limited(wall='10s')",
            )
    if contestant.box.connection is not referee.box.connection:
        raise ConfigError(
            "the contestant and the referee are of two sessions",
            hop=referee.box.place,
            hint="take both from one: box.program([...]) and box.limited(...).program([...])",
        )
    if linger is not None and linger < 0:
        raise ConfigError(f"linger is a number of seconds, not {linger!r}", key="linger", hint="linger=1")


def _named(on_output: OnOutput | None, name: str) -> OnOutput | None:
    if on_output is None:
        return None
    told = on_output
    return lambda _, piece: told(name, piece)
