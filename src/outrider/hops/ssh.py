"""`ssh`: another machine, through the system's own OpenSSH client with all of the user's ssh_config."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, TypeVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.options import Pairs, Words
from outrider.hops.wording import line_with, own_program_missing

CONTROL_FOLDER = "~/.cache/outrider/ssh"
"""Where shared connections live; it must exist, with mode 0700, before ssh starts, which fails otherwise. ssh reads
`~` from the password file, not from $HOME."""


def socket_fits(home: str) -> bool:
    """Whether shared connections are possible with this home folder: a socket's path has room for 104 bytes on some
    systems, of which folder, name and what ssh adds while it makes the socket take 84. If not, use `share=False`.
    """
    return len(home.encode(errors="surrogateescape")) + 84 < 104


_Given = TypeVar("_Given")

_GONE = "the connection may come back: try again, or look after the network between the two"
_REACH = "check host and port, a VPN or jump host may be missing; `ssh -v` to it tells more"
# What OpenSSH says, what it means, what to do, and whether waiting may help. The first that matches is taken.
_MESSAGES: tuple[tuple[str, str, str, bool], ...] = (
    (
        r"Could not resolve hostname (?P<host>\S+?):",
        "the host name is unknown",
        "check the spelling, or add it to ssh_config",
        False,
    ),
    (
        r"connect to host (?P<host>\S+) port \d+: .*refused",
        "no ssh server answers at this port",
        _REACH,
        True,
    ),
    (
        r"connect to host (?P<host>\S+) port \d+: .*timed out",
        "no answer within the time to connect",
        _REACH,
        True,
    ),
    (r"connect to host (?P<host>\S+) port \d+: ", "the host cannot be reached", _REACH, True),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key has changed",
        "someone may be in between: if the host was reinstalled, remove its old key with `ssh-keygen -R HOST`",
        False,
    ),
    (
        r"Host key verification failed|No \S+ host key is known for (?P<host>\S+)",
        "the host key is not known here",
        "log in once by hand and compare the key, or use ask=True",
        False,
    ),
    (
        r"UNPROTECTED PRIVATE KEY|bad permissions",
        "the private key may be read by others, so ssh ignores it",
        "chmod 600 the key file",
        False,
    ),
    (
        r"Too many authentication failures",
        "the agent offers too many keys",
        "name the right one with identity=",
        False,
    ),
    (
        r"(?P<host>\S+): Permission denied \(",
        "the login was refused",
        "check user= and identity=, or load the key with ssh-add; ask=True asks for a password",
        False,
    ),
    (
        r"Unable to negotiate with (?P<host>\S+)",
        "the two sides share no algorithm",
        "allow the old one with options={...}; the message names it",
        False,
    ),
    (
        r"kex_exchange_identification|banner exchange|Bad packet length",
        "what answers does not speak ssh, or hangs up at once",
        "check the port; a full server or a firewall does this too",
        True,
    ),
    (
        r"too long for Unix domain socket|ControlPath.* too long",
        "the path of the shared connection is too long",
        "use share=False, or a shorter control_path=",
        False,
    ),
    (
        r"unix_listener: |muxclient: |Control socket .* (?:Permission denied|bad)",
        "the socket of the shared connection cannot be made",
        "its folder must exist, be yours alone and on a local disk; share=False does without",
        False,
    ),
    (
        (
            r"Bad configuration option|Bad owner or permissions|keyword .* extra arguments"
            r"|Can't open user config file"
        ),
        "ssh does not accept its configuration",
        "the message names file and line",
        False,
    ),
    (
        r"This account is (?:currently )?not available|nologin",
        "the account there has no login shell",
        "use another user=",
        False,
    ),
    (
        (
            r"Timeout, server (?P<host>\S+) not responding"
            r"|Connection to (?P<to>\S+) (?:port \d+ )?(?:timed out|closed by remote host)"
        ),
        "the connection was lost",
        _GONE,
        True,
    ),
    (
        r"Connection (?:closed|reset) by |client_loop: send disconnect|Broken pipe",
        "the other side hung up",
        _GONE,
        True,
    ),
)


@dataclass(frozen=True)
class Ssh(Hop):
    """Logs in to `host`: a name, an address, or an alias from ssh_config; `ssh("alice@login:2222")` works too.

    `user`, `port`: as ssh takes them. `identity`: a private key file, then the only one tried. `config`: another
    ssh_config file. `jump`: hosts to go through (-J). `options`: any ssh_config option by name, winning over all else
    here. `extra`: more words for ssh's command line.
    `connect_timeout`: seconds for the connection (0: ssh's own). `keepalive`: seconds between questions whether the
    other side still lives; after three without answer the connection is given up (0: never asked).
    `share`: keep one connection per target open for a minute and share it, so that the next opens in milliseconds.
    Only done where ssh starts on your own machine, in a private folder; `share=False` forbids it altogether.
    `control_path`: where that shared connection's socket is, if you want to say.
    `ask`: let ssh ask for passwords, codes and new host keys on your terminal; otherwise it fails instead of asking.
    `terminal`: ask for a terminal there. `program`: which ssh to run.

    The login shell at the far side must read POSIX quoting (sh, dash, bash, zsh, ksh; fish does, csh does not).
    """

    CONTROL_FOLDER: ClassVar[str] = CONTROL_FOLDER

    host: str
    _: KW_ONLY
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    config: str | None = None
    jump: str | None = None
    options: Pairs = ()
    extra: Words = ()
    connect_timeout: int = 10
    keepalive: int = 15
    share: bool = True
    control_path: str | None = None
    ask: bool = False
    terminal: bool = False
    program: str = "ssh"

    name: ClassVar[str] = "ssh"
    positional: ClassVar[tuple[str, ...]] = ("host",)
    leaves: ClassVar[bool] = True
    outlived: ClassVar[bool] = True
    tells: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"debug1: Connection established", "connect"),
        (r"debug1: SSH2_MSG_NEWKEYS received", "key exchange"),
        (r"Authenticated to ", "authenticate"),
        (r"debug1: mux_client_request_session: master session", "shared connection"),
    )
    chatter: ClassVar[tuple[str, ...]] = (
        "debug1: ",
        "Authenticated to ",
        "Transferred: sent ",
        "Bytes per second: sent ",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        user, host, port = self.user, self.host, self.port
        if "@" in host:
            found, host = host.rsplit("@", 1)
            user = self._once("user", user, found)
        bracketed = re.fullmatch(r"\[(.+)\](?::(\d+))?", host) or re.fullmatch(r"([^:]+):(\d+)", host)
        if bracketed:
            host = bracketed[1]
            port = self._once("port", port, int(bracketed[2])) if bracketed[2] else port
        if not host or host.startswith("-") or re.search(r"[\s\[\]@]", host) or user == "":
            raise ConfigError(f"not a host: {self.host!r}", hop=self.name, key="host")
        if port is not None and not 0 < port < 65536:
            raise ConfigError(f"not a port: {port}", hop=self.name, key="port")
        for name, value in (("user", user), ("host", host), ("port", port)):
            object.__setattr__(self, name, value)

    def _once(self, name: str, given: _Given | None, found: _Given) -> _Given:
        if given is not None and given != found:
            raise ConfigError(f"{name} is given twice: {given!r} and {found!r}", hop=self.name, key=name)
        return found

    def here(self) -> Ssh:
        if not self.share or self.control_path is not None:
            return self
        return replace(self, control_path=f"{self.CONTROL_FOLDER}/%C{self._mark()}")

    def _mark(self) -> str:
        # %C stands for local host, user, host, port and jump: what else makes two connections differ is added. The name
        # is among it: two aliases of one host may differ in key, and a key in what it may do there.
        others = (self.host, self.identity, self.config, self.options, self.extra, self.program)
        return "-" + f"{zlib.crc32(repr(others).encode()):08x}"[:5]

    def traced(self) -> Ssh:
        # An option, not -v: a jump host's ssh would inherit that, and a shared connection would hold on to our stderr.
        tells = ("LogLevel", "DEBUG1")
        return self if tells in self.options else replace(self, options=(*self.options, tells))

    def with_terminal(self) -> Ssh:
        return replace(self, terminal=True)

    def wrap(self, command: Command) -> Command:
        return Command((self.program, *self._flags(), "--", self.host, command.as_shell()))

    def _flags(self) -> Iterator[str]:
        yield "-t" if self.terminal else "-T"
        # ssh takes the first value that it meets, so the user's own options stand before ours.
        for name, value in (*self.options, *self._settings()):
            yield from ("-o", f"{name}={value}")
        for flag, text in (
            ("-F", self.config),
            ("-J", self.jump),
            ("-l", self.user),
            ("-p", self.port),
            ("-i", self.identity),
        ):
            if text is not None:
                yield from (flag, str(text))
        yield from self.extra

    def _settings(self) -> Iterator[tuple[str, str]]:
        if not self.ask:
            yield "BatchMode", "yes"
        # Not quieter: a lost connection is told at this level only.
        yield "LogLevel", "INFO"
        if self.connect_timeout:
            yield "ConnectTimeout", str(self.connect_timeout)
        if self.keepalive:
            yield from (("ServerAliveInterval", str(self.keepalive)), ("ServerAliveCountMax", "3"))
        if self.identity is not None:
            yield "IdentitiesOnly", "yes"
        if not self.share:
            yield "ControlPath", "none"
        elif self.control_path is not None:
            yield from (
                ("ControlMaster", "auto"),
                ("ControlPersist", "60"),
                ("ControlPath", self.control_path),
            )

    def short(self) -> tuple[str, tuple[str, ...]]:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{user}{host}{port}", ("host", "user", "port")

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint, transient in _MESSAGES:
            line = line_with(stderr, pattern)
            if line:
                return Diagnosis(f"{message}: {line}", hint, transient)
        return own_program_missing(
            stderr, self.program, "install an OpenSSH client there, or name it with program="
        )
