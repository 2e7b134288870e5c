"""What to run: a program with its arguments, its environment and its folder, as one frozen value."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def text(argument: Argument) -> str:
    """One argument as text; bytes that are not UTF-8 ride along as surrogates, as in `os.fsdecode`."""
    return os.fsdecode(argument)


def quote(argument: str) -> str:
    """`argument` for a POSIX shell: one word, nothing in it expanded."""
    if "\0" in argument:
        raise ValueError(f"an argument cannot hold a NUL byte: {argument!r}")
    return shlex.quote(argument)


@dataclass(frozen=True)
class Command:
    """`argv` run in folder `cwd` (None: wherever it starts) with `env` added to the environment.

    A hop turns a command to run *there* into the command to run *here*. Whatever a hop cannot hand on in its
    own idiom it renders into argv with `as_argv`, so that nothing is lost on the way.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None

    def __init__(
        self,
        argv: Sequence[Argument],
        env: Mapping[str, str] | None = None,
        cwd: Argument | None = None,
    ) -> None:
        if isinstance(argv, (str, bytes)):
            raise TypeError(
                f"argv is a list of arguments, not one string: {argv!r}; for a shell line use ['sh', '-c', line]"
            )
        if not argv:
            raise ValueError("a command needs at least the program to run")
        words = tuple(text(word) for word in argv)
        for word in words:
            quote(word)
        for name, value in (env or {}).items():
            if not name or "=" in name or "\0" in name or "\0" in value:
                raise ValueError(f"not an environment variable: {name!r}={value!r}")
        object.__setattr__(self, "argv", words)
        object.__setattr__(self, "env", MappingProxyType(dict(env or {})))
        object.__setattr__(self, "cwd", None if cwd is None else text(cwd))

    def __hash__(self) -> int:
        return hash((self.argv, tuple(sorted(self.env.items())), self.cwd))

    def __reduce__(self) -> tuple[type[Command], tuple[tuple[str, ...], dict[str, str], str | None]]:
        return Command, (self.argv, dict(self.env), self.cwd)

    def replace(self, argv: Sequence[Argument]) -> Command:
        """The same folder and environment round another program."""
        return Command(argv, self.env, self.cwd)

    def as_argv(self) -> tuple[str, ...]:
        """One argv that sets the environment and the folder itself, with the tools that POSIX promises."""
        argv = self.argv
        if self.env:
            argv = ("env", *(f"{name}={value}" for name, value in self.env.items()), *argv)
        if self.cwd is not None:
            argv = ("sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh", self.cwd, *argv)
        return argv

    def as_shell(self) -> str:
        """One line for a POSIX shell that becomes the command; every word quoted."""
        words = " ".join(quote(word) for word in self.argv)
        if self.env:
            words = (
                "env " + " ".join(quote(f"{name}={value}") for name, value in self.env.items()) + " " + words
            )
        if self.cwd is not None:
            return f"cd -- {quote(self.cwd)} && exec {words}"
        return f"exec {words}"
