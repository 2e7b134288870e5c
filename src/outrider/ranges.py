"""Many names as one text, `web[01-03,07]`, and back. No I/O.

A range stands behind or before a part of a name, so that it is never taken for a list among a hop's options; nothing
within quotes or round brackets is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from outrider.errors import ConfigError

LIMIT = 100_000
"""Names that one text may stand for: a slip such as [1-1000000] shall not fill the memory."""
_TOKEN = re.compile(
    r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"  # quoted
    r"|(?P<open>\()|(?P<close>\))"
    r"|\[(?P<range>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\]"
    r"|.",
    re.DOTALL,
)


def expand(text: str) -> list[str]:
    """Every name that `text` stands for, in order; itself if it holds no range. ConfigError for one that runs backward."""
    names, depth = [""], 0
    for token in _TOKEN.finditer(text):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["range"] is None or depth or not _belongs_to_a_name(text, token):
            names = [name + token[0] for name in names]
            continue
        numbers = [number for part in token["range"].split(",") for number in _numbers(part, text)]
        if len(numbers) * len(names) > LIMIT:
            raise _wrong(text, f"it stands for more than {LIMIT} names")
        names = [name + number for name in names for number in numbers]
    return names


def _belongs_to_a_name(text: str, token: re.Match[str]) -> bool:
    before, after = text[: token.start()][-1:], text[token.end() :][:1]
    return bool(re.match(r"[\w.@-]", before) or re.match(r"[\w.-]", after))


def _numbers(part: str, text: str) -> Iterator[str]:
    first, dash, last = part.partition("-")
    if dash and int(last) < int(first):
        raise _wrong(text, f"the range {part} runs backward")
    if dash and int(last) - int(first) >= LIMIT:
        raise _wrong(text, f"it stands for more than {LIMIT} names")
    for number in range(int(first), int(last or first) + 1):
        yield str(number).zfill(len(first))  # 08-12 keeps its zero: 08 09 10 11 12


def _wrong(text: str, message: str) -> ConfigError:
    return ConfigError(f"{text!r}: {message}", hint="a range of hosts reads like web[01-20,31]")


def fold(names: Iterable[str]) -> str:
    """Names as one short text, for the eye: `web[01-03],db`. `expand` of each part leads back."""
    found = [(name, _last_number(name)) for name in names]
    padded = {(parts[0], parts[2], len(parts[1])) for _, parts in found if parts and parts[1].startswith("0")}
    runs: dict[tuple[str, str, int], list[int]] = {}
    order: dict[str | tuple[str, str, int], None] = {}
    for name, parts in found:
        if parts is None:
            order[name] = None
            continue
        before, digits, after = parts
        key = (before, after, len(digits) if (before, after, len(digits)) in padded else 0)
        runs.setdefault(key, []).append(int(digits))
        order[key] = None
    return ",".join(item if isinstance(item, str) else _folded(item, runs[item]) for item in order)


def _last_number(name: str) -> tuple[str, str, str] | None:
    """What stands before the last number in a name, the number, and what stands after it."""
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", name, re.DOTALL)
    return (found[1], found[2], found[3]) if found else None


def _folded(key: tuple[str, str, int], numbers: list[int]) -> str:
    before, after, width = key
    parts = []
    for first, last in _runs(sorted(set(numbers))):
        words = [str(first).zfill(width), str(last).zfill(width)]
        parts.append(words[0] if first == last else "-".join(words))
    one = len(parts) == 1 and "-" not in parts[0]
    return f"{before}{parts[0]}{after}" if one else f"{before}[{','.join(parts)}]{after}"


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
