"""A chain of hops, composed: still no I/O, only which command to run here so that another runs there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from outrider import text as _text
from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.mark import Mark
from outrider.hops.options import given
from outrider.hops.wording import common


@dataclass(frozen=True)
class Step:
    """One step of a chain: the command that is run at `place`, which passes `hop` (None: the command has arrived).

    `shown` is the same for the eye, with long scripts of ours as a few words.
    """

    place: str
    hop: Hop | None
    command: Command
    shown: Command

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments, as they are started at this place."""
        return self.command.argv

    def __str__(self) -> str:
        return f"{self.place}: {_one_line(self.command)}"

    def brief(self) -> str:
        """The step in one line, with long scripts of ours as a few words."""
        words = [_cut(word) for word in self.shown.argv]
        return f"{self.place}: {_one_line(self.shown.replace(words))}"


def _cut(word: str) -> str:
    """A word of several lines by its first one: nobody reads a program in the middle of a command."""
    first, newline, _ = word.partition("\n")
    return f"{first} …" if newline and len(word) > 100 else word


def _one_line(command: Command) -> str:
    line = command.as_shell().removeprefix("exec ")
    return line.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")


class Explanation(list[Step]):
    """The steps of a chain from the near end to the far end; printed as one line a step."""

    def __str__(self) -> str:
        return "\n".join(str(step) for step in self)


LAST_LINES, LONG_LINE = 100, 500
"""Of what the hops print: as much of it is looked at to say what went wrong."""


