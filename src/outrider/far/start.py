"""The first thing that runs at the far end: makes the sources that came along importable, then serves.

Runs with `sources` ({module name: source text}) as a global, put there by the loader.
"""

import sys

PACKAGE = "_outrider_far"


class SourceLoader:
    """Loads a module of the far end from its source text; compiled only when something imports it, if it is not yet."""

    def __init__(self, sources):
        self.sources = sources
        self.codes = {}

    def find_spec(self, name, path=None, target=None):
        package, _, module = name.rpartition(".")
        if package == PACKAGE and module in self.sources:
            kind = type(sys.__spec__)  # ModuleSpec, without importing importlib
            return kind(name, self, origin="<outrider>/%s.py" % module)  # type: ignore[arg-type]
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        code = self.codes.get(module.__name__.rpartition(".")[2])
        if code is None:
            source = self.get_source(module.__name__)
            code = compile(source, module.__spec__.origin, "exec", dont_inherit=True, optimize=2)
        exec(code, module.__dict__)  # noqa: S102  # running source is what a loader is for

    def get_source(self, name):
        return self.sources[name.rpartition(".")[2]]


def start(sources):
    package = type(sys)(PACKAGE)
    package.__path__ = []
    sys.modules[PACKAGE] = package
    loader = SourceLoader(sources)
    sys.meta_path.insert(0, loader)
    if "codes" in sources:  # of a job: its submit host has compiled them, for its own Python
        import marshal
        from _frozen_importlib_external import MAGIC_NUMBER

        made_for, codes = sources.pop("codes")
        if made_for == MAGIC_NUMBER:
            loader.codes = marshal.loads(codes)  # they come the way the sources come
    __import__(PACKAGE + ".main")
    package.main.main()


if "sources" in globals():
    start(sources)  # type: ignore[name-defined] # noqa: F821
