"""`env`: environment variables for everything further in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.hops.options import Pairs


@dataclass(frozen=True, init=False)
class Env(Hop):
    """Sets `variables` for what follows: `env({"A": "1"})` or `env(A="1")`.

    At the end of a route they travel on the wire; before another hop they stand on a command line, where other
    users of that machine can see them. A variable set further in wins.
    """

    variables: Pairs = ()

    name: ClassVar[str] = "env"
    positional: ClassVar[tuple[str, ...]] = ("variables",)
    changes_only: ClassVar[bool] = True
    outlived: ClassVar[bool] = True
    gathers: ClassVar[str] = "variables"

    def __init__(self, variables: Pairs = (), **more: str) -> None:
        object.__setattr__(self, "variables", variables)
        self.__post_init__()
        object.__setattr__(self, "variables", {**dict(self.variables), **more})
        self.__post_init__()
        for name in dict(self.variables):
            if not name or "=" in name:
                raise ConfigError(f"not the name of a variable: {name!r}", hop=self.name, key="variables")

    def wrap(self, command: Command) -> Command:
        return Command(command.argv, {**dict(self.variables), **command.env}, command.cwd)

    def settings(self) -> dict[str, object]:
        return {"env": dict(self.variables)}
