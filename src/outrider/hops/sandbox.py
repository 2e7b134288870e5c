"""`sandbox`: untrusted code, limited, isolated and measured; the last hop of a route."""

from __future__ import annotations

import posixpath
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.hops.options import Pairs, Words
from outrider.hops.sizes import duration, size

ENGINES = ("native", "isolate", "bwrap", "sio2jail", "proot", "none")
_AMOUNTS = {"time": duration, "wall": duration, "memory": size, "output": size, "disk": size, "stack": size}
_COUNTS = ("processes", "inodes", "open_files")


@dataclass(frozen=True)
class Sandbox(Hop):
    """Runs each command and each call of what follows in a fresh jail, and says how it ended and what it used.

    Limits, of all its processes together: `time`: of the processor ("2s", "500ms"); `wall`: time that passes (with `time`
    alone: three times that and two seconds, so that what only sleeps ends, too); `memory`
    ("256M"); `processes`, threads among them; `output`: bytes on stdout and stderr; `disk`: bytes that it may write, and
    `inodes`: how many files; `stack` and `open_files`: of each process. `network`: let it reach the network. `files`:
    {path inside: file here} to put into its folder; `ro`: {folder there: path inside} to show it, read-only; `collect`:
    paths inside to bring back. `rootfs`: a folder there, or `image`: a sandbox image, to be its whole file system; without,
    it sees that machine's own programs and libraries. `engine`: one of native, isolate, bwrap, sio2jail, proot, none;
    without, native, which is the strongest. `allow_missing`: guarantees that you can do without. `strict`: refuse also where
    memory or processor time would be limited less exactly, by looking now and then, as no control groups may be used there.
    `fresh`: a jail in which nothing ever ran, at some milliseconds more.
    """

    _: KW_ONLY
    time: str | float | None = None
    wall: str | float | None = None
    memory: str | int | None = None
    processes: int | None = None
    output: str | int | None = None
    disk: str | int | None = None
    inodes: int | None = None
    stack: str | int | None = None
    open_files: int | None = None
    network: bool = False
    files: Pairs = ()
    ro: Pairs = ()
    collect: Words = ()
    rootfs: str | None = None
    image: str | None = None
    engine: str | None = None
    allow_missing: Words = ()
    fresh: bool = False
    strict: bool = False

    name: ClassVar[str] = "sandbox"
    leaves: ClassVar[bool] = True
    last: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.limits()
        if self.engine is not None and self.engine not in ENGINES:
            raise ConfigError(
                f"there is no engine {self.engine!r}",
                hop=self.name,
                key="engine",
                hint=f"the engines are {', '.join(ENGINES)}; without engine= it is native",
            )
        if self.rootfs is not None and self.image is not None:
            raise ConfigError("rootfs= and image= exclude each other", hop=self.name, key="image")
        for key in ("rootfs",):
            path = getattr(self, key)
            if path is not None and not posixpath.isabs(path):
                raise ConfigError(f"{key} is an absolute path there, not {path!r}", hop=self.name, key=key)
        for there, inside in self._shown():
            for path in (there, inside):
                if not posixpath.isabs(path):
                    raise ConfigError(
                        f"ro maps absolute paths, not {path!r}",
                        hop=self.name,
                        key="ro",
                        hint="ro={'/data': '/data'}",
                    )

    def _shown(self) -> list[tuple[str, str]]:
        return [(str(there), str(inside)) for there, inside in dict(self.ro).items()]

    def limits(self) -> dict[str, Any]:
        """The limits in seconds, bytes and numbers; None for what is not limited. ConfigError for what is no amount."""
        found: dict[str, Any] = {}
        for key, read in _AMOUNTS.items():
            value = getattr(self, key)
            found[key] = None if value is None else read(value, hop=self.name, key=key)
        for key in _COUNTS:
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key} is a number of at least 1, not {value!r}", hop=self.name, key=key)
            found[key] = value
        found["files"] = found.pop("inodes")
        if found["time"] is not None and found["wall"] is None:
            found["wall"] = 3 * found["time"] + 2
        return found

    def spec(self) -> dict[str, Any]:
        """What the far end is told of the jail."""
        return {
            "engine": self.engine,
            "limits": self.limits(),
            "network": self.network,
            "fresh": self.fresh,
            "strict": self.strict,
            "allow_missing": list(self.allow_missing),
            "root": self.rootfs,
            "binds": [[there, inside, False] for there, inside in self._shown()],
            "outputs": list(self.collect),
        }

    def wrap(self, command: Command) -> Command:
        """By the command line, for where an installed Outrider is the next hop's program; a session needs none there."""
        words = ["outrider", "sandbox", "run"]
        for key in (*_AMOUNTS, *_COUNTS, "engine", "rootfs", "image"):
            value = getattr(self, key)
            if value is not None:
                words += [f"--{key.replace('_', '-')}", str(value)]
        words += ["--network"] * self.network + ["--fresh"] * self.fresh + ["--strict"] * self.strict
        for there, inside in self._shown():
            words += ["--ro", f"{there}:{inside}"]
        for name in self.allow_missing:
            words += ["--allow-missing", name]
        return Command((*words, "--", *command.as_argv()))
