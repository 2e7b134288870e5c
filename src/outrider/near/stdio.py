"""What a far command or debugger is fed from here, and how its output is shown here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from outrider.far import wire
from outrider.harmless import Harmless


def pieces(stdin: Any) -> Iterator[bytes]:
    """Pieces of bytes, a file or an iterable; text is refused by name."""
    if isinstance(stdin, (bytes, bytearray, memoryview)):
        yield bytes(stdin)
        return
    if hasattr(stdin, "read"):
        read = getattr(stdin, "read1", stdin.read)
        while piece := read(wire.CHUNK):
            yield piece.encode() if isinstance(piece, str) else piece
        return
    for piece in stdin:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"stdin is bytes, a file or an iterable of bytes; it gave {type(piece).__name__}")
        yield bytes(piece)


def terminal_size(tty: bool | tuple[int, int]) -> tuple[int, int]:
    if isinstance(tty, tuple):
        return tty
    import shutil

    size = shutil.get_terminal_size()
    return size.lines, size.columns


class Unlabelled:
    """Shows output as it comes, without labels, but nothing that steers the terminal."""

    def __init__(self) -> None:
        self._clean = {"stdout": Harmless(), "stderr": Harmless()}

    def __call__(self, name: str, piece: bytes) -> None:
        stream = sys.stdout if name == "stdout" else sys.stderr
        stream.write(self._clean[name](piece).decode())
        stream.flush()


def typed_lines() -> Iterator[bytes]:
    for line in sys.stdin:
        yield line.encode()
