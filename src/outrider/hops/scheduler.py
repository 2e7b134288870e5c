"""What `slurm` and `flux` share: the resource words, and an environment that does not change the launcher itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.hops.options import Words
from outrider.hops.sizes import seconds, size


@dataclass(frozen=True, kw_only=True)
class Scheduler(Hop):
    """The resources that both understand; see `slurm` and `flux`."""

    OWN: ClassVar[tuple[str, ...]] = ()
    """Variables that begin so are the launcher's own."""

    nodes: int | None = None
    tasks: int = 1
    cpus: int | None = None
    memory: str | int | None = None
    time: str | int | float | None = None
    gpus: str | int | None = None
    job_name: str | None = None
    extra: Words = ()
    terminal: bool = False

    leaves: ClassVar[bool] = True
    scheduler: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("nodes", "tasks", "cpus"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is at least 1, not {value}", hop=self.name, key=name)
        if self.memory is not None:
            size(self.memory, hop=self.name)
        if self.time is not None:
            seconds(self.time, hop=self.name)

    def _launched(self, command: Command) -> tuple[dict[str, str], tuple[str, ...]]:
        """The environment to start the launcher with, which hands it on, and the argv for it to run.

        What would change the launcher itself is set inside. The folder too: launchers go on in another one, with a
        mere warning, where it is missing.
        """

        def held(name: str) -> bool:
            return name.startswith((*self.OWN, "LD_")) or name in ("PATH", "HOME")

        outside = {name: value for name, value in command.env.items() if not held(name)}
        inside = {name: value for name, value in command.env.items() if held(name)}
        return outside, Command(command.argv, inside, command.cwd).as_argv()


def flags(*pairs: tuple[str, object]) -> Iterator[str]:
    """`--name=value` for every pair whose value is not None."""
    return (f"--{name}={value}" for name, value in pairs if value is not None)
