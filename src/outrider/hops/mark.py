"""A mark between two hops of a traced route: what stands behind a hop says that it is passed, then goes on as if unasked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.hops.base import Hop

# A NUL in front, as no login prints one; on stdout, where the far end greets, and where all that comes before that is
# set aside.
_TELL = 'printf "\\0outrider passed %s\\n" "$1"; shift; exec "$@"'
PATTERN = rb"\0outrider passed (\d{1,4})\n"


@dataclass(frozen=True)
class Mark(Hop):
    """Prints that hop `number` (from 0) is passed. Made by `Chain.traced`; no hop for routes."""

    number: int

    name: ClassVar[str] = "mark"

    def wrap(self, command: Command) -> Command:
        return Command(("sh", "-c", _TELL, "sh", str(self.number), *command.argv), command.env, command.cwd)
