"""The hops: one small file each, options and how it wraps a command. No hop does any I/O.

The lower-case names make hops: `ssh("login") | sudo("grader")`. They stand beside files of the same names, so
all are imported here at once: whoever imports one finds the hop under its name, never the file.
"""

from outrider.hops.apptainer import Apptainer as apptainer
from outrider.hops.cwd import Cwd as cwd
from outrider.hops.docker import Docker as docker
from outrider.hops.env import Env as env
from outrider.hops.flux import Flux as flux
from outrider.hops.local import Local as local
from outrider.hops.login import Login as login
from outrider.hops.podman import Podman as podman
from outrider.hops.relay import Relay as relay
from outrider.hops.slurm import Slurm as slurm
from outrider.hops.ssh import Ssh as ssh
from outrider.hops.sudo import Sudo as sudo
from outrider.hops.tempdir import Tempdir as tempdir

singularity = apptainer

__all__ = [
    "apptainer",
    "cwd",
    "docker",
    "env",
    "flux",
    "local",
    "login",
    "podman",
    "relay",
    "singularity",
    "slurm",
    "ssh",
    "sudo",
    "tempdir",
]
