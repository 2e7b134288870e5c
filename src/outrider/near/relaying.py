"""The far side of a `relay` hop: the host, not the caller, says where the rest of the way leads."""

from __future__ import annotations

from outrider.command import Command
from outrider.config import Config
from outrider.errors import ConfigError
from outrider.far.loader import LOADER
from outrider.near.opening import with_sharing_settled


def start_command(name: str) -> Command:
    """What starts a far end at the end of this host's route `name`. Raises ConfigError if none is configured.

    The project's file is left out: whoever chose the current folder may have fewer rights than we do.
    """
    settings = Config.load(project=False)
    chain = settings.route(settings.route_text(name))
    for hop in chain.hops:
        if hop.prompts():
            raise ConfigError(
                f"the route {name!r} asks for a password, and nobody is there to answer",
                hop=hop.name,
                key=f"routes.{name}",
                hint="let a sudoers rule with NOPASSWD allow exactly this step",
            )
    chain = with_sharing_settled(chain)
    python = settings.option_defaults().get("python", "python3")
    return chain.wrap(Command([python, "-c", LOADER]))
