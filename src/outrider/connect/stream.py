"""This side of a stream that is made of single visits: stdin goes there in pieces, what comes back is fetched by asking.

Every visit may be made twice, so one whose answer was lost is made again: a minute without a network does no harm.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import select
import shlex
import threading
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import resources
from typing import Any, NamedTuple

from outrider.connect.connector import Connector, GatewayError

WAIT = 10.0
"""Seconds that a visit waits for something to fetch."""
SLACK = 60.0
"""Seconds that a visit may take besides."""
MOST = 1 << 19
"""Bytes that a visit fetches."""
LARGEST = 64 << 20
"""Characters of an answer at the most."""
SMALL = 64 << 10
LARGE = 4 << 20
"""Bytes of a piece in a command line, and of one that is uploaded."""
AT_ONCE = 4
"""Visits with pieces that may be under way at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0

_ANSWER = re.compile(r"outrider-gateway ([A-Za-z0-9+/=]+) ([A-Za-z0-9+/=]*) ?outrider-end")


class Told(NamedTuple):
    """What a visit told. Whoever answers may have written anything: no field is of another kind than it says.

    gone: there is no such stream any more. took: all pieces were taken. alive: the process that keeps the stream is.
    data: what was printed, each piece with its stream's letter. end: the exit status, if `data` is the last of it.
    """

    gone: bool
    took: bool
    alive: bool
    folder: str
    data: list[tuple[str, bytes]]
    end: int | None


def _read(told: dict[str, Any], data: bytes) -> Told:
    """Raises ValueError, TypeError or AttributeError for what is no answer."""
    folder, end, pieces, at = told.get("folder", ""), told.get("end"), [], 0
    for letter, length in told.get("pieces", ()):
        if letter not in ("o", "e") or not 0 <= length <= len(data) - at:
            raise ValueError("pieces that are none")
        pieces.append((letter, data[at : at + length]))
        at += length
    if not isinstance(folder, str) or (folder and not folder.startswith("/")) or "\0" in folder:
        raise ValueError("no folder")
    if not (end is None or (isinstance(end, int) and 0 <= end <= 255)):
        raise ValueError("no exit status")
    return Told(
        told.get("gone") is True,
        told.get("took") is True,
        told.get("alive") is not False,
        folder,
        pieces,
        end,
    )


# What the first visit brought is run again, if it is still there.
_AGAIN = (
    "import os,sys;p=sys.argv.pop(1);"
    'exec(compile(open(p,"rb").read(),p,"exec"),{"__name__":"__main__","__file__":p}) if os.path.exists(p) '
    'else print("outrider-gateway eyJnb25lIjp0cnVlfQ== outrider-end")'
)


