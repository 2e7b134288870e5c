"""Why a call that fails there would not fail here: modules, files and syntax that the two machines do not share."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from outrider.far.modules import MAIN
from outrider.near import sources
from outrider.near.modules import ModuleServer


def hint(about: dict[str, Any], held: ModuleServer, place: str, far_python: tuple[int, ...]) -> str | None:
    """What to do about the exception that `about` tells of; None if nothing is known. `about` may lie."""
    missing, file, kind = about.get("missing"), about.get("file"), about["kind"]
    here, there = (".".join(map(str, version[:2])) for version in (sys.version_info, far_python))
    older = tuple(far_python[:2]) < sys.version_info[:2]
    if isinstance(missing, str) and missing.replace(".", "").isidentifier() and len(missing) < 256:
        if missing == MAIN or missing == "__main__":
            return None
        return _missing(missing, place, here, there, older)
    part = re.search(r"cannot import name '(\w+)' from .*?'([\w.]+)'", str(about["message"])[:1000])
    if part is not None and kind == "builtins.ImportError":
        spec = sources.spec_of(f"{part[2]}.{part[1]}")
        if spec is not None and sources.is_compiled(spec):
            return _missing(f"{part[2]}.{part[1]}", place, here, there, older)
    if isinstance(file, str) and _is_ours(file, held):
        return (
            f"{file} is on this machine, and only the modules beside it travel: read it with importlib.resources.files() or"
            " pkgutil.get_data(), which fetch a package's data from here, or bring it there with put() or options(push=…)"
        )
    if kind == "builtins.SyntaxError" and older:
        return (
            f"your code runs under Python {there} there, and under {here} here, whose newer syntax {there} does not know:"
            " name a newer one with route.options(python='python3.X'), or write that module for both"
        )
    if kind in ("builtins.ImportError", "builtins.AttributeError") and older and _names_python_s_own(about):
        return f"Python {there} there is older than {here} here, and may lack this: route.options(python='python3.X')"
    return None


def _missing(module: str, place: str, here: str, there: str, older: bool) -> str:
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        if older:
            return (
                f"Python {here}, here, has a module {module!r} of its own; the {there} at {place} is older, or a slim image:"
                " name another with route.options(python='python3.X'), or install its full python3"
            )
        return f"Python's own module {module!r} is missing at {place}: a slim image, perhaps; install its full python3"
    try:
        spec = sources.spec_of(module)
    except Exception:  # a finder of somebody else's
        spec = None
    if spec is None:
        return f"module {module!r} is neither at {place} nor part of your own code here; install it there"
    if sources.is_compiled(spec) and sources.is_own(module, spec):
        return (
            f"module {module!r} of your own code is compiled, and only sources travel: install {top!r} at {place}, for the"
            f" Python {there} there"
        )
    return (
        f"module {module!r} is installed here, and other people's packages do not travel: install {top!r} at {place} for"
        f" its Python {there}, or name a Python there that has it: route.options(python=…)"
    )


def _is_ours(file: str, held: ModuleServer) -> bool:
    """True for a file that is here, in a folder of a module of ours that the far end has, or below."""
    folders = [str(Path(found).parent) + "/" for found in held.files()]
    return any(file.startswith(folder) for folder in folders) and Path(file).exists()


def _names_python_s_own(about: dict[str, Any]) -> bool:
    words = str(about["message"]).replace("'", " ").replace('"', " ").split()
    return any(word.partition(".")[0] in sys.stdlib_module_names for word in words)
