"""The options of a hop as data: which there are, which kinds of value they take, which were given.

Everything that must treat all hops alike (checking, repr, the text form, configuration) reads them here.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from outrider.errors import ConfigError
from outrider.hops.nearness import nearest

if TYPE_CHECKING:
    from outrider.hops.base import Hop

Words = Sequence[str]
"""An option that is a list of words; kept as a tuple. One string stands for a list of one."""
Pairs = Mapping[str, str] | Sequence[tuple[str, str]]
"""An option that maps names to values; kept as a tuple of pairs, sorted by name."""

_SCALARS = {str: "str", int: "int", float: "float", bool: "bool", type(None): "none"}
_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list of texts",
    "pairs": "a mapping",
    "call": "a callable",
}


@dataclass(frozen=True)
class Option:
    """One option: its name, its default (`MISSING` if it must be given) and the kinds of value that it takes."""

    name: str
    default: object
    kinds: frozenset[str]

    def wants(self) -> str:
        """The kinds, in words, for an error message."""
        return " or ".join(word for kind, word in _WORDS.items() if kind in self.kinds) or "nothing"


def _kinds(annotation: object) -> set[str]:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_kinds(part) for part in arguments))
    if annotation in _SCALARS:
        return {_SCALARS[annotation]}
    if origin is collections.abc.Callable:
        return {"call"}
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return {"pairs"}
    if origin in (list, tuple, collections.abc.Sequence, collections.abc.Iterable):
        return {"pairs"} if arguments and typing.get_origin(arguments[0]) is tuple else {"list"}
    return {"any"}


def options_of(kind: type[Hop]) -> Mapping[str, Option]:
    """All options of a hop class by name, in the order of its constructor."""
    return _options(kind)  # type: ignore[arg-type]  # mypy takes the hash of a hop for that of its class


@cache
def _options(kind: type) -> Mapping[str, Option]:
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # an annotation that exists only for type checkers: then anything goes
        hints = {}
    found = {}
    for field in dataclasses.fields(kind):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        found[field.name] = Option(field.name, default, frozenset(_kinds(hints.get(field.name))))
    return types.MappingProxyType(found)


def no_such(kind: type[Hop], name: str) -> ConfigError:
    """What to say of an option that a hop does not have."""
    known = list(options_of(kind))
    return ConfigError(
        f"{kind.name} has no option {name!r} (it has: {', '.join(known) or 'none'})",
        key=name,
        hint=nearest(name, known),
    )


def freeze(hop: Hop) -> None:
    """Checks and normalizes every option of a hop in place; called once, while it is being made."""
    for option in options_of(type(hop)).values():
        object.__setattr__(hop, option.name, coerce(hop.name, option, getattr(hop, option.name)))


def coerce(hop: str, option: Option, value: object) -> object:
    """`value` as the option keeps it; ConfigError if it is none of the kinds that the option takes."""
    kinds = option.kinds
    if "any" in kinds or (value is None and ("none" in kinds or option.default is None)):
        return value
    for accept in (_scalar, _from_text, _collection):
        found = accept(kinds, value)
        if found is not None:
            _refuse_nul(hop, option, found)
            return found
    if "call" in kinds and callable(value):
        return value
    raise ConfigError(f"option {option.name} wants {option.wants()}, not {value!r}", hop=hop, key=option.name)


def _scalar(kinds: frozenset[str], value: object) -> object:
    if isinstance(value, bool):
        return value if "bool" in kinds else None
    if isinstance(value, int) and "int" in kinds:
        return value
    if isinstance(value, (int, float)) and "float" in kinds:
        return float(value)
    if isinstance(value, (int, float)) and "str" in kinds:
        return str(value)
    return None


def _from_text(kinds: frozenset[str], value: object) -> object:
    if not isinstance(value, (str, bytes, os.PathLike)):
        return None
    text = os.fsdecode(value)
    if "str" in kinds:
        return text
    found = typed(kinds, text)
    if found is not text and found is not None:
        return found
    return (text,) if "list" in kinds else None


def typed(kinds: frozenset[str], word: str) -> object:
    """An unquoted word as the number, truth value or nothing that it spells, if the option takes such; else itself."""
    if "bool" in kinds and word in ("true", "false"):
        return word == "true"
    if "none" in kinds and word == "none":
        return None
    for kind, convert in (("int", int), ("float", float)):
        if kind in kinds and not word[:1].isspace() and "_" not in word:
            try:
                return convert(word)
            except ValueError:
                pass
    return word


def _collection(kinds: frozenset[str], value: object) -> object:
    if isinstance(value, Mapping):
        value = list(value.items())
        if "pairs" not in kinds:
            return None
    if not isinstance(value, (list, tuple)):
        return None
    if "pairs" in kinds and all(isinstance(item, (list, tuple)) and len(item) == 2 for item in value):
        pairs = {_word(name): _word(item) for name, item in value}
        return None if None in pairs or None in pairs.values() else tuple(sorted(pairs.items()))
    words = tuple(_word(item) for item in value)
    return words if "list" in kinds and None not in words else None


def _word(value: object) -> str | None:
    if isinstance(value, (str, bytes, os.PathLike)):
        return os.fsdecode(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _refuse_nul(hop: str, option: Option, value: object) -> None:
    # No program can be given a NUL byte; saying so here names the option instead of a broken exec later.
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"option {option.name} holds a NUL byte: {value!r}", hop=hop, key=option.name)
    if isinstance(value, tuple):
        for item in value:
            _refuse_nul(hop, option, item)


def given(hop: Hop) -> dict[str, Any]:
    """The options that differ from their defaults, as plain Python: lists and dictionaries for tuples."""
    return {
        option.name: plain(option, getattr(hop, option.name))
        for option in options_of(type(hop)).values()
        if option.default is MISSING or getattr(hop, option.name) != _frozen_default(hop.name, option)
    }


def _frozen_default(hop: str, option: Option) -> object:
    return option.default if option.default is MISSING else coerce(hop, option, option.default)


def plain(option: Option, value: object) -> object:
    """A frozen value as the list or dictionary that it was made from."""
    if not isinstance(value, tuple):
        return value
    if "pairs" in option.kinds and all(isinstance(item, tuple) for item in value):
        return dict(value)
    return list(value)


def python(hop: Hop) -> str:
    """The hop as the Python that makes it: positional options first, defaults left out."""
    options = given(hop)
    words = []
    for name in hop.positional:
        if name not in options:
            break
        words.append(repr(options.pop(name)))
    words += [f"{name}={value!r}" for name, value in options.items()]
    return f"{hop.name}({', '.join(words)})"


def short(hop: Hop) -> tuple[str, tuple[str, ...]]:
    """The usual short form: the first positional option, if it was given and is one text."""
    for name in hop.positional[:1]:
        value = given(hop).get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            return value, (name,)
    return "", ()
