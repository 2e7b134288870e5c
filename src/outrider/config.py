"""Configuration: named routes, groups and defaults, from TOML files, each value with its file and line.

    [routes]
    front = "ssh:alice@login.example.edu"
    grader = "front | sudo:grader | slurm(partition=short, time=5m)"
    box = ["front", { hop = "docker", image = "pybox:1", memory = "2G" }]

    [groups]
    web = "ssh:web[01-20]"
    all = ["web", "front"]

    [defaults]
    timeout = 600

    [debug]
    allow = true

Read in this order, later ones winning key by key:

1. `$XDG_CONFIG_HOME/outrider/config.toml`, by default `~/.config/outrider/config.toml`;
2. the project's `outrider.toml`: the nearest one in the current folder or above it. In a folder where everyone may
   write, such as /tmp, it counts only if it is yours.

`OUTRIDER_CONFIG`, the path of one file, replaces both, so that what a run uses can be pinned; empty, it means no
file at all. `OUTRIDER_ROUTE_<NAME>` holds the text of a route and wins over every file (NAME in capitals, all but
letters and digits as `_`). In strings, `$NAME` and `${NAME}` are environment variables when the value is used, `$$`
is a dollar.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from outrider import ranges
from outrider import text as _text
from outrider.chain import Chain
from outrider.errors import ConfigError
from outrider.hops import registry
from outrider.hops.base import Hop
from outrider.hops.nearness import nearest

PROJECT_FILE = "outrider.toml"
_NUMBER = (int, float)
# Every key that may stand in a table, with what it may hold and how to say that.
_DEFAULTS: dict[str, tuple[tuple[type, ...], str]] = {
    "timeout": (_NUMBER, "a number of seconds"),
    "open_timeout": (_NUMBER, "a number of seconds"),
    "python": ((str,), "a name or path"),
    "trust": ((str,), '"pickle" or "data"'),
    "show": ((bool,), "true or false"),
    "max_answer": ((int,), "a number of bytes"),
}
_DEBUG: dict[str, tuple[tuple[type, ...], str]] = {"allow": ((bool,), "true or false")}
_TABLES = ("routes", "groups", "defaults", "debug")
_ROUTE_NAME = re.compile(r"[A-Za-z_][\w.-]*")


class Origin(NamedTuple):
    """One configured value and where it was set: a file and its line, or an environment variable (line 0)."""

    key: str
    value: Any
    file: str
    line: int


@dataclass(frozen=True)
class Config:
    """What is configured. `Config.load()` reads the files; `Config()` has nothing configured."""

    values: Mapping[str, Origin] = field(default_factory=dict)
    """Every value by its dotted key, such as `routes.grader`."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        project: bool = True,
    ) -> Config:
        """The configuration as seen from `folder` (the current one); ConfigError with file and line if it is wrong.

        `project=False` leaves the project's file out: for what runs with more rights than whoever chose the folder.
        """
        environment = dict(os.environ if environment is None else environment)
        values: dict[str, Origin] = {}
        for path in files(Path(folder or "."), environment, project=project):
            values.update(_read(path))
        values.update(_from_environment(values, environment))
        for key, origin in values.items():
            if key.startswith("groups.") and f"routes.{key.removeprefix('groups.')}" in values:
                raise _at(origin, "a route has this name too", "give the group or the route another name")
        return cls(values, environment)

    def origins(self) -> list[Origin]:
        """Every value with its key and where it was set, sorted by key."""
        return [self.values[key] for key in sorted(self.values)]

    # -- routes

    def route_names(self) -> list[str]:
        """The names of all configured routes, sorted."""
        return sorted(key.removeprefix("routes.") for key in self.values if key.startswith("routes."))

    def route(self, text: str) -> Chain:
        """The hops that a text or a route's name leads to; ConfigError if they are wrong or lead in a circle."""
        return Chain(*_text.parse(text, self._resolve_within(())))

    def route_text(self, name: str) -> str:
        """A configured route as one text, with all that it refers to filled in."""
        hops = self._hops(name, ())
        if hops is None:
            raise self._no_route(name)
        return _text.render(hops)

    # -- groups

    def group_names(self) -> list[str]:
        """The names of all configured groups, sorted."""
        return sorted(key.removeprefix("groups.") for key in self.values if key.startswith("groups."))

    def member_texts(self, text: str) -> list[str]:
        """The texts of the routes that a group's name or a text with ranges stands for; ConfigError if they are wrong."""
        return list(self._member_texts(text, ()))

    def _member_texts(self, text: str, outer: tuple[str, ...]) -> Iterator[str]:
        origin = self.values.get(f"groups.{text}")
        if origin is None:
            yield from ranges.expand(text)
            return
        if text in outer:
            circle = " → ".join((*outer[outer.index(text) :], text))
            raise _at(origin, f"this group leads back to itself: {circle}")
        value = self._expanded(origin)
        for part in [value] if isinstance(value, str) else value:
            yield from self._member_texts(part, (*outer, text))

    def _no_route(self, name: str) -> ConfigError:
        names = self.route_names()
        hint = nearest(name, names) or (f"the routes are {', '.join(names)}" if names else None)
        return ConfigError(f"there is no configured route {name!r}", key=f"routes.{name}", hint=hint)

    def _resolve_within(self, outer: tuple[str, ...]) -> _text.Resolve:
        def resolve(name: str) -> tuple[Hop, ...] | None:
            return self._hops(name, outer)

        return resolve

    def _hops(self, name: str, outer: tuple[str, ...]) -> tuple[Hop, ...] | None:
        origin = self.values.get(f"routes.{name}") or self._override(name)
        if origin is None:
            if f"groups.{name}" in self.values:
                raise ConfigError(
                    f"{name!r} is a group, not a route",
                    key=name,
                    hint=f"for all of its members: outrider group run --on {name} -- ...",
                )
            close = nearest(name, self.route_names())
            if close:
                raise ConfigError(f"there is no hop and no configured route {name!r}", key=name, hint=close)
            return None
        if name in outer:
            circle = " → ".join((*outer[outer.index(name) :], name))
            raise _at(origin, f"this route leads back to itself: {circle}")
        value = self._expanded(origin)
        try:
            return _text.from_config(value, self._resolve_within((*outer, name)))
        except ConfigError as error:
            if error.file is not None:
                raise
            raise _at(origin, error.message, error.hint) from error

    def _override(self, name: str) -> Origin | None:
        variable = route_variable(name)
        found = self.environment.get(variable)
        return None if found is None else Origin(f"routes.{name}", found, f"${variable}", 0)

    # -- the rest

    def option_defaults(self) -> dict[str, Any]:
        """The `[defaults]`, and whether debugging is allowed, as options of a route."""
        found = {
            origin.key.removeprefix("defaults."): self._expanded(origin)
            for origin in self.values.values()
            if origin.key.startswith("defaults.")
        }
        return {**found, "debug": True} if self.debug_allowed() else found

    def debug_allowed(self) -> bool:
        """Whether `[debug] allow` lets a debugger be started at the far end."""
        origin = self.values.get("debug.allow")
        return origin is not None and bool(origin.value)

    def _expanded(self, origin: Origin) -> Any:
        try:
            return expand(origin.value, self.environment)
        except KeyError as error:
            raise _at(
                origin, f"the variable {error.args[0]} is not set", "set it, or write $$ for a dollar"
            ) from None


