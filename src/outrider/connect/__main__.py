"""`python -m outrider.connect KIND OPTIONS PATIENCE -- WORDS`: a command at a place without streams, as if it ran here.

The hops `gateway` and `superfacility` start it. OPTIONS is a JSON object, PATIENCE seconds.
Its own failures are one line on stderr, and 125.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from types import FrameType

from outrider.connect.connector import Connector
from outrider.connect.stream import Stream
from outrider.connect.visits import Visits
from outrider.errors import RouteError

LAST_TRY = 20.0
"""Seconds that the last visit, which only ends what may be there, is tried."""


class _Asked(BaseException):
    """A signal asks this to end."""


def _end(number: int, _: FrameType | None) -> None:
    for again in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)
    raise _Asked(number)


def connector_of(kind: str, options: str) -> Connector:
    given = json.loads(options)
    if kind == "program":
        from outrider.connect.program import ProgramConnector

        return ProgramConnector(given["argv"], given.get("upload", ()))
    from outrider.connect.superfacility import SuperfacilityConnector

    return SuperfacilityConnector(
        given["machine"], given.get("key"), given.get("api_url"), given.get("token_url")
    )


def run(kind: str, options: str, patience: float, words: list[str]) -> int:
    visits = None
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _end)
        visits = Visits(connector_of(kind, options), patience)
        status = Stream(visits).carry([os.fsencode(word) for word in words])
    except RouteError as error:
        again = " (trying again may help)" if error.transient else ""
        os.write(2, f"outrider gateway: {error.message} -- {error.hint}{again}\n".encode("utf-8", "replace"))
        status = 125
    except BrokenPipeError:  # nobody reads any more
        status = 128 + signal.SIGPIPE
    except _Asked as asked:
        status = 128 + int(asked.args[0])
    if visits is not None:
        _stop_later(visits.key, kind, options)
    return status


def _stop_later(key: str, kind: str, options: str) -> None:
    """The last visit is made by a process of its own: whoever waits for this one is not to wait for a slow gateway."""
    subprocess.Popen(
        [
            sys.executable,
            *(["-P"] if sys.flags.safe_path else []),
            "-m",
            "outrider.connect",
            "--stop",
            key,
            kind,
            options,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["--stop"]:
        with contextlib.suppress(RouteError):
            Visits(connector_of(*words[2:4]), LAST_TRY, key=words[1]).visit(stop=True)
        return
    status = run(words[0], words[1], float(words[2]), words[4:])
    # Threads may be in the midst of a visit or of a read: nobody waits for them.
    os._exit(status)


if __name__ == "__main__":
    main()
