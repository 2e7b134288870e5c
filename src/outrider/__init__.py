"""Outrider runs Python functions, commands and jobs somewhere else, through any stack of hops."""

import os
from typing import TYPE_CHECKING, Any

from outrider import hops
from outrider.command import Command
from outrider.errors import (
    Cancelled,
    CommandFailed,
    ConfigError,
    FarError,
    Lost,
    OutriderError,
    Refused,
    RouteError,
    SandboxEnded,
    TimedOut,
    Unserializable,
    VersionMismatch,
)
from outrider.hops.base import Hop
from outrider.near.values import register_data
from outrider.options import Options
from outrider.results import CompletedCall, CompletedCommand, FarEnd
from outrider.route import Route, attach
from outrider.session import Session

if TYPE_CHECKING:
    from outrider import bridge
    from outrider.batch.sweep import grid, zipped
    from outrider.groups.group import Group
    from outrider.hops import (
        apptainer,
        cwd,
        docker,
        env,
        flux,
        gateway,
        local,
        login,
        lsf,
        pbs,
        podman,
        relay,
        sandbox,
        singularity,
        slurm,
        ssh,
        sudo,
        superfacility,
        tempdir,
    )
    from outrider.near.lasting import idempotent
    from outrider.sandboxed import Interaction, Sandbox, SandboxCall, SandboxResult, interact
    from outrider.traces.trace import Trace, trace

__version__ = "0.1.0.dev0"

__all__ = [
    "Cancelled",
    "Command",
    "CommandFailed",
    "CompletedCall",
    "CompletedCommand",
    "ConfigError",
    "FarEnd",
    "FarError",
    "Group",
    "Hop",
    "Interaction",
    "Lost",
    "Options",
    "OutriderError",
    "Refused",
    "Route",
    "RouteError",
    "Sandbox",
    "SandboxCall",
    "SandboxEnded",
    "SandboxResult",
    "Session",
    "TimedOut",
    "Trace",
    "Unserializable",
    "VersionMismatch",
    "apptainer",
    "attach",
    "bridge",
    "cwd",
    "docker",
    "env",
    "flux",
    "gateway",
    "grid",
    "idempotent",
    "interact",
    "local",
    "login",
    "lsf",
    "pbs",
    "podman",
    "register_data",
    "relay",
    "sandbox",
    "singularity",
    "slurm",
    "ssh",
    "sudo",
    "superfacility",
    "tempdir",
    "trace",
    "zipped",
]


if os.environ.get("OUTRIDER_TRACE"):
    from outrider.traces.trace import from_environment

    from_environment()


def __getattr__(name: str) -> Any:
    """What a program may do without is imported when it is first asked for: the hops, and groups."""
    found: Any
    if name == "Group":
        from outrider.groups import group

        found = group.Group
    elif name in ("Interaction", "Sandbox", "SandboxCall", "SandboxResult", "interact"):
        from outrider import sandboxed

        found = getattr(sandboxed, name)
    elif name in ("Trace", "trace"):
        from outrider.traces import trace as tracer

        found = getattr(tracer, name)
    elif name in ("grid", "zipped"):
        from outrider.batch import sweep

        found = getattr(sweep, name)
    elif name == "idempotent":
        from outrider.near.lasting import idempotent as found
    elif name == "bridge":
        from importlib import import_module

        found = import_module("outrider.bridge")  # the package, which makes the hop when called
    elif name in hops.FILES:
        found = getattr(hops, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
