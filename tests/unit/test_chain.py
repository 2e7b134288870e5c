"""Composition: what joins what, which command stands at which place, and which hop takes the blame."""

from __future__ import annotations

import pickle
import subprocess
import time

import pytest

from outrider import hops
from outrider.chain import Chain
from outrider.command import Command
from outrider.errors import ConfigError
from outrider.far.loader import LOADER
from outrider.hops.ssh import CONTROL_FOLDER

SSH, SUDO, BOX = hops.ssh("login"), hops.sudo("grader"), hops.docker("pybox:1")


class TestJoining:
    def test_hops_chains_and_texts(self) -> None:
        expected = Chain(SSH, SUDO, BOX)
        assert Chain(SSH) | SUDO | BOX == expected
        assert Chain(SSH) | Chain(SUDO, BOX) == expected
        assert Chain(SSH) | "sudo:grader | docker:pybox:1" == expected
        assert "ssh:login | sudo:grader" | Chain(BOX) == expected
        assert SSH | Chain(SUDO, BOX) == expected
        assert Chain() | expected == expected

    def test_hops_alone_make_routes(self) -> None:
        assert (SSH | SUDO).hops == (SSH, SUDO)
        assert ("ssh:login" | SUDO).hops == (SSH, SUDO)
        assert eval(repr(SSH | SUDO), vars(hops)) == SSH | SUDO

    def test_nothing_else(self) -> None:
        with pytest.raises(TypeError):
            Chain(SSH) | 3  # type: ignore[operator]
        with pytest.raises(TypeError, match="not a hop"):
            Chain("ssh:login")  # type: ignore[arg-type]

    def test_never_changes(self) -> None:
        chain = Chain(SSH)
        with pytest.raises(AttributeError, match="never changes"):
            chain._hops = ()
        assert pickle.loads(pickle.dumps(chain)) == chain
        assert {chain: 1}[Chain(hops.ssh("login"))] == 1

    def test_repr_is_python(self) -> None:
        names = {**vars(hops), "Chain": Chain}
        for chain in (Chain(), Chain(SSH), Chain(SSH, SUDO)):
            assert eval(repr(chain), names) == chain


class TestWrapping:
    def test_innermost_last(self) -> None:
        argv = Chain(SUDO, BOX).wrap(Command(["hostname"])).argv
        assert argv[:5] == ("sudo", "-n", "-u", "grader", "-H")
        assert argv[argv.index("--") + 1] == "docker"
        assert "--entrypoint=hostname" in argv

    def test_no_hop_no_change(self) -> None:
        command = Command(["a"], {"A": "1"}, "/x")
        assert Chain().wrap(command) == command
        assert Chain(hops.local()).wrap(command) == command

    def test_only_ssh_on_the_near_machine_shares_connections(self) -> None:
        steps = Chain(hops.env(A="1"), hops.ssh("a"), hops.ssh("b")).explain(Command(["x"]))
        assert any(word.startswith(f"ControlPath={CONTROL_FOLDER}/%C-") for word in steps[1].argv)
        assert "ControlMaster=auto" not in steps[2].argv
        assert not any("ControlMaster" in word for word in Chain(SUDO, SSH).explain()[1].argv)

    def test_explain_shows_every_place(self) -> None:
        steps = Chain(SSH, SUDO).explain(Command(["echo", "a b"]))
        assert [step.place for step in steps] == ["here", "after ssh:login", "after sudo:grader"]
        assert [step.hop for step in steps] == [SSH, SUDO, None]
        assert steps[2].argv == ("echo", "a b")
        assert str(steps).splitlines()[2] == "after sudo:grader: echo 'a b'"
        assert len(str(steps).splitlines()) == 3

    def test_what_explain_prints_is_printable(self) -> None:
        text = str(Chain(SSH).explain(Command(["echo", "\udcff\nnext"])))
        assert "\n" not in text.split("after")[0].rstrip("\n")
        text.encode()

    def test_a_real_stack_without_servers(self) -> None:
        chain = Chain(
            hops.env(A="1"),
            hops.tempdir(),
            hops.cwd("/"),
            hops.login(["export B=2"], shell="sh"),
            hops.env(A="3"),
        )
        command = chain.wrap(Command(["sh", "-c", "echo $A $B $PWD"]))
        done = subprocess.run(
            command.argv,
            env={"PATH": "/usr/bin:/bin", **command.env},
            cwd=command.cwd,
            capture_output=True,
            check=True,
        )
        assert done.stdout == b"3 2 /\n"


