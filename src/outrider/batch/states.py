"""The states of a job, whatever its scheduler calls them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """True if nothing more will happen."""
        return self not in (State.PENDING, State.HELD, State.RUNNING)


class Standing(NamedTuple):
    """A job's state, and the scheduler's reason for it: "" where it gives none."""

    state: State
    reason: str = ""
