"""The caller's own modules on this machine: where a module's source is, what it imports, what lies beside it.

Files are read and nothing is imported or run: to look up `a.b` the usual way would run `a`.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """The text of a module and what it imports: `at_once` when it is itself imported, `later` perhaps.

    stamp: of its file; None if it has none.
    """

    text: str
    at_once: tuple[str, ...]
    later: tuple[str, ...]
    stamp: tuple[int, int] | None = None


_read: dict[tuple[str, bool, str], Source] = {}
"""What was read, by file and package, for as long as the file's stamp stays."""


def spec_of(name: str) -> ModuleSpec | None:
    """Where module `name` comes from here; None if there is none, or if it is made by hand."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    path: Any = None
    parent = name.rpartition(".")[0]
    if parent:
        above = spec_of(parent)
        path = None if above is None else above.submodule_search_locations
        if path is None:
            return None
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(name, path)
        except Exception:  # a finder of somebody else's
            continue
        if found is not None:
            return found
    return None


def is_own(name: str, spec: ModuleSpec) -> bool:
    """True for the caller's own code: neither Python's nor installed."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return False
    if not spec.has_location:  # a namespace package, of which others may own a part
        places = list(spec.submodule_search_locations or ())
        return bool(places) and not any(_installed(place) for place in places)
    return bool(spec.origin) and not _installed(str(spec.origin))


def is_compiled(spec: ModuleSpec) -> bool:
    """True for a module of machine code, which has no source to send."""
    return bool(spec.origin) and str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES))


def _installed(file: str) -> bool:
    if f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
        return True
    return file.startswith(_install_folders())


@cache
def _install_folders() -> tuple[str, ...]:
    import sysconfig

    places = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return tuple(place + os.sep for place in places if place)


def read(name: str, spec: ModuleSpec) -> Source | None:
    """The source of a module; None if it has none that can be read."""
    file = str(spec.origin)
    package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
    try:
        if file.endswith(".py") and Path(file).is_file():
            return read_file(file, package)
        text = spec.loader.get_source(name) if spec.loader is not None else None  # type: ignore[attr-defined]
    except Exception:  # unreadable, or a loader of somebody else's
        return None
    return None if text is None else Source(text, *_imports(text, package))


def read_file(file: str, package: str, *, script: bool = False) -> Source:
    """The source of a file in `package`, parsed once. Raises OSError, SyntaxError (an unknown encoding)."""
    key = file, script, package
    now = stamp(file)
    if key not in _read or _read[key].stamp != now:
        text = importlib.util.decode_source(Path(file).read_bytes())
        _read[key] = Source(text, *_imports(text, package), now)
    return _read[key]


def stamp(file: str) -> tuple[int, int]:
    """What changes when a file does: its time and its size. Raises OSError."""
    stat = Path(file).stat()
    return stat.st_mtime_ns, stat.st_size


def _imports(text: str, package: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return (), ()
    found: tuple[dict[str, None], dict[str, None]] = ({}, {})
    pending: list[tuple[ast.AST, bool]] = [(node, False) for node in reversed(tree.body)]
    while pending:
        node, later = pending.pop()
        for name in _imported_by(node, package):
            found[later].setdefault(name)
        later = later or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        later = later or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        pending += [(inner, later) for inner in ast.iter_child_nodes(node) if not isinstance(inner, ast.expr)]
    return tuple(found[0]), tuple(found[1])


def _imported_by(node: ast.AST, package: str) -> Iterator[str]:
    """Full names of what one statement imports; of `from a import b`, which may be a module, both a and a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        above = parts[: len(parts) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        if base:
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def has_script() -> bool:
    """True if the caller's `__main__` is a file whose source can travel, and is all that there is of it."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file or hasattr(main, "__outrider_by_value__") or hasattr(sys, "ps1"):
        return False  # typed in, at least in part
    return Path(str(file)).is_file()


def script() -> tuple[str, str, Source] | None:
    """(file, package that its relative imports start from, source) of the caller's script."""
    main = sys.modules.get("__main__")
    if not has_script():
        return None
    file = str(getattr(main, "__file__", ""))
    package = getattr(main, "__package__", None) or ""
    try:
        return file, package, read_file(file, package, script=True)
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def beside(spec: ModuleSpec, path: str) -> Path | None:
    """The file or folder `path` of a package's data; None if it is not inside the package."""
    for place in spec.submodule_search_locations or ():
        root = Path(place).resolve()
        found = (root / path).resolve()
        if found.is_relative_to(root) and found.exists():
            return found
    return None
