"""Where the cases are measured: the test world's own servers on loopback, without pytest, as targets."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import install
from bench.scratch import Scratch, scratch
from outrider import Command, Route, docker, local, ssh, sudo
from outrider.near.opening import with_sharing_settled

TARGETS = ("local", "ssh", "ssh+sudo", "docker", "ssh+sudo+docker")


@dataclass(frozen=True)
class Target:
    """A place, as a route of ours and as plain data for the contenders in their own processes."""

    name: str
    route: Route
    plain: dict[str, Any] = field(repr=False)

    def argv(self, command: list[str]) -> list[str]:
        """What runs `command` there through the very hops, and the shared ssh connection, of our own route."""
        wrapped = with_sharing_settled(self.route).wrap(Command(command))
        return list(wrapped.argv)

    def disconnect(self) -> None:
        """End the shared ssh connection, so that the next opening is a first one."""
        if self.plain["ssh"]:
            argv = self.argv(["true"])
            subprocess.run([argv[0], "-O", "exit", *argv[1:]], capture_output=True)


class Absent(Exception):
    """What this machine cannot give, and why."""


class World:
    """The targets that this machine can give; `absent` says of the others, and of what a case lacked, why not."""

    def __init__(
        self, targets: list[Target], absent: dict[str, str], python: Path, machine: Any, scratch: Scratch
    ) -> None:
        self.targets = targets
        self.absent = absent
        self.peers_python = python
        self.machine = machine
        self.folder: Path = machine.folder
        self.scratch = scratch

    @contextlib.contextmanager
    def also(self, fixture: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """One more server of the test world, while it lasts. Raises Absent if this machine cannot give it."""
        with contextlib.ExitStack() as stack:
            yield started(fixture, self.machine, stack)


def started(fixture: Callable[[Any], Iterator[Any]], machine: Any, stack: contextlib.ExitStack) -> Any:
    try:
        return stack.enter_context(contextlib.contextmanager(fixture)(machine))
    except BaseException as error:
        if type(error).__name__ != "Skipped":  # pytest's, as the fixtures say what a machine lacks
            raise
        raise Absent(str(error)) from None


@contextlib.contextmanager
def world(names: list[str], files: Path) -> Iterator[World]:
    """Start what these targets need. Takes HOME and PATH from this process, as the tests do."""
    cache = install.cache()
    python = install.peers(cache)
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.check_output(["/usr/bin/python3", "-c", asked], text=True).strip()
    packages = install.far_packages(cache, python, version)

    from tests import conftest  # noqa: F401 - on import it makes this process a stranger on the machine
    from tests.world import engines, machine
    from tests.world import ssh as ssh_world
    from tests.world import sudo as sudo_world

    with contextlib.ExitStack() as stack:
        here = machine.Machine()
        stack.callback(here.close)
        disk = stack.enter_context(scratch(files))
        # Where the users of the hosts, and containers, can read it: the cache is in somebody's home.
        readable = shutil.copytree(packages, here.folder / "packages")

        def start(fixture: Any) -> Any:
            return started(fixture, here, stack)

        made, absent = [], {}
        parts: dict[str, Any] = {}
        for name in names:
            try:
                for part in name.split("+"):
                    if part == "local" or part in parts:
                        continue
                    parts[part] = (
                        start({"ssh": ssh_world, "sudo": sudo_world}[part].start)
                        if part != "docker"
                        else (container(start(engines.start_docker), (readable, disk.root)))
                    )
                made.append(target(name, parts, readable))
            except Absent as error:
                absent[name] = str(error)
        yield World(made, absent, python, here, disk)
        for one in made:
            one.disconnect()


def same_key_exchange(config: Path) -> Path:
    """What two clients agree upon differs by 100 ms: it is the tools that are compared, so all use one that all have."""
    line = "    KexAlgorithms curve25519-sha256\n"
    if line not in config.read_text():
        with config.open("a") as file:
            file.write(line)
    return config


def container(engine: Any, folders: tuple[Path, ...]) -> str:
    """A container that runs until its fixture ends, to step into: the start of one is the engine's time, not ours."""
    volumes = [f"--volume={folder}:{folder}" for folder in folders]
    argv = [engine.program, "run", "-d", "--rm", *volumes, engine.image, "sleep", "86400"]
    return subprocess.check_output(argv, text=True).strip()[:12]


def target(name: str, parts: dict[str, Any], packages: Path) -> Target:
    plain: dict[str, Any] = {"ssh": None, "sudo": None, "docker": None, "packages": str(packages)}
    route = Route()
    for part in name.split("+"):
        if part == "local":
            route |= local()
        elif part == "ssh":
            plain["ssh"] = {"alias": "alpha", "config": str(same_key_exchange(parts["ssh"].config))}
            route |= ssh("alpha", config=plain["ssh"]["config"])
        elif part == "sudo":
            plain["sudo"] = "outrider-b"
            route |= sudo("outrider-b")
        else:
            plain["docker"] = parts["docker"]
            route |= docker(container=plain["docker"])
    return Target(name, route, {**plain, "name": name, "route": str(route)})
