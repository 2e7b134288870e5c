"""What a job leaves to be fetched: nothing of it may lead anywhere else, or be more than was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.arena import Arena, explain, need
from tests.sandbox.test_attacks import assert_nothing_happened

pytestmark = pytest.mark.leaks("arenas are kept for the next test; each one's end is checked by its fixture")

PLANTED = [
    "link", "proc-link", "fifo", "folder", "parent/passwd", "link-to-link", "loop", "socket", "device", "nothing",
    "../etc/passwd", "folder/../link", "parent/../etc/passwd",
]  # fmt: skip


def test_planted_files_are_refused(arena: Arena) -> None:
    asked = [f"/box/{name}" for name in (*PLANTED, "good", "folder/inner/answer")]
    result = arena.run(["plant", arena.scene.places[1]], outputs=asked)
    assert result.verdict == "OK", explain(result)
    assert result.outputs["/box/good"] == b"good answer", explain(result)
    assert result.outputs["/box/folder/inner/answer"] == b"inner answer", explain(result)
    assert result.outputs.get("/box/sparse", b"") == b"", "a limit of file sizes leaves it empty"
    for name in PLANTED:
        assert f"/box/{name}" not in result.outputs, (name, explain(result))
        assert result.refused[f"/box/{name}"], (name, explain(result))
    assert_nothing_happened(arena)


def test_closed_files_hold_nothing_up(arena: Arena) -> None:
    result = arena.run(["plant"], outputs=["/box/closed"])
    assert result.outputs.get("/box/closed", b"closed answer") == b"closed answer"
    assert "/box/closed" in result.outputs or "/box/closed" in result.refused


@pytest.mark.parametrize("turn", range(5))
def test_outputs_are_not_exchanged_while_they_are_fetched(arena: Arena, turn: int) -> None:
    result = arena.run(["swap-output"], outputs=["/box/swapped"])
    assert result.outputs.get("/box/swapped", b"") in (b"", b"swapped answer"), explain(result)
    assert_nothing_happened(arena)


def test_locked_outputs_are_fetched(arena: Arena) -> None:
    result = arena.run(["hold-locks"], outputs=["/box/answer"])
    assert result.outputs["/box/answer"] == b"good answer"


def test_outputs_of_strange_names(arena: Arena) -> None:
    source = "import os\nfor n in (b'a\\nb', b'\\xff', b'x'*255, b'-rf'):\n  open(n, 'wb').write(b'yes')"
    asked = ["/box/a\nb", "/box/" + "x" * 255, "/box/-rf"]
    result = arena.run_python(source, outputs=asked)
    assert {result.outputs[name] for name in asked} == {b"yes"}, explain(result)


def test_a_job_that_kills_its_folder(arena: Arena) -> None:
    for words in (["nasty-names"], ["deep", "3000"], ["many-inodes", "250"]):
        result = arena.run(words, outputs=["/box/answer"])
        assert "/box/answer" in result.refused, explain(result)
        assert_nothing_happened(arena)


def test_setuid_files_in_a_shared_folder(arena: Arena) -> None:
    """What a job may write on the host must not become a program with other rights there."""
    shared = arena.scene.shared
    result = arena.run(["plant-setuid", "/shared"], binds=[[str(shared), "/shared", True]])
    planted = shared / "setuid"
    try:
        assert b"BREACH" not in result.stdout, explain(result)
        if planted.exists():
            stat = planted.stat()
            assert stat.st_uid != 0, "a file of root's"
            need(arena, ("system calls",))
            assert not stat.st_mode & 0o6000, oct(stat.st_mode)
    finally:
        planted.unlink(missing_ok=True)


def test_core_dumps_stay_away(arena: Arena) -> None:
    result = arena.run(["core-dump"], outputs=["/box/core"])
    assert "/box/core" not in result.outputs, explain(result)
    limits = Path(f"/proc/{arena.session.far.pid}/limits").read_text()
    if limits.partition("Max core file size")[2].split()[1] == "0":
        pytest.skip("whoever runs this user's programs has taken core dumps away for good, as sudo does")
    need(arena, ("system calls",))
    assert b"core limit now 0" not in result.stdout, "a limit of 0 starts a host's crash reporter; 1 does not"
