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
from outrider.hops.base import Hop
from outrider.options import Options
from outrider.results import CompletedCall, CompletedCommand, FarEnd
from outrider.route import Route
from outrider.session import Session
