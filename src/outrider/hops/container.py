"""What `docker` and `podman` share: run an image, or step into a running container."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.octal import utf8_only
from outrider.hops.options import Pairs, Words
from outrider.hops.sizes import size
from outrider.hops.wording import line_with, own_program_missing

Messages = tuple[tuple[str, str, str, bool], ...]
# What only `run` knows; with container= these would be silently without effect.
_RUN_ONLY = (
    "image",
    "mounts",
    "network",
    "memory",
    "cpus",
    "gpus",
    "ulimit",
    "entrypoint",
    "keep_entrypoint",
    "pull",
    "init",
    "runtime",
    "platform",
    "container_name",
)


@dataclass(frozen=True)
class Container(Hop):
    """The options of both engines; see `docker` and `podman`."""

    MESSAGES: ClassVar[Messages] = ()

    image: str | None = None
    _: KW_ONLY
    container: str | None = None
    mounts: Words | Pairs = ()
    user: str | None = None
    network: str | None = None
    memory: str | int | None = None
    cpus: float | None = None
    gpus: str | None = None
    ulimit: Words = ()
    env: Pairs = ()
    workdir: str | None = None
    entrypoint: str | None = None
    keep_entrypoint: bool = False
    pull: str = "missing"
    init: bool = False
    runtime: str | None = None
    platform: str | None = None
    container_name: str | None = None
    extra: Words = ()
    terminal: bool = False
    program: str = ""

    positional: ClassVar[tuple[str, ...]] = ("image",)
    leaves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(isinstance(mount, tuple) for mount in self.mounts):
            mounts = tuple(mount if isinstance(mount, str) else ":".join(mount) for mount in self.mounts)
            object.__setattr__(self, "mounts", mounts)
        target = self.container if self.image is None else self.image
        if (self.image is None) == (self.container is None):
            raise ConfigError(
                "wants either an image to run or container= to step into", hop=self.name, key="image"
            )
        if not target or target.startswith("-") or re.search(r"\s", target):
            raise ConfigError(
                f"not a name: {target!r}",
                hop=self.name,
                key="image" if self.container is None else "container",
            )
        if self.pull not in ("missing", "always", "never"):
            raise ConfigError(
                f"pull is missing, always or never, not {self.pull!r}", hop=self.name, key="pull"
            )
        if self.memory is not None:
            size(self.memory, hop=self.name)
        for name in _RUN_ONLY if self.container is not None else ():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ConfigError(
                    f"{name} is decided when a container is made, not when stepping into one",
                    hop=self.name,
                    key=name,
                )

    def with_terminal(self) -> Container:
        return replace(self, terminal=True)

    def wrap(self, command: Command) -> Command:
        command = self._with_folder(
            utf8_only(Command(command.argv, {**dict(self.env), **command.env}, command.cwd))
        )
        flags = [
            *self._shared(command.cwd),
            *(f"--env={name}={value}" for name, value in command.env.items()),
        ]
        if self.container is not None:
            words: tuple[str, ...] = ("exec", *flags, *self.extra, "--", self.container, *command.argv)
        else:
            entry, rest = self._entry(command.argv)
            words = (
                "run",
                "--rm",
                "--log-driver=none",
                *flags,
                *self._run_flags(),
                *entry,
                *self.extra,
                "--",
            )
            words += (str(self.image), *rest)
        return Command((self.program, *self._global(), *words))

    def _with_folder(self, command: Command) -> Command:
        """The command in an absolute folder, as engines want it, or none."""
        folder = self.workdir if command.cwd is None else posixpath.join(self.workdir or "", command.cwd)
        if folder is None or posixpath.isabs(folder):
            return Command(command.argv, command.env, folder)
        return Command(
            Command(command.argv, cwd=folder).as_argv(), command.env
        )  # from where the image starts

    def _entry(self, argv: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What sets the entry point, and the words that follow the image."""
        if self.entrypoint is not None:
            return (f"--entrypoint={self.entrypoint}",), argv
        return ((), argv) if self.keep_entrypoint else ((f"--entrypoint={argv[0]}",), argv[1:])

    def _global(self) -> Iterator[str]:
        """Words before `run` and `exec`."""
        yield from ()

    def _shared(self, folder: str | None) -> Iterator[str]:
        yield "--interactive"
        if self.terminal:
            yield "--tty"
        for flag, value in (("user", self.user), ("workdir", folder)):
            if value is not None:
                yield f"--{flag}={value}"

    def _run_flags(self) -> Iterator[str]:
        yield f"--pull={self.pull}"
        if self.init:
            yield "--init"
        if self.memory is not None:
            yield f"--memory={size(self.memory, hop=self.name)}b"
        if self.cpus is not None:
            yield f"--cpus={self.cpus:g}"
        for flag, value in (
            ("network", self.network),
            ("gpus", self.gpus),
            ("platform", self.platform),
            ("name", self.container_name),
        ):
            if value is not None:
                yield f"--{flag}={value}"
        yield from (f"--volume={mount}" for mount in self.mounts)
        yield from (f"--ulimit={limit}" for limit in self.ulimit)

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint, transient in self.MESSAGES:
            line = line_with(stderr, pattern)
            if line:
                return Diagnosis(f"{message}: {line}", hint, transient)
        missing = own_program_missing(
            stderr, self.program, f"install {self.name} there, or name it with program="
        )
        if missing is None and returncode == 137 and self.memory is not None:
            return Diagnosis(
                f"the container was killed, most likely for using more than memory={self.memory}",
                "give it more memory=",
                False,
            )
        return missing
