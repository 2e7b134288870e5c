"""Modules of the caller's own code for one far end: sent ahead of the calls that need them, or when it asks for them."""

from __future__ import annotations

import functools
import sys
import threading
import zlib
from collections import deque
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

from outrider.far import data, loader, placeholder
from outrider.far.modules import MAIN
from outrider.near import sources

CARRIED = "cloudpickle"
"""A package of others that travels all the same: what cloudpickle packs needs it there, and in the same version."""
AHEAD = 1 << 20
"""Bytes of source that go unasked in one answer, at the most."""
PACK = 2048
"""Bytes from which on sources are compressed."""
PIECE = 1 << 22
"""Bytes of a package's data in one answer, at the most."""
AUTORELOAD = "IPython.extensions.autoreload"
SCRIPT_NAMES = ("__main__", "__mp_main__", MAIN)

Found = dict[str, Any] | None


class Held(NamedTuple):
    """What the far end has of a module, and what the module was here then."""

    name: str
    module: ModuleType | None
    spec: ModuleSpec | None
    source: sources.Source | None


class ModuleServer:
    """Knows what one far end has of the caller's own modules, and answers its questions.

    Your version of your code wins over one that is installed there. A module that is reloaded here is dropped there,
    with those that import it. A far end that is not trusted gets what the calls name, and what these modules import in
    turn, and nothing else: it could ask for a module of secrets otherwise.
    """

    def __init__(self, trusted: bool) -> None:
        self._allowed: set[str] | None = None if trusted else {"outrider"}
        self._lock = threading.RLock()
        self._held: dict[str, Held] = {}
        self._watched: tuple[Held, ...] = ()
        self._told: set[str] = set()
        self._settled: set[str] = set()
        self._names: set[str] = set()
        self._count = 0
        self._first: set[str] = set()
        self._mentioned: set[str] = set()

    @property
    def trusted(self) -> bool:
        return self._allowed is None

    # --- ahead of a call ----------------------------------------------------------------------------------------

    def news(self, subject: object, by_value: bool, names: Iterable[str]) -> bytes | None:
        """What the far end should know before `subject` is called: new modules, and those that were reloaded here.

        by_value: the call was packed by cloudpickle. names: the modules that the call names, for one that is not trusted.
        """
        home = CARRIED if by_value else _home(subject)
        if (
            home in self._settled
            and self._count == len(sys.modules)
            and not (self._allowed is not None and names)
            and self._unchanged()
        ):
            return None
        with self._lock:
            for name in names:
                self._allow(MAIN if name in SCRIPT_NAMES else name)
            drop = self._outdated()
            wanted = [*drop, *([home] if home not in self._settled and self._may_be_asked_for(home) else [])]
            message = self._gather(wanted)
            self._settled.add(home)
            first = self._own_tops()
            if drop or first:
                message[""] = {"drop": drop, "first": first}
            return _packed(message) if message else None

    def rest(self, names: Iterable[str] = ()) -> bytes | None:
        """Modules of these names, and what those that were sent may import later on: for a far end that cannot ask."""
        with self._lock:
            found: dict[str, Any] = {}
            asked = {name for name in names if self._may_be_asked_for(name)}
            while wanted := [name for name in asked | self._later() if name not in self._told]:
                found.update(self._gather(wanted))
            if first := self._own_tops():
                found[""] = {"drop": [], "first": first}
            return _packed(found) if found else None

    def _later(self) -> set[str]:
        later = {name for held in self._held.values() if held.source for name in held.source.later}
        return {name for name in later if self._may_be_asked_for(name)}

    def _unchanged(self) -> bool:
        """A quick look, at each call: whether what the far end holds is what is loaded here."""
        loaded = sys.modules
        if AUTORELOAD in loaded:
            return not any(map(_changed, self._watched))
        for name, module, spec, _ in self._watched:
            if loaded.get(name) is not module or (module is not None and module.__spec__ is not spec):
                return False
        return True

    def _outdated(self) -> list[str]:
        """Forget what has another source than was sent, and what imports it, directly or not; gives their names."""
        outdated = []
        for held in self._watched:
            if _changed(held):
                now = self._look_up(held.name)[1]
                if now is None or held.source is None or now.text != held.source.text:
                    outdated.append(held.name)
                else:  # reloaded as it was
                    self._hold(held.name, now)
        for name in outdated:  # grows while it is gone through
            for other in self._held.values():
                imports = (*other.source.at_once, *other.source.later) if other.source is not None else ()
                if name in imports and other.name not in outdated:
                    outdated.append(other.name)
        for name in outdated:
            self._held.pop(name, None)
            self._told.discard(name)
            self._settled.discard(name)
        self._watch()
        return outdated

    def _own_tops(self) -> list[str]:
        """Top-level names of own code, imported here or by what was sent since the last look: there, ours come first."""
        self._count = len(sys.modules)
        new = set(sys.modules) - self._names
        self._names |= new
        new |= self._mentioned
        self._mentioned.clear()
        tops = {name.partition(".")[0] for name in new} - self._first - {"outrider", *SCRIPT_NAMES}
        found = [top for top in tops if self._may_be_asked_for(top) and self._comes_whole(top)]
        self._first.update(found)
        for name in [name for name in self._told if name.partition(".")[0] in found]:
            if name not in self._held:
                self._told.discard(name)  # it was not there when it was asked for
        return found

    @staticmethod
    def _comes_whole(top: str) -> bool:
        """True for own code all of which can travel; what is partly compiled is better taken from where it is installed."""
        spec = sources.spec_of(top)
        if spec is None or not sources.is_own(top, spec):
            return False
        inside = [name for name in list(sys.modules) if name == top or name.startswith(top + ".")]
        specs = [spec for spec in map(sources.spec_of, inside) if spec is not None]
        return not any(map(sources.is_compiled, specs))

    # --- finding ------------------------------------------------------------------------------------------------

    def _gather(self, names: Iterable[str]) -> dict[str, Found]:
        """These modules and what they import at once, in turn, as far as it is own code and not there yet."""
        found: dict[str, Found] = {}
        pending = deque(names)
        size = 0
        while pending and size < AHEAD:
            name = pending.popleft()
            parent = name.rpartition(".")[0]
            if name in self._told:
                continue
            if parent and parent not in self._told:
                pending.extendleft((name, parent))
                continue
            self._told.add(name)
            if parent and parent not in self._held and not _is_namespace(parent):  # somebody else's
                continue
            entry, source = self._look_up(name)
            if entry is not None:
                self._hold(name, source)
                found[name] = entry
            elif (
                not parent and name not in sys.stdlib_module_names
            ):  # a b.c is rather a function of b than a module
                found[name] = None
            if source is not None:
                size += len(source.text)
                self._allow(*source.at_once, *source.later)
                self._mentioned.update(source.at_once, source.later)
                pending.extend(source.at_once)
        self._watch()
        return found

    def _hold(self, name: str, source: sources.Source | None) -> None:
        module = sys.modules.get(name)
        self._held[name] = Held(name, module, getattr(module, "__spec__", None), source)

    def _watch(self) -> None:
        self._watched = tuple(
            held
            for held in self._held.values()
            if held.name.partition(".")[0] not in ("outrider", MAIN, CARRIED)
        )

    def _look_up(self, name: str) -> tuple[Found, sources.Source | None]:
        """(what the far end gets for a module, its source here)."""
        top = name.partition(".")[0]
        if name == MAIN:
            return _script()
        if top == "outrider":
            return _placeholder(name), None
        spec = sources.spec_of(name)
        if spec is None or not (top == CARRIED or sources.is_own(name, spec)):
            return None, None
        package = spec.submodule_search_locations is not None
        if not spec.has_location:  # a namespace package: no file, yet something to import from
            return {"file": "", "package": True, "source": None}, None
        source = sources.read(name, spec)
        if source is None:
            return None, None
        return {"file": str(spec.origin), "package": package, "source": source.text}, source

    # --- answers ------------------------------------------------------------------------------------------------

    def reply(self, asked: dict[str, Any]) -> list[bytes]:
        """Segments of the answer to a far end's question for a module, or for a package's data."""
        name = str(asked["module"])
        with self._lock:
            if "data" in asked:
                return self._data(name, str(asked["data"]), int(asked["at"]))
            package, _, part = name.rpartition(".")
            if package == loader.PACKAGE:
                return [_packed({name: self.far_part(part) if part in loader.LATER else None})]
            self._told.discard(name)
            found = self._gather([name]) if self._may_be_asked_for(name) else {}
            first = self._own_tops()
            return [_packed({name: None, **found, "": {"drop": [], "first": first}})]

    def _data(self, name: str, path: str, at: int) -> list[bytes]:
        """A piece of a file in a package, or what a folder holds; of trusted far ends' own packages only."""
        spec = sources.spec_of(name)
        if not self.trusted or spec is None or not sources.is_own(name, spec):
            return [data.dumps(None)]
        found = sources.beside(spec, path)
        try:
            if found is None:
                return [data.dumps(None)]
            if found.is_dir():
                return [data.dumps([(entry.name, entry.is_dir()) for entry in found.iterdir()])]
            with found.open("rb") as file:
                file.seek(at)
                return [data.dumps(found.stat().st_size), file.read(PIECE)]
        except OSError:
            return [data.dumps(None)]

    @staticmethod
    def far_part(name: str) -> dict[str, Any]:
        """A module of the far end itself that was not sent at the start."""
        return {"file": f"<outrider>/{name}.py", "package": False, "source": loader.source(name)}

    def _allow(self, *names: str) -> None:
        if self._allowed is not None:
            for name in names:
                while name:
                    self._allowed.add(name)
                    name = name.rpartition(".")[0]

    def _may_be_asked_for(self, name: str) -> bool:
        return (
            self._allowed is None or name in self._allowed or name.partition(".")[0] in ("outrider", CARRIED)
        )

    def files(self) -> list[str]:
        """The files here of the modules that the far end has."""
        with self._lock:
            specs = [
                held.spec for held in self._held.values() if held.spec is not None and held.spec.has_location
            ]
            script = sources.script() if MAIN in self._held else None
        return [str(spec.origin) for spec in specs] + ([script[0]] if script else [])


