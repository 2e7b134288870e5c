"""`apptainer`: a container of Apptainer or Singularity, as clusters have them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.octal import utf8_only
from outrider.hops.options import Pairs, Words
from outrider.hops.wording import line_with, own_program_missing

_MESSAGES = (
    (
        (
            r"could not open image|no such file or directory.*\.sif|image .*does not exist"
            r"|while getting image|failed to retrieve path"
        ),
        "the image is not there",
        "give the path as it is on that machine; docker://NAME pulls one",
    ),
    (
        r"while (?:fetching|building|pulling)|conveyor failed|unable to (?:pull|get)|initializing source",
        "the image could not be pulled",
        "pull it by hand where there is network: apptainer pull FILE.sif docker://NAME",
    ),
    (
        (
            r"[Uu]ser namespaces? (?:is |are )?(?:not|disabled)|[Ff]ailed to create user namespace"
            r"|clone.*(?:Operation not permitted|No space left)"
        ),
        "this machine lets you make no user namespaces",
        "ask the administrator for user namespaces or a setuid Apptainer",
    ),
    (
        r"squashfuse|mount .*squashfs|failed to mount|mount hook function failure|mount .* failed",
        "the image or a folder could not be mounted",
        "check binds= and overlay=; a sandbox folder instead of a SIF file needs no squashfs",
    ),
    (
        r"[Ii]mage format not recognized|unknown image format|exec format error",
        "that is no image for this machine",
        "build it for this processor",
    ),
    (r"unknown flag|invalid argument .* for", "apptainer does not accept an option", "the message names it"),
    (
        r"nv files.*not|[Nn]o NVIDIA|[Nn]o GPU",
        "there is no GPU, or no driver for it",
        "leave out nv=, or ask for a node that has one",
    ),
)


@dataclass(frozen=True)
class Apptainer(Hop):
    """Runs what follows in a container of `image`: a SIF file, a sandbox folder or `docker://NAME`.

    `binds`: folders to show inside, `["/data:/data:ro"]` or `{"/data": "/data"}`. `contain`: hide home and /tmp.
    `cleanenv`: start from the image's own environment. `nv`, `rocm`: bring the GPU along. `overlay`: an image or
    folder for what is written; `writable_tmpfs`: forget what is written. `pwd`: the folder to start in. `env`:
    variables for the container. `extra`: more words for `apptainer exec`. `program`: `singularity` where it is still
    called so.
    """

    image: str
    _: KW_ONLY
    binds: Words | Pairs = ()
    contain: bool = False
    cleanenv: bool = False
    nv: bool = False
    rocm: bool = False
    overlay: Words = ()
    writable_tmpfs: bool = False
    pwd: str | None = None
    env: Pairs = ()
    extra: Words = ()
    program: str = "apptainer"

    name: ClassVar[str] = "apptainer"
    aliases: ClassVar[tuple[str, ...]] = ("singularity",)
    positional: ClassVar[tuple[str, ...]] = ("image",)
    leaves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        binds = tuple(bind if isinstance(bind, str) else ":".join(bind) for bind in self.binds)
        object.__setattr__(self, "binds", binds)
        if not self.image or self.image.startswith("-"):
            raise ConfigError(f"not an image: {self.image!r}", hop=self.name, key="image")

    def wrap(self, command: Command) -> Command:
        # Neither --env (split at commas) nor APPTAINERENV_ (through a shell, names limited) keeps every value, and a
        # folder that is not there is a mere warning to --pwd: so env and cd do both inside, where they can fail.
        folder = (
            command.cwd
            if self.pwd is None
            else posixpath.join(self.pwd, command.cwd or "").rstrip("/") or "/"
        )
        inner = utf8_only(Command(command.argv, {**dict(self.env), **command.env}, folder))
        return Command(
            (self.program, "exec", *self._flags(), *self.extra, "--", self.image, *inner.as_argv())
        )

    def _flags(self) -> Iterator[str]:
        for name in ("contain", "cleanenv", "nv", "rocm", "writable_tmpfs"):
            if getattr(self, name):
                yield "--" + name.replace("_", "-")
        for bind in self.binds:
            yield from ("--bind", str(bind))
        for overlay in self.overlay:
            yield from ("--overlay", overlay)

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint in _MESSAGES:
            line = line_with(stderr, rf"^(?:.*\b(?:FATAL|ERROR)\b|Error).*(?:{pattern})")
            if line:
                return Diagnosis(f"{message}: {_plain(line)}", hint)
        return own_program_missing(
            stderr, self.program, "install it there, load its module, or try program='singularity'"
        )


def _plain(line: str) -> str:
    """Without the colours that apptainer writes even where no terminal is."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
