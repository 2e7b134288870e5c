"""Every way that a route can fail to open: one clear error, naming the hop, with a hint, soon, and nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from outrider import (
    OutriderError,
    Route,
    RouteError,
    TimedOut,
    VersionMismatch,
    apptainer,
    docker,
    env,
    local,
    podman,
    ssh,
    sudo,
    tempdir,
)
from outrider import slurm as slurm_hop
from tests.samples import far_work


@dataclass(frozen=True)
class Fault:
    """`route` is made from the fixtures that it names as parameters; `hop` and `says` must be in the error."""

    name: str
    route: Callable[..., Route]
    hop: str
    says: str
    kind: type[OutriderError] = RouteError
    within: float = 20.0


def to(sshd, alias: str, **options) -> Route:
    return Route(ssh(alias, config=str(sshd.config), **options))


FAULTS = [
    Fault("no such host", lambda sshd: to(sshd, "no-such-host.invalid"), "ssh", "resolve|find"),
    Fault("nothing listens", lambda sshd: to(sshd, "closed"), "ssh", "refused"),
    Fault(
        "the server never speaks",
        lambda sshd: to(sshd, "silent", connect_timeout=2),
        "ssh",
        "",
        OutriderError,
        10,
    ),
    Fault("the host key changed", lambda sshd: to(sshd, "strange"), "ssh", "host key"),
    Fault("the key is refused", lambda sshd: to(sshd, "refused"), "ssh", "[Pp]ermission|key|log in"),
    Fault(
        "the second of two ssh hops", lambda sshd: to(sshd, "alpha") | ssh("closed"), "ssh.*closed", "refused"
    ),
    Fault(
        "no such sudo user",
        lambda sshd, sudo_rules: to(sshd, "alpha") | sudo("no-such-user"),
        "sudo",
        "no-such-user",
    ),
    Fault(
        "sudo wants a password",
        lambda sshd, sudo_rules: to(sshd, "outrider-p@alpha") | sudo(),
        "sudo",
        "password",
    ),
    Fault(
        "sudo gets a wrong password",
        lambda sshd, sudo_rules: to(sshd, "outrider-p@alpha") | sudo(password=lambda: "wrong"),
        "sudo",
        "password",
    ),
    Fault("sudo is not allowed", lambda sshd, sudo_rules: to(sshd, "outrider-n@alpha") | sudo(), "sudo", ""),
    Fault("no such image", lambda docker: Route(_docker(docker.absent, pull="never")), "docker", "image"),
    Fault(
        "no such container",
        lambda docker: Route(_docker(container="no-such-container")),
        "docker",
        "container",
    ),
    Fault(
        "no engine",
        lambda docker: env(DOCKER_HOST="unix:///no/socket") | _docker("pybox:1"),
        "docker",
        "engine|daemon",
    ),
    Fault(
        "no right to the engine",
        lambda sshd, docker: to(sshd, "alpha") | _docker(docker.image),
        "docker",
        "permission|socket|allowed",
    ),
    Fault("no python3 in the image", lambda docker: Route(_docker(docker.bare)), "docker", "python3"),
    Fault(
        "no such podman image",
        lambda podman: Route(_podman(podman.absent, pull="never", **podman.options)),
        "podman",
        "image|absent",
    ),
    Fault(
        "no such apptainer image",
        lambda apptainer: Route(_apptainer("/tmp/no-such.sif", program=apptainer.program)),
        "apptainer",
        "image|no-such",
    ),
    Fault("no such partition", lambda slurm: Route(slurm_hop(partition="nowhere")), "slurm", "partition"),
    Fault(
        "more than any node has",
        lambda slurm: Route(slurm_hop(memory="99999G")),
        "slurm",
        "configuration|[Mm]emory",
    ),
    Fault(
        "no such program", lambda: Route(docker("x", program="no-such-docker")), "docker", "no-such-docker"
    ),
    Fault(
        "no python3 of that name",
        lambda sshd: to(sshd, "alpha").options(python="python9"),
        "",
        "python9|python3",
    ),
    Fault("a python 2", lambda python2: Route(local()).options(python=python2), "", r"2\.7", VersionMismatch),
    Fault(
        "no room for a temporary folder",
        lambda docker: _docker(docker.image, extra=["--read-only"]) | tempdir(),
        "docker",
        "settle|temporary|Read-only",
    ),
]

_docker, _podman, _apptainer = docker, podman, apptainer


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_route_that_cannot_be_passed_says_where_why_and_what_to_do(fault, request, census):
    names = fault.route.__code__.co_varnames[: fault.route.__code__.co_argcount]
    world = {name: request.getfixturevalue(name) for name in names}
    route = fault.route(**world)
    census.snapshot()
    started = time.monotonic()
    with pytest.raises(fault.kind) as caught:
        route.open()
    assert time.monotonic() - started < fault.within
    shown = str(caught.value)
    assert caught.value.hop, shown
    _matches(fault.hop, caught.value.hop)
    _matches(fault.says, shown)
    assert "\nhint: " in shown
    assert "Traceback" not in shown
    census.assert_nothing_left()


def _matches(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), f"{pattern!r} is not in:\n{text}"


def test_a_scheduler_that_is_down(slurm, census):
    with slurm.down():
        started = time.monotonic()
        with pytest.raises((RouteError, TimedOut)) as caught:
            Route(slurm_hop()).options(open_timeout=30).open()
        assert time.monotonic() - started < 35
        assert "slurm" in str(caught.value.hop)
        assert "hint:" in str(caught.value)
    census.assert_nothing_left()


def test_a_full_disk_in_the_middle_of_a_copy(docker, tmp_path, census):
    (tmp_path / "big").write_bytes(bytes(5_000_000))
    with Route(_docker(docker.image, extra=["--tmpfs", "/small:size=1M"])).open() as far:
        with pytest.raises(RouteError, match="No space left"):
            far.put(tmp_path / "big", "/small/big")
        assert far.run("ls -A /small").stdout == b""
    census.assert_nothing_left()


def test_a_chatty_login_is_no_fault(sshd):
    with to(sshd, "noisy").open() as far:
        assert far.call(far_work.add, 1, 2) == 3


def test_sudo_with_a_password(sshd, sudo_rules):
    route = to(sshd, "outrider-p@alpha") | sudo("outrider-b", password=lambda: sudo_rules.password)
    assert route.run(["whoami"]).text == "outrider-b"
    assert sudo_rules.password not in repr(route)


def test_a_slim_image_serves_and_names_what_is_missing(docker):
    with Route(_docker(docker.slim)).open() as far:
        assert far.call(divmod, 7, 2) == (3, 1)
        assert far.run("echo $((6 * 7))").text == "42"
        with pytest.raises(ModuleNotFoundError) as caught:
            far.call(eval, "__import__('json')")
        assert "slim" in "\n".join(caught.value.__notes__)


def test_the_local_hop_needs_nothing():
    assert Route(local()).call(far_work.add, 1) == 1
