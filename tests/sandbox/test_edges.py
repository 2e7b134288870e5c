"""Limits at their edges and programs that cannot start: a verdict on the program, never an excuse of ours."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.arena import Arena, explain, need
from tests.sandbox.table import MIB
from tests.sandbox.test_attacks import assert_nothing_happened

pytestmark = pytest.mark.leaks("arenas are kept for the next test; each one's end is checked by its fixture")

TIGHT: list[tuple[str, dict[str, Any], str]] = [
    ("one process", {"processes": 1}, "OK"),
    ("hardly any memory", {"memory": 1 * MIB}, "OK|MLE"),
    ("no memory", {"memory": 4096}, "MLE|RE|OK"),
    ("no time", {"time": 0.001}, "OK|TLE"),
    ("no wall time", {"wall": 0.001}, "OK|TLE"),
    ("no output", {"output": 0}, "OLE"),
    ("no disk", {"disk": 4096}, "OK"),
    ("no files", {"files": 4}, "OK"),
    ("three descriptors", {"open_files": 3}, "OK|RE"),
    ("a page of stack", {"stack": 4096}, "OK|RE"),
    (
        "no limits",
        dict.fromkeys(("memory", "processes", "output", "disk", "files", "open_files")),
        "OK",
    ),
]


@pytest.mark.parametrize(("limits", "verdicts"), [row[1:] for row in TIGHT], ids=[row[0] for row in TIGHT])
def test_tight_limits(arena: Arena, limits: dict[str, Any], verdicts: str) -> None:
    if arena.kind.engine != "native" and (limits.get("open_files") or limits.get("stack")):
        pytest.skip("the engine's own program needs more than that")
    result = arena.run(["mark", "there"], limits)
    assert result.verdict in verdicts.split("|"), explain(result)
    assert_nothing_happened(arena)


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (None, 0, 127),
        (b"", 0o755, 126),
        (b"no program", 0o755, 126),
        (b"\x7fELF" + bytes(100), 0o755, 126),
        (b"#!/no/such/program\n", 0o755, 127),
        (b"#!/box/program\n", 0o755, 126),
        (b"#!/bin/sh\nexit 0\n", 0o644, 126),
    ],
    ids=["absent", "empty", "text", "broken", "lost interpreter", "its own interpreter", "not executable"],
)
def test_programs_that_cannot_start(arena: Arena, content: bytes | None, mode: int, code: int) -> None:
    inputs = [] if content is None else [["/box/program", content, mode]]
    result = arena.run_argv(["/box/program"], inputs=inputs)
    if content == b"" and arena.kind.engine != "native":
        assert result.exit_code in (0, 126, 127), "some have a shell read it"
        return
    assert result.verdict == "RE", explain(result)
    assert result.exit_code in (code, 126, 127), explain(result)
    assert result.message
    assert_nothing_happened(arena)


def test_a_folder_is_no_program(arena: Arena) -> None:
    result = arena.run_argv(["/usr"])
    assert (result.verdict, result.exit_code) == ("RE", 126), explain(result)


def test_strange_words_arrive_whole(arena: Arena) -> None:
    words = ["a b", "", "$(id)", "\n", "'", "é", "-c"]
    result = arena.run_python("import sys; print(ascii(sys.argv[1:]))", *words)
    assert result.stdout.decode().strip() == ascii(words)


def test_many_words(arena: Arena) -> None:
    result = arena.run_python(
        "import sys; print(len(sys.argv))", *(["x" * 1000] * 1000), limits={"time": 3.0}
    )
    assert result.stdout == b"1001\n", explain(result)


def test_an_output_that_is_asked_for_in_vain(arena: Arena) -> None:
    deep = "/box/" + "a/" * 3000
    result = arena.run(
        ["mark"], outputs=["/box/nothing", "/etc/passwd", "/", "", "/box", "/proc/self/environ", deep]
    )
    assert not result.outputs
    assert len(result.refused) == 7, explain(result)


def test_output_limits_hold_for_both_streams_together(arena: Arena) -> None:
    source = "import os\nwhile True:\n  os.write(1, b'o' * 1000); os.write(2, b'e' * 1000)"
    result = arena.run_python(source, limits={"output": 50_000})
    assert result.verdict == "OLE", explain(result)
    assert len(result.stdout) + len(result.stderr) <= 50_000


def test_the_whole_of_the_disk_may_be_used(arena: Arena) -> None:
    need(arena, ("disk",))
    source = "open('filled', 'wb').write(bytes(15 << 20)); print('written')"
    result = arena.run_python(source, outputs=["/box/filled"])
    assert result.stdout == b"written\n", explain(result)
    assert len(result.outputs["/box/filled"]) == 15 << 20
