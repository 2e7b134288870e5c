"""The documentation's examples that need real servers, run as they stand on the page.

What a reader has, the page has: an ssh_config that knows `alpha` and `beta`, `apptainer` on the PATH, and the names
`judge` (an account that may use Docker) and `image` (an Apptainer image).
"""

import os
import shlex

import pytest

from tests import doc_pages
from tests.doc_pages import PAGES

SERVED = [page for page in PAGES if any(block.needs for block in doc_pages.blocks(page))]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program on the PATH that runs another with some first words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(name, *words):
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
        file.chmod(0o755)

    return put


@pytest.mark.parametrize("page", SERVED, ids=doc_pages.name)
def test_examples(page, request, program, tmp_path, monkeypatch):
    blocks = doc_pages.blocks(page)
    world = {need: request.getfixturevalue(need) for block in blocks for need in block.needs}
    census = request.getfixturevalue("census")
    names = {"judge": "outrider-b"}
    if "sshd" in world:
        program("ssh", "/usr/bin/ssh", "-F", world["sshd"].config)
    if "apptainer" in world:
        program("apptainer", world["apptainer"].program)
        names["image"] = str(world["apptainer"].image)
    if "system_outrider" in world:
        program("outrider", world["system_outrider"])
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    doc_pages.run(page, blocks, **names)
    census.assert_nothing_left()
