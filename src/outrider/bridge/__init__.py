"""The bridge: code inside a container runs commands on its host.

`outrider.bridge.run(["sbatch", "job.sh"])`, `.Popen`, `.call`, `.check_call`, `.check_output` are subprocess's, for commands
of the host; `.install(["sbatch"])` redirects those names. Called, it is the hop: `bridge() | slurm() | apptainer(image)`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess, TimeoutExpired
from types import ModuleType
from typing import Any

from outrider.bridge.processes import Popen, call, check_call, check_output, folder, install, run, uninstall

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Popen",
    "TimeoutExpired",
    "call",
    "check_call",
    "check_output",
    "folder",
    "install",
    "run",
    "script",
    "uninstall",
]
HERE = Path(__file__).parent


def script() -> str:
    """The host's end as one bash script, for a host where nothing may be installed: server and client in one file."""
    client = (HERE / "client.sh").read_text()
    server = (HERE / "server.sh").read_text()
    mark = "OUTRIDER_BRIDGE_CLIENT"
    start, end = server.rsplit('main "$@"\n', 1)
    return f"{start}IFS= read -r -d '' client_text <<'{mark}'\n{client}{mark}\nmain \"$@\"\n{end}"


class _Bridge(ModuleType):
    """This package; calling it makes the hop."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        from outrider.hops.bridge import Bridge

        return Bridge(*given, **options)


sys.modules[__name__].__class__ = _Bridge
