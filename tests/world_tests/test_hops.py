"""Every hop on its real program: the conformance suite through it, and what it says of real failures."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from outrider import hops
from outrider.chain import Chain
from outrider.command import Command
from outrider.hops.base import Hop
from outrider.testing import check_hop, run_here

HELLO = Command(["echo", "hello"])


def said(chain: Chain, command: Command = HELLO, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run through a chain."""
    found = chain.wrap(command)
    done = subprocess.run(
        found.argv, env={**os.environ, **found.env, **(env or {})}, cwd=found.cwd, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60, errors="replace",
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def blamed(chain: Chain, command: Command = HELLO, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The index of the hop that takes the blame for a failure, and all that it says."""
    status, _, stderr = said(chain, command, env)
    assert status != 0
    found = chain.diagnose(stderr, status)
    assert found is not None, f"nobody knows this: {stderr!r}"
    index, diagnosis = found
    assert diagnosis.message and diagnosis.hint
    return index, diagnosis.message + "\n" + diagnosis.hint


class TestSsh:
    def hop(self, sshd: Any, host: str = "alpha", **options: Any) -> Hop:
        return hops.ssh(host, config=sshd.config, share=False, **options)

    def test_conforms(self, sshd: Any) -> None:
        check_hop(self.hop(sshd), run=run_here)
        check_hop(self.hop(sshd, "noisy"), run=run_here)
        check_hop(hops.ssh(sshd.alpha.host, user=sshd.alpha.user, port=sshd.alpha.port, identity=sshd.identity,
                           share=False,
                           options={"UserKnownHostsFile": str(sshd.alpha.known_hosts)}), run=run_here)  # fmt: skip

    @pytest.mark.parametrize(
        ("host", "words"),
        [
            ("closed", "no ssh server answers"),
            ("refused", "login was refused"),
            ("strange", "host key"),
            ("no-such-host.invalid", "name is unknown"),
        ],
    )
    def test_failures(self, sshd: Any, host: str, words: str) -> None:
        index, message = blamed(Chain(self.hop(sshd, host)))
        assert (index, words in message) == (0, True), message

    def test_silence_is_bounded(self, sshd: Any) -> None:
        started = time.monotonic()
        _, message = blamed(Chain(self.hop(sshd, "silent", connect_timeout=1)))
        assert time.monotonic() - started < 10
        assert "does not speak ssh" in message or "time to connect" in message

    def test_a_bad_option(self, sshd: Any) -> None:
        assert (
            "does not accept its configuration" in blamed(Chain(self.hop(sshd, options={"NoSuch": "1"})))[1]
        )

    def test_the_second_of_two(self, sshd: Any) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = hops.ssh("127.0.0.1", port=closed.getsockname()[1])
            assert blamed(Chain(self.hop(sshd), nobody))[0] == 1
            assert (
                blamed(Chain(nobody.replace(config=str(sshd.config)), hops.ssh("127.0.0.1", port=1)))[0] == 0
            )

    def test_a_socket_path_too_long(self, sshd: Any, tmp_path: Path) -> None:
        chain = Chain(hops.ssh("alpha", config=sshd.config, control_path=str(tmp_path / ("x" * 100))))
        assert "too long" in blamed(chain)[1]

    def test_no_folder_for_the_socket(self, sshd: Any) -> None:
        chain = Chain(hops.ssh("alpha", config=sshd.config, control_path="/tmp/no-such/%C"))
        assert "share=False" in blamed(chain)[1]

    def test_missing_ssh(self) -> None:
        chain = Chain(hops.login(shell="sh"), hops.ssh("x", program="no-such-ssh"))
        index, message = blamed(chain)
        assert (index, "no-such-ssh is not installed" in message) == (1, True), message


class TestSudo:
    @pytest.mark.parametrize("login", [False, True])
    def test_conforms(self, sudo_rules: Any, login: bool) -> None:
        check_hop(hops.sudo("outrider-a", login=login), run=run_here)
        check_hop(hops.sudo("outrider-a", group="outrider-b"), run=run_here)

    @pytest.mark.parametrize(
        ("chain", "index", "words"),
        [
            (Chain(hops.sudo("no-such-user")), 0, "no such user"),
            (Chain(hops.sudo("outrider-a", group="no-such-group")), 0, "no such group"),
            (Chain(hops.sudo("outrider-p"), hops.sudo("outrider-a")), 1, "wants a password"),
            (Chain(hops.sudo("outrider-n"), hops.sudo("outrider-a")), 1, "password"),
        ],
        ids=str,
    )
    def test_failures(self, sudo_rules: Any, chain: Chain, index: int, words: str) -> None:
        assert (blamed(chain)[0], words in blamed(chain)[1]) == (index, True), blamed(chain)

    def test_a_command_that_is_not_allowed(self, sudo_rules: Any) -> None:
        with sudo_rules.extra("outrider-n ALL=(outrider-a) NOPASSWD: /usr/bin/true"):
            chain = Chain(hops.sudo("outrider-n"), hops.sudo("outrider-a"))
            assert said(chain, Command(["/usr/bin/true"]))[0] == 0
            index, message = blamed(chain, Command(["/usr/bin/id"]))
            assert index == 1
            assert "password" in message or "does not allow" in message

    def test_the_password_is_asked_for_by_the_marker(self, sudo_rules: Any) -> None:
        inner = hops.sudo("outrider-a", password=lambda: sudo_rules.password)
        (prompt,) = inner.prompts()
        command = Chain(hops.sudo("outrider-p"), inner).wrap(Command(["id", "-un"]))
        assert sudo_rules.password not in " ".join(command.argv)
        process = subprocess.Popen(command.argv, stdin=-1, stdout=-1, stderr=-1)
        assert process.stdin and process.stdout and process.stderr
        asked = b""
        while not asked.endswith(prompt.marker):
            more = os.read(process.stderr.fileno(), 100)
            assert more, asked
            asked += more
        process.stdin.write(prompt.answer().encode() + b"\n")
        process.stdin.flush()
        assert process.communicate(timeout=20)[0] == b"outrider-a\n"

    def test_a_wrong_password(self, sudo_rules: Any) -> None:
        chain = Chain(hops.sudo("outrider-p"), hops.sudo("outrider-a", password=lambda: "x"))
        command = chain.wrap(HELLO)
        done = subprocess.run(command.argv, input=b"wrong\nwrong\nwrong\n", capture_output=True, timeout=60)
        index, diagnosis = chain.diagnose(done.stderr.decode(), done.returncode) or (None, None)
        assert index == 1
        assert diagnosis is not None and "password is wrong" in diagnosis.message


class TestDocker:
    def test_conforms(self, docker: Any) -> None:
        check_hop(hops.docker(docker.image), run=run_here)
        check_hop(
            hops.docker(docker.slim, memory="64M", cpus=1, network="none", user="1000:1000", init=True),
            run=run_here,
        )

    def test_an_entry_point_does_not_get_in_the_way(self, docker: Any) -> None:
        assert said(Chain(hops.docker(docker.image, entrypoint="/bin/echo")))[1] == "echo hello\n"

    def test_mounts(self, docker: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("here")
        chain = Chain(hops.docker(docker.image, mounts={str(tmp_path): "/in"}))
        assert said(chain, Command(["cat", "/in/file"]))[1] == "here"

    def test_stepping_into_a_container(self, docker: Any) -> None:
        run = [docker.program, "run", "--rm", "-d", docker.image, "sleep", "60"]
        container = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
        try:
            check_hop(hops.docker(container=container), run=run_here)
        finally:
            subprocess.run([docker.program, "rm", "-f", container], capture_output=True, check=True)

    def test_failures(self, docker: Any) -> None:
        for hop, words in [
            (hops.docker(docker.absent), "not there"),
            (hops.docker(docker.absent, pull="never"), "not there"),
            (hops.docker(container="no-such-container"), "no such container"),
            (hops.docker(docker.image, runtime="no-such"), "runtime="),
            (hops.docker(docker.image, user="nobody-here"), "no such user"),
            (hops.docker(docker.image, extra=["--no-such-flag"]), "does not accept"),
        ]:
            index, message = blamed(Chain(hop))
            assert (index, words in message) == (0, True), (hop, message)

    def test_no_engine(self, docker: Any) -> None:
        assert (
            "does not answer"
            in blamed(Chain(hops.docker("x")), env={"DOCKER_HOST": "unix:///no/such.sock"})[1]
        )

    def test_not_allowed(self, docker: Any, sudo_rules: Any) -> None:
        index, message = blamed(Chain(hops.sudo("outrider-n"), hops.docker(docker.image)))
        assert (index, "may not use the Docker engine" in message) == (1, True), message

    def test_no_python(self, docker: Any) -> None:
        index, message = blamed(Chain(hops.docker(docker.bare)), Command(["python3", "-c", "1"]))
        assert (index, "python3 is not there" in message) == (0, True), message

    def test_killed_for_its_memory(self, docker: Any) -> None:
        chain = Chain(hops.docker(docker.image, memory="32M", extra=["--memory-swap=32m"]))
        status, _, stderr = said(chain, Command(["python3", "-c", "x = bytearray(200 << 20)"]))
        if status == 0:
            pytest.skip("this engine does not limit memory")
        found = chain.diagnose(stderr, status)
        assert found is not None and "memory=" in found[1].hint


class TestPodman:
    def test_conforms(self, podman: Any) -> None:
        check_hop(hops.podman(podman.image, **podman.options), run=run_here)

    def test_failures(self, podman: Any) -> None:
        for hop, words in [
            (hops.podman(podman.absent, pull="never", **podman.options), "image is not there"),
            (hops.podman(container="no-such-container"), "no such container"),
            (hops.podman(podman.image, **{**podman.options, "runtime": "no-such"}), "runtime"),
            (hops.podman(podman.image, **podman.options, extra=["--no-such-flag"]), "does not accept"),
        ]:
            index, message = blamed(Chain(hop))
            assert (index, words in message) == (0, True), (hop, message)

    def test_no_python(self, podman: Any) -> None:
        _, message = blamed(
            Chain(hops.podman(podman.bare, **podman.options)), Command(["python3", "-c", "1"])
        )
        assert "python3 is not there" in message

    def test_the_hints_where_cgroups_are_hybrid(self, podman: Any) -> None:
        if "runtime" not in podman.options:
            pytest.skip("Podman needs no options on this machine")
        _, message = blamed(Chain(hops.podman(podman.image)))
        assert "runc" in message or "ulimit" in message


class TestApptainer:
    def test_conforms(self, apptainer: Any) -> None:
        check_hop(hops.apptainer(apptainer.image, program=apptainer.program), run=run_here)

    def test_failures(self, apptainer: Any) -> None:
        for options, words in [
            ({"image": "/no/such.sif"}, "image is not there"),
            ({"image": apptainer.image, "extra": ["--no-such-flag"]}, "does not accept"),
            ({"image": apptainer.image, "binds": ["/no/such/folder:/x"]}, "could not be mounted"),
        ]:
            index, message = blamed(Chain(hops.apptainer(**options, program=apptainer.program)))
            assert (index, words in message) == (0, True), (options, message)

    def test_no_python(self, apptainer: Any) -> None:
        _, message = blamed(
            Chain(hops.apptainer(apptainer.bare, program=apptainer.program)), Command(["python3", "-c", "1"])
        )
        assert "python3 is not there" in message


class TestSlurm:
    def test_conforms(self, slurm: Any) -> None:
        check_hop(
            hops.slurm(time="2m", partition="short", memory="50M", cpus=2, job_name="a b"), run=run_here
        )

    def test_a_step_within_a_step(self, slurm: Any) -> None:
        assert said(Chain(hops.slurm(), hops.slurm()))[1] == "hello\n"

    def test_several_tasks_are_one_far_end(self, slurm: Any) -> None:
        status, output, _ = said(
            Chain(hops.slurm(tasks=3)), Command(["sh", "-c", "sleep 0.3; echo $SLURM_PROCID $SLURM_NTASKS"])
        )
        assert (status, output) == (0, "0 3\n")

    def test_what_has_no_newline_arrives_at_once(self, slurm: Any) -> None:
        argv = Chain(hops.slurm()).wrap(Command(["sh", "-c", "printf x; exec sleep 30"])).argv
        process = subprocess.Popen(argv, stdout=-1, stdin=-1)
        assert process.stdout
        started = time.monotonic()
        assert os.read(process.stdout.fileno(), 1) == b"x"
        assert time.monotonic() - started < 10
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)

    def test_a_folder_that_is_missing_is_an_error(self, slurm: Any) -> None:
        _, message = blamed(Chain(hops.slurm()), Command(["pwd"], cwd="/no/such/folder"))
        assert "cannot enter the folder" in message

    def test_failures(self, slurm: Any) -> None:
        for hop, words in [
            (hops.slurm(partition="no-such"), "no such partition"),
            (hops.slurm(memory="900T"), "no node has"),
            (hops.slurm(cpus=100000, immediate=1), "no node has"),
            (hops.slurm(nodelist="no-such-node"), "of that name"),
            (hops.slurm(constraint="no-such"), "of that name"),
            (hops.slurm(extra=["--no-such-flag"]), "does not accept"),
        ]:
            index, message = blamed(Chain(hop))
            assert (index, words in message) == (0, True), (hop, message)

    def test_cancelled(self, slurm: Any) -> None:
        chain = Chain(hops.slurm())
        _, message = blamed(chain, Command(["sh", "-c", "scancel $SLURM_JOB_ID; sleep 20"]))
        assert "cancelled" in message

    def test_the_controller_is_down(self, slurm: Any) -> None:
        chain = Chain(hops.slurm())
        with slurm.down():
            process = subprocess.Popen(chain.wrap(HELLO).argv, stderr=-1, stdout=-1, text=True)
            assert process.stderr
            heard = ""
            deadline = time.monotonic() + 60
            while chain.diagnose(heard, None) is None and time.monotonic() < deadline:
                heard += os.read(process.stderr.fileno(), 4096).decode()
            process.kill()
            process.communicate()
        found = chain.diagnose(heard, None)
        assert found is not None and "does not answer" in found[1].message
        assert found[1].transient

    def test_no_python(self, slurm: Any) -> None:
        _, message = blamed(Chain(hops.slurm()), Command(["python3.99"]))
        assert "python3.99 is not there" in message


class TestTempdir:
    def start(self, chain: Chain) -> tuple[subprocess.Popen[bytes], Path]:
        process = subprocess.Popen(chain.wrap(Command(["sh", "-c", "pwd; exec sleep 100"])).argv, stdout=-1)
        assert process.stdout
        return process, Path(process.stdout.readline().decode().strip())

    def gone(self, folder: Path) -> bool:
        deadline = time.monotonic() + 5
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not folder.exists()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    def test_gone_however_it_ends(self, tmp_path: Path, number: signal.Signals) -> None:
        process, folder = self.start(Chain(hops.tempdir(tmp_path)))
        (folder / "locked").mkdir()
        (folder / "locked" / "file").touch()
        (folder / "locked").chmod(0)
        time.sleep(1)
        assert folder.is_dir()
        process.send_signal(number)
        process.communicate()
        assert self.gone(folder)

    def test_it_waits_for_another_users_command(self, sudo_rules: Any, tmp_path: Path) -> None:
        chain = Chain(hops.sudo("outrider-a"), hops.tempdir(), hops.sudo())
        command = chain.wrap(Command(["sh", "-c", "pwd; sleep 1.5; test -d . && ls -d $PWD"]))
        done = subprocess.run(command.argv, stdout=-1, text=True, check=True, timeout=30)
        assert done.stdout.splitlines()[0] == done.stdout.splitlines()[1]
        assert self.gone(Path(done.stdout.splitlines()[0]))

    def test_no_place_for_it(self) -> None:
        _, message = blamed(Chain(hops.tempdir("/no/such/folder")))
        assert "folder" in message


class TestLogin:
    def test_a_setup_line_that_fails(self) -> None:
        index, message = blamed(Chain(hops.login(["true", "no-such-command x"])))
        assert (index, "no-such-command x" in message) == (0, True)

    def test_a_shell_that_is_missing(self) -> None:
        assert "shell=" in blamed(Chain(hops.login(shell="no-such-shell")))[1]

    def test_noise_and_thirst_of_setup_lines_stay_away(self) -> None:
        chain = Chain(hops.login(["echo noise", "cat", "export X=1"]))
        command = chain.wrap(Command(["sh", "-c", "echo $X; cat"]))
        done = subprocess.run(command.argv, input=b"mine", capture_output=True, check=True)
        assert done.stdout == b"1\nmine"
        assert b"noise" in done.stderr


class TestFlux:
    def test_conforms(self, flux: str) -> None:
        check_hop(hops.flux(program=flux), run=run_here)
