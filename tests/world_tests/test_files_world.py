"""Files over real hops: there and back through ssh, sudo and a container, and what a broken way leaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from outrider import Lost, Route, docker, ssh, sudo, tempdir
from tests.unit.test_files import shape
from tests.world.machine import wait_for

_docker = docker


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    for number in range(20):
        (root / f"folder{number}" / "below").mkdir(parents=True)
        for one in range(30):
            (root / f"folder{number}" / f"{one}").write_bytes(random.randbytes(one * 100))
    (root / "big").write_bytes(random.randbytes(5_000_000))
    (root / os.fsdecode(b"new\nline \xff")).write_text("odd")
    (root / "link").symlink_to("folder1/below")
    (root / "folder3").chmod(0o500)
    return root


@pytest.mark.parametrize("way", ["ssh", "ssh-sudo", "ssh-sudo-docker"])
def test_a_tree_there_and_back(way, tree, tmp_path, sshd, sudo_rules, docker, census):
    hops = [ssh("alpha", config=str(sshd.config)), sudo(), _docker(docker.image)]
    route = Route(*hops[: way.count("-") + 1], tempdir())
    census.snapshot()
    with route.open() as far:
        assert far.put(tree, "copy") == 602
        assert far.put(tree, "copy") == 0
        (tree / "folder1" / "7").write_text("changed")
        assert far.put(tree, "copy") == 1
        assert far.get("copy", tmp_path / "back") == 602
        assert far.get("copy", tmp_path / "back") == 0
        assert far.run("find . -name '.outrider-partial-*'").stdout == b""
    assert shape(tmp_path / "back") == shape(tree)
    census.assert_nothing_left()


def test_a_connection_that_breaks_leaves_no_half_file_there(sshd, tmp_path):
    (tmp_path / "big").write_bytes(random.randbytes(40_000_000))
    there = Path(tempfile.mkdtemp(prefix="outrider-broken-"))
    shutil.chown(there, sshd.alpha.user)
    far = Route(ssh("alpha", config=str(sshd.config), share=False)).open()

    def cut(done, total):
        if done > 10_000_000:
            os.kill(far.connection.process.pid, signal.SIGKILL)

    try:
        with pytest.raises(Lost):
            far.put(tmp_path / "big", there / "big", progress=cut)
        assert wait_for(lambda: not os.listdir(there), 20)  # noqa: PTH208
    finally:
        far.close()
        shutil.rmtree(there)
