"""The hops: one small file each, options and how it wraps a command. No hop does any I/O.

The lower-case names make hops: `ssh("login") | sudo("grader")`. They stand beside files of the same names: whoever asks
for one finds the hop under its name, never the file. Each file is imported when its hop is first asked for, as most
routes have one or two.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outrider.hops.apptainer import Apptainer as apptainer
    from outrider.hops.bridge import Bridge as bridge
    from outrider.hops.cwd import Cwd as cwd
    from outrider.hops.docker import Docker as docker
    from outrider.hops.env import Env as env
    from outrider.hops.flux import Flux as flux
    from outrider.hops.gateway import Gateway as gateway
    from outrider.hops.local import Local as local
    from outrider.hops.login import Login as login
    from outrider.hops.lsf import Lsf as lsf
    from outrider.hops.pbs import Pbs as pbs
    from outrider.hops.podman import Podman as podman
    from outrider.hops.relay import Relay as relay
    from outrider.hops.sandbox import Sandbox as sandbox
    from outrider.hops.slurm import Slurm as slurm
    from outrider.hops.ssh import Ssh as ssh
    from outrider.hops.sudo import Sudo as sudo
    from outrider.hops.superfacility import Superfacility as superfacility
    from outrider.hops.tempdir import Tempdir as tempdir

    singularity = apptainer

FILES = {
    "apptainer": "apptainer",
    "bridge": "bridge",
    "cwd": "cwd",
    "docker": "docker",
    "env": "env",
    "flux": "flux",
    "gateway": "gateway",
    "local": "local",
    "login": "login",
    "lsf": "lsf",
    "pbs": "pbs",
    "podman": "podman",
    "relay": "relay",
    "sandbox": "sandbox",
    "singularity": "apptainer",
    "slurm": "slurm",
    "ssh": "ssh",
    "sudo": "sudo",
    "superfacility": "superfacility",
    "tempdir": "tempdir",
}
"""Each name of a built-in hop, and the file that it stands in."""


class _Hops(ModuleType):
    """This package. Python sets an attribute for every file that it imports: for a hop's file, this sets the hop."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FILES and isinstance(value, ModuleType):
            value = getattr(value, name.capitalize())
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in FILES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module(f"{__name__}.{FILES[name]}")
        return self.__dict__[FILES[name]]


sys.modules[__name__].__class__ = _Hops

__all__ = [
    "apptainer",
    "bridge",
    "cwd",
    "docker",
    "env",
    "flux",
    "gateway",
    "local",
    "login",
    "lsf",
    "pbs",
    "podman",
    "relay",
    "sandbox",
    "singularity",
    "slurm",
    "ssh",
    "sudo",
    "superfacility",
    "tempdir",
]
