"""Your modules, served by the near end: what comes ahead of a call or is asked for, with what it imports in turn."""

import _imp
import sys
import zlib
from _thread import get_ident

from . import data, wire
from .link import Slot

ModuleSpec = type(__spec__)

MAIN = "__outrider_main__"
"""The name under which the caller's script runs here, so that its `if __name__ == "__main__":` stays quiet."""


class NearModules:
    """A finder and loader at the end of sys.meta_path, asking the near end for what nobody else has."""

    def __init__(self, link, near_python):
        self.link = link
        self.near_python = near_python
        self.known = {}
        self.pending = {}
        self.silent = set()  # threads that deal out what they read, and cannot wait for an answer meanwhile
        # Before Python 3.10: what its own modules look for in vain, with locks of importing held that others wait for.
        self.stdlib = getattr(sys, "stdlib_module_names", ("_winapi", "msvcrt", "nt", "winreg"))

    def install(self):
        sys.meta_path.append(self)
        self.near_first = NearFirst(self)
        sys.meta_path.insert(0, self.near_first)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.stdlib:
            return None
        if name not in self.known and get_ident() not in self.silent:
            self.ask({"module": name})
        found = self.known.get(name)
        if found is None:
            return None
        if found["source"] is None:  # a namespace package: this machine may have a part of it too
            for finder in sys.meta_path:
                other = finder.find_spec(name, path) if finder not in (self, self.near_first) else None
                if other is not None:
                    return other
        spec = ModuleSpec(name, self, origin=found["file"], is_package=found["package"])  # type: ignore[arg-type]
        spec.loader_state = found
        spec.has_location = found["source"] is not None
        return spec

    def ask(self, question):
        """Segments of the near end's answer; those of a module are in `known` by then."""
        with self.link.shield:
            return self._ask(question)

    def _ask(self, question):
        ident = self.link.new_ident()
        slot = self.pending[ident] = Slot()
        self.link.send(wire.IMPORT, ident, [data.dumps(question)])
        held = 0
        while _released():
            held += 1
        try:
            answered = self.link.wait(slot)
        finally:
            for _ in range(held):
                _imp.acquire_lock()
        if not answered:
            name = question["module"]
            raise ImportError("the near end went away while it was asked for module %r" % name, name=name)
        return slot.value

    @staticmethod
    def cannot_ask(question):
        """In a child that a call forks: the answer would come to its parent."""
        name = question["module"]
        words = "No module named %r here, and a forked child cannot ask the near end for it: import it before the fork"
        raise ModuleNotFoundError(words % name, name=name)

    def answer(self, ident, segments):
        """SOURCE came, asked for or ahead: {module: None or {"file", "package", "source"}}, or a package's data."""
        slot = self.pending.pop(ident, None)
        body = segments[0]
        if len(segments) == 1:
            found = data.loads(zlib.decompress(body) if body[:1] == b"x" else body)
            if isinstance(found, dict):
                self._learn(found)
        if slot is not None:
            slot.finish(segments)

    def _learn(self, found):
        news = found.pop("", None)
        if news:
            for name in news["drop"]:
                self._drop(name)
            self.near_first.names.update(news["first"])
            for name in [name for name, source in self.known.items() if source is None]:
                if name.partition(".")[0] in self.near_first.names:
                    del self.known[name]
        self.known.update(found)

    def _drop(self, name):
        """Forget a module that was reloaded at the near end, or that imports one: it is imported anew when next needed."""
        self.known.pop(name, None)
        if getattr(sys.modules.get(name), "__loader__", None) is self:
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            vars(sys.modules.get(parent, self)).pop(child, None)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        found = module.__spec__.loader_state  # not from `known`, which may have changed since it was found
        if found.get("inside"):  # a script that was started by `python -m`: its relative imports start there
            module.__package__ = found["inside"]
            module.__spec__ = None
        if found["source"] is not None:
            exec(compile(found["source"], found["file"], "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # running source is what a loader is for

    def get_source(self, name):
        found = self.known.get(name)
        return found["source"] if found else None

    def is_package(self, name):
        return self.known[name]["package"]

    def get_resource_reader(self, name):
        from .resources import NearReader

        return NearReader(self, name)

    def get_data(self, path):
        from .resources import data_at

        return data_at(self, path)

    def load_main(self):
        """The caller's script, run here under another name; made once a session."""
        if MAIN not in sys.modules:
            from importlib.util import module_from_spec

            spec = self.find_spec(MAIN)
            if spec is None:
                raise ImportError("the near end has no script to send", name="__main__")
            module = module_from_spec(spec)
            sys.modules[MAIN] = module
            installed = self._set_outrider_aside()
            try:
                self.exec_module(module)
            except BaseException:
                del sys.modules[MAIN]
                raise
            finally:
                self._set_outrider_aside()
                sys.modules.update(installed)
                self.near_first.names.discard("outrider")
        return sys.modules[MAIN]

    def _set_outrider_aside(self):
        """Where Outrider is installed too, a script's top level must not use it: what it starts would start again."""
        self.near_first.names.add("outrider")
        names = [name for name in sys.modules if name.partition(".")[0] == "outrider"]
        return {name: sys.modules.pop(name) for name in names}


def _released():
    """Let go of importlib's one lock for all, without which nobody can import or fork; False if it is not this thread's."""
    try:
        _imp.release_lock()
    except RuntimeError:
        return False
    return True


class NearFirst:
    """A finder before all others, for what must be the near end's own version: its code, and what it packs with."""

    def __init__(self, modules):
        self.modules = modules
        self.names = {"cloudpickle"}

    def find_spec(self, name, path=None, target=None):
        return self.modules.find_spec(name) if name.partition(".")[0] in self.names else None
