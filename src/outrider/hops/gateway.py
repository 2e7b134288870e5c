"""`gateway`: a place that has no streams, where a program of this machine can only run one command line after the other."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import ClassVar, Self

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.options import Words
from outrider.hops.wording import line_with, own_program_missing


@dataclass(frozen=True, kw_only=True)
class Visited(Hop):
    """A hop whose place is visited, one command after the other; `outrider.connect` makes a stream of that."""

    KIND: ClassVar[str]
    """Which connector of `outrider.connect` makes the visits."""

    patience: float = 90.0
    python: str = "python3"

    leaves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.patience < float("inf"):
            raise ConfigError(
                f"patience is a number of seconds, 1 at the least, not {self.patience!r}",
                hop=self.name,
                key="patience",
            )

    def told(self) -> dict[str, object]:
        """What the connector is told."""
        raise NotImplementedError

    def here(self) -> Self:
        return dataclasses.replace(self, python=sys.executable) if self.python == "python3" else self

    def wrap(self, command: Command) -> Command:
        options = json.dumps(self.told(), ensure_ascii=False, sort_keys=True)
        program = (
            self.python,
            "-P",
            "-m",
            "outrider.connect",
            self.KIND,
            options,
            f"{self.patience:g}",
            "--",
        )
        return Command((*program, *command.as_argv()))

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        line = line_with(stderr, r"^outrider gateway: .* -- ")
        if line is not None:
            message, _, hint = line.removeprefix("outrider gateway: ").partition(" -- ")
            transient = hint.endswith(" (trying again may help)")
            return Diagnosis(message, hint.removesuffix(" (trying again may help)"), transient)
        if line_with(stderr, r"No module named '?outrider"):
            return Diagnosis(
                "Outrider is not installed where this hop starts",
                "install it there, or say which Python has it with python=",
            )
        install = "say which Python has Outrider where this hop starts, with python="
        return own_program_missing(stderr, self.python, install) if self.python != "python3" else None


@dataclass(frozen=True)
class Gateway(Visited):
    """Runs what follows where the program `argv` leads: its last word is a command line, and it prints what that printed.

    `argv`: the program and its own words, such as `["site-run", "--machine", "login1"]`. It gets no stdin. There must be a
    python3 (3.8 or newer) there; the stream is kept in the home folder there. What is sent stands on its command lines,
    where `ps` shows it to others. `upload`: not so with this one, a program whose last word is a path there, and whose stdin
    is what is to be in that file. `patience`: seconds without a visit after which what was started there is ended.
    `python`: the Python with Outrider that makes the visits, where this hop starts (default: this one).
    """

    argv: Words
    upload: Words = ()

    name: ClassVar[str] = "gateway"
    positional: ClassVar[tuple[str, ...]] = ("argv",)
    KIND: ClassVar[str] = "program"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.argv or not self.argv[0]:
            raise ConfigError("no program is named", hop=self.name, key="argv", hint='gateway(["site-run"])')

    def told(self) -> dict[str, object]:
        return {"argv": list(self.argv), **({"upload": list(self.upload)} if self.upload else {})}
