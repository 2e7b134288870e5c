"""The examples of docs/cli.md do what the page shows."""

import re
import subprocess

from tests.command_line import OUTRIDER, environment
from tests.doc_pages import ROOT

PAGE = ROOT / "docs" / "cli.md"


def examples():
    """(command, what the page shows) in the page's order."""
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown


def test_every_example_shows_what_the_page_shows(tmp_path):
    program = tmp_path / "bin" / "outrider"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(OUTRIDER)} "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    env = environment()
    env["PATH"] = f"{program.parent}:{env['PATH']}"
    for command, shown in examples():
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        output = (done.stdout if shown and "…\nexit" not in shown else done.stderr + done.stdout).decode()
        pattern = "(?s:.*?)".join(re.escape(piece) for piece in shown.split("…"))
        assert re.fullmatch(pattern, output), f"{command}\ngave: {output}\n{done.stderr.decode()}"


def test_every_verb_is_on_the_page():
    from outrider.cli import VERBS

    assert [word for word in VERBS if f"## `outrider {word}" not in PAGE.read_text()] == []