class TestTail:
    def test_settings_are_peeled(self) -> None:
        chain = Chain(SSH, hops.cwd("/a"), hops.env(A="1", B="1"), hops.cwd("b"), hops.env(A="2"))
        assert chain.tail_settings() == (Chain(SSH), {"cwd": "/a/b", "env": {"A": "2", "B": "1"}})

    def test_only_at_the_tail(self) -> None:
        chain = Chain(hops.env(A="1"), SSH)
        assert chain.tail_settings() == (chain, {})
        assert Chain().tail_settings() == (Chain(), {})

    def test_temporary_folders(self) -> None:
        assert Chain(SSH, hops.cwd("/a"), hops.tempdir()).tail_settings()[1] == {"tempdir": True}
        assert Chain(SSH, hops.tempdir(), hops.cwd("b")).tail_settings()[1] == {"tempdir": True, "cwd": "b"}

    def test_an_unusual_temporary_folder_is_wrapped(self) -> None:
        chain = Chain(SSH, hops.tempdir("/scratch"))
        assert chain.tail_settings() == (chain, {})

    def test_prefix(self) -> None:
        assert Chain(SSH, SUDO, BOX).prefix(2) == Chain(SSH, SUDO)


class TestBlame:
    CHAIN = Chain(hops.ssh("outer"), hops.ssh("inner", user="bob"), SUDO, BOX)

    @pytest.mark.parametrize(
        ("stderr", "index"),
        [
            ("ssh: Could not resolve hostname outer: Name or service not known", 0),
            ("ssh: Could not resolve hostname inner: Name or service not known", 1),
            ("ssh: connect to host inner port 22: Connection refused", 1),
            ("alice@outer: Permission denied (publickey).", 0),
            ("bob@inner: Permission denied (publickey).", 1),
            ("kex_exchange_identification: Connection closed by remote host", 1),
            ("sudo: unknown user grader", 2),
            ("sudo: unknown user: grader\nsudo: error initializing audit plugin sudoers_audit", 2),
            ("docker: Error response from daemon: No such image: pybox:1.", 3),
            ("Welcome!\nsudo: a password is required", 2),
            ("bash: line 1: docker: command not found", 3),
            ("sh: 1: python3: not found", 3),
            ("write: No space left on device", 3),
        ],
    )
    def test_the_hop_that_spoke(self, stderr: str, index: int) -> None:
        found = self.CHAIN.diagnose(stderr, 255)
        assert found is not None
        assert found[0] == index
        assert found[1].hint

    def test_nothing_known(self) -> None:
        assert self.CHAIN.diagnose("", None) is None
        assert self.CHAIN.diagnose("Traceback: something of the user's own", 1) is None


class TestRelay:
    START = Command(["python3", "-c", LOADER])

    def test_carries_the_far_end(self) -> None:
        assert hops.relay("grading").wrap(self.START).argv == ("outrider", "relay", "grading")
        argv = Chain(SUDO, hops.relay("grading")).wrap(self.START).argv
        assert argv[-3:] == ("outrider", "relay", "grading")

    @pytest.mark.parametrize(
        "command",
        [
            Command(["ls"]),
            Command(["python3", "-c", LOADER], {"A": "1"}),
            Command(["python3", "-c", LOADER], cwd="/"),
        ],
    )
    def test_and_nothing_else(self, command: Command) -> None:
        with pytest.raises(ConfigError, match="last hop"):
            hops.relay("grading").wrap(command)


@pytest.mark.parametrize("said", ["sudo: ", "FATAL: ", "x:", "a", "cd: ", "ssh: connect to host "])
def test_no_words_of_a_far_end_keep_the_diagnosis_busy(said: str) -> None:
    """They took minutes and more: patterns that look for several things in a line, and a line of 64 KiB."""
    chain = Chain(SSH, SUDO, hops.slurm(), BOX, hops.podman("i"), hops.apptainer("i"))
    started = time.process_time()
    for text in (said * (65536 // len(said)), (said * 200 + "\n") * 100):
        chain.diagnose(text, 1)
    assert time.process_time() - started < 10


def test_the_end_of_what_was_said_counts() -> None:
    said = "x" * 100000 + "\n" + "chatter\n" * 50 + "sudo: a password is required\n"
    found = Chain(SUDO).diagnose(said, 1)
    assert found is not None
    assert "password" in found[1].message
