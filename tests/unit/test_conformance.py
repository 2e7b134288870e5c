"""Every built-in hop passes the published suite, and the suite catches hops that break its rules."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from outrider import hops
from outrider.command import Command
from outrider.hops import registry
from outrider.hops.base import Hop
from outrider.testing import check_hop, run_here

HOPS = [
    hops.local(),
    hops.cwd("/tmp"),
    hops.cwd("~/in home"),
    hops.tempdir(),
    hops.tempdir("/tmp", prefix="a b-", set_tmpdir=False),
    hops.env({"A": "1", "B": "it's\n$HOME"}),
    hops.login(),
    hops.login(["export A=1", "true # a comment", "if true; then echo hello; fi"], shell="sh"),
    hops.ssh("login"),
    hops.ssh(
        "alice@[::1]:2222", identity="~/.ssh/id", options={"ForwardAgent": "yes"}, ask=True, share=False
    ),
    hops.sudo(),
    hops.sudo("grader", group="staff", login=True, password="env:SECRET"),
    hops.sudo("grader", password=lambda: "secret"),
    hops.docker("pybox:1"),
    hops.docker("pybox:1", mounts={"/data": "/data"}, memory="2G", cpus=1.5, env={"A": "1"}, workdir="/w"),
    hops.docker(container="web", user=1000),
    hops.podman("pybox:1", runtime="runc", ulimit=["nofile=1024:1024", "nproc=1024:1024"]),
    hops.apptainer(
        "docker://python:3.12", binds=["/data:/data:ro"], contain=True, nv=True, overlay="o.img", pwd="/w"
    ),
    hops.slurm(partition="short", time="1h30m", memory="2G", tasks=3, gpus=1),
    hops.flux(nodes=2, time=90, uri="ssh:login"),
    hops.pbs(queue="short", time="1h30m", memory="2G", tasks=3, gpus=1),
    hops.lsf(queue="short", time="1h30m", memory="2G", tasks=3, gpus=1),
    hops.gateway(["sh", "-c"]),
    hops.gateway(["site-run", "--machine", "it's"], upload=["site-put"], patience=20, python="/opt/python3"),
    hops.superfacility(),
    hops.superfacility(
        "dtns", key="mine", api_url="https://api.example.edu/v1", token_url="https://id.example.edu/t"
    ),
    hops.relay("grading"),
    hops.bridge(),
    hops.bridge("/run/it's here"),
    hops.sandbox(),
    hops.sandbox(time="2s", memory="256M", processes=16, ro={"/data": "/data"}, allow_missing="network"),
]
RUNNABLE = [
    hop
    for hop in HOPS
    if hop.name in ("local", "tempdir", "env", "login") or hop == hops.gateway(["sh", "-c"])
]


def test_every_built_in_hop_is_checked() -> None:
    assert {type(hop) for hop in HOPS} == set(registry.built_in())


@pytest.mark.parametrize("hop", HOPS, ids=repr)
def test_conforms(hop: Hop) -> None:
    check_hop(hop)


@pytest.mark.parametrize("hop", RUNNABLE, ids=repr)
def test_carries_real_commands(hop: Hop) -> None:
    check_hop(hop, run=run_here)


@dataclass(frozen=True)
class Good(Hop):
    """Does nothing. `word`: a word."""

    word: str = ""
    name: ClassVar[str] = "good"

    def wrap(self, command: Command) -> Command:
        return command


@dataclass(frozen=True)
class Rereading(Good):
    """`word`"""

    def wrap(self, command: Command) -> Command:
        return Command(["sh", "-c", " ".join(f'"{word}"' for word in command.as_argv())])


class TestWhatItCatches:
    def test_a_good_one_passes(self) -> None:
        check_hop(Good(), run=run_here, installed=False)

    def test_not_installed(self) -> None:
        with pytest.raises(AssertionError, match=r"outrider\.hops"):
            check_hop(Good())

    def test_an_option_without_a_word_in_the_docstring(self) -> None:
        @dataclass(frozen=True)
        class Bad(Good):
            """Says nothing of it."""

            secret: str = ""

        with pytest.raises(AssertionError, match="docstring must tell of the option 'word'"):
            check_hop(Bad(), installed=False)

    def test_not_frozen(self) -> None:
        class Bad(Good):
            """`word`"""

        with pytest.raises(AssertionError, match="must be a dataclass"):
            check_hop(Bad(), installed=False)

    def test_an_option_that_cannot_be_written_down(self) -> None:
        @dataclass(frozen=True)
        class Bad(Good):
            """`word`, `thing`"""

            thing: complex = 0

        with pytest.raises(AssertionError, match="cannot write down"):
            check_hop(Bad(), installed=False)

    @pytest.mark.parametrize(
        ("wrap", "complaint"),
        [
            (lambda self, command: Command(" ".join(command.as_argv()).split()), "no difference between"),
            (lambda self, command: Command(command.argv), "no difference between"),
            (lambda self, command: Command([*command.argv, os.urandom(8).hex()]), "must be pure"),
            (
                lambda self, command: Command([os.environ.get("PATH", "x"), *command.as_argv()]),
                "look at the environment",
            ),
            (lambda self, command: ([*Path("/").iterdir()], command)[1], "does no I/O"),
        ],
    )
    def test_a_bad_wrap(self, wrap: object, complaint: str) -> None:
        bad = dataclass(frozen=True)(type("Bad", (Good,), {"wrap": wrap, "__doc__": "`word`"}))
        with pytest.raises(AssertionError, match=complaint):
            check_hop(bad(), installed=False)

    def test_a_shell_that_reads_the_words_again(self) -> None:
        with pytest.raises(AssertionError, match=r"arguments arrived changed|nothing ran|cut short"):
            check_hop(Rereading(), run=run_here, installed=False)

    def test_a_hop_that_takes_the_blame_for_everything(self) -> None:
        @dataclass(frozen=True)
        class Bad(Good):
            """`word`"""

            def diagnose(self, stderr, returncode):  # type: ignore[no-untyped-def]
                return hops.sudo().diagnose("sudo: unknown user x", 1)

        with pytest.raises(AssertionError, match="blame itself only"):
            check_hop(Bad(), installed=False)


def test_freezing_applies_to_third_party_hops_too() -> None:
    @dataclass(frozen=True)
    class Listy(Good):
        """`word`, `items`"""

        items: tuple[str, ...] = field(default_factory=tuple)

    assert Listy(items=["a"]).items == ("a",)  # type: ignore[arg-type]
    assert repr(Listy(items=("a",))) == "good(items=['a'])"