def _changed(held: Held) -> bool:
    """True if the module was imported, reloaded or exchanged here since the far end got it."""
    module = sys.modules.get(held.name)
    if module is not held.module or getattr(module, "__spec__", None) is not held.spec:
        return True
    # It mends functions in place when their file changes, so that a module does not show that it is another.
    return AUTORELOAD in sys.modules and held.source is not None and held.source.stamp != _stamp_of(held.spec)


def _stamp_of(spec: ModuleSpec | None) -> tuple[int, int] | None:
    try:
        return sources.stamp(str(spec.origin)) if spec is not None and spec.has_location else None
    except OSError:
        return None


def _is_namespace(name: str) -> bool:
    spec = sources.spec_of(name)
    return spec is not None and not spec.has_location and spec.submodule_search_locations is not None


def _home(subject: object) -> str:
    """The module that a callable or an object belongs to."""
    while isinstance(subject, functools.partial):
        subject = subject.func
    name = getattr(subject, "__module__", None)
    if not isinstance(name, str):
        name = type(subject).__module__
    return MAIN if name in SCRIPT_NAMES else name


def _packed(message: dict[str, Any]) -> bytes:
    """The message as data, compressed where that pays. The first byte tells which: data never begins with an x."""
    plain: bytes = data.dumps(message)
    return plain if len(plain) < PACK else zlib.compress(plain, 1)


def _script() -> tuple[Found, sources.Source | None]:
    script = sources.script()
    if script is None:
        return None, None
    file, package, source = script
    return {"file": file, "package": False, "source": source.text, "inside": package}, source


def _placeholder(name: str) -> Found:
    """What stands for Outrider itself there, with the same names for `from outrider import *`."""
    source = sources.read_file(placeholder.__file__, name).text
    public = getattr(sys.modules.get(name), "__all__", None)
    if public is not None:
        source += f"\n__all__ = {list(public)!r}\n"
    return {"file": placeholder.__file__, "package": True, "source": source}
