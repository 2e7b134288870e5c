"""`ROUTE::PATH` as a text: where a file is."""

from __future__ import annotations

import posixpath
from pathlib import Path


def split_place(text: str) -> tuple[str | None, str]:
    """(route, path); the route is None for a path here. What begins as a path (/, ./, ../, ~) is one."""
    if text.startswith(("/", "./", "../", "~")) or "::" not in text:
        return None, text
    # Hosts may hold :: too (IPv6): the last one counts.
    route, _, path = text.rpartition("::")
    return route, path or "."


def within(target: str, source: str, *, here: bool) -> str:
    """The path of the copy: `target` itself, or `source`'s name in it if it ends in / or is a folder here."""
    name = posixpath.basename(source.rstrip("/"))
    is_folder = here and Path(target).expanduser().is_dir()
    into = is_folder or target.endswith("/") or target in (".", "..")
    return posixpath.join(target, name) if into and name not in ("", ".", "..") else target
