"""One element of a job: what is known of it, and what the news come to. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.batch.states import Standing, State

GRACE = 3.0
"""Seconds that an end has to show in the spool after the scheduler says that the job is over."""
VERDICT = 6.0
"""Seconds that the scheduler has to say who ended a job that has no answer: Slurm calls it COMPLETING at first."""
FORGOTTEN = 10.0
"""The same after a scheduler has forgotten it: one that has just been started again may say so for a while."""
PENDING = Standing(State.PENDING)


@dataclass
class Element:
    """ident: the scheduler's id; base: the one to ask about it, of its whole array perhaps.

    begun, ended: the times of files, of the submit host's clock, in epoch seconds; others are monotonic ones here.

    end: what its script wrote last: an exit status. over_since: when the scheduler first called it over, without an end.
    missed: the scheduler has forgotten it, so that its accounting was asked.
    """

    index: int
    ident: str = ""
    base: str = ""
    standing: Standing = PENDING
    begun: float | None = None
    ended: float | None = None
    attempt: int = 0
    end: str | None = None
    answered: bool = False
    small: list[bytes] | None = None
    errors: bytes = b""
    cancelled: bool = False
    over_since: float | None = None
    verdict: Standing | None = None
    patience: float = GRACE
    missed: bool = False

    @property
    def final(self) -> bool:
        return self.standing.state.final

    def begins(self, attempt: int, at: float) -> None:
        """Its script has begun, for the so manieth time."""
        self.attempt = attempt
        if self.begun is None:
            self.begun = at
        if not self.final:
            self.standing = Standing(State.RUNNING)

    def ends(self, end: str, at: float, now: float, answered: bool) -> None:
        """Its script has ended. answered: whether it leaves nothing to ask the scheduler about."""
        self.end, self.ended, self.answered = end, at, answered
        if end == "0" and answered:
            self.standing = Standing(State.COMPLETED)
        elif end == "dependency":
            self.standing = Standing(State.CANCELLED, "a job that it waits for has failed")
        elif answered:
            self.standing = Standing(State.FAILED, f"exit status {end}")
        elif self.cancelled:
            self.standing = Standing(State.CANCELLED, "by cancel()")
        else:
            self.over_since = now
            self.standing = Standing(State.RUNNING, "ending")

    def said(self, known: Standing | None, now: float, name: str) -> None:
        """What the scheduler says of it; None: it does not know it, and would if it could."""
        if self.final:
            return
        if known is None:
            # The accounting may have told more since it was first missed.
            known = self.verdict or Standing(State.LOST, f"{name} does not know job {self.ident} any more")
            if self.end is not None:
                known = self.verdict or self._by_status()
        elif known.state is State.RUNNING and self.begun is None and known.reason == "":
            known = Standing(State.PENDING) if name == "process" else known
        if not known.state.final:
            if self.end is None:
                self.standing, self.over_since, self.verdict = known, None, None
            return
        self.verdict = known
        self.patience = FORGOTTEN if known.state is State.LOST and name != "process" else GRACE
        self.over_since = now if self.over_since is None else self.over_since
        unstarted = self.begun is None and self.cancelled and known.state is State.CANCELLED
        if self.end is not None or unstarted:  # else an end may still show
            self._conclude()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.final or self.over_since is None:
            return
        if now - self.over_since >= (VERDICT if self.end is not None else self.patience):
            self._conclude()

    def _conclude(self) -> None:
        """No more is to be learned: its own end comes first, then the scheduler's verdict."""
        verdict = self.verdict or self._by_status()
        if self.cancelled:
            verdict = Standing(
                State.CANCELLED, verdict.reason if verdict.state is State.CANCELLED else "by cancel()"
            )
        elif verdict.state is State.COMPLETED:
            verdict = self._by_status()
        elif verdict.state is State.FAILED and self.verdict is not None and self.end not in (None, "0"):
            status = f"exit status {self.end}"
            verdict = (
                verdict if status in verdict.reason else Standing(State.FAILED, f"{verdict.reason}, {status}")
            )
        self.standing = verdict

    def _by_status(self) -> Standing:
        if self.end is None:
            return Standing(State.FAILED, "it left no answer")
        return Standing(State.FAILED, "it wrote no answer" if self.end == "0" else f"exit status {self.end}")
