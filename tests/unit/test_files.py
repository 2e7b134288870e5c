"""put and get, and what a lying far end may try with them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from outrider import Route, RouteError
from outrider.far import files
from outrider.hops import local


@pytest.fixture(scope="module")
def far():
    with Route(local()).open() as session:
        yield session


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "big").write_bytes(random.randbytes(3_000_000))
    (root / "empty").write_bytes(b"")
    (root / "sub" / "run me.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "run me.sh").chmod(0o751)
    (root / "sub" / "link").symlink_to("../big")
    (root / "sub" / "dangling").symlink_to("/no/where")
    (root / os.fsdecode(b"not-utf8-\xff")).write_text("x")
    for number in range(300):
        (root / f"small{number}").write_text(str(number))
    os.utime(root / "big", ns=(1, 1_600_000_000_123_456_789))
    (root / "sub" / "empty").chmod(0o500)
    os.utime(root / "sub", ns=(1, 1_500_000_000_000_000_000))
    return root


def shape(root: Path) -> dict[str, tuple]:
    """Everything that must be kept, by path."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        body = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (oct(status.st_mode), status.st_mtime_ns, body)
    return found


@pytest.mark.parametrize("direction", ["put", "get"])
def test_a_tree_travels_whole_and_only_once(far, tree, tmp_path, direction):
    copy = getattr(far, direction)
    assert copy(tree, tmp_path / "copy") == 304
    assert shape(tmp_path / "copy") == shape(tree)
    assert copy(tree, tmp_path / "copy") == 0
    (tree / "small7").write_text("changed")
    assert copy(tree, tmp_path / "copy") == 1
    assert shape(tmp_path / "copy") == shape(tree)


@pytest.mark.parametrize("direction", ["put", "get"])
def test_one_file_travels(far, tree, tmp_path, direction):
    assert getattr(far, direction)(tree / "sub" / "run me.sh", tmp_path / "other" / "name.sh") == 1
    assert (tmp_path / "other" / "name.sh").stat().st_mode & 0o777 == 0o751


def test_progress_counts_to_the_end(far, tree, tmp_path):
    seen = []
    far.put(tree, tmp_path / "copy", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 3_000_000
    assert seen == sorted(seen)


@pytest.mark.parametrize("direction", ["put", "get"])
def test_what_is_missing_is_named_and_nothing_is_left(far, tmp_path, direction):
    with pytest.raises(RouteError, match="/no/such/thing: No such file") as caught:
        getattr(far, direction)("/no/such/thing", tmp_path / "x")
    assert "hint:" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_fifo_is_refused_by_name(far, tmp_path):
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree" / "pipe")
    with pytest.raises(RouteError, match="pipe is neither"):
        far.put(tmp_path / "tree", tmp_path / "copy")


def test_a_full_disk_is_said_and_leaves_no_half_file(far, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", full], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root: " + mounted.stderr.decode().strip())
    try:
        (tmp_path / "big").write_bytes(bytes(3_000_000))
        with pytest.raises(RouteError, match="No space left"):
            far.put(tmp_path / "big", full / "big")
        assert list(full.iterdir()) == []
        assert far.run(["true"]).returncode == 0
    finally:
        subprocess.run(["umount", full], check=True)


def test_no_link_at_the_receiving_side_leads_outside(far, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("x")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "sub").symlink_to(outside)
    far.put(tmp_path / "tree", tmp_path / "copy")
    assert list(outside.iterdir()) == []
    assert (tmp_path / "copy" / "sub" / "file").read_text() == "x"
    assert not (tmp_path / "copy" / "sub").is_symlink()


GOOD = [[], "folder", 0o755, 0, 0, None]


@pytest.mark.parametrize(
    "entries",
    [
        [],
        "text",
        [[["a"], "file", 0o644, 0, 1, None]],
        [GOOD, [["..", "x"], "file", 0o644, 0, 1, None]],
        [GOOD, [[".."], "file", 0o644, 0, 1, None]],
        [GOOD, [["/etc"], "file", 0o644, 0, 1, None]],
        [GOOD, [["a\0b"], "file", 0o644, 0, 1, None]],
        [GOOD, [["a"], "file", 0o644, 0, -1, None]],
        [GOOD, [["a"], "device", 0o644, 0, 1, None]],
        [GOOD, [["a"], "file", 1 << 40, 0, 1, None]],
        [GOOD, [["a"], "link", 0o644, 0, 0, None]],
        [GOOD, [["a"], "link", 0o777, 0, 0, "/etc"], [["a", "b"], "file", 0o644, 0, 1, None]],
        [GOOD, GOOD],
    ],
)
def test_manifests_that_lead_elsewhere_are_refused(entries):
    with pytest.raises(files.TransferError):
        files.checked(entries)


def test_content_beyond_the_manifest_is_refused(tmp_path):
    receiver = files.Receiver(str(tmp_path / "x"), [[[], "file", 0o644, 0, 3, None]])
    receiver.prepare()
    with pytest.raises(files.TransferError, match="more content"):
        receiver.write(b"four")
    receiver.abandon()


def test_content_cut_short_is_refused_and_leaves_nothing(tmp_path):
    receiver = files.Receiver(str(tmp_path / "x"), [[[], "file", 0o644, 0, 3, None]])
    receiver.prepare()
    receiver.write(b"ab")
    with pytest.raises(files.TransferError, match="before it was complete"):
        receiver.finish()
    receiver.abandon()
    assert list(tmp_path.iterdir()) == []
