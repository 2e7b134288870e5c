"""Your own code and what it yields, through real hops, to slim and to newer Pythons, over slow connections."""

from __future__ import annotations

import sys

import pytest

from outrider import Route, VersionMismatch, local
from outrider.hops import docker as docker_hop
from outrider.hops import ssh, sudo
from tests.samples import work


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a relative import and a data file, which no other machine has."""
    root = tmp_path / "travelling"
    (root / "deep").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "words.txt").write_text("from here")
    (root / "deep" / "__init__.py").write_text("from ..base import BASE\n")
    (root / "base.py").write_text("BASE = 40\n")
    (root / "deep" / "work.py").write_text(
        "import pkgutil\nfrom . import BASE\n\n"
        "def add(n):\n    return BASE + n\n\n"
        "def words():\n    return pkgutil.get_data('travelling', 'words.txt').decode()\n\n"
        "def squares(n):\n    for i in range(n):\n        print('at', i)\n        yield i * i\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "travelling"]:
        del sys.modules[name]


def check(route):
    from travelling.deep import work as own

    told = []
    with route.options(on_output=lambda name, piece: told.append(piece)).open() as far:
        assert far.call(own.add, 2) == 42
        assert far.call(own.words) == "from here"
        assert list(far.call(own.squares, 300)) == [n * n for n in range(300)]
        assert b"".join(told).startswith(b"at 0\nat 1\n")
        items = far.call(own.squares, 10**9)
        assert next(items) == 0
        items.close()
        blob = bytes(3 << 20)
        assert far.call(list, [blob, bytearray(blob)]) == [blob, bytearray(blob)]
        assert far.call(max, 1, 3) == 3


def test_through_ssh_and_sudo(package, sshd, sudo_rules, census):
    check(Route(ssh("alpha", config=sshd.config, share=False), sudo("outrider-b")))
    census.assert_nothing_left()


@pytest.mark.parametrize("image", ["image", "slim"])
def test_in_a_container(package, docker, census, image):
    check(Route(docker_hop(getattr(docker, image))))
    census.assert_nothing_left()


def test_under_a_newer_python(package, newer_python):
    route = Route(local()).options(python=newer_python)
    check(route)
    assert route.invoke(work.Place(), "where")["pid"]
    with pytest.raises(VersionMismatch):
        route.call(lambda: 1)
