"""A connector by NERSC's Superfacility API: one command is one task, asked for and then asked about until it is done."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from outrider.connect.connector import Ran
from outrider.errors import RouteError

if TYPE_CHECKING:
    from sfapi_client import Client

KEYS = "~/.superfacility"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two questions whether a task is done."""


class SuperfacilityConnector:
    """machine: as the API names it. key: a file, or the beginning of a name in ~/.superfacility; None: the only one there.

    api_url, token_url: of another installation of that API; None: NERSC's own.
    """

    longest = 100_000
    uploads = True

    def __init__(self, machine: str, key: str | None, api_url: str | None, token_url: str | None) -> None:
        try:
            import sfapi_client
        except ImportError:
            raise RouteError(
                "the package sfapi_client is not installed here",
                hint="pip install 'outrider[superfacility]'",
                transient=False,
            ) from None
        self.place = machine
        self._make = sfapi_client.Client
        self._given: dict[str, Any] = {"key": key or only_key()}
        if api_url:
            self._given["api_base_url"] = api_url.rstrip("/")
        if token_url:
            self._given["token_url"] = token_url
        self._own = (
            threading.local()
        )  # a client's token is renewed in passing, which two threads must not do at once

    def _client(self) -> Client:
        if not hasattr(self._own, "client"):
            self._own.client = self._make(**self._given)
        client: Client = self._own.client
        return client

    def run(self, line: str, timeout: float) -> Ran:
        try:
            return self._run(line, timeout)
        except RouteError:
            raise
        except Exception as error:
            raise explained(error, self.place) from error

    def _run(self, line: str, timeout: float) -> Ran:
        if not hasattr(self._own, "compute"):
            self._own.compute = self._client().compute(self.place)
        task = self._own.compute.run_task(line)
        until, pause = time.monotonic() + timeout, FIRST_PAUSE
        while True:
            task.update()
            state = "new" if task.status is None else task.status.value.lower()
            if state in ("completed", "cancelled", "failed"):
                break
            if time.monotonic() > until:
                task.cancel()
                raise RouteError(
                    f"a command was not done within {timeout:g} s",
                    hint="the API may be busy: try again",
                    transient=True,
                )
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)
        result = task.result
        said = "".join(part for part in (result and result.output, result and result.error) if part)
        return Ran(said, result.exit_code if result else None)

    def upload(self, path: str, data: bytes) -> None:
        try:
            told = (
                self._client()
                .put(
                    f"utilities/upload/{self.place}/{quote(path)}",
                    files={"file": ("piece", io.BytesIO(data))},
                )
                .json()
            )
        except Exception as error:
            raise explained(error, self.place) from error
        if told.get("status") != "OK":
            raise RouteError(
                f"a file was not taken: {told.get('error')}",
                hint="is there space in your home there?",
                transient=False,
            )


def only_key() -> str:
    """The one key in the client's own folder."""
    folder = Path(KEYS).expanduser()
    found = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    if len(found) == 1:
        return str(found[0])
    raise RouteError(
        f"there are {len(found)} keys in {KEYS}" if found else f"there is no key in {KEYS}",
        hint="name one: superfacility(key='NAME')"
        if found
        else "make one on NERSC's Iris pages, and put it there, chmod 600",
        transient=False,
    )


def explained(error: Exception, machine: str) -> RouteError:
    """What the client raised, in one line, and whether it may pass."""
    cause = error
    last = getattr(error, "last_attempt", None)  # of ten, by the client
    if last is not None:
        cause = last.exception() or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    kind = type(cause).__name__
    said = " ".join(str(getattr(cause, "message", None) or cause).split())[:300] or kind
    if kind == "ClientKeyError":
        return RouteError(
            said, hint="a key is a file of mode 600 with the client's id in its first line", transient=False
        )
    if kind in ("OAuthError", "InvalidTokenError", "MissingTokenError") or status in (401, 403):
        return RouteError(
            f"not authorized: {said}",
            hint="has the key expired, or may it not run commands? Keys live for days: make a new one",
            transient=False,
        )
    if isinstance(cause, ValueError) and machine in said:
        return RouteError(
            f"the API knows no machine {machine!r}",
            hint="it names its machines, as in superfacility('perlmutter')",
            transient=False,
        )
    return RouteError(
        f"{kind}: {said}" if kind not in said else said,
        hint="is the service up? https://www.nersc.gov/live-status tells",
        transient=status is None or status >= 500 or status == 429,
    )
