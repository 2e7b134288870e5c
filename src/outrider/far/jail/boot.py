"""The first thing that runs in the warden: makes the sources that came along importable, then serves.

Runs with `sources` ({module name below the package: source text}) as a global; see `sandbox.BOOT`.
"""

import sys

PACKAGE = "_outrider_far"


class Sources:
    """Finds and loads the warden's modules from their text."""

    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        package, _, module = name.partition(".")
        if package == PACKAGE and (module in self.sources or module == "jail"):
            spec = type(sys.__spec__)(name, self, origin="<outrider>/%s.py" % module.replace(".", "/"))  # type: ignore[arg-type]
            if module == "jail":
                spec.submodule_search_locations = []
            return spec
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        source = self.sources.get(module.__name__.partition(".")[2], "")
        exec(compile(source, module.__spec__.origin, "exec", dont_inherit=True, optimize=2), module.__dict__)  # noqa: S102  # running source is what a loader is for


def boot(sources):
    package = type(sys)(PACKAGE)
    package.__path__ = []
    sys.modules[PACKAGE] = package
    sys.meta_path.insert(0, Sources(sources))
    __import__(PACKAGE + ".jail.warden")
    sys.modules[PACKAGE + ".jail.warden"].main(0)


if "sources" in globals():
    boot(sources)  # type: ignore[name-defined] # noqa: F821