class Stream:
    """A command there, its stdin, stdout and stderr those of this process."""

    def __init__(self, connector: Connector, patience: float, key: str | None = None) -> None:
        """patience: seconds without a visit after which the far side ends the command. key: of a stream that there is."""
        self.connector = connector
        self.patience = patience
        self.key = key or secrets.token_hex(16)
        self.folder = ""
        self._visited = time.monotonic()
        self._failing: float | None = None
        self._sending = threading.BoundedSemaphore(AT_ONCE)
        self._trouble: GatewayError | None = None

    # --- visits -------------------------------------------------------------------------------------------------------

    def visit(self, pieces: dict[int, str], **asked: Any) -> Told:
        """One visit, made again while that may help. pieces: by their numbers, as they stand in a command line."""
        asked = {"key": self.key, "pieces": list(pieces), "have": None, **asked}
        word = base64.b64encode(json.dumps(asked).encode()).decode()
        line = shlex.join(["python3", *self._program(), word, *pieces.values()])
        pause = FIRST_PAUSE
        while True:
            try:
                told = self._parsed(self.connector.run(line, asked.get("wait", 0.0) + SLACK).output)
            except GatewayError as error:
                now = time.monotonic()
                self._failing = self._failing or now
                if not error.transient or now - self._failing > self.patience or not self.folder:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            self._failing, self._visited = None, time.monotonic()
            if told.gone:
                raise GatewayError(
                    "what was started there has ended without a word",
                    "was it killed, its folder removed, or its disk full? Without a visit for "
                    f"{self.patience:g} s it ends itself",
                    transient=True,
                )
            return told

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
            return _read(
                json.loads(base64.b64decode(found[1], validate=True)),
                base64.b64decode(found[2], validate=True),
            )
        except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
            shown = " ".join(said.split())[-300:] or "nothing"
            raise GatewayError(
                f"a command did not run there as it should: it printed {shown!r}",
                "is there a python3 (3.8 or newer) in the PATH of a command there?",
                transient=bool(self.folder),
            ) from None

    # --- both directions ----------------------------------------------------------------------------------------------

    def carry(self, words: list[bytes]) -> int:
        """Run `words` there until they end; their exit status. Raises GatewayError."""
        first, ended = _available(0.05, SMALL // 2)
        pieces = _pieces(0, [first] if first else [], ended)
        told = self.visit(
            pieces,
            words=[base64.b64encode(word).decode() for word in words],
            patience=self.patience,
            have=0,
            wait=self._wait(),
            most=MOST,
        )
        if not told.folder:
            raise GatewayError(
                "it answers, but with nonsense", "is that place what you think it is?", transient=False
            )
        self.folder = told.folder
        if not ended:
            threading.Thread(target=self._send, args=(len(pieces),), daemon=True).start()
        threading.Thread(target=self._stay_alive, daemon=True).start()
        have = 0
        while True:
            have += self._hand_on(told.data)
            if self._trouble is not None:
                raise self._trouble
            if told.end is not None:
                return told.end
            if not told.alive:
                raise GatewayError(
                    "what was started there does not answer any more",
                    "was it killed, or the machine started again? Then open the route again",
                    transient=True,
                )
            told = self.visit({}, have=have, wait=self._wait(), most=MOST)

    def stop(self) -> None:
        """Tell the far side that it is over; what is still running there is ended."""
        with suppress(GatewayError):
            self.visit({}, stop=True)

    def _wait(self) -> float:
        return min(WAIT, self.patience / 4)

    @staticmethod
    def _hand_on(pieces: list[tuple[str, bytes]]) -> int:
        for letter, data in pieces:
            left = memoryview(data)
            while left:
                left = left[os.write(2 if letter == "e" else 1, left) :]
        return len(pieces)

    def _send(self, number: int) -> None:
        """All of stdin, in pieces of which some travel at once; they are put into order there."""
        with ThreadPoolExecutor(AT_ONCE, "outrider-sending") as pool:
            ended = False
            while not ended:
                data, ended = _available(None, LARGE if self.connector.uploads else SMALL)
                for piece, word in _pieces(number, [data] if data else [], ended).items():
                    self._sending.acquire()
                    pool.submit(self._bring, piece, data, word).add_done_callback(self._brought)
                    number = piece + 1

    def _bring(self, number: int, data: bytes, word: str) -> None:
        if word != "." and len(data) > SMALL:
            self.connector.upload(f"{self.folder}/up.{number}", data)
            word = "-"
        pause = FIRST_PAUSE
        while not self.visit({number: word}).took:  # the command there does not read what it has
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _brought(self, done: Future[None]) -> None:
        self._sending.release()
        error = done.exception()
        if error is not None and self._trouble is None:
            known = isinstance(error, GatewayError)
            self._trouble = error if known else GatewayError(str(error), "tell the authors", transient=False)  # type: ignore[assignment]

    def _stay_alive(self) -> None:
        """Whoever reads our stdout may pause, and no visit is made then: the far side must not take us for dead."""
        while self._trouble is None:
            time.sleep(min(self.patience / 8, 5.0))
            if time.monotonic() - self._visited > self.patience / 3:
                with suppress(GatewayError):
                    self.visit({})


def _available(wait: float | None, most: int) -> tuple[bytes, bool]:
    """What stdin has, up to `most` bytes, waiting for the first of it (seconds; None: any time); and whether it ended."""
    data = b""
    while len(data) < most:
        ready, _, _ = select.select([0], [], [], 0.0 if data else wait)
        if not ready:
            return data, False
        got = os.read(0, most - len(data))
        if not got:
            return data, True
        data += got
    return data, False


def _pieces(number: int, data: list[bytes], ended: bool) -> dict[int, str]:
    """Pieces from that number on, as they stand in a command line."""
    words = [base64.b64encode(piece).decode() for piece in data] + (["."] if ended else [])
    return dict(enumerate(words, number))
