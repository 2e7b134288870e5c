"""`sudo`: another user of the same machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop, Prompt
from outrider.hops.octal import spelled
from outrider.hops.options import Words
from outrider.hops.wording import line_with, own_program_missing

_MESSAGES: tuple[tuple[str, str, str], ...] = (
    (r"unknown user:? ", "there is no such user there", "check user="),
    (r"unknown group:? ", "there is no such group there", "check group="),
    (
        r"incorrect password attempt|Sorry, try again",
        "the password is wrong",
        "check where password= takes it from",
    ),
    (
        r"a password is required|a terminal is required to read the password|no askpass",
        "sudo wants a password",
        "allow it without one (NOPASSWD in sudoers), or give password='prompt' or password='env:NAME'",
    ),
    (
        r"must have a tty",
        "sudoers asks for a terminal (requiretty)",
        "switch it off for this user: Defaults:NAME !requiretty",
    ),
    (
        r"is not in the sudoers file|may not run sudo",
        "you may not use sudo there",
        "ask the administrator for a rule in sudoers",
    ),
    (
        r"is not allowed to (?:execute|run)|not allowed to preserve|you are not permitted",
        "sudoers does not allow this command as this user",
        "`sudo -l` there lists what is allowed; a relay needs only one command",
    ),
    (
        r"effective uid is not 0|must be setuid root|no new privileges",
        "sudo cannot work there",
        "inside a container or sandbox it often cannot: put it before",
    ),
    (
        r"account validation failure|account .* expired|password .* expired",
        "the account is locked or its password has expired",
        "ask the administrator",
    ),
)


# What runs behind sudo, a foreign image say, may print a prompt too, to be told the password: it cannot know this.
_NONCE = os.urandom(4).hex()


@dataclass(frozen=True)
class Sudo(Hop):
    """Becomes `user` (default: root) with sudo; `group`: also this group.

    `login`: start it through the user's login shell (-i), with that user's profile and home folder.
    `password`: how to answer sudo's question, if it asks: a callable, `"env:NAME"` for a variable at the near end,
    or `"prompt"` to ask you. Never the password itself. Without it sudo fails at once instead of asking.
    `extra`: more words for sudo. `program`: which sudo to run.
    """

    user: str | None = None
    group: str | None = None
    login: bool = False
    password: str | Callable[[], str] | None = None
    extra: Words = ()
    program: str = "sudo"

    name: ClassVar[str] = "sudo"
    positional: ClassVar[tuple[str, ...]] = ("user",)
    leaves: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    outlived: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            isinstance(self.password, str)
            and self.password != "prompt"
            and not re.fullmatch(r"env:\w+", self.password)
        ):
            # Not shown: it may be the password.
            raise ConfigError(
                "password= says where the password comes from, it is not the password",
                hop=self.name,
                key="password",
                hint="use 'env:NAME', 'prompt' or a callable",
            )
        if "" in (self.user, self.group):
            raise ConfigError("user and group cannot be empty", hop=self.name, key="user")

    def wrap(self, command: Command) -> Command:
        argv = command.as_argv()
        if self.login and any(not word or "$" in word or "\n" in word for word in argv):
            # sudo -i puts backslashes before much, not before $, loses newlines and drops empty words.
            argv = ("sh", "-c", spelled(Command(argv).as_shell()))
        return Command((self.program, *self._flags(), *self.extra, "--", *argv))

    def _flags(self) -> Iterator[str]:
        if self.password is None:
            yield "-n"
        else:
            yield from ("-S", "-p", self._marker())
        for flag, value in (("-u", self.user), ("-g", self.group)):
            if value is not None:
                yield from (flag, value)
        yield "-i" if self.login else "-H"

    def _marker(self) -> str:
        user = re.sub(r"[^\w.-]", "_", self.user or "root", flags=re.ASCII)  # sudo expands % in it
        return f"[outrider {_NONCE}: sudo password for {user}] "

    def prompts(self) -> tuple[Prompt, ...]:
        if self.password is None:
            return ()
        return (Prompt(self._marker().encode(), self._answer),)

    def _answer(self) -> str:
        """The password itself; called by the session when sudo asks, never by the hop."""
        if callable(self.password):
            return self.password()
        if self.password == "prompt":
            import getpass

            return getpass.getpass(f"sudo password for {self.user or 'root'}: ")
        name = str(self.password).removeprefix("env:")
        try:
            return os.environ[name]
        except KeyError:
            raise ConfigError(
                f"the variable {name} is not set, and sudo asks for a password", hop=self.name, key="password"
            ) from None

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint in _MESSAGES:
            line = line_with(stderr, rf"^(?:.*\b{re.escape(self.program)}: .*|.*)(?:{pattern})")
            if line and ("sudo" in line.lower() or "try again" in line or "permitted" in line):
                return Diagnosis(f"{message}: {line}", hint)
        return own_program_missing(stderr, self.program, "install sudo there, or leave this hop out")
