"""Amounts as people write them: `2G` of memory, `1h30m` of time. The one place where they are read."""

from __future__ import annotations

import re

from outrider.errors import ConfigError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def size(text: str | int, *, hop: str, key: str = "memory") -> int:
    """Bytes in `text`: a number of bytes, or one with K, M, G, T or P (powers of 1024; a B or iB may follow)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", str(text).strip().lower())
    if not found or float(found[1]) * _UNITS[found[2]] < 1:
        raise ConfigError(f"not a size: {text!r}", hop=hop, key=key, hint="write it like 512M or 2G")
    return int(float(found[1]) * _UNITS[found[2]])


def seconds(text: str | float, *, hop: str, key: str = "time") -> int:
    """Whole seconds in `text`: a number of them, `1h30m`, or Slurm's forms such as `[days-]hours:minutes:seconds`."""
    words = str(text).strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", words):
        total = float(words)
    elif re.fullmatch(r"(?:\d+(?:\.\d+)?\s*[smhdw]\s*)+", words):
        total = sum(
            float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)\s*([smhdw])", words)
        )
    else:
        total = _clock(words)
    if not 0 < total < 1e10:
        raise ConfigError(
            f"not a time: {text!r}",
            hop=hop,
            key=key,
            hint="write it like 90 (seconds), 5m, 1h30m or 01:30:00",
        )
    return max(1, round(total))


def duration(text: str | float, *, hop: str, key: str = "time") -> float:
    """Seconds in `text`, parts of them too: a number of them, `500ms`, `1.5s` or any other form that `seconds` reads."""
    words = str(text).strip().lower()
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)", words)
    if found is None:
        return float(seconds(text, hop=hop, key=key))
    total = float(found[1]) / (1000 if found[2] == "ms" else 1)
    if not 0 < total < 1e10:
        raise ConfigError(f"not a time: {text!r}", hop=hop, key=key, hint="write it like 2s, 500ms or 1m30s")
    return total


def _clock(words: str) -> float:
    # As Slurm has it: two parts are minutes and seconds, but after days they are hours and minutes.
    found = re.fullmatch(r"(?:(?P<d>\d+)-)?(?P<a>\d+)(?::(?P<b>\d+))?(?::(?P<c>\d+))?", words)
    if not found:
        return 0
    parts = [int(part) for part in (found["a"], found["b"], found["c"]) if part is not None]
    if found["d"] is not None:  # after days come hours, whether or not minutes follow
        parts += [0] * (3 - len(parts))
    elif len(parts) == 2:
        parts.insert(0, 0)
    hours, minutes, rest = parts
    return int(found["d"] or 0) * 86400 + hours * 3600 + minutes * 60 + rest


def clock(total: int) -> str:
    """Seconds as Slurm and others read them: `[days-]HH:MM:SS`."""
    days, rest = divmod(total, 86400)
    time = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{time}" if days else time
