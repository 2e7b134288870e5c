"""What a connector is: somewhere to run one command line, without a stream."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Ran(NamedTuple):
    """What a command there printed, on both its streams if they are not told apart, and its exit status if that is known."""

    output: str
    status: int | None = None


class Connector(Protocol):
    """A place where one command line can be run. Several threads may use it at once.

    `place`: its name, for messages. `longest`: characters of a command line at the most. `uploads`: whether `upload` works.
    """

    place: str
    longest: int
    uploads: bool

    def run(self, line: str, timeout: float) -> Ran:
        """Run a line of words, quoted as for sh, within `timeout` seconds. Raises RouteError: `transient` if it may pass."""

    def upload(self, path: str, data: bytes) -> None:
        """Put a file there, under an absolute path. Raises RouteError: `transient` if it may pass."""
