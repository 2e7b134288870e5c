"""The pytest fixtures of the test world. README.md in this folder says what each one gives."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import apptainer as apptainer_world
from tests.world import engines, installed
from tests.world import slurm as slurm_world
from tests.world import ssh as ssh_world
from tests.world import sudo as sudo_world
from tests.world import superfacility as superfacility_world
from tests.world.census import Census
from tests.world.machine import Machine, find_program, unavailable

# What the census asks besides /proc and the temp folders: each fixture that is up adds its own.
_counted: dict[str, Callable[[], set[str]]] = {}


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


@pytest.fixture(scope="session")
def sshd(machine: Machine) -> Iterator[ssh_world.SshWorld]:
    yield from ssh_world.start(machine)


@pytest.fixture(scope="session")
def superfacility(
    machine: Machine, sshd: ssh_world.SshWorld
) -> Iterator[superfacility_world.SuperfacilityWorld]:
    yield from superfacility_world.start(machine, sshd)


@pytest.fixture(scope="session")
def sudo_rules(machine: Machine) -> Iterator[sudo_world.SudoWorld]:
    yield from sudo_world.start(machine)


@pytest.fixture(scope="session")
def slurm(machine: Machine) -> Iterator[slurm_world.SlurmWorld]:
    for world in slurm_world.start(machine):
        _counted["Slurm job"] = world.jobs
        yield world
        del _counted["Slurm job"]


@pytest.fixture(scope="session")
def docker(machine: Machine) -> Iterator[engines.EngineWorld]:
    for world in engines.start_docker(machine):
        _counted["Docker container"] = world.containers
        yield world
        del _counted["Docker container"]


@pytest.fixture(scope="session")
def podman(machine: Machine) -> Iterator[engines.EngineWorld]:
    for world in engines.start_podman(machine):
        _counted["Podman container"] = world.containers
        yield world
        del _counted["Podman container"]


@pytest.fixture(scope="session")
def apptainer(machine: Machine) -> Iterator[apptainer_world.ApptainerWorld]:
    yield from apptainer_world.start_apptainer(machine)


@pytest.fixture(scope="session")
def newer_python(machine: Machine) -> str:
    return apptainer_world.newer_python(machine)


@pytest.fixture(scope="session")
def python38() -> str:
    return find_python("3.8")


@pytest.fixture(scope="session")
def python2() -> str:
    return find_python("2.7")


def find_python(version: str) -> str:
    """From PATH, or one that a Python version manager keeps in a home folder."""
    homes = [Path("/root"), *Path("/home").iterdir()]
    kept = [
        str(path) for home in homes for path in home.glob(f".pyenv/versions/{version}*/bin/python{version}")
    ]
    for candidate in (shutil.which(f"python{version}"), *kept):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    unavailable(f"no Python {version} on this machine")


@pytest.fixture(scope="session")
def flux() -> Iterator[str]:
    program = find_program("flux") or unavailable(
        "no flux: it is in no package registry, build flux-core to test it"
    )
    started = subprocess.Popen(
        [program, "start", "sh", "-c", 'echo "$FLUX_URI"; exec cat'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdin is not None
    assert started.stdout is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUX_URI", started.stdout.readline().strip())
        yield program
    started.communicate(timeout=30)  # no more of stdin ends the cat, and so the instance


@pytest.fixture(scope="session")
def system_outrider(machine: Machine) -> str:
    return installed.install(machine)


@pytest.fixture
def census(machine: Machine) -> Census:
    return Census(machine, _counted)
