"""The documentation's examples that need real servers, run as they stand on the page.

What a reader has, the page has: an ssh_config that knows `alpha` and `beta`, `apptainer` and `outrider` on the PATH, and
the account `judge`, also as a name (it may use Docker), `image` (an Apptainer image), `sudo_password` and `judging`.
"""

import os
import shlex
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import doc_pages
from tests.doc_pages import PAGES
from tests.user_config import configured

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


@pytest.fixture
def folder():
    """A folder that the users on the way may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield path


@pytest.fixture
def judging(sshd, sudo_rules, docker, system_outrider):
    """The relay of docs/how-to/relay.md, as its administrator sets it up."""
    route = f"docker(image='{docker.image}', network=none, memory=256M)"
    with configured("outrider-b", f'[routes]\ngrading = "{route}"\n'):
        yield SimpleNamespace(program=system_outrider, host=os.uname().nodename)


@pytest.mark.parametrize("page", SERVED, ids=doc_pages.name)
def test_examples(page, request, program, monkeypatch):
    blocks = doc_pages.blocks(page)
    world = {need: request.getfixturevalue(need) for block in blocks for need in block.needs}
    monkeypatch.chdir(request.getfixturevalue("folder"))
    census = request.getfixturevalue("census")
    names = {"judge": "outrider-b"}
    if {"sshd", "judging"} & set(world):
        program("ssh", "/usr/bin/ssh", "-F", request.getfixturevalue("sshd").config)
    if "judging" in world:
        names["judging"] = world["judging"]
    if "sudo_rules" in world:
        names["sudo_password"] = world["sudo_rules"].password
    if "apptainer" in world:
        program("apptainer", world["apptainer"].program)
        names["image"] = str(world["apptainer"].image)
    if "system_outrider" in world:
        program("outrider", world["system_outrider"])
    doc_pages.run(page, blocks, {"judge": names["judge"]}, **names)
    census.assert_nothing_left()
