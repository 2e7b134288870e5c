"""Single visits to a stream's far side: asked, made again while that may help, and read with suspicion.

Every visit may be made twice, so one whose answer was lost is made again: a minute without a network does no harm.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import shlex
import time
import zlib
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple, TypeVar

from outrider.connect.connector import Connector
from outrider.errors import RouteError

T = TypeVar("T")

SLACK = 60.0
"""Seconds that a visit may take besides what it waits there."""
LARGEST = 64 << 20
"""Characters of an answer at the most."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0

_ANSWER = re.compile(r"outrider-gateway ([A-Za-z0-9+/=]+) ([A-Za-z0-9+/=]*) ?outrider-end")
# What the first visit brought is run again, if it is still there.
_AGAIN = (
    "import os,sys;p=sys.argv.pop(1);"
    'exec(compile(open(p,"rb").read(),p,"exec"),{"__name__":"__main__","__file__":p}) if os.path.exists(p) '
    'else print("outrider-gateway eyJnb25lIjp0cnVlfQ== outrider-end")'
)


class Told(NamedTuple):
    """What a visit told. Whoever answers may have written anything: no field is of another kind than it says.

    gone: there is no such stream any more. fed: the number of the next piece of stdin that is wanted. beat: changed each
    second by the process that keeps the stream. data: what was printed, each piece with its stream's letter. end: the exit
    status, if `data` is the last of it.
    """

    gone: bool
    fed: int
    beat: str
    folder: str
    data: list[tuple[str, bytes]]
    end: int | None


class Visits:
    """All visits to one stream. Several threads may make one at once."""

    def __init__(self, connector: Connector, patience: float, key: str | None = None) -> None:
        """patience: seconds of failing after which it is given up. key: of a stream that there is."""
        self.connector, self.patience = connector, patience
        self.key = key or secrets.token_hex(16)
        self.folder = ""  # until the first visit has told it
        self._works = key is not None  # it has answered before
        self.fed = 0
        self.last = time.monotonic()

    def visit(self, pieces: dict[int, str] | None = None, **asked: Any) -> Told:
        """One visit. pieces: of stdin by their numbers, as they stand in a command line. Raises RouteError."""
        brought = pieces or {}
        asked = {"key": self.key, "pieces": list(brought), "have": None, **asked}
        word = base64.b64encode(json.dumps(asked).encode()).decode()
        line = shlex.join(["python3", *self._program(), word, *brought.values()])
        limit = asked.get("wait", 0.0) + SLACK
        told = self.patiently(lambda: self._parsed(self.connector.run(line, limit).output))
        if told.gone:
            raise RouteError(
                "what was started there has ended without a word",
                hint="was it killed, its folder removed, or its disk full? Without a visit for "
                f"{self.patience:g} s it ends itself",
                transient=True,
            )
        self._works = True
        self.last, self.fed = time.monotonic(), max(self.fed, told.fed)
        return told

    def upload(self, number: int, data: bytes) -> None:
        """A piece of stdin as a file, its length first, so that nobody takes a part of it for the whole."""
        framed = len(data).to_bytes(8, "big") + data
        self.patiently(lambda: self.connector.upload(f"{self.folder}/up.{number}", framed))

    def patiently(self, action: Callable[[], T]) -> T:
        """Do it again while it fails in a way that may pass. Not so the first visit: whoever opens a route wants to know."""
        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            try:
                return action()
            except RouteError as error:
                if not error.transient or not self._works or time.monotonic() - began > self.patience:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _program(self) -> list[str]:
        if self.folder:
            return ["-c", _AGAIN, f"{self.folder}/there.py"]
        source = (resources.files("outrider.connect") / "there.py").read_bytes()
        packed = base64.b64encode(zlib.compress(source, 9)).decode()
        code = (
            f'import base64,zlib;SOURCE=zlib.decompress(base64.b64decode("{packed}"));'
            'exec(compile(SOURCE,"there.py","exec"))'
        )
        return ["-c", code]

    def _parsed(self, said: str) -> Told:
        """What a visit told. Whatever else was printed round it, by logins for instance, is passed over."""
        found = _ANSWER.search(said) if len(said) <= LARGEST else None
        try:
            if found is None:
                raise ValueError("there is no answer in it")
            head, data = (base64.b64decode(word, validate=True) for word in found.groups())
            return _read(json.loads(head), data)
        except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
            shown = " ".join(said.split())[-300:] or "nothing"
            raise RouteError(
                f"a command did not run there as it should: it printed {shown!r}",
                hint="is there a python3 (3.8 or newer) in the PATH of a command there?",
                transient=self._works,
            ) from None


def _read(told: dict[str, Any], data: bytes) -> Told:
    """Raises ValueError, TypeError or AttributeError for what is no answer."""
    folder, end, fed, beat = told.get("folder", ""), told.get("end"), told.get("fed", 0), told.get("beat", "")
    pieces, at = [], 0
    for letter, length in told.get("pieces", ()):
        if letter not in ("o", "e") or not 0 <= length <= len(data) - at:
            raise ValueError("pieces that are none")
        pieces.append((letter, data[at : at + length]))
        at += length
    if not isinstance(folder, str) or (folder and not folder.startswith("/")) or "\0" in folder:
        raise ValueError("no folder")
    if not isinstance(fed, int) or not (end is None or (isinstance(end, int) and 0 <= end <= 255)):
        raise ValueError("no number")
    return Told(told.get("gone") is True, fed, str(beat), folder, pieces, end)