class Chain:
    """Hops in order, from the near end outward. Immutable; `|` joins hops, chains and texts."""

    __slots__ = ("_hops",)
    _hops: tuple[Hop, ...]

    def __init__(self, *hops: Hop) -> None:
        for hop in hops:
            if not isinstance(hop, Hop):
                raise TypeError(f"not a hop: {hop!r}; a text becomes hops by joining it: route | {hop!r}")
        for hop in hops[:-1]:
            if hop.last:
                raise ConfigError(
                    f"a {hop.name} is the last hop of a route: what stands behind it would run inside",
                    hop=hop.name,
                    hint=f"put it at the end, and the other hops before it; there can be one {hop.name} only",
                )
        object.__setattr__(self, "_hops", tuple(hops))

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The hops, the nearest first."""
        return self._hops

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} never changes; make another one with | instead")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._hops

    # -- composing

    def _with_hops(self, hops: tuple[Hop, ...]) -> Self:
        """The same kind of chain, with all else that it carries, over other hops."""
        return type(self)(*hops)

    @classmethod
    def _resolver(cls) -> _text.Resolve | None:
        """What knows configured routes by name, for texts; none here."""
        return None

    @classmethod
    def _hops_of(cls, other: object) -> tuple[Hop, ...] | None:
        if isinstance(other, Hop):
            return (other,)
        if isinstance(other, Chain):
            return other.hops
        return _text.parse(other, cls._resolver()) if isinstance(other, str) else None

    def __or__(self, other: Hop | Chain | str) -> Self:
        hops = self._hops_of(other)
        return NotImplemented if hops is None else self._with_hops((*self._hops, *hops))

    def __ror__(self, other: Hop | Chain | str) -> Self:
        hops = self._hops_of(other)
        return NotImplemented if hops is None else self._with_hops((*hops, *self._hops))

    def prefix(self, count: int) -> Self:
        """The first `count` hops."""
        return self._with_hops(self._hops[:count])

    def tail_settings(self) -> tuple[Self, dict[str, Any]]:
        """The chain without the hops at its end that only change environment or folder, and what those change.

        Further in wins; a relative folder continues the one before it. A temporary folder replaces a folder set
        before it, and one set after it is inside it.
        """
        count = len(self._hops)
        while count and self._hops[count - 1].changes_only and self._hops[count - 1].settings():
            count -= 1
        settings: dict[str, Any] = {}
        for hop in self._hops[count:]:
            settings = _merged(settings, hop.settings())
        return self.prefix(count), settings

    # -- using

    def wrap(self, command: Command) -> Command:
        """The command to run at the near end so that `command` runs at the far end."""
        return self._commands(command)[0]

    def _commands(self, command: Command, *, shown: bool = False) -> list[Command]:
        """The command at every place: the near end first, the far end last."""
        commands = [command]
        for hop in reversed(self._started()):
            commands.append(hop.shown(commands[-1]) if shown else hop.wrap(commands[-1]))
        return commands[::-1]

    def _started(self) -> list[Hop]:
        # Only on the near end's own machine can the near end prepare what here() relies on.
        hops, near = [], True
        for hop in self._hops:
            hops.append(hop.here() if near else hop)
            near = near and not hop.leaves
        return hops

    def traced(self) -> Self:
        """The chain whose programs tell how far they get, with a mark between hops where something can be put there.

        Behind sudo or a relay nothing changes: what is started there may be a matter of exact words. Nor is there a
        mark where the route ends: the far end itself tells that it is reached.
        """
        hops: list[Hop] = []
        near = True
        for index, hop in enumerate(self._hops):
            # Shared connections are found by their options, so those are settled before more is asked to be told.
            hops.append((hop.here() if near else hop).traced())
            near = near and not hop.leaves
            if hop.exact:
                hops.extend(self._hops[index + 1 :])
                break
            passes = not hop.changes_only and hop.name != "local"
            if passes and index < len(self._hops) - 1:
                hops.append(Mark(index))
        return self._with_hops(tuple(hops))

    def with_terminal(self) -> Self:
        """The chain through which a terminal reaches as far as its hops allow."""
        return self.each(lambda hop: hop.with_terminal())

    def each(self, change: Callable[[Hop], Hop]) -> Self:
        """The chain of what `change` makes of each hop."""
        return self._with_hops(tuple(change(hop) for hop in self._hops))

    def explain(self, command: Command | None = None) -> Explanation:
        """The command at every place, the near end first, and the hop that it passes."""
        command = command or Command(["true"])
        commands, shown = self._commands(command), self._commands(command, shown=True)
        hops: list[Hop | None] = [*self._hops, None]
        places = ["here", *(f"after {_short_name(hop)}" for hop in self._hops)]
        return Explanation(
            Step(place, hop, found, brief)
            for place, hop, found, brief in zip(places, hops, commands, shown, strict=True)
        )

    def diagnose(self, stderr: str, returncode: int | None) -> tuple[int, Diagnosis] | None:
        """Which hop could not be passed, by its index, and why, judged by all that came on stderr; None if unknown.

        The innermost hop that knows the message is blamed: whoever speaks has been reached. Of several of a kind
        it is the one that the message names.
        """
        stderr = _end_of(stderr)
        found = [
            (index, told)
            for index, hop in enumerate(self._hops)
            if (told := hop.diagnose(stderr, returncode))
        ]
        found.reverse()
        for index, told in found:
            same = [item for item in found if type(self._hops[item[0]]) is type(self._hops[index])]
            return next(
                (item for item in same if _named(self._hops[item[0]], item[1].message)), (index, told)
            )
        told_by_all = common(stderr)
        return None if told_by_all is None else (max(len(self._hops) - 1, 0), told_by_all)

    # -- forms

    def to_string(self) -> str:
        """The chain as text; `parse` leads back to an equal one."""
        return _text.render(self._hops)

    def label(self) -> str:
        """The chain in few words, for messages: each hop by name and goal, no other option (some are secret)."""
        return " | ".join(_short_name(hop) for hop in self._hops) or "local"

    def to_config(self) -> list[dict[str, Any]]:
        """The chain as a list of tables, for a configuration file; `from_config` leads back to an equal one."""
        return _text.to_config(self._hops)

    @classmethod
    def parse(cls, text: str, resolve: _text.Resolve | None = None) -> Self:
        """A chain from its text; `resolve` knows configured routes by name."""
        return cls(*_text.parse(text, resolve or cls._resolver()))

    @classmethod
    def from_config(
        cls, hops: str | Iterable[str | Mapping[str, object]], resolve: _text.Resolve | None = None
    ) -> Self:
        """A chain from a configuration: a text, or a list of texts and tables."""
        return cls(*_text.from_config(hops, resolve or cls._resolver()))

    def __str__(self) -> str:
        try:
            return self.to_string()
        except ConfigError:  # a callable as an option: it still can be shown
            return repr(self)

    def __repr__(self) -> str:
        if len(self._hops) > 1:
            return " | ".join(repr(hop) for hop in self._hops)
        return f"{type(self).__name__}({', '.join(repr(hop) for hop in self._hops)})"

    def __eq__(self, other: object) -> bool:
        return self._hops == other._hops if isinstance(other, Chain) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._hops)

    def __len__(self) -> int:
        return len(self._hops)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Hop]:
        return iter(self._hops)


def _merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**outer, **inner}
    if "env" in outer and "env" in inner:
        merged["env"] = {**outer["env"], **inner["env"]}
    if "cwd" in outer and "cwd" in inner:
        merged["cwd"] = posixpath.join(outer["cwd"], inner["cwd"])
    if "tempdir" in inner and "cwd" in outer and "cwd" not in inner:
        del merged["cwd"]
    return merged


def _short_name(hop: Hop) -> str:
    if not (hop.leaves or hop.changes_only):  # login: what it runs first is no goal, and may hold a secret
        return hop.name
    short, _ = hop.short()
    return f"{hop.name}:{short}" if short else hop.name


def _end_of(stderr: str) -> str:
    """The last lines, none of them long. A far end may have written this to keep the hops' patterns busy for hours."""
    return "\n".join(line[:LONG_LINE] for line in stderr[-65536:].splitlines()[-LAST_LINES:])


def _named(hop: Hop, message: str) -> bool:
    """Whether the message names what this hop goes to: its host, user, image or container."""
    port = re.search(r"\bport (\d+)", message)
    if port and getattr(hop, "port", None) not in (None, int(port[1])):
        return False
    goals = [given(hop).get(name) for name in (*hop.positional, "container")]
    words = message.replace("'", " ").replace('"', " ").replace(":", " : ").replace("@", " @ ").split()
    return any(isinstance(goal, str) and (goal in words or f"'{goal}'" in message) for goal in goals)
