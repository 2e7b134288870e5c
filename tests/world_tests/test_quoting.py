"""What a command is given arrives as it was, through every shell on the way, on the real programs."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider import hops
from outrider.chain import Chain
from outrider.command import Command
from outrider.hops.base import Hop
from outrider.hops.ssh import CONTROL_FOLDER
from outrider.testing import NASTY_WORDS, probe, run_here

# Any bytes but NUL, and much of what shells treat in a way of their own.
_piece = st.one_of(
    st.sampled_from([*NASTY_WORDS, "'", '"', "\\", "\n", "$", "`", "!", "~", "-", "\r", "\x1b[0m", "\udc80"]),
    st.binary(max_size=8).map(lambda found: os.fsdecode(found.replace(b"\0", b""))),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
arguments = st.lists(st.lists(_piece, max_size=3).map("".join), max_size=6).map(tuple)
variables = st.lists(_piece, max_size=3).map("".join)

through_servers = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Joined:
    """A chain that `outrider.testing` can send commands through like one hop."""

    name = "chain"

    def __init__(self, *chain: Hop) -> None:
        self.wrap = Chain(*chain).wrap


def arrives(
    chain: tuple[Hop, ...], words: tuple[str, ...], value: str, folder: str | None = "/usr/share"
) -> None:
    joined: Any = Joined(*chain)
    stdin = b"\x00\r\n\xff rest"
    value = os.fsdecode(
        os.fsencode(value)
    )  # two texts can stand for the same bytes, and bytes are what travels
    words = tuple(os.fsdecode(os.fsencode(word)) for word in words)
    seen = probe(joined, run_here, words, {"OUTRIDER_CHECK": value}, folder, stdin)
    assert seen == (7, folder if folder is not None else seen[1], value, words, stdin)


@pytest.fixture(scope="module")
def shared_connections() -> None:
    """The private folder of shared connections, where ssh will look for it."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    Path(CONTROL_FOLDER.replace("~", home, 1)).mkdir(mode=0o700, parents=True, exist_ok=True)


@pytest.fixture(scope="module")
def one(sshd: Any, shared_connections: None) -> tuple[Hop, ...]:
    return (hops.ssh("alpha", config=sshd.config),)


@pytest.fixture(scope="module")
def two(sshd: Any, one: tuple[Hop, ...]) -> tuple[Hop, ...]:
    return (*one, hops.ssh("beta", config=sshd.config_of("outrider-a")))


@through_servers
@given(words=arguments, value=variables)
def test_ssh(one: tuple[Hop, ...], words: tuple[str, ...], value: str) -> None:
    arrives(one, words, value)


@through_servers
@given(words=arguments, value=variables)
def test_ssh_ssh(two: tuple[Hop, ...], words: tuple[str, ...], value: str) -> None:
    arrives(two, words, value)


@through_servers
@given(words=arguments, value=variables)
def test_sudo(sudo_rules: Any, words: tuple[str, ...], value: str) -> None:
    arrives((hops.sudo("outrider-a"),), words, value)


@through_servers
@given(words=arguments, value=variables)
def test_sudo_through_a_login_shell(sudo_rules: Any, words: tuple[str, ...], value: str) -> None:
    arrives((hops.sudo("outrider-a", login=True),), words, value)


@through_servers
@given(words=arguments, value=variables)
def test_ssh_sudo_login_env_tempdir(
    one: tuple[Hop, ...], sudo_rules: Any, words: tuple[str, ...], value: str
) -> None:
    chain = (
        *one,
        hops.sudo("outrider-n"),
        hops.login(["echo noise", "cat"]),
        hops.env(A="it's"),
        hops.tempdir(),
    )
    arrives(chain, words, value)


@settings(through_servers, max_examples=8)
@given(words=arguments, value=variables)
def test_slurm(slurm: Any, words: tuple[str, ...], value: str) -> None:
    arrives((hops.slurm(time="1m"),), words, value)


@settings(through_servers, max_examples=5)
@given(words=arguments, value=variables)
def test_docker(docker: Any, words: tuple[str, ...], value: str) -> None:
    arrives((hops.docker(docker.image),), words, value)


@settings(through_servers, max_examples=5)
@given(words=arguments, value=variables)
def test_ssh_sudo_docker(
    one: tuple[Hop, ...], docker: Any, sudo_rules: Any, words: tuple[str, ...], value: str
) -> None:
    arrives((*one, hops.sudo(), hops.docker(docker.image)), words, value)


@settings(through_servers, max_examples=5)
@given(words=arguments, value=variables)
def test_podman(podman: Any, words: tuple[str, ...], value: str) -> None:
    arrives((hops.podman(podman.image, **podman.options),), words, value)


@settings(through_servers, max_examples=5)
@given(words=arguments, value=variables)
def test_apptainer(apptainer: Any, words: tuple[str, ...], value: str) -> None:
    arrives((hops.apptainer(apptainer.image, program=apptainer.program),), words, value)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "ksh", "busybox sh"])
def test_each_login_shell(shell: str, find_shell: Callable[[str], str]) -> None:
    command = Chain(hops.env(A="it's")).wrap(
        Command(["sh", "-c", 'printf "%s\\0" "$A" "$@"', "sh", *NASTY_WORDS], cwd="/")
    )
    words = [*find_shell(shell).split(), "-c", command.as_shell()]
    status, output = run_here(Command(words), b"")
    assert status == 0
    assert tuple(os.fsdecode(word) for word in output.split(b"\0")[:-1]) == ("it's", *NASTY_WORDS)


@pytest.fixture
def find_shell() -> Callable[[str], str]:
    import shutil

    def find(words: str) -> str:
        program, *rest = words.split()
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"no {program} on this machine (apt-get install {program})")
        return " ".join([path, *rest])

    return find
