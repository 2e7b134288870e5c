"""A route as one line of text, and as plain structures for configuration files; both lead back to equal hops.

    ssh:alice@login:2222 | sudo:grader | slurm(partition=short, memory=2G) | docker:pybox:1

    hop     := name [":" short] ["(" [option {"," option}] ")"]      short, word: no blanks, or quoted
    option  := name "=" value
    value   := word | "quoted" | 'quoted' | "[" values "]" | "{" name "=" value, ... "}"

A word becomes the number or truth value that the option takes; a quoted text stays a text. In quotes, a backslash
stands before a quote or a backslash, and in \\n, \\t, \\r, \\xHH, \\uHHHH and \\UHHHHHHHH. A word alone that names no
hop is the name of a configured route.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from outrider.errors import ConfigError
from outrider.hops import registry
from outrider.hops.base import Hop
from outrider.hops.nearness import nearest
from outrider.hops.options import Option, given, no_such, options_of, typed

Resolve = Callable[[str], "Iterable[Hop] | None"]
"""From the name of a configured route to its hops; None if there is no such route."""

_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_SHORT = re.compile(r"[^\s|()\"']+")
_WORD = re.compile(r"[^\s|()\[\]{},\"']+")
_KEY = re.compile(r"[^\s|()\[\]{},\"'=]+")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


class _Word(str):
    """A text that was not quoted, so that it may mean a number."""


def parse(text: str, resolve: Resolve | None = None) -> tuple[Hop, ...]:
    """The hops that `text` tells, in order. `resolve` knows configured routes by name."""
    return _Reader(text, resolve).route()


class _Reader:
    """Reads one text from left to right; errors point at where it stands."""

    def __init__(self, text: str, resolve: Resolve | None) -> None:
        self.text, self.resolve, self.at = text, resolve, 0

    def error(self, message: str, at: int | None = None, hint: str | None = None) -> ConfigError:
        at = self.at if at is None else at
        start = self.text.rfind("\n", 0, at) + 1
        line = self.text[start:].split("\n", 1)[0]
        shown = line.encode("utf-8", "replace").decode()
        return ConfigError(f"{message}\n  {shown}\n  {' ' * (at - start)}^", hint=hint)

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, character: str) -> bool:
        """Skips blanks, and the character if it comes next."""
        self.blanks()
        if self.text.startswith(character, self.at):
            self.at += len(character)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.at)
        if not found:
            return None
        self.at = found.end()
        return found[0]

    def route(self) -> tuple[Hop, ...]:
        self.blanks()
        if self.at == len(self.text):
            return ()
        hops = [*self.hop()]
        while self.take("|"):
            hops += self.hop()
        if self.at < len(self.text):
            raise self.error("expected | or the end here")
        return tuple(hops)

    def hop(self) -> Iterable[Hop]:
        self.blanks()
        start = self.at
        name = self.match(_NAME)
        if name is None:
            raise self.error("expected the name of a hop or route here")
        short: str | None = None
        if self.text.startswith(":", self.at):
            self.at += 1
            short = self.short()
        bare = short is None
        opened = self.take("(")
        if bare and not opened and not registry.known(name):
            return self.named_route(name, start)
        try:
            kind = registry.find(name)
        except ConfigError as error:
            raise self.error(error.message, start, error.hint) from error.__cause__
        options = self.options(kind, self.at - 1) if opened else {}
        return (self.make(kind, short, options, start),)

    def named_route(self, name: str, start: int) -> Iterable[Hop]:
        hops = self.resolve(name) if self.resolve is not None else None
        if hops is None:
            hint = (
                nearest(name, registry.names())
                or "`outrider config show` lists the routes, `ssh:HOST` goes to a host"
            )
            raise self.error(f"there is no hop and no configured route {name!r}", start, hint)
        return hops

    def short(self) -> str:
        if self.text[self.at : self.at + 1] in ("'", '"'):
            return self.quoted()
        found = self.match(_SHORT)
        if found is None:
            raise self.error("expected something after the colon")
        return found

    def options(self, kind: type[Hop], bracket: int) -> dict[str, object]:
        """The options of a hop, from behind the `(` at `bracket` to behind its end."""
        known = options_of(kind)
        found: dict[str, object] = {}
        gathered: dict[str, object] = {}
        while not self.take(")"):
            self.blanks()
            start = self.at
            if start == len(self.text):
                raise self.no_end("(", bracket)
            key, value = self.pair("option")
            if key in known and key not in found:
                found[key] = _plain(value, known[key])
            elif kind.gathers and key not in known and key not in gathered:
                gathered[key] = _plain(value, known[kind.gathers])
            elif key in known or key in gathered:
                raise self.error(f"{key} is given twice", start)
            else:
                wrong = no_such(kind, key)
                raise self.error(wrong.message, start, wrong.hint)
            if not self.take(","):
                if not self.take(")"):
                    raise self.no_end("(", bracket) if self.ended() else self.error("expected , or ) here")
                break
        if gathered:
            base = found.get(kind.gathers)
            found[kind.gathers] = {**(dict(base) if isinstance(base, Mapping) else {}), **gathered}
        return found

    def pair(self, what: str) -> tuple[str, object]:
        self.blanks()
        key = self.quoted() if self.text[self.at : self.at + 1] in ("'", '"') else self.match(_KEY)
        if key is None:
            raise self.error(
                f"expected the name of an {what} here" if what == "option" else f"expected a {what} here"
            )
        if not self.take("="):
            raise self.error("expected = here", hint="in brackets stand options, such as name=value")
        return key, self.value()

    def value(self) -> object:
        self.blanks()
        start = self.at
        character = self.text[start : start + 1]
        if character in ("'", '"'):
            return self.quoted()
        if self.take("["):
            return self.several("[", "]", start, self.value)
        if self.take("{"):
            items = self.several("{", "}", start, lambda: self.pair("name"))
            pairs = dict(items)
            if len(pairs) < len(items):
                raise self.error("a name is given twice in this mapping", start)
            return pairs
        word = self.match(_WORD)
        if word is None:
            raise self.error("expected a value here")
        return _Word(word)

    def several(self, opening: str, end: str, bracket: int, one: Callable[[], Any]) -> list[Any]:
        """What stands between two brackets, of which the first is at `bracket`."""
        items: list[Any] = []
        while not self.take(end):
            if self.ended():
                raise self.no_end(opening, bracket)
            items.append(one())
            if not self.take(","):
                if not self.take(end):
                    raise (
                        self.no_end(opening, bracket)
                        if self.ended()
                        else self.error(f"expected , or {end} here")
                    )
                break
        return items

    def ended(self) -> bool:
        self.blanks()
        return self.at == len(self.text)

    def no_end(self, opening: str, at: int) -> ConfigError:
        closing = {"(": ")", "[": "]", "{": "}"}[opening]
        return self.error(f"this {opening} has no end", at, f"close it with {closing}")

    def quoted(self) -> str:
        start, quote = self.at, self.text[self.at]
        found = re.compile(rf"{quote}((?:[^\\{quote}]|\\.)*){quote}", re.DOTALL).match(self.text, start)
        if not found:
            raise self.error(f"this {quote} has no end")
        self.at = found.end()
        return _ESCAPE.sub(lambda escape: self.unescape(escape, start + 1), found[1])

    def unescape(self, escape: re.Match[str], start: int) -> str:
        digits = escape[1] or escape[2] or escape[3]
        if digits and int(digits, 16) <= 0x10FFFF:
            return chr(int(digits, 16))
        if escape[4] not in _LETTERS:
            raise self.error(
                f"{escape[0]} means nothing", start + escape.start(), "write a backslash itself as \\\\"
            )
        return _LETTERS[escape[4]]

    def make(self, kind: type[Hop], short: str | None, options: dict[str, object], start: int) -> Hop:
        if short is not None:
            if not kind.positional:
                raise self.error(f"{kind.name} takes nothing after a colon", start)
            if kind.positional[0] in options:
                raise self.error(
                    f"{kind.positional[0]} is given twice, after the colon and in brackets", start
                )
            first = options_of(kind)[kind.positional[0]]
            if not first.kinds & {"str", "list", "any"} and "pairs" in first.kinds:
                given = short if "=" in short else f"{short}=VALUE"
                raise self.error(
                    f"{kind.name} takes names and values, in brackets", start, f"write {kind.name}({given})"
                )
            options = {kind.positional[0]: short, **options}
        try:
            return make(kind, options)
        except ConfigError as error:
            raise self.error(str(error.message), start, error.hint) from None


def _plain(value: object, option: Option) -> object:
    """A value as read, its unquoted words typed as the option wants."""
    if isinstance(value, _Word):
        return typed(option.kinds, str(value))
    if isinstance(value, list):
        return [str(item) if isinstance(item, _Word) else item for item in value]
    if isinstance(value, dict):
        return {key: str(item) if isinstance(item, _Word) else item for key, item in value.items()}
    return value


def make(kind: type[Hop], options: Mapping[str, object]) -> Hop:
    """A hop from its class and options by name; ConfigError if one is missing, unknown or wrong."""
    known = options_of(kind)
    for name in options:
        if name not in known:
            raise no_such(kind, name)
    try:
        return kind(**options)
    except TypeError as error:
        missing = re.findall(r"'(\w+)'", str(error)) if "missing" in str(error) else []
        if not missing:
            raise
        by_colon = missing[0] in kind.positional[:1]
        hint = f"{kind.name}:{missing[0].upper()}" if by_colon else f"{kind.name}({missing[0]}=...)"
        raise ConfigError(
            f"{kind.name} needs {' and '.join(missing)}", key=missing[0], hint=f"write {hint}"
        ) from None


def render(hops: Iterable[Hop]) -> str:
    """The text from which `parse` makes equal hops."""
    return " | ".join(_hop(hop) for hop in hops)


def _hop(hop: Hop) -> str:
    short, told = hop.short()
    options = {name: value for name, value in given(hop).items() if name not in told}
    known = options_of(type(hop))
    words = []
    for name, value in options.items():
        if name == hop.gathers and isinstance(value, dict) and _gathers(value, known):
            words += [f"{key}={_value(hop, known[name], item)}" for key, item in value.items()]
        else:
            words.append(f"{name}={_value(hop, known[name], value)}")
    colon = (
        ""
        if not told
        else ":" + (short if _SHORT.fullmatch(short) and short.isprintable() else _quote(short))
    )
    return hop.name + colon + (f"({', '.join(words)})" if words else "")


def _gathers(value: Mapping[str, str], known: Mapping[str, Option]) -> bool:
    return (
        bool(value)
        and not any(name in known for name in value)
        and all(_NAME.fullmatch(name) for name in value)
    )


def _value(hop: Hop, option: Option, value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return value if _bare(value) and typed(option.kinds, value) is value else _quote(value)
    if isinstance(value, Mapping):
        pairs = (
            f"{name if _KEY.fullmatch(name) and _bare(name) else _quote(name)}={_item(item)}"
            for name, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_item(item) for item in value) + "]"
    raise ConfigError(
        f"option {option.name} is a Python object and has no text form: {value!r}",
        hop=hop.name,
        key=option.name,
        hint="use 'env:NAME' or 'prompt', which can be written down" if "call" in option.kinds else None,
    )


def _bare(text: str) -> bool:
    return bool(_WORD.fullmatch(text)) and text.isprintable() and not text.startswith("=")


def _item(text: str) -> str:
    return text if _bare(text) else _quote(text)


def _quote(text: str) -> str:
    shown = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + "".join(part if part.isprintable() else _hex(ord(part)) for part in shown) + '"'


def _hex(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def from_config(
    hops: str | Iterable[str | Mapping[str, object]], resolve: Resolve | None = None
) -> tuple[Hop, ...]:
    """Hops from a configuration: one text, or a list of texts and of tables like `{hop = "ssh", host = "login"}`."""
    if isinstance(hops, str):
        return parse(hops, resolve)
    found: list[Hop] = []
    for entry in hops:
        found += parse(entry, resolve) if isinstance(entry, str) else (_from_table(entry),)
    return tuple(found)


def _from_table(table: Mapping[str, object]) -> Hop:
    if not isinstance(table.get("hop"), str):
        raise ConfigError(
            f"not a hop: {table!r}",
            hint="a hop is a text like 'ssh:login' or a table like {hop = 'ssh', host = 'login'}",
        )
    kind = registry.find(str(table["hop"]))
    known = options_of(kind)
    options = {name: value for name, value in table.items() if name != "hop"}
    more = {name: options.pop(name) for name in list(options) if kind.gathers and name not in known}
    if more:
        base = options.get(kind.gathers, {})
        options[kind.gathers] = {**(base if isinstance(base, Mapping) else {}), **more}
    return make(kind, options)


def to_config(hops: Iterable[Hop]) -> list[dict[str, Any]]:
    """Hops as tables from which `from_config` makes equal ones: plain texts, numbers, lists and dictionaries."""
    tables = []
    for hop in hops:
        options = given(hop)
        for name, value in options.items():
            _value(hop, options_of(type(hop))[name], value)  # raises for what cannot be written down
        tables.append({"hop": hop.name, **options})
    return tables