def files(folder: Path, environment: Mapping[str, str], *, project: bool = True) -> list[Path]:
    """The files that are read, seen from `folder`, in order; those that exist."""
    pinned = environment.get("OUTRIDER_CONFIG")
    if pinned is not None:
        if pinned and not Path(pinned).is_file():
            raise ConfigError(
                f"OUTRIDER_CONFIG names {pinned}, which is no file",
                key="OUTRIDER_CONFIG",
                hint="unset it, or correct the path",
            )
        return [Path(pinned)] if pinned else []
    home = environment.get("HOME")
    base = environment.get("XDG_CONFIG_HOME") or (str(Path(home) / ".config") if home else None)
    found = [] if base is None else [Path(base) / "outrider" / "config.toml"]
    return [path for path in (*found, *(_project_file(folder) if project else ())) if path.is_file()]


def _project_file(folder: Path) -> Iterator[Path]:
    """The nearest project file, unless anyone may have put it there: a route can start any program."""
    for parent in (folder.absolute(), *folder.absolute().parents):
        path = parent / PROJECT_FILE
        if path.is_file():
            if parent.stat().st_mode & stat.S_IWOTH and path.stat().st_uid not in (0, os.getuid()):
                continue
            yield path
            return


def route_variable(name: str) -> str:
    """The environment variable that overrides the route `name`."""
    return "OUTRIDER_ROUTE_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def _from_environment(values: Mapping[str, Origin], environment: Mapping[str, str]) -> dict[str, Origin]:
    """The routes that environment variables set: over those of the files, and new ones, named in lower case."""
    found = {}
    configured = [key.removeprefix("routes.") for key in values if key.startswith("routes.")]
    for variable, text in environment.items():
        if not re.fullmatch(r"OUTRIDER_ROUTE_[A-Z0-9_]+", variable):
            continue
        names = [name for name in configured if route_variable(name) == variable]
        for name in names or [variable.removeprefix("OUTRIDER_ROUTE_").lower()]:
            found[f"routes.{name}"] = Origin(f"routes.{name}", text, f"${variable}", 0)
    return found


