"""A hop of one's own: options, a docstring that tells of each, and `wrap`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.hops.base import Hop

_SCRIPT = """\
words=$1 times=$2
shift 2
while [ "$times" -gt 0 ]; do echo "$words" >&2; times=$((times - 1)); done
exec "$@"
"""


@dataclass(frozen=True)
class Shout(Hop):
    """Says `words` on stderr, `times` times, before what follows."""

    words: str = "hello"
    times: int = 1

    name: ClassVar[str] = "shout"
    positional: ClassVar[tuple[str, ...]] = ("words",)

    def wrap(self, command: Command) -> Command:
        return command.replace(["sh", "-c", _SCRIPT, "sh", self.words, str(self.times), *command.argv])
