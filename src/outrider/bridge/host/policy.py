"""What may run, as `server.sh` resolved it: one place decides for all carriers."""

from __future__ import annotations

import os
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

SERVER = Path(__file__).parent.parent / "server.sh"


class Refused(Exception):
    """A request that may not run; the message is for its client."""


class Policy:
    """Commands by name with their paths, rules for their words, patterns of variables, and options that are paths."""

    def __init__(self, options: list[str]) -> None:
        done = subprocess.run(["bash", str(SERVER), *options, "--print-policy"], capture_output=True)
        if done.returncode:
            raise Refused(os.fsdecode(done.stderr).strip().replace("outrider bridge: ", "", 1))
        self.paths: dict[str, str] = {}
        self.only: dict[str, list[str]] = {}
        self.deny: dict[str, list[str]] = {}
        self.translated: dict[str, list[str]] = {}
        self.patterns: list[str] = []
        self.never: list[str] = []
        for line in os.fsdecode(done.stdout).splitlines():
            verb, _, rest = line.partition(" ")
            name, _, word = rest.partition(":")
            if verb == "allow":
                self.paths[name] = word
            elif verb in ("only", "deny", "path"):
                table = {"only": self.only, "deny": self.deny, "path": self.translated}[verb]
                table.setdefault(name, []).append(word)
            elif verb == "env":
                self.patterns.append(rest)
            elif verb == "never":
                self.never.append(rest)

    def check(self, name: str, words: list[str]) -> str:
        """The path of the command, if it may run with these words; else Refused."""
        if name not in self.paths:
            raise Refused(f"{name} is not allowed here")
        for word in words:
            if any(_matches(word, pattern) for pattern in self.deny.get(name, ())):
                raise Refused(f"{name} is not allowed with {word!r}")
        only = self.only.get(name)
        if only:
            first = next((word for word in words if not word.startswith("-")), "")
            if not any(_matches(first, pattern) for pattern in only):
                raise Refused(f"{name} {first!r} is not allowed: only {name} {', '.join(only)}")
        return self.paths[name]

    def takes(self, variable: str) -> bool:
        """Whether a client may set this variable."""
        return (
            re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) is not None
            and not any(fnmatchcase(variable, pattern) for pattern in self.never)
            and any(fnmatchcase(variable, pattern) for pattern in self.patterns)
        )

    def words(self, name: str, words: list[str], binds: list[tuple[str, str]]) -> list[str]:
        """The words, with what follows options that are paths translated by the container's binds."""
        translated = list(words)
        for option in self.translated.get(name, ()):
            for at, word in enumerate(translated):
                if word == option and at + 1 < len(translated):
                    translated[at + 1] = translate(translated[at + 1], binds)
                elif option.startswith("--") and word.startswith(option + "="):
                    translated[at] = option + "=" + translate(word[len(option) + 1 :], binds)
                elif len(option) == 2 and word.startswith(option + "/"):
                    translated[at] = option + translate(word[2:], binds)
        return translated


def _matches(word: str, pattern: str) -> bool:
    return fnmatchcase(word, pattern)


def binds_of(text: str) -> list[tuple[str, str]]:
    """Lines of INSIDE=OUTSIDE."""
    pairs = (line.partition("=") for line in text.splitlines())
    return [(inside, outside) for inside, _, outside in pairs if inside]


def translate(path: str, binds: list[tuple[str, str]]) -> str:
    """A path of the container as the host knows it; unchanged where no bind covers it."""
    for inside, outside in binds:
        if path == inside or path.startswith(inside.rstrip("/") + "/"):
            return outside.rstrip("/") + path[len(inside.rstrip("/")) :]
    return path
