"""What others print, made safe to show: nothing of it can steer a terminal."""

from __future__ import annotations

import codecs
import re

# No class of these reaches over the beginning of another sequence: so that time stays in proportion to length.
_CONTROLS = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    "|(?:\x1b\\]|\x9d)[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\\\|\x9c)"  # titles, clipboard, links
    "|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x80-\x9f]*(?:\x1b\\\\|\x9c)"  # device strings
    "|\x1b[ -/]*[0-~]"  # resets, character sets
    "|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # bells and the like, and what is left; \b \t \n \r stay
)
# What is left of a sequence that a piece ends within, waits for the next piece; but not for ever.
_UNFINISHED = re.compile(
    "(?:\x1b(?:[\\[\\]PX^_ -/][^\x07\x1b\x80-\x9f]{0,4096}\x1b?)?"
    "|[\x90\x98\x9b\x9d-\x9f][^\x07\x1b\x80-\x9f]{0,4096}\x1b?)\\Z"
)


class Harmless:
    """Far output without the sequences that steer a terminal; takes it piece by piece, as it comes.

    It works on characters, not on bytes: taking something out from between two bytes could make a control of them.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def __call__(self, piece: bytes) -> bytes:
        text = self._rest + self._decode(piece)
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._rest = text[cut:]
        return _CONTROLS.sub("", text[:cut]).encode()


def printable(text: str) -> str:
    """One line without control characters: each is shown as an escape instead."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text.replace("\r", ""))


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return text if text.isprintable() else "\n".join(printable(line) for line in text.split("\n"))
