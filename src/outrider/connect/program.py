"""A connector that is a program here: its last word is a command line, which it runs there; it prints what that printed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from outrider.connect.connector import Ran
from outrider.errors import RouteError

UPLOAD_LIMIT = 300.0
"""Seconds that one piece may take."""


class ProgramConnector:
    """argv: the program's own words. It needs no stdin, and its exit status may be its own or the command's. upload: another
    program's; its last word is the path of a file there, and its stdin what is to be in it.
    """

    longest = 100_000  # the kernel takes 128 KiB in one word

    def __init__(self, argv: Sequence[str], upload: Sequence[str] = ()) -> None:
        self.argv, self.uploader = list(argv), list(upload)
        self.place = self.argv[0]
        self.uploads = bool(upload)

    def run(self, line: str, timeout: float) -> Ran:
        done = self._done([*self.argv, line], b"", timeout)
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            said += done.stderr.decode("utf-8", "replace")
        return Ran(said, done.returncode)

    def upload(self, path: str, data: bytes) -> None:
        done = self._done([*self.uploader, path], data, UPLOAD_LIMIT)
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
            raise RouteError(
                f"{self.uploader[0]} ended with status {done.returncode}: {said}",
                hint="is there space in your home there?",
                transient=True,
            )

    def _done(self, argv: list[str], stdin: bytes, timeout: float) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise RouteError(
                f"{argv[0]} took longer than {timeout:g} s",
                hint="does it ask something? It has no stdin to read an answer from",
                transient=True,
            ) from None
        except OSError as error:
            raise RouteError(
                f"{argv[0]} cannot be started: {error.strerror}",
                hint="name another program: argv=, upload=",
                transient=False,
            ) from None