def expand(value: Any, environment: Mapping[str, str]) -> Any:
    """`value` with `$NAME`, `${NAME}` and `$$` replaced in every string of it; KeyError names what is not set."""
    if isinstance(value, str):
        return re.sub(r"\$(?:\$|(\w+)|\{(\w+)\})", lambda found: _variable(found, environment), value)
    if isinstance(value, Mapping):
        return {key: expand(item, environment) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [expand(item, environment) for item in value]
    return value


def _variable(found: re.Match[str], environment: Mapping[str, str]) -> str:
    name = found[1] or found[2]
    return environment[name] if name else "$"


# -- reading one file


def _read(path: Path) -> dict[str, Origin]:
    import tomllib  # slow to import, and where nothing is configured there is nothing to read

    try:
        source = path.read_bytes().decode()
        data = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise ConfigError(
            f"not valid TOML: {error}",
            file=str(path),
            line=int(line[1]) if line else source.count("\n") + 1,
            hint="texts stand in quotes, tables on one line",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot be read: {error}", file=str(path), hint="check its permissions; it is UTF-8 text"
        ) from None
    lines = key_lines(source)
    return {origin.key: origin for origin in _checked(data, str(path), lambda key: lines.get(key, 1))}


def _checked(data: Mapping[str, Any], file: str, line_of: Callable[[str], int]) -> Iterator[Origin]:
    for table, entries in data.items():
        here = Origin(table, entries, file, line_of(table))
        if table not in _TABLES:
            raise _at(
                here,
                f"unknown key {table!r}",
                nearest(table, list(_TABLES)) or f"the tables are {', '.join(_TABLES)}",
            )
        if not isinstance(entries, Mapping):
            raise _at(here, f"{table} is a table", f"write [{table}] on a line of its own")
        for name, value in entries.items():
            key = f"{table}.{name}"
            origin = Origin(key, value, file, line_of(key))
            if table == "routes":
                _check_route(name, origin)
            elif table == "groups":
                _check_group(name, origin)
            else:
                _check_value(name, origin, _DEBUG if table == "debug" else _DEFAULTS)
            yield origin


def _check_value(name: str, origin: Origin, known: Mapping[str, tuple[tuple[type, ...], str]]) -> None:
    if name not in known:
        raise _at(
            origin,
            f"unknown key {origin.key!r}",
            nearest(name, list(known)) or f"the keys are {', '.join(known)}",
        )
    kinds, words = known[name]
    if not isinstance(origin.value, kinds) or (isinstance(origin.value, bool) and bool not in kinds):
        raise _at(origin, f"{origin.key} is {words}, not {origin.value!r}")
    if name == "trust" and origin.value not in ("pickle", "data"):
        raise _at(origin, f"{origin.key} is {words}, not {origin.value!r}")


def _check_name(name: str, origin: Origin, what: str) -> None:
    if not _ROUTE_NAME.fullmatch(name):
        raise _at(
            origin,
            f"not a name for a {what}: {name!r}",
            "letters, digits, _, - and ., not beginning with a digit",
        )
    if registry.known(name):
        raise _at(origin, f"{name!r} is the name of a hop", f"give the {what} another name")


def _check_route(name: str, origin: Origin) -> None:
    _check_name(name, origin, "route")
    value = origin.value
    if not isinstance(value, str) and not (
        isinstance(value, list) and all(isinstance(hop, (str, dict)) for hop in value)
    ):
        raise _at(
            origin,
            f"{origin.key} is a text or a list of texts and tables, not {value!r}",
            'for instance "ssh:login | sudo:grader"',
        )


def _check_group(name: str, origin: Origin) -> None:
    _check_name(name, origin, "group")
    value = origin.value
    if not isinstance(value, str) and not (
        isinstance(value, list) and value and all(isinstance(member, str) for member in value)
    ):
        raise _at(
            origin,
            f"{origin.key} is a text or a list of texts, not {value!r}",
            'for instance "ssh:web[01-20]"',
        )


def _at(origin: Origin, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, file=origin.file, line=origin.line or None, key=origin.key, hint=hint)


_PART = r"(?:[\w-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_STATEMENT = re.compile(rf"[ \t]*(?:\[\[?[ \t]*(?P<table>{_KEY})[ \t]*\]|(?P<key>{_KEY})[ \t]*=)")
_TOKEN = re.compile(
    r"\"\"\"(?:[^\\]|\\.)*?\"{3,5}|'{3}.*?'{3,5}"  # texts over several lines
    r"|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n|[^\"'#\[\]{}\n]+",
    re.DOTALL,
)


def key_lines(source: str) -> dict[str, int]:
    """The line on which each table and each key is set, by dotted key. tomllib, which tells no lines, has read
    `source` before, so this needs only to tell where one statement ends and the next begins.
    """
    found: dict[str, int] = {}
    table, at = "", 0
    while at < len(source):
        statement = _STATEMENT.match(source, at)
        if statement:
            name = _dotted(statement["table"] or statement["key"])
            key = name if statement["table"] or not table else f"{table}.{name}"
            table = name if statement["table"] else table
            line = source.count("\n", 0, statement.start()) + 1
            for end in (found_dot.start() for found_dot in re.finditer(r"\.|$", key)):
                found.setdefault(key[:end], line)
            at = statement.end()
        at = _statement_end(source, at)
    return found


def _statement_end(source: str, at: int) -> int:
    depth = 0
    while token := _TOKEN.match(source, at):
        at = token.end()
        depth += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and depth <= 0:
            return at
    return len(source)


def _dotted(key: str) -> str:
    return ".".join(part.strip("\"'") for part in re.findall(_PART, key))
