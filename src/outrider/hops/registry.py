"""From a hop's name to its class: the built-in ones first, then entry points in the group `outrider.hops`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from outrider.errors import ConfigError
from outrider.hops.apptainer import Apptainer
from outrider.hops.base import Hop
from outrider.hops.cwd import Cwd
from outrider.hops.docker import Docker
from outrider.hops.env import Env
from outrider.hops.flux import Flux
from outrider.hops.local import Local
from outrider.hops.login import Login
from outrider.hops.nearness import nearest
from outrider.hops.podman import Podman
from outrider.hops.relay import Relay
from outrider.hops.slurm import Slurm
from outrider.hops.ssh import Ssh
from outrider.hops.sudo import Sudo
from outrider.hops.tempdir import Tempdir

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "outrider.hops"

BUILT_IN: tuple[type[Hop], ...] = (
    Local,
    Cwd,
    Env,
    Tempdir,
    Login,
    Ssh,
    Sudo,
    Relay,
    Docker,
    Podman,
    Apptainer,
    Slurm,
    Flux,
)
_BY_NAME = {word: kind for kind in BUILT_IN for word in (kind.name, *kind.aliases)}


def find(name: str) -> type[Hop]:
    """The hop class of that name or alias; ConfigError with the nearest name if there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    found = _installed().get(name)
    if found is None:
        raise ConfigError(
            f"there is no hop {name!r}",
            key=name,
            hint=nearest(name, names()) or f"the hops are {', '.join(names())}",
        )
    return _load(found)


def known(name: str) -> bool:
    """Whether some hop has that name, without loading it."""
    return name in _BY_NAME or name in _installed()


def names() -> list[str]:
    """Every hop's name and alias, built in or installed, sorted."""
    return sorted({*_BY_NAME, *_installed()})


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and most routes need no hop but ours

    return {found.name: found for found in entry_points(group=GROUP)}


def _load(found: EntryPoint) -> type[Hop]:
    whose = found.dist.name if found.dist is not None else found.value
    try:
        kind = found.load()
    except Exception as error:
        raise ConfigError(
            f"the hop {found.name!r} of the package {whose} cannot be loaded: {type(error).__name__}: {error}",
            key=found.name,
            hint=f"update or remove {whose}",
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Hop)) or found.name not in (kind.name, *kind.aliases):
        raise ConfigError(
            f"the package {whose} offers {found.value} as the hop {found.name!r}, which is no Hop class of that name",
            key=found.name,
            hint=f"tell the authors of {whose}: outrider.testing.check_hop finds this",
        )
    return kind
