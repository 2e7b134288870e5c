"""Outrider runs Python functions, commands and jobs somewhere else, through any stack of hops."""

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
    TimedOut,
    Unserializable,
    VersionMismatch,
)
from outrider.hops import (
    apptainer,
    cwd,
    docker,
    env,
    flux,
    local,
    login,
    podman,
    relay,
    singularity,
    slurm,
    ssh,
    sudo,
    tempdir,
)
from outrider.hops.base import Hop
from outrider.options import Options
from outrider.results import CompletedCall, CompletedCommand, FarEnd
from outrider.route import Route
from outrider.session import Session

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
    "Hop",
    "Lost",
    "Options",
    "OutriderError",
    "Refused",
    "Route",
    "RouteError",
    "Session",
    "TimedOut",
    "Unserializable",
    "VersionMismatch",
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
