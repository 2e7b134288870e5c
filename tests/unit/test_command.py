"""A command keeps every word, variable and folder through argv and through a shell."""

from __future__ import annotations

import os
import pickle
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.command import Command
from outrider.testing import NASTY_WORDS

SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "ksh", "busybox") if any(
    (Path(folder) / shell).exists() for folder in os.get_exec_path()
)]  # fmt: skip
words = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=20), max_size=5
).filter(lambda found: all(_encodable(word) for word in found))
PRINT = ("sh", "-c", 'printf "%s\\0" "$PWD" "${CHECK-unset}" "$@"', "sh")


def _encodable(word: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(word)) == word
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return False


def _seen(argv: list[str]) -> tuple[str, ...]:
    output = subprocess.run(
        [os.fsencode(word) for word in argv], stdout=subprocess.PIPE, check=True, cwd="/"
    ).stdout
    return tuple(os.fsdecode(word) for word in output.split(b"\0")[:-1])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_line_becomes_the_command(shell: str, tmp_path: Path) -> None:
    program = [shell, "sh"] if shell == "busybox" else [shell]
    folder = tmp_path / "it's $HOME\n*"
    folder.mkdir()
    for value in NASTY_WORDS:
        command = Command((*PRINT, *NASTY_WORDS), {"CHECK": value}, folder)
        assert _seen([*program, "-c", command.as_shell()]) == (str(folder), value, *NASTY_WORDS)


@settings(max_examples=150, deadline=None)
@given(words)
def test_any_words_through_both_forms(found: list[str]) -> None:
    command = Command((*PRINT, *found), {"CHECK": "it's"}, "/usr")
    expected = ("/usr", "it's", *found)
    assert _seen(["sh", "-c", command.as_shell()]) == expected
    assert _seen(list(command.as_argv())) == expected


def test_paths_and_bytes_are_words() -> None:
    command = Command([Path("/bin/echo"), b"\xff"], cwd=Path("/tmp"))
    assert command.argv == ("/bin/echo", "\udcff")
    assert command.cwd == "/tmp"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Command([]),
        lambda: Command(["a\0b"]),
        lambda: Command(["a"], {"A=B": "c"}),
        lambda: Command(["a"], {"": "c"}),
    ],
)
def test_what_no_program_can_be_given_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):
        wrong()  # type: ignore[operator]


def test_one_string_is_no_argv() -> None:
    with pytest.raises(TypeError, match="not one string"):
        Command("echo hello")


def test_is_a_value() -> None:
    command = Command(["a", "b"], {"A": "1"}, "/x")
    assert pickle.loads(pickle.dumps(command)) == command
    assert hash(Command(["a"], {"A": "1", "B": "2"})) == hash(Command(["a"], {"B": "2", "A": "1"}))
    with pytest.raises(TypeError):
        command.env["A"] = "2"  # type: ignore[index]
