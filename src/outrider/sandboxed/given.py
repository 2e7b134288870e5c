"""What goes into a jail: the contents of files here, or what a caller gives instead of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outrider.errors import ConfigError

Files = Mapping[str, "bytes | str | os.PathLike[str]"]
Input = tuple[str, bytes, int]
"""Path inside, contents, mode."""
PROGRAM, PLAIN = 0o755, 0o644
_STARTS = (b"#!", b"\x7fELF")
"""How what can be executed begins."""


def inputs(files: Mapping[Any, object]) -> Iterator[Input]:
    """All files to put into a jail, of folders each file in them. ConfigError for what cannot be read, or is none."""
    for inside, content in files.items():
        if not isinstance(inside, str) or not inside.strip("/.") or ".." in inside.split("/"):
            raise _wrong(f"not a path inside: {inside!r}", "a name in the job's folder, such as main.py")
        if isinstance(content, os.PathLike):
            yield from _of_path(inside, Path(content))
            continue
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        if not isinstance(content, (bytes, bytearray, memoryview)):
            kind = type(content).__name__
            raise _wrong(
                f"{inside} is to be bytes, text or a Path, not {kind}", "Path('main.py'), or b'contents'"
            )
        body = bytes(content)
        yield inside, body, PROGRAM if body.startswith(_STARTS) else PLAIN


def _of_path(inside: str, path: Path) -> Iterator[Input]:
    try:
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                if found.is_file() and not found.is_symlink():
                    yield f"{inside.rstrip('/')}/{found.relative_to(path)}", found.read_bytes(), _mode(found)
        else:
            yield inside, path.read_bytes(), _mode(path)
    except OSError as error:
        raise _wrong(
            f"cannot read {path}: {error.strerror or error}", "files= maps paths inside to files here"
        ) from error


def _mode(path: Path) -> int:
    return PROGRAM if path.stat().st_mode & 0o100 else PLAIN


def _wrong(message: str, hint: str) -> ConfigError:
    return ConfigError(message, hop="sandbox", key="files", hint=hint)
