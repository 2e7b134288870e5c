"""`login`: a login shell that prepares the environment, as when you log in by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.options import Words
from outrider.hops.wording import line_with, own_program_missing

_MARK = "outrider: this setup line failed:"
# While profiles and setup lines run, stdin is empty and stdout is stderr, so that they can neither swallow nor forge
# what is for the command. The redirections stand on exec itself: some shells (ksh) close other descriptors there.
_OUTER = 'exec "$@" 3<&0 4>&1 </dev/null 1>&2'
_INNER = 'exec "$@" <&3 1>&4 3<&- 4>&-'


@dataclass(frozen=True)
class Login(Hop):
    """Starts what follows from a login shell, which reads the user's profile, after the lines of `setup`.

    `setup`: shell lines such as `module load python/3.12`; each must succeed. What they and the profile print goes
    to stderr, and they cannot read what is meant for the command. `shell`: a shell that reads POSIX syntax.
    """

    setup: Words = ()
    shell: str = "bash"

    name: ClassVar[str] = "login"
    positional: ClassVar[tuple[str, ...]] = ("setup",)
    outlived: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shell or self.shell.startswith("-"):
            raise ConfigError(f"not a shell: {self.shell!r}", hop=self.name, key="shell")

    def wrap(self, command: Command) -> Command:
        script = "\n".join([*(_checked(line) for line in self.setup), _INNER])
        return Command(
            ("sh", "-c", _OUTER, "sh", self.shell, "-l", "-c", script, self.shell, *command.as_argv())
        )

    def shown(self, command: Command) -> Command:
        script = "; ".join([*self.setup, 'exec "$@" …'])
        return Command((self.shell, "-l", "-c", script, self.shell, *command.as_argv()))

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        line = line_with(stderr, _MARK)
        if line:
            return Diagnosis(
                line.removeprefix("outrider: "),
                "what it said stands above; `module avail` there lists modules",
            )
        return own_program_missing(stderr, self.shell, "name another one with shell=")


def _checked(line: str) -> str:
    """One setup line (which may hold several commands or a comment) that ends everything if it fails."""
    report = Command(["printf", "%s %s\\n", _MARK, line]).as_shell().removeprefix("exec ")
    return f"{{ :\n{line}\n}} || {{ {report} >&2; exit 125; }}"
