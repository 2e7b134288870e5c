"""A shell line spelled in characters that survive where bytes do not: escaping that is not ours, or JSON."""

from __future__ import annotations

import os
import re

from outrider.command import Command

_HARMLESS = re.compile(rb"[A-Za-z0-9 ./=_-]")


def spelled(line: str) -> str:
    """A script for `sh -c` that does what `line` does, without `$`, newlines or anything that is not ASCII in it.

    It is also right where backslashes are put before all but letters, digits, `_`, `-` and `$`, as `sudo -i` does.
    """
    octal = "".join(
        chr(byte) if _HARMLESS.fullmatch(bytes((byte,))) else f"\\\\{byte:03o}" for byte in os.fsencode(line)
    )
    return f"eval \"`printf '{octal}'`\""


def utf8_only(command: Command) -> Command:
    """A command that does the same and is all UTF-8: container engines hand commands on as JSON."""
    words = (*command.argv, *command.env, *command.env.values(), command.cwd or "")
    if not any("\ud800" <= character <= "\udfff" for word in words for character in word):
        return command
    return Command(("sh", "-c", spelled(command.as_shell())))
