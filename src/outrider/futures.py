"""What `Session.submit` gives: a future whose cancelling reaches the far end. Apart, as few programs need one at all."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from outrider.errors import OutriderError
from outrider.far import wire

if TYPE_CHECKING:
    from outrider.session import Session

T = TypeVar("T")


class SessionFuture(Future[T]):
    """A future whose cancel() ends the call at the far end, although it is already running there."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.ident = 0

    def cancel(self) -> bool:
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        with suppress(OutriderError):
            self._session.connection.post(wire.CANCEL, self.ident, b"")
        self.set_running_or_notify_cancel()
        return True

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give it its value or its error, unless it was cancelled in the meantime: then nobody waits for it."""
        with suppress(Exception):
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)
