"""`docker`: a container of the Docker engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from outrider.hops.container import Container, Messages

_MESSAGES: Messages = (
    (
        r"permission denied while trying to connect to|dial unix .*permission denied",
        "you may not use the Docker engine",
        "join the group docker, or go through sudo: sudo() | docker(...)",
        False,
    ),
    (
        (
            r"Cannot connect to the Docker daemon|[Ee]rror during connect|docker daemon is not running"
            r"|failed to connect to the docker API"
        ),
        "the Docker engine does not answer",
        "start it (systemctl start docker), or point DOCKER_HOST to it",
        True,
    ),
    (
        (
            r"Unable to find image .* locally|No such image|pull access denied"
            r"|manifest (?:for .* not found|unknown)|repository does not exist"
        ),
        "the image is not there and could not be pulled",
        "check the name, `docker pull` or build it there first",
        False,
    ),
    (r"No such container", "there is no such container", "`docker ps` there lists those that run", False),
    (r"[Cc]ontainer \S+ is not running|is paused", "the container does not run", "start it first", False),
    (
        r"could not select device driver|[Uu]nknown (?:or invalid )?runtime|nvidia-container-cli",
        "the engine has not what runtime= or gpus= asks for",
        "leave it out, or install it there",
        False,
    ),
    (
        (
            r"invalid reference format|unknown flag|invalid argument .* for|invalid mount"
            r"|invalid volume specification"
        ),
        "docker does not accept an option",
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
        r"OCI runtime (?:create|exec) failed.*(?:chdir to cwd|mkdir).*",
        "the folder cannot be entered in the container",
        "check cwd and workdir=",
        False,
    ),
)


@dataclass(frozen=True)
class Docker(Container):
    """Runs what follows in a new container of `image`, which is removed afterwards; or in the running `container`.

    `mounts`: folders to show inside, `["/data:/data:ro"]` or `{"/data": "/data"}`. `user`, `network`, `memory` (`2G`),
    `cpus`, `gpus` (`all`), `ulimit` (`["nofile=1024:1024"]`), `platform`, `runtime`: as `docker run` takes them. `env`:
    variables for the container. `workdir`: the folder to start in, made by the engine if it is missing.
    `pull`: fetch the image when `missing`, `always` or `never`. `init`: a small init that reaps dead children.
    The image's entry point is left aside so that your command is what runs; `entrypoint` sets another program,
    which gets your command as its arguments; `keep_entrypoint` leaves the image's own in place.
    `container_name`: a name for the new container. `extra`: more words for `docker run` or `docker exec`.
    `terminal`: give it a terminal. `program`: which docker to run.
    """

    MESSAGES: ClassVar[Messages] = _MESSAGES

    program: str = field(default="docker", kw_only=True)

    name: ClassVar[str] = "docker"

    def _run_flags(self) -> Iterator[str]:
        yield from super()._run_flags()
        if self.runtime is not None:
            yield f"--runtime={self.runtime}"
