"""Your modules, served by the near end: what this Python lacks of them comes as source, a package a round trip."""

import sys

from . import data, wire
from .link import Slot

ModuleSpec = type(__spec__)

MAIN = "__outrider_main__"
"""The name under which the caller's script runs here, so that its `if __name__ == "__main__":` stays quiet."""


class NearModules:
    """A finder and loader at the end of sys.meta_path, asking the near end for what nobody else has."""

    def __init__(self, link):
        self.link = link
        self.known = {}
        self.pending = {}
        self.stdlib = getattr(sys, "stdlib_module_names", frozenset())

    def install(self):
        sys.meta_path.append(self)
        self.near_first = NearFirst(self)
        sys.meta_path.insert(0, self.near_first)

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in self.stdlib:
            return None
        found = self._ask(name)
        if found is None:
            return None
        spec = ModuleSpec(name, self, origin=found["file"], is_package=found["package"])  # type: ignore[arg-type]
        spec.has_location = True
        if found["package"]:
            spec.submodule_search_locations = []
        return spec

    def _ask(self, name):
        if name not in self.known:
            ident = self.link.new_ident()
            slot = self.pending[ident] = Slot()
            self.link.send(wire.IMPORT, ident, [data.dumps({"module": name})])
            if not self.link.wait(slot):
                raise ImportError("the near end went away while it was asked for module %r" % name, name=name)
        return self.known.get(name)

    def answer(self, ident, segments):
        """SOURCE came: {module name: None or {"file", "package", "source"}}; more than was asked, where of use."""
        found = data.loads(segments[0])
        self.known.update(found)
        slot = self.pending.pop(ident, None)
        if slot is not None:  # else it was sent ahead of being asked for
            slot.finish()

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        found = self.known[module.__spec__.name]
        if found["source"] is not None:
            exec(compile(found["source"], found["file"], "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # running source is what a loader is for

    def get_source(self, name):
        found = self.known.get(name)
        return found["source"] if found else None

    def is_package(self, name):
        return self.known[name]["package"]

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


class NearFirst:
    """A finder before all others, for what must be the near end's own version: it packed with it."""

    def __init__(self, modules):
        self.modules = modules
        self.names = {"cloudpickle"}

    def find_spec(self, name, path=None, target=None):
        return self.modules.find_spec(name) if name.partition(".")[0] in self.names else None
