"""A connector that is a program here: its last word is a command line, which it runs there; it prints what that printed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from outrider.connect.connector import GatewayError, Ran


class ProgramConnector:
    """argv: the program's own words. It needs no stdin, and its exit status may be its own or the command's."""

    longest = 100_000  # the kernel takes 128 KiB in one word
    uploads = False

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.place = self.argv[0]

    def run(self, line: str, timeout: float) -> Ran:
        try:
            done = subprocess.run(
                [*self.argv, line],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise GatewayError(
                f"{self.place} took longer than {timeout:g} s over one command",
                "does it ask something? It has no stdin to read an answer from",
                transient=True,
            ) from None
        except OSError as error:
            raise GatewayError(
                f"{self.place} cannot be started: {error.strerror}",
                "name another program: argv=",
                transient=False,
            ) from None
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            said += done.stderr.decode("utf-8", "replace")
        return Ran(said, done.returncode)

    def upload(self, path: str, data: bytes) -> None:
        raise NotImplementedError
