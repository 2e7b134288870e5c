"""What one element of a job writes, read as it grows: answers of its calls, and what they print."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from outrider.batch.spool import Answer, AnswerReader
from outrider.errors import FarError
from outrider.far import wire

Ask = Callable[[str, Any], Any]
"""Calls a function of `far/spooling.py`."""


class Live:
    """key, index: which element. command: it runs a command, whose output is kept as it comes.

    `printed`: [(call, channel, bytes)] in the order of arrival; `answers`: {call: Answer}, of the last attempt that made it.
    """

    def __init__(self, key: str, index: int, command: bool, limit: int) -> None:
        self.printed: list[tuple[int, int, bytes]] = []
        self.goodbye = ""
        self._key, self._index, self._command, self._limit = key, index, command, limit
        self._readers: dict[str, AnswerReader] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def answers(self) -> dict[int, Answer]:
        found: dict[int, Answer] = {}
        for reader in self._readers.values():
            found.update(reader.answers)
        return found

    def update(self, ask: Ask) -> None:
        """Read what has come since."""
        with self._lock:
            for name, size in ask("answers", (self._key, self._index)):
                self._fetch(ask, name, size, 1)
            if self._command:
                self._fetch(ask, f"errors.{self._index}", None, wire.STDERR)

    def _fetch(self, ask: Ask, name: str, size: int | None, channel: int) -> None:
        while size is None or self._sizes.get(name, 0) < size:
            piece = ask("piece", (self._key, name, self._sizes.get(name, 0)))
            if not piece:
                return
            self._feed(name, piece, channel)

    def take(self, names: Sequence[str], pieces: Sequence[bytes]) -> None:
        """The whole answers, which came along with the news of the end."""
        with self._lock:
            for name, piece in zip(names, pieces, strict=True):
                self._feed(name, piece[self._sizes.get(name, 0) :], wire.STDOUT)

    def _feed(self, name: str, piece: bytes, channel: int) -> None:
        if sum(self._sizes.values()) + len(piece) > self._limit:
            raise FarError(
                f"the job's answer and what it printed are more than {self._limit} bytes",
                hint="route.options(max_answer=...) allows more; or let it print less",
            )
        self._sizes[name] = self._sizes.get(name, 0) + len(piece)
        if self._command:
            self.printed.append((1, channel, piece))
            return
        if name not in self._readers:
            self._readers[name] = AnswerReader(self._limit, lambda *told: self.printed.append(told))
        reader = self._readers[name]
        reader.feed(piece)
        self.goodbye = reader.goodbye

    def output(self, call: int, channel: int) -> bytes:
        """What a call has printed there, so far."""
        return b"".join(piece for whose, where, piece in self.printed if (whose, where) == (call, channel))
