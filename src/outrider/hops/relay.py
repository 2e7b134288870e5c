"""`relay`: the rest of the way is the host's own business."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.far.loader import LOADER
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.wording import line_with, own_program_missing


@dataclass(frozen=True)
class Relay(Hop):
    """Goes on by the route that the host reached so far has configured as `route`; needs Outrider installed there.

    The command started there is exactly `outrider relay ROUTE`, whatever is called, so that sudoers can allow it
    alone. So it must be the last hop but for `cwd`, `env` and `tempdir`. `program`: which outrider to run.
    """

    route: str
    program: str = "outrider"

    name: ClassVar[str] = "relay"
    positional: ClassVar[tuple[str, ...]] = ("route",)
    leaves: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w][\w.-]*", self.route):
            raise ConfigError(f"not the name of a route: {self.route!r}", hop=self.name, key="route")

    def wrap(self, command: Command) -> Command:
        if command.argv[1:] != ("-c", LOADER) or command.env or command.cwd is not None:
            raise ConfigError(
                "a relay must be the last hop, and carries only the far end",
                hop=self.name,
                hint="put the hops behind it into the configuration of the host that it relays through",
            )
        return Command((self.program, "relay", self.route))

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        line = line_with(stderr, r"no configured route|no hop and no configured route|no route named")
        if line and self.route in line:
            return Diagnosis(
                f"that host has no such route: {line}",
                "configure it there, in the config.toml of the user that you are there",
            )
        return own_program_missing(
            stderr, self.program, "install Outrider there, or give its path with program="
        )
