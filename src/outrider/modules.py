"""Modules of the caller's own code, as the far end asks for them: found here, sent as source. Reads files, no more."""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outrider.far import loader, placeholder
from outrider.far.modules import MAIN

_CARRIED = frozenset({"cloudpickle"})
"""Third-party packages that travel although they are not the caller's: what cloudpickle packs needs it there."""


class ModuleServer:
    """Answers the far end's questions for modules of the caller's own code. Sources are read anew for each session.

    A far end that is not trusted gets what the calls name, and what these modules import in turn, and nothing else: it
    could ask for a module of secrets otherwise, or for one whose package does something when it is looked up.
    """

    def __init__(self, trusted: bool) -> None:
        self._allowed: set[str] | None = None if trusted else {"outrider"}

    def allow_names_of(self, call: bytes) -> None:
        """A call is about to be sent, as a pickle: the modules that it names may be asked for."""
        if self._allowed is not None:
            for name in _strings(call):
                if name in sys.modules:
                    self._allow(MAIN if name == "__main__" else name)

    def _allow(self, name: str) -> None:
        assert self._allowed is not None
        while name:
            self._allowed.add(name)
            name = name.rpartition(".")[0]

    def answer(self, name: str) -> dict[str, dict[str, Any] | None]:
        """{module: None or {"file", "package", "source"}}: what was asked for."""
        found = self._found(name) if self._may_be_asked_for(name) else None
        if found is not None and found["source"] is not None and self._allowed is not None:
            for imported in _imported(name, found):
                self._allow(imported)
        return {name: found}

    def _may_be_asked_for(self, name: str) -> bool:
        return (
            self._allowed is None
            or name in self._allowed
            or name.partition(".")[0] in ("outrider", loader.PACKAGE, *_CARRIED)
        )

    @staticmethod
    def far_part(name: str) -> dict[str, Any]:
        """A module of the far end itself that was not sent at the start."""
        return {"file": f"<outrider>/{name}.py", "package": False, "source": loader.source(name)}

    def _found(self, name: str) -> dict[str, Any] | None:
        package, _, part = name.rpartition(".")
        if package == loader.PACKAGE and part in loader.LATER:
            return self.far_part(part)
        if name == MAIN:
            return self._script()
        if name.partition(".")[0] == "outrider":
            return self._placeholder(name)
        return self._module(name) if self._may_travel(name) else None

    @staticmethod
    def _placeholder(name: str) -> dict[str, Any] | None:
        """What stands for Outrider itself there, with the same names for `from outrider import *`."""
        found = _source(placeholder.__file__, package=True)
        public = getattr(sys.modules.get(name), "__all__", None)
        if found is not None and public is not None:
            found["source"] += f"\n__all__ = {list(public)!r}\n"
        return found

    @staticmethod
    def _script() -> dict[str, Any] | None:
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        return _source(str(file), package=False) if file and has_script() else None

    @staticmethod
    def _may_travel(name: str) -> bool:
        top = name.partition(".")[0]
        return top not in sys.stdlib_module_names and top not in sys.builtin_module_names

    def _module(self, name: str) -> dict[str, Any] | None:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None:
            try:
                spec = importlib.util.find_spec(name)
            except (ImportError, AttributeError, ValueError):
                return None
        if spec is None:
            return None
        package = spec.submodule_search_locations is not None
        if package and not spec.has_location:  # a namespace package: no file, yet something to import from
            return {"file": f"<namespace {name}>", "package": True, "source": None}
        file = spec.origin
        if not file or not file.endswith(".py"):
            return None
        if _third_party(file) and name.partition(".")[0] not in _CARRIED:
            return None
        return _source(file, package=package)


def _source(file: str, *, package: bool) -> dict[str, Any] | None:
    try:
        source = importlib.util.decode_source(Path(file).read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    return {"file": file, "package": package, "source": source}


def _third_party(file: str) -> bool:
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    path = Path(file).absolute()
    if any(part in ("site-packages", "dist-packages") for part in path.parts):
        return True
    return any(place and path.is_relative_to(place) for place in places)


def _strings(pickled: bytes) -> Iterator[str]:
    """All texts in a pickle, the names of modules among them; nothing is built or run."""
    import pickletools  # only a far end that is not trusted needs it

    for _, argument, _ in pickletools.genops(pickled):
        if isinstance(argument, str):
            yield argument


def _imported(name: str, found: dict[str, Any]) -> Iterator[str]:
    """The modules that a source imports anywhere, by full name; a name that is no module does no harm."""
    try:
        tree = ast.parse(found["source"])
    except SyntaxError:
        return
    package = name if found["package"] else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def has_script() -> bool:
    """True if the caller's `__main__` is a file whose source can travel."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return bool(file) and Path(str(file)).is_file() and not hasattr(main, "__outrider_by_value__")
