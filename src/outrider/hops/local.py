"""`local`: no step at all; the command runs where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.hops.base import Hop


@dataclass(frozen=True)
class Local(Hop):
    """The machine and user that the route has reached already. For a route with no other hop: `local()`."""

    name: ClassVar[str] = "local"
    outlived: ClassVar[bool] = True

    def wrap(self, command: Command) -> Command:
        return command
