"""Options of hops: what they take, how they are kept, and which command they make."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from outrider import hops
from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.sizes import clock, seconds, size
from outrider.hops.ssh import socket_fits

X = Command(["x"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        (512, 512),
        ("1k", 1024),
        ("2G", 2 << 30),
        ("2GiB", 2 << 30),
        ("1.5 m", 3 << 19),
        ("1T", 1 << 40),
        ("7B", 7),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert size(text, hop="x") == expected


@pytest.mark.parametrize("text", ["", "G", "-1", "2X", "1 2", "0", 0])
def test_no_sizes(text: str | int) -> None:
    with pytest.raises(ConfigError, match="not a size"):
        size(text, hop="x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [(90, "00:01:30"), ("90", "00:01:30"), (0.5, "00:00:01"), ("5m", "00:05:00"), ("1h30m", "01:30:00"),
     ("1h 30m", "01:30:00"),
     ("00:05:00", "00:05:00"), ("1:30", "00:01:30"), ("2d", "2-00:00:00"), ("1-12", "1-12:00:00"), ("1-12:30", "1-12:30:00"),
     ("1w", "7-00:00:00"), ("1.5h", "01:30:00")],
)  # fmt: skip
def test_times(text: str | float, expected: str) -> None:
    assert clock(seconds(text, hop="x")) == expected


@pytest.mark.parametrize("text", ["", "m", "5x", "-5", "0", 0, "1:2:3:4", "1e99"])
def test_no_times(text: str | float) -> None:
    with pytest.raises(ConfigError, match="not a time"):
        seconds(text, hop="x")


def test_lists_and_mappings_are_frozen() -> None:
    mounts = {"/b": "/c"}
    hop = hops.docker("i", mounts=mounts, env={"B": "2", "A": "1"}, extra=["--a"])
    mounts["/x"] = "/y"
    assert (hop.mounts, hop.env, hop.extra) == (("/b:/c",), (("A", "1"), ("B", "2")), ("--a",))
    assert hop == hops.docker("i", mounts=["/b:/c"], env={"A": "1", "B": "2"}, extra="--a")
    assert hash(hop)


def test_what_stands_for_text_is_taken() -> None:
    assert hops.ssh("h", identity=Path("/id")).identity == "/id"
    assert hops.docker("i", user=1000).user == "1000"
    assert hops.env({"A": 1}).variables == (("A", "1"),)  # type: ignore[dict-item]
    assert hops.ssh("h", port="22").port == 22  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: hops.ssh("h", port="x"), "port"),
        (lambda: hops.ssh("h", port=0), "port"),
        (lambda: hops.ssh("h", port=True), "port"),
        (lambda: hops.ssh("h", options="x"), "options"),
        (lambda: hops.ssh("-oProxyCommand=x"), "host"),
        (lambda: hops.ssh("a b"), "host"),
        (lambda: hops.ssh(""), "host"),
        (lambda: hops.ssh("a@h", user="b"), "user"),
        (lambda: hops.ssh("h:1", port=2), "port"),
        (lambda: hops.ssh("h", user="a\0b"), "user"),
        (lambda: hops.sudo("x", password="secret"), "password"),
        (lambda: hops.docker(), "image"),
        (lambda: hops.docker("i", container="c"), "image"),
        (lambda: hops.docker("-i"), "image"),
        (lambda: hops.docker(container="c", memory="1G"), "memory"),
        (lambda: hops.docker("i", memory="lots"), "memory"),
        (lambda: hops.docker("i", pull="often"), "pull"),
        (lambda: hops.slurm(time="soon"), "time"),
        (lambda: hops.slurm(tasks=0), "tasks"),
        (lambda: hops.flux(memory="1G"), "memory"),
        (lambda: hops.relay("a b"), "route"),
        (lambda: hops.cwd(""), "path"),
        (lambda: hops.tempdir(prefix="a/b"), "prefix"),
        (lambda: hops.env({"A=B": "1"}), "variables"),
        (lambda: hops.login(shell="-x"), "shell"),
    ],
)
def test_what_is_wrong_is_named(make: object, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.key == key


class TestSsh:
    def test_host_forms(self) -> None:
        assert hops.ssh("alice@login:2222") == hops.ssh("login", user="alice", port=2222)
        assert hops.ssh("a@corp@login") == hops.ssh("login", user="a@corp")
        assert hops.ssh("::1").host == "::1"
        assert hops.ssh("[::1]:22") == hops.ssh("::1", port=22)

    def test_argv(self) -> None:
        hop = hops.ssh(
            "login",
            user="alice",
            port=22,
            identity="id",
            config="conf",
            jump="j",
            options={"Compression": "yes"},
        )
        argv = hop.wrap(Command(["echo", "a b"], {"A": "1"}, "/x")).argv
        assert argv[:2] == ("ssh", "-T")
        assert argv[-3:] == ("--", "login", "cd -- /x && exec env A=1 echo 'a b'")
        assert argv.index("Compression=yes") < argv.index("BatchMode=yes")
        for pair in (("-l", "alice"), ("-p", "22"), ("-i", "id"), ("-F", "conf"), ("-J", "j")):
            assert pair in list(pairwise(argv))

    def test_sharing(self) -> None:
        plain = hops.ssh("h")
        path = plain.here().control_path
        assert path is not None
        assert path.startswith("~/.cache/outrider/ssh/%C-")
        assert plain.here().here() == plain.here()
        assert hops.ssh("h", share=False).here() == hops.ssh("h", share=False)
        assert "ControlPath=none" in hops.ssh("h", share=False).wrap(X).argv
        assert not any("Control" in word for word in plain.wrap(X).argv)

    def test_what_makes_connections_differ_keeps_them_apart(self) -> None:
        paths = {
            hops.ssh(host, **options).here().control_path
            for host in ("h", "alias-of-h")
            for options in ({}, {"identity": "a"}, {"identity": "b"}, {"config": "a"})
        }
        assert len(paths) == 8
        for path in paths:  # ~ becomes the home, %C 40 letters, and ssh adds 17 while it makes the socket
            assert path is not None
            assert len(path) - len("~%C") + 40 + 17 <= 84

    def test_whether_the_socket_fits(self) -> None:
        assert socket_fits("/home/alice")
        assert not socket_fits("/home/ad.example.edu/alice.liddell")

    def test_terminal_and_questions(self) -> None:
        assert hops.ssh("h").with_terminal().wrap(X).argv[1] == "-t"
        assert "BatchMode=yes" not in hops.ssh("h", ask=True).wrap(X).argv


class TestSudo:
    def test_argv(self) -> None:
        argv = hops.sudo("grader", group="g").wrap(Command(["x"], {"A": "1"}, "/w")).argv
        assert argv[:7] == ("sudo", "-n", "-u", "grader", "-g", "g", "-H")
        assert argv[7:10] == ("--", "sh", "-c")
        assert argv[-3:] == ("env", "A=1", "x")

    def test_passwords_from_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hop = hops.sudo("x", password="env:OUTRIDER_SUDO_PASSWORD")
        (prompt,) = hop.prompts()
        with pytest.raises(ConfigError, match="OUTRIDER_SUDO_PASSWORD"):
            prompt.answer()
        monkeypatch.setenv("OUTRIDER_SUDO_PASSWORD", "hunter2")
        assert prompt.answer() == "hunter2"
        assert prompt.marker.decode() in hop.wrap(X).argv
        assert "hunter2" not in str(hop.wrap(X)) + repr(hop)

    def test_no_questions_without_a_password(self) -> None:
        assert hops.sudo().prompts() == ()
        assert "-n" in hops.sudo().wrap(X).argv


class TestContainers:
    def test_run(self) -> None:
        hop = hops.docker(
            "i", memory="1M", cpus=0.5, network="none", gpus="all", env={"A": "0", "B": "2"}, workdir="/w"
        )
        argv = hop.wrap(Command(["prog", "-a"], {"A": "1"}, "sub")).argv
        assert argv[:2] == ("docker", "run")
        assert argv[-3:] == ("--", "i", "-a")
        for word in ("--rm", "--interactive", "--log-driver=none", "--entrypoint=prog", "--memory=1048576b", "--cpus=0.5",
                     "--env=A=1", "--env=B=2", "--workdir=/w/sub", "--network=none",
                     "--gpus=all", "--pull=missing"):  # fmt: skip
            assert word in argv

    def test_a_relative_folder_starts_where_the_image_does(self) -> None:
        argv = hops.docker("i").wrap(Command(["prog"], cwd="sub")).argv
        assert "--entrypoint=sh" in argv
        assert argv[-2:] == ("sub", "prog")

    def test_entry_points(self) -> None:
        assert hops.docker("i", keep_entrypoint=True).wrap(X).argv[-2:] == ("i", "x")
        assert not any("entrypoint" in word for word in hops.docker("i", keep_entrypoint=True).wrap(X).argv)
        assert "--entrypoint=/init" in hops.docker("i", entrypoint="/init").wrap(X).argv

    def test_exec(self) -> None:
        argv = hops.docker(container="c", user="u").wrap(Command(["x"], cwd="/w")).argv
        assert argv == ("docker", "exec", "--interactive", "--user=u", "--workdir=/w", "--", "c", "x")

    def test_podman_runtime_stands_before_the_verb(self) -> None:
        assert hops.podman("i", runtime="runc").wrap(X).argv[:4] == ("podman", "--runtime", "runc", "run")


class TestSchedulers:
    def test_slurm(self) -> None:
        hop = hops.slurm(partition="p", cpus=2, memory="2G", time="5m", gpus=1, immediate=3)
        command = hop.wrap(Command(["x"], {"A": "1", "PATH": "/p", "SLURM_X": "2"}, "/w"))
        assert command.argv[0] == "srun"
        for word in ("--overlap", "--unbuffered", "--ntasks=1", "--partition=p", "--cpus-per-task=2", "--mem=2097152K",
                     "--time=00:05:00", "--gpus=1", "--immediate=3", "--export=ALL"):  # fmt: skip
            assert word in command.argv
        assert dict(command.env) == {"A": "1"}
        assert command.argv[-4:] == ("env", "PATH=/p", "SLURM_X=2", "x")

    def test_flux(self) -> None:
        argv = hops.flux(uri="ssh:h", nodes=2, time="1m", queue="q").wrap(X).argv
        assert argv[:4] == ("flux", "proxy", "ssh:h", "flux")
        assert {"--nodes=2", "--time-limit=60s", "--queue=q"} <= set(argv)
