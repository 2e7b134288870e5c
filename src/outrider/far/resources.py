"""Data files of packages that the near end serves: importlib.resources and pkgutil.get_data find them there."""

import io
import posixpath
import sys

from . import data


class NearFile:
    """A file or folder inside a package at the near end, as importlib.resources wants them (a Traversable)."""

    def __init__(self, modules, package, path=""):
        self._modules = modules
        self._package = package
        self._path = path

    def __repr__(self):
        return "<%r of package %s, at the near end>" % (self._path, self._package)

    @property
    def name(self):
        return posixpath.basename(self._path) or self._package.rpartition(".")[2]

    def _ask(self, at=0):
        """(None, or the file's size, or the folder's entries; a piece of the file from `at` on)."""
        question = {"module": self._package, "data": self._path, "at": at}
        segments = self._modules.ask(question)
        return data.loads(segments[0]), segments[1] if len(segments) > 1 else b""

    def is_file(self):
        return isinstance(self._ask()[0], int)

    def is_dir(self):
        return isinstance(self._ask()[0], list)

    def exists(self):
        return self._ask()[0] is not None

    def iterdir(self):
        entries = self._ask()[0]
        if not isinstance(entries, list):
            raise NotADirectoryError(str(self))
        return iter([self.joinpath(name) for name, _ in entries])

    def joinpath(self, *names):
        path = posixpath.join(self._path, *[str(name) for name in names])
        return NearFile(self._modules, self._package, path)

    __truediv__ = joinpath

    def __rtruediv__(self, other):
        return NotImplemented

    def read_bytes(self):
        size, piece = self._ask()
        if not isinstance(size, int):
            raise FileNotFoundError(
                2, "package %s has no such data file at the near end" % self._package, self._path
            )
        pieces = [piece]
        have = len(piece)
        while have < size and piece:
            piece = self._ask(have)[1]
            pieces.append(piece)
            have += len(piece)
        return b"".join(pieces)

    def read_text(self, encoding=None, errors=None):
        return self.open("r", encoding=encoding, errors=errors).read()

    def open(self, mode="r", buffering=-1, encoding=None, errors=None, newline=None):
        if "w" in mode or "a" in mode or "+" in mode:
            raise OSError("a package's data at the near end can only be read")
        file = io.BytesIO(self.read_bytes())
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", errors, newline)


class NearReader:
    """What importlib.resources asks a loader for; `files` since Python 3.9, the others before."""

    def __init__(self, modules, package):
        self._root = NearFile(modules, package)

    def files(self):
        return self._root

    def open_resource(self, resource):
        return io.BytesIO((self._root / resource).read_bytes())

    def resource_path(self, resource):
        raise FileNotFoundError(
            resource
        )  # the caller then writes what open_resource gives into a temporary file

    def is_resource(self, path):
        return (self._root / path).is_file()

    def contents(self):
        return iter([entry.name for entry in self._root.iterdir()])


def data_at(modules, path):
    """The data file `path`, as pkgutil joins it: the folder of a package here, which is the near end's, and a name."""
    for name, found in modules.known.items():
        if not found or not found["package"] or found["source"] is None or name not in sys.modules:
            continue
        folder = posixpath.dirname(found["file"]) + "/"
        if path.startswith(folder):
            there = NearFile(modules, name, path[len(folder) :])
            if there.is_file():
                return there.read_bytes()
    raise FileNotFoundError(2, "no package of the near end has such a data file", path)
