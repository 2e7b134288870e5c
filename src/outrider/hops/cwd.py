"""`cwd`: the folder in which everything further in runs."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop

_HOME = 'cd -- "$HOME/$1" && shift && exec "$@"'


@dataclass(frozen=True)
class Cwd(Hop):
    """Runs what follows in the folder `path`, which must exist there.

    A relative path starts from where the hop before it arrives: after ssh, the home folder. `~`, alone or
    before a slash, is the home folder of who runs there; nothing else in it is expanded.
    """

    path: str

    name: ClassVar[str] = "cwd"
    positional: ClassVar[tuple[str, ...]] = ("path",)
    changes_only: ClassVar[bool] = True
    outlived: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
            raise ConfigError("the folder is empty", hop=self.name, key="path")

    def wrap(self, command: Command) -> Command:
        if self.path == "~" or self.path.startswith("~/"):
            return Command(("sh", "-c", _HOME, "sh", self.path[1:].strip("/") or ".", *command.as_argv()))
        return Command(
            command.argv, command.env, posixpath.join(self.path, command.cwd or "").rstrip("/") or "/"
        )

    def settings(self) -> dict[str, object]:
        return {"cwd": self.path}

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for line in stderr.splitlines():
            if re.search(r"\bcd: ", line) and self.path in line:
                return Diagnosis(
                    f"cannot enter the folder: {line.strip()}",
                    f"make {self.path} there, or name another folder",
                )
        return None
