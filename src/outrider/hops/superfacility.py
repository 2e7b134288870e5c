"""`superfacility`: a machine of NERSC, by its REST interface."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from outrider.errors import ConfigError
from outrider.hops.gateway import Visited


@dataclass(frozen=True)
class Superfacility(Visited):
    """Runs what follows on a login node of a NERSC machine, by the Superfacility API: no ssh, no password, no open port.

    `machine`: as the API names it. `key`: the file with the API key, or the beginning of its name in `~/.superfacility`
    (default: the only one there). `api_url`, `token_url`: of another installation of that API (default: NERSC's).
    `patience`: seconds without a visit after which what was started there is ended.
    `python`: the Python with Outrider and `sfapi_client` that speaks to it, where this hop starts (default: this one).
    """

    machine: str = "perlmutter"
    key: str | None = None
    api_url: str | None = None
    token_url: str | None = None

    name: ClassVar[str] = "superfacility"
    positional: ClassVar[tuple[str, ...]] = ("machine",)
    KIND: ClassVar[str] = "superfacility"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.machine):
            raise ConfigError(f"not the name of a machine: {self.machine!r}", hop=self.name, key="machine")
        for name in ("api_url", "token_url"):
            url = getattr(self, name)
            if url is not None and not re.match(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]", url):
                raise ConfigError(
                    f"{name} must begin with https://: a key would be read on the way",
                    hop=self.name,
                    key=name,
                )

    def told(self) -> dict[str, object]:
        given = {name: getattr(self, name) for name in ("key", "api_url", "token_url")}
        return {
            "machine": self.machine,
            **{name: value for name, value in given.items() if value is not None},
        }
