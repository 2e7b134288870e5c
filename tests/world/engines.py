"""Docker and Podman with the images of the test world."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.world.machine import (
    MARK,
    RECIPE,
    SHARED,
    Lease,
    Machine,
    cache,
    find_program,
    image_tar,
    kill,
    must_run,
    program,
    run,
    start_time,
    unavailable,
    wait_for,
)

IMAGES = ("pybox", "pyslim", "nopython")


@dataclass(frozen=True)
class EngineWorld:
    program: str
    options: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    image: str = "pybox:1"
    slim: str = "pyslim:1"
    bare: str = "nopython:1"
    absent: str = "outrider-absent:1"

    def containers(self) -> set[str]:
        return set(run([self.program, "ps", "-aq", "--no-trunc"]).stdout.split())


def start_docker(machine: Machine) -> Iterator[EngineWorld]:
    client = program("docker", "docker.io")
    lease = Lease("docker")
    state = lease.take(lambda known: begin_docker(client, known))
    if state.get("pid"):
        machine.shared_servers.add(state["pid"])
    try:
        import_images(client)
        world = EngineWorld(client)
        before = world.containers()
        yield world
        remove_containers(world, before)
    finally:
        lease.release(stop_docker)


def begin_docker(client: str, known: dict[str, Any]) -> dict[str, Any]:
    """The engine that runs already, ours or not; else a new one on the default socket, where all find it."""
    if run([client, "info"]).returncode == 0:
        return known or {"pid": None}
    dockerd = program("dockerd", "docker.io")
    reasons = []
    for driver in ("overlay2", "vfs"):
        log = SHARED / "docker" / f"dockerd-{driver}.log"
        server = start_dockerd(dockerd, driver, log)
        if comes_up(server, client):
            # It outlives this object: the last test run to use it ends it, and that may be another one.
            server.returncode = 0
            return {"pid": server.pid, "start": start_time(server.pid)}
        kill([server.pid], grace=5)
        server.wait()
        reasons.append(log.read_text(errors="replace").strip().rpartition("\n")[2])
    unavailable(f"dockerd does not start here: {'; '.join(reasons)}")


def start_dockerd(dockerd: str, driver: str, log: Path) -> subprocess.Popen[bytes]:
    folder = log.parent
    # Without the mark: it belongs to every test run on the machine.
    environ = {name: value for name, value in os.environ.items() if name != MARK}
    argv = [
        *(dockerd, "--storage-driver", driver, "--host", "unix:///var/run/docker.sock", "--group", "docker"),
        *("--data-root", cache() / "docker", "--exec-root", folder / "exec", "--pidfile", folder / "pid"),
    ]
    with log.open("wb") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environ,
            start_new_session=True,
        )  # fmt: skip


def comes_up(server: subprocess.Popen[bytes], client: str) -> bool:
    wait_for(lambda: server.poll() is not None or run([client, "info"]).returncode == 0, 40)
    return server.poll() is None and run([client, "info"]).returncode == 0


def stop_docker(state: dict[str, Any]) -> None:
    pid = state["pid"]
    if pid is None or start_time(pid) != state["start"]:
        return
    world = EngineWorld(program("docker", "docker.io"))
    remove_containers(world, set())
    kill([pid], grace=15)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def remove_containers(world: EngineWorld, kept: set[str]) -> None:
    extra = world.containers() - kept
    if extra:
        run([world.program, "rm", "-f", "-v", *sorted(extra)])


def import_images(client: str) -> None:
    label = '{{index .Config.Labels "outrider.recipe"}}'
    changes = ("-c", 'CMD ["/bin/sh"]', "-c", f"LABEL outrider.recipe={RECIPE}")
    for name in IMAGES:
        shown = run([client, "image", "inspect", "-f", label, f"{name}:1"])
        if shown.returncode != 0 or shown.stdout.strip() != RECIPE:
            must_run([client, "import", *changes, image_tar(name), f"{name}:1"], timeout=300)


def start_podman(machine: Machine) -> Iterator[EngineWorld]:
    client = program("podman", "podman")
    conf = machine.folder / "storage.conf"
    graph = cache() / "podman"
    conf.write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{SHARED}/podman-run"\ngraphroot = "{graph}"\n'
    )
    conf.chmod(0o644)
    os.environ["CONTAINERS_STORAGE_CONF"] = str(conf)
    try:
        lease = Lease("podman")
        lease.take(lambda _known: import_podman(client))
        options = podman_options(client)
        flags = tuple(f"--{name}={value}" for name, values in options.items() for value in as_list(values))
        world = EngineWorld(client, options, flags)
        before = world.containers()
        yield world
        remove_containers(world, before)
        lease.release(lambda _state: None)
    finally:
        del os.environ["CONTAINERS_STORAGE_CONF"]


def import_podman(client: str) -> dict[str, Any]:
    # What a killed run left: rootful podman has no server whose end would take its containers along.
    run([client, "rm", "-f", "-a"])
    import_images(client)
    return {"imported": True}


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def podman_options(client: str) -> dict[str, Any]:
    """What `podman run` needs here: nothing, or what hybrid cgroups and missing capabilities ask for."""
    reason = ""
    for options in ({}, {"runtime": "runc", "ulimit": ["nofile=1024:1024", "nproc=1024:1024"]}):
        if "runtime" in options and not find_program("runc"):
            break
        flags = [f"--{name}={value}" for name, values in options.items() for value in as_list(values)]
        done = run([client, "run", "--rm", *flags, "pybox:1", "true"], timeout=90)
        if done.returncode == 0:
            return options
        reason = done.stderr.strip()
    unavailable(f"podman runs no container here: {reason}")
