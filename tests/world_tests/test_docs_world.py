"""The documentation's examples that need real servers, run as they stand on the page.

What a reader has, the page has: an ssh_config that knows `alpha` and `beta`, `apptainer` and `outrider` on the PATH, and
the names `judge` (an account that may use Docker), `image` (an Apptainer image), `sudo_password` and `judging`.
"""

import os
import pwd
import shlex
from types import SimpleNamespace

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


@pytest.fixture
def judging(sshd, sudo_rules, docker, system_outrider):
    """The relay of docs/how-to/relay.md, as its administrator sets it up."""
    user = pwd.getpwnam("outrider-b")
    made = []
    folder = user.pw_dir
    for name in (".config", "outrider", "config.toml"):
        folder = os.path.join(folder, name)
        if not os.path.exists(folder):
            made.append(folder)
            if name != "config.toml":
                os.mkdir(folder)
    with open(folder, "w") as config:
        config.write(f"[routes]\ngrading = \"docker(image='{docker.image}', network=none, memory=256M)\"\n")
    for path in made:
        os.chown(path, user.pw_uid, user.pw_gid)
    yield SimpleNamespace(program=system_outrider, host=os.uname().nodename)
    for path in reversed(made):
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)


@pytest.mark.parametrize("page", SERVED, ids=doc_pages.name)
def test_examples(page, request, program, tmp_path, monkeypatch):
    blocks = doc_pages.blocks(page)
    world = {need: request.getfixturevalue(need) for block in blocks for need in block.needs}
    census = request.getfixturevalue("census")
    names = {"judge": "outrider-b"}
    if "sshd" in world:
        program("ssh", "/usr/bin/ssh", "-F", world["sshd"].config)
    if "judging" in world:
        program("ssh", "/usr/bin/ssh", "-F", request.getfixturevalue("sshd").config)
        names["judging"] = world["judging"]
    if "sudo_rules" in world:
        names["sudo_password"] = world["sudo_rules"].password
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
