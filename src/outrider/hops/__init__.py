"""The hops: one small file each, options and how it wraps a command. No hop does any I/O.

The lower-case names make hops: `ssh("login") | sudo("grader")`. They stand beside files of the same names, so
all are imported here at once: whoever imports one finds the hop under its name, never the file.
"""

from outrider.hops.cwd import Cwd as cwd
from outrider.hops.docker import Docker as docker
from outrider.hops.env import Env as env
from outrider.hops.local import Local as local
from outrider.hops.ssh import Ssh as ssh
from outrider.hops.sudo import Sudo as sudo
from outrider.hops.tempdir import Tempdir as tempdir

__all__ = ["cwd", "docker", "env", "local", "ssh", "sudo", "tempdir"]
