"""Asking the far end at the submit host about the spool."""

from __future__ import annotations

from typing import Any

from outrider.far import wire
from outrider.near import calls
from outrider.session import Session, call_far


def far_answer(far: Session, function: str, argument: Any, timeout: float) -> Any:
    """What a function of `far/spooling.py` answers there; timeout in seconds."""
    answer = call_far(far.connection, "spooling", function, argument, timeout)
    if isinstance(answer, BaseException):
        raise answer
    kind, _, segments = answer
    trust = far.connection.options.trust
    if kind == wire.RAISED:
        raise calls.exception(segments, trust, far.place, b"")
    return calls.returned(segments, trust, far.place)[1]
