"""The test world itself, with plain commands: what the other tests stand on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.world.machine import HERE, MARK, USERS, kill, other_runs, run, start_time, sweep


def output(*argv, **options) -> str:
    done = run(argv, **options)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def to(sshd, *argv) -> list[str]:
    return ["ssh", "-F", str(sshd.config), *argv]


# ssh


@pytest.mark.parametrize(("alias", "user"), [("alpha", "outrider-a"), ("beta", "outrider-b")])
def test_a_host_takes_the_key(sshd, alias, user):
    assert output(*to(sshd, alias, "id -un")) == user


@pytest.mark.parametrize("user", USERS)
def test_the_key_opens_every_user(sshd, user):
    assert output(*to(sshd, f"{user}@beta", "id -un")).endswith(user)


def test_from_host_to_host(sshd):
    assert output(*to(sshd, "alpha", "ssh beta id -un")) == "outrider-b"
    assert output(*to(sshd, "alpha", f"ssh -F {sshd.config_of('outrider-a')} beta id -un")) == "outrider-b"
    assert output(*to(sshd, "-J", "alpha", "beta", "id -un")) == "outrider-b"


def test_a_noisy_host(sshd):
    done = run(to(sshd, "noisy", "echo done"))
    assert done.stdout.splitlines() == [sshd.marker.chatter, "done"]
    assert sshd.marker.banner in done.stderr
    assert sshd.marker.chatter in done.stderr


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("closed", "Connection refused"),
        ("strange", "REMOTE HOST IDENTIFICATION HAS CHANGED"),
        ("refused", "Permission denied (publickey)"),
        ("silent", "timed out"),
    ],
)
def test_where_nothing_good_happens(sshd, alias, message):
    done = run(to(sshd, "-o", "BatchMode=yes", "-o", "ConnectTimeout=1", alias, "true"))
    assert done.returncode == 255
    assert message in done.stderr


# sudo


def test_sudo_to_anybody(sshd, sudo_rules):
    assert output(*to(sshd, "alpha", "sudo -n -u outrider-b id -un")) == "outrider-b"
    assert output(*to(sshd, "alpha", "sudo -n id -un")) == "root"
    assert output("sudo", "-n", "-u", "outrider-n", "id", "-un") == "outrider-n"


def test_sudo_with_a_password(sshd, sudo_rules):
    command = "sudo -S -p '' -u outrider-b id -un"
    given = run(to(sshd, "outrider-p@alpha", command), input=sudo_rules.password + "\n")
    assert given.stdout.strip() == "outrider-b"
    assert "password is required" in run(to(sshd, "outrider-p@alpha", "sudo -n true")).stderr


def test_no_sudo_without_a_rule(sshd, sudo_rules):
    assert run(to(sshd, "outrider-n@alpha", "sudo -n true")).returncode != 0


def test_extra_rules_come_and_go(sshd, sudo_rules):
    command = to(sshd, "outrider-n@alpha", "sudo -n /usr/bin/id -un")
    with sudo_rules.extra("outrider-n ALL=(root) NOPASSWD: /usr/bin/id"):
        assert output(*command) == "root"
    assert run(command).returncode != 0


def test_bad_rules_are_not_written(sudo_rules):
    with pytest.raises(ValueError, match="syntax error"), sudo_rules.extra("nonsense"):
        pass
    assert run(["visudo", "-c"]).returncode == 0


# Slurm


def test_slurm_for_every_user(sshd, sudo_rules, slurm):
    assert output("srun", "id", "-un") == "root"
    assert output(*to(sshd, "alpha", "srun id -un")) == "outrider-a"
    assert output(*to(sshd, "beta", "srun -p short id -un")) == "outrider-b"
    assert output(*to(sshd, "alpha", "sudo -n -u outrider-b srun id -un")) == "outrider-b"
    assert output(*to(sshd, "alpha", "sudo -n -i srun id -un")) == "root"


def test_steps_within_steps_and_many_at_once(slurm):
    assert output("srun", "srun", "--overlap", "echo", "inner") == "inner"
    assert output("srun", "--mem=2G", "--cpus-per-task=2", "echo", "big") == "big"
    started = time.monotonic()
    steps = [subprocess.Popen(["srun", "sleep", "1"]) for _ in range(12)]
    assert [step.wait(timeout=30) for step in steps] == [0] * 12
    assert time.monotonic() - started < 8


def test_the_scheduler_goes_down_and_comes_back(slurm):
    with slurm.down():
        assert run(["sinfo"], timeout=60, env={**os.environ, "SLURM_DEBUG": "0"}).returncode != 0
    assert output("srun", "echo", "back") == "back"


# Containers

SLIM_LACKS = "import importlib.util as u; print([n for n in ('json', 'ctypes', 'queue') if u.find_spec(n)])"


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_an_engine_and_its_images(engine, request):
    world = request.getfixturevalue(engine)

    def inside(image, *argv):
        return run([engine, "run", "--rm", *world.flags, image, *argv], timeout=90)

    assert inside(world.image, "python3", "-c", "import json; print(1)").stdout == "1\n"
    assert inside(world.slim, "python3", "-c", SLIM_LACKS).stdout == "[]\n"
    assert inside(world.bare, "sh", "-c", "echo here; command -v python3").stdout == "here\n"
    assert inside(world.absent, "true").returncode == 125


def test_who_may_use_docker(sshd, sudo_rules, docker):
    assert output(*to(sshd, "beta", f"docker run --rm {docker.image} echo in")) == "in"
    assert output(*to(sshd, "alpha", f"sudo -n docker run --rm {docker.image} echo in")) == "in"
    assert "permission denied" in run(to(sshd, "alpha", "docker ps")).stderr


def test_docker_inside_slurm_behind_sudo_behind_ssh(sshd, sudo_rules, slurm, docker):
    command = f"sudo -n -u outrider-b srun docker run --rm -i {docker.image} cat"
    assert run(to(sshd, "alpha", command), input="through").stdout == "through"


def test_podman_through_ssh_and_sudo(sshd, sudo_rules, podman):
    words = " ".join(podman.flags)
    command = f"sudo -n podman run --rm {words} {podman.image} echo in"
    assert output(*to(sshd, "alpha", command), timeout=90) == "in"


def test_apptainer(apptainer):
    assert output(apptainer.program, "exec", apptainer.image, "python3", "-c", "print(1)") == "1"
    assert run([apptainer.program, "exec", apptainer.image, "cat"], input="through").stdout == "through"
    assert output(apptainer.program, "exec", apptainer.slim, "python3", "-c", SLIM_LACKS) == "[]"
    assert output(apptainer.program, "exec", apptainer.bare, "sh", "-c", "echo here") == "here"
    assert output(apptainer.program, "exec", apptainer.image, "id", "-un") == "outrider-a"


def test_apptainer_behind_ssh_and_sudo(sshd, sudo_rules, apptainer):
    command = f"sudo -n {apptainer.program} exec {apptainer.image} echo in"
    assert output(*to(sshd, "alpha", command)) == "in"
    assert output(*to(sshd, "alpha", command.removeprefix("sudo -n "))) == "in"


def test_a_sif_file(apptainer):
    assert output(apptainer.program, "exec", apptainer.sif, "python3", "-c", "print(1)") == "1"


# Other Pythons

VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def test_other_pythons(newer_python):
    major, minor = output(newer_python, "-c", VERSION).split(".")
    assert (int(major), int(minor)) >= (3, 13)
    echo = "import sys; print(sys.stdin.read())"
    assert run([newer_python, "-c", echo], input="through").stdout == "through\n"


def test_python_38(python38):
    assert output(python38, "-c", VERSION) == "3.8"


def test_python_2(python2):
    assert output(python2, "-c", VERSION) == "2.7"


def test_the_hosts_have_an_outrider(sshd, system_outrider):
    assert output(*to(sshd, "beta", f"{system_outrider} --version")).startswith("outrider ")


# The census and the house


def test_the_census_counts_what_is_left(sshd, sudo_rules, docker, census):
    assert census.left() == []
    background = "nohup {} >/dev/null 2>&1 & echo $!"
    output(*to(sshd, "alpha", background.format("sleep 31.1")))
    output(*to(sshd, "alpha", background.format("setsid sudo -n sleep 31.2")))
    container = output("docker", "run", "-d", docker.image, "sleep", "31.3")
    folder = output(*to(sshd, "alpha", "mktemp -d /tmp/outrider-XXXX"))
    found = "\n".join(census.left())
    with pytest.raises(pytest.fail.Exception, match=r"sleep 31\.1"):
        census.assert_nothing_left(timeout=0.2)
    output("docker", "rm", "-f", container)
    output("rmdir", folder)
    kill([pid for pid, _, words in census.left_processes(other_runs()) if "sleep 31." in words], grace=1)
    census.assert_nothing_left()
    assert "of outrider-a: sleep 31.1" in found
    assert "of root: sleep 31.2" in found
    assert f"folder {folder}" in found
    if not other_runs():
        assert "of root: sleep 31.3" in found
        assert f"Docker container {container}" in found


KILLED_RUN = """
import json, os, signal
from tests.world import ssh
from tests.world.machine import Machine
machine = Machine()
world = next(ssh.start(machine))
print(json.dumps([str(machine.folder), [server.pid for server in machine.servers.values()]]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_swept(machine):
    environ = {name: value for name, value in os.environ.items() if name != MARK}
    environ["PYTHONPATH"] = str(HERE.parent.parent)
    killed = run([sys.executable, "-c", KILLED_RUN], env=environ)
    folder, pids = json.loads(killed.stdout)
    assert len([pid for pid in pids if start_time(pid)]) == 3
    sweep()
    assert not [pid for pid in pids if start_time(pid)]
    assert not Path(folder).exists()
