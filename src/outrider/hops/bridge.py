"""`bridge`: out of a container, to its host."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.wording import line_with

_CLIENT = """\
c=${1:-${OUTRIDER_BRIDGE:-/run/outrider-bridge}}/v1/client.sh
[ -r "$c" ] || { echo "outrider bridge: no server in ${c%/v1/client.sh}" >&2; exit 125; }
shift
exec sh "$c" "$@"
"""
_MESSAGES = (
    (
        r"no server in|has ended|is gone",
        "the host serves no bridge",
        "start one on the host: outrider bridge serve",
    ),
    (
        r"not allowed",
        "the host's policy forbids it",
        "allow it on the host: outrider bridge serve --allow NAME",
    ),
    (r"does not exist on the host", "the folder is not on the host", "bind it, or put cwd() behind this hop"),
    (r"outrider bridge: ", "the bridge cannot be passed", "`outrider bridge status` looks at both its ends"),
)


@dataclass(frozen=True)
class Bridge(Hop):
    """Runs what follows on the host of the container in which this process runs, through the host's `outrider bridge serve`.

    `dir`: the bridge's folder as seen in here (default: $OUTRIDER_BRIDGE, else /run/outrider-bridge). The program
    that starts what follows (`srun` of `bridge() | slurm()`, `python3` of `bridge()` alone) must be allowed on the host.
    """

    dir: str | None = None

    name: ClassVar[str] = "bridge"
    positional: ClassVar[tuple[str, ...]] = ("dir",)
    leaves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dir is not None and not posixpath.isabs(self.dir):
            raise ConfigError("the bridge's folder is an absolute path", hop=self.name, key="dir")

    def wrap(self, command: Command) -> Command:
        return Command(("sh", "-c", _CLIENT, "sh", self.dir or "", *command.as_argv()))

    def shown(self, command: Command) -> Command:
        return Command(("sh", f"{self.dir or '$OUTRIDER_BRIDGE'}/v1/client.sh", *command.as_argv()))

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        said = line_with(stderr, r"outrider bridge: ")
        for pattern, message, hint in _MESSAGES if said else ():
            line = line_with(said or "", pattern)
            if line:
                return Diagnosis(f"{message}: {line}", hint)
        return None
