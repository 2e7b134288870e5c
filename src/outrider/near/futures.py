"""What `Session.submit` gives: a future whose cancelling reaches the far end. Apart, as few programs need one at all."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from outrider.errors import OutriderError, Refused
from outrider.far import wire
from outrider.near.hub import hub

if TYPE_CHECKING:
    from outrider.session import Session

T = TypeVar("T")


class SessionFuture(Future[T]):
    """A future whose cancel() ends the call at the far end, although it is already running there."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.ident = 0
        self.name = ""

    def cancel(self) -> bool:
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        with suppress(OutriderError):
            self._session.connection.post(wire.CANCEL, self.ident, b"")
        self.set_running_or_notify_cancel()
        return True

    def result(self, timeout: float | None = None) -> T:
        self._check_not_within()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_not_within()
        return super().exception(timeout)

    def _check_not_within(self) -> None:
        """Whoever is called back while it reads has to return before more is dealt out: it would wait for itself."""
        connection = self._session.connection
        if not self.done() and (hub().is_current() or connection.reads_here()):
            raise Refused(
                "a callback, or a signal's handler, must not wait for a future: the thread that reads for it is in there",
                hop=connection.place,
                hint="call() works there; or wait in another thread, or use add_done_callback()",
            )

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give it its value or its error, unless it was cancelled in the meantime: then nobody waits for it."""
        with suppress(Exception):
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)
