"""`podman`: a container of Podman, with no engine running beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from outrider.hops.container import Container, Messages

_MESSAGES: Messages = (
    (
        r"cgroups in hybrid mode not supported",
        "crun does not work with this machine's cgroups",
        "use runtime='runc'",
        False,
    ),
    (
        r"setrlimit|prlimit|RLIMIT_|setting rlimit",
        "the limits that Podman sets are not allowed here",
        "use ulimit=['nofile=1024:1024', 'nproc=1024:1024']",
        False,
    ),
    (
        (
            r"short-name .* did not resolve|short-name resolution|initializing source|manifest unknown"
            r"|image not known|requested access to the resource is denied"
        ),
        "the image is not there and could not be pulled",
        "check the name (Podman wants the registry too), `podman pull` or build it there first",
        False,
    ),
    (
        r"no such container|no container with name",
        "there is no such container",
        "`podman ps` there lists those that run",
        False,
    ),
    (
        r"can only create exec sessions on running containers|container state improper",
        "the container does not run",
        "start it first",
        False,
    ),
    (
        r"newuidmap|newgidmap|insufficient (?:UIDs|GIDs)|cannot find UID/GID|no subuid ranges|/etc/subuid",
        "Podman has no user ids to give to a container",
        "ask for ranges in /etc/subuid and /etc/subgid there, or go through sudo",
        False,
    ),
    (
        r"cannot clone: |cannot set up namespace|user namespaces are not enabled|cannot re-exec process",
        "this machine lets you make no namespaces",
        "ask for user namespaces there, or go through sudo: sudo() | podman(...)",
        False,
    ),
    (
        r"OCI runtime \"\S+\" (?:not found|is not available)|invalid runtime",
        "that runtime is not there",
        "name another with runtime=",
        False,
    ),
    (
        r"[Uu]nable to connect to Podman|Cannot connect to Podman",
        "Podman's service does not answer",
        "start it: podman machine start",
        True,
    ),
    (
        r"unknown flag|invalid reference format|invalid volume|invalid option",
        "podman does not accept an option",
        "the message names it",
        False,
    ),
    (
        r"unable to find user|no matching entries in passwd",
        "the image has no such user",
        "give user= as a number, or one that the image knows",
        False,
    ),
    (
        r"workdir .* does not exist|chdir to .*: (?:No such|no such)",
        "the folder is not in the container",
        "make it in the image, mount it, or name another",
        False,
    ),
    (
        r"unable to apply cgroup configuration|cgroup.*(?:Read-only|permission denied|Permission denied)",
        "the limits cannot be set here",
        "leave out memory= and cpus=, or use extra=['--cgroups=disabled']",
        False,
    ),
)


@dataclass(frozen=True)
class Podman(Container):
    """Runs what follows in a new container of `image`, which is removed afterwards; or in the running `container`.

    `mounts`: folders to show inside, `["/data:/data:ro"]` or `{"/data": "/data"}`. `user`, `network`, `memory` (`2G`),
    `cpus`, `gpus` (`all`), `platform`: as `podman run` takes them. `env`: variables for the container. `workdir`: the
    folder to start in, which must exist. `pull`: fetch the image when `missing`, `always` or `never`. `init`: a
    small init that reaps dead children. `runtime` and `ulimit`: where cgroups are in hybrid mode, as on older systems,
    `runtime="runc"`; where limits may not be raised, `ulimit=["nofile=1024:1024", "nproc=1024:1024"]`.
    The image's entry point is left aside so that your command is what runs; `entrypoint` sets another program,
    which gets your command as its arguments; `keep_entrypoint` leaves the image's own in place.
    `container_name`: a name for the new container. `extra`: more words for `podman run` or `podman exec`.
    `terminal`: give it a terminal. `program`: which podman to run.
    """

    MESSAGES: ClassVar[Messages] = _MESSAGES

    program: str = field(default="podman", kw_only=True)

    name: ClassVar[str] = "podman"

    def _global(self) -> Iterator[str]:
        if self.runtime is not None:
            yield from ("--runtime", self.runtime)
