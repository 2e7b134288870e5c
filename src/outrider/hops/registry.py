"""From a hop's name to its class: the built-in ones first, then entry points in the group `outrider.hops`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from outrider import hops
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.hops.nearness import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "outrider.hops"


@lru_cache(maxsize=1)
def built_in() -> tuple[type[Hop], ...]:
    """The classes of all hops of the house; each call but the first costs nothing."""
    return tuple(getattr(hops, name) for name in sorted(set(hops.FILES.values())))


def find(name: str) -> type[Hop]:
    """The hop class of that name or alias; ConfigError with the nearest name if there is none."""
    if name in hops.FILES:
        kind: type[Hop] = getattr(hops, name)
        return kind
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
    return name in hops.FILES or name in _installed()


def names() -> list[str]:
    """Every hop's name and alias, built in or installed, sorted."""
    return sorted({*hops.FILES, *_installed()})


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
