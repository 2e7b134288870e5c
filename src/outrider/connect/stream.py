"""This side of a stream that is made of single visits: stdin goes there in pieces, what comes back is fetched by asking."""

from __future__ import annotations

import base64
import os
import select
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from outrider.connect.visits import FIRST_PAUSE, LONGEST_PAUSE, Visits
from outrider.errors import RouteError

WAIT = 10.0
"""Seconds that a visit waits for something to fetch."""
MOST = 1 << 19
"""Bytes that a visit fetches."""
SMALL = 64 << 10
LARGE = 4 << 20
"""Bytes of a piece in a command line, and of one that is uploaded."""
SILENT = 20.0
"""Seconds without a beat after which the process that keeps the stream is taken for dead."""
AT_ONCE = 4
"""Pieces that travel at once."""
AHEAD = 32
"""Pieces that may wait there until the command reads them."""


class Stream:
    """A command there, its stdin, stdout and stderr those of this process."""

    def __init__(self, visits: Visits) -> None:
        self._visits = visits
        self._uploads = visits.connector.uploads
        self._sending = threading.BoundedSemaphore(AT_ONCE)
        self._trouble: BaseException | None = None

    def carry(self, words: list[bytes]) -> int:
        """Run `words` there until they end; their exit status. Raises RouteError."""
        visits, number = self._visits, 0
        pieces: dict[int, str] = {}
        if not self._uploads:  # what is there to be sent already travels along
            data, ended = available(0.05, SMALL // 2)
            pieces = dict(enumerate(as_words(data, ended)))
        told = visits.visit(
            pieces,
            words=[base64.b64encode(word).decode() for word in words],
            patience=visits.patience,
            have=0,
            wait=0.0 if self._uploads else self._wait(),
            most=MOST,
        )
        if not told.folder:
            raise RouteError(
                "it answers, but with nonsense", hint="is that place what you think it is?", transient=False
            )
        visits.folder = told.folder
        if "." not in pieces.values():
            threading.Thread(target=self._send, args=(len(pieces),), daemon=True).start()
        threading.Thread(target=self._stay_alive, daemon=True).start()
        beat, beaten = "", time.monotonic()
        while True:
            number += hand_on(told.data)
            if self._trouble is not None:
                raise self._trouble
            if told.end is not None:
                return told.end
            if told.beat != beat:
                beat, beaten = told.beat, time.monotonic()
            elif time.monotonic() - beaten > SILENT:
                raise RouteError(
                    "what was started there does not answer any more",
                    hint="was it killed, or the machine started again? Then open the route again",
                    transient=True,
                )
            told = visits.visit(have=number, wait=self._wait(), most=MOST)

    def _wait(self) -> float:
        return min(WAIT, self._visits.patience / 4)

    def _send(self, number: int) -> None:
        """All of stdin, in pieces of which some travel at once; they are put into order there."""
        with ThreadPoolExecutor(AT_ONCE, "outrider-sending") as pool:
            ended = False
            while not ended and self._trouble is None:
                data, ended = available(None, LARGE if self._uploads else SMALL)
                for piece in [data] * bool(data) + [b""] * ended:
                    self._sending.acquire()
                    pool.submit(self._bring, number, piece).add_done_callback(self._brought)
                    number += 1

    def _bring(self, number: int, data: bytes) -> None:
        """One piece; an empty one ends stdin."""
        visits, pause = self._visits, FIRST_PAUSE
        while number - visits.fed >= AHEAD:  # the command there does not read what it has
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            visits.visit()
        if self._uploads:
            visits.upload(number, data)
        else:
            visits.visit({number: as_words(data, not data)[0]})

    def _brought(self, done: Future[None]) -> None:
        self._sending.release()
        self._trouble = self._trouble or done.exception()

    def _stay_alive(self) -> None:
        """Whoever reads our stdout may pause, and no visit is made then: the far side must not take us for dead."""
        patience = self._visits.patience
        while self._trouble is None:
            time.sleep(min(patience / 8, 5.0))
            if time.monotonic() - self._visits.last > patience / 3:
                with suppress(RouteError):
                    self._visits.visit()


def available(wait: float | None, most: int) -> tuple[bytes, bool]:
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


def as_words(data: bytes, ended: bool) -> list[str]:
    """Data, and the end of it, as they stand in a command line."""
    return [base64.b64encode(data).decode()] * bool(data) + ["."] * ended


def hand_on(pieces: list[tuple[str, bytes]]) -> int:
    """Write them to stdout and stderr; how many these are."""
    for letter, data in pieces:
        left = memoryview(data)
        while left:
            left = left[os.write(2 if letter == "e" else 1, left) :]
    return len(pieces)
