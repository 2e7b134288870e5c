"""Folders for files that travel: in memory, so that no disk is measured, and open to every user of the far ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.far_side import MB


class Scratch:
    """`here` for the near end, `there` for the far end, which in this world is the same machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)
        self.here, self.there = root / "here", root / "there"
        self.here.mkdir()
        self.there.mkdir()
        self.there.chmod(0o1777)

    def large_file(self, size: int) -> Path:
        path = self.here / "large"
        if not path.exists() or path.stat().st_size != size:
            block = os.urandom(MB)
            with path.open("wb") as file:
                for _ in range(size // MB):
                    file.write(block)
        return path

    def small_files(self, count: int) -> Path:
        """A tree of files of 1 to 4 KB, a hundred in a folder."""
        top = self.here / f"tree-{count}"
        if not top.exists():
            data = os.urandom(4096)
            for number in range(count):
                path = top / f"folder{number // 100}" / f"file{number}.dat"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data[number % 3072 :])
        return top

    def without(self, path: Path) -> Path:
        """That path, with nothing there."""
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        return path


@contextlib.contextmanager
def scratch(where: Path) -> Iterator[Scratch]:
    root = Path(tempfile.mkdtemp(prefix="outrider-bench-", dir=where))
    try:
        yield Scratch(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
