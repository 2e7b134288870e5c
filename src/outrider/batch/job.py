"""BatchJob: a call that was submitted. Any process that has the route and the job's key can look after it."""

from __future__ import annotations

import time
from typing import Any

from outrider.batch import spool
from outrider.batch.reaching import far_answer
from outrider.batch.schedulers.base import Scheduler
from outrider.batch.splitting import head_options, split
from outrider.batch.states import Standing, State
from outrider.chain import Chain
from outrider.errors import Cancelled, FarError, Lost, TimedOut
from outrider.far import wire
from outrider.options import Options
from outrider.session import Session

GRACE = 3.0
"""Seconds that an end has to show in the spool after the scheduler says that the job is over."""
INTERVAL = 1.0
"""Seconds between two questions to the scheduler."""


class BatchJob:
    """A job: `result()`, `state`, `cancel()`. Picklable; `Route.job(key)` gives it in another process, on another day.

    key: the random name under which the scheduler and the spool at the submit host know it.
    """

    def __init__(self, chain: Chain, options: Options, key: str) -> None:
        self.key = key
        self._chain = chain
        self._options = options
        self._place = chain.label()
        self._answer: spool.Answer | None = None
        self._standing = Standing(State.PENDING)
        self._errors = b""
        self._id = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchJob, (self._chain, self._options, self.key)

    def __repr__(self) -> str:
        return f"<BatchJob {self.key} {self._id} on {self._place}, {self._standing.state}>"

    @property
    def id(self) -> str:
        """The scheduler's id of the job."""
        if not self._id:
            with self._open() as far:
                self._know_id(far)
        return self._id

    @property
    def state(self) -> State:
        """Where it is now; asks the submit host, unless it is over."""
        return self.standing().state

    def standing(self) -> Standing:
        """The state with the scheduler's reason; asks the submit host, unless the job is over."""
        if not self._standing.state.final:
            self._watch(0.0)
        return self._standing

    def done(self) -> bool:
        """Whether it is over, however it ended."""
        return self.state.final

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over; False if it is not within `timeout` seconds. The job goes on then."""
        if not self._standing.state.final:
            self._watch(timeout)
        return self._standing.state.final

    def result(self, timeout: float | None = None) -> Any:
        """The value of the call; what the call raised is raised.

        Raises TimedOut if it is not over within `timeout` seconds (the job goes on), Cancelled, FarError with the
        scheduler's reason if it was ended, and Lost if neither the scheduler nor the spool knows of it.
        """
        if not self.wait(timeout):
            raise TimedOut(
                f"the job is still {self._standing.state} after {timeout:g} s",
                hop=self._place,
                hint="it goes on: ask again later, or end it with cancel()",
            )
        if self._answer is not None and self._answer.kind:
            return spool.value_of(self._answer, self._options, self._place)
        state, reason = self._standing
        errors = self._errors.decode(errors="replace").strip()
        if state is State.CANCELLED:
            raise Cancelled(f"the job was cancelled: {reason}", hop=self._place)
        if state is State.LOST:
            raise Lost(f"the job is gone: {reason}", stderr=errors, hop=self._place)
        raise FarError(
            f"the job ended without an answer: {reason}",
            far_stderr=errors,
            hop=self._place,
            hint="the scheduler's reason says why; give it more time= or memory= if that is what it lacked",
        )

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise once the job is over, or None."""
        if not self.wait(timeout):
            self.result(0)
        try:
            self.result()
        except Exception as error:
            return error
        return None

    def stdout(self) -> bytes:
        """What the call printed on stdout, so far."""
        self.standing()
        return self._answer.stdout if self._answer else b""

    def stderr(self) -> bytes:
        """What the call printed on stderr, so far."""
        self.standing()
        return self._answer.stderr if self._answer else b""

    def cancel(self) -> None:
        """End it. What it has answered by then stays."""
        with self._open() as far:
            self._know_id(far)
            if self._id:
                asked = {"key": self.key, "argv": self._scheduler().cancel([self._id])}
                far_answer(far, "cancel", asked, 60.0)

    def clean(self) -> None:
        """Remove what is kept of it at the submit host. A job that still runs is not ended by that: cancel it first."""
        with self._open() as far:
            far_answer(far, "clean", self.key, 60.0)

    # --- watching -----------------------------------------------------------------------------------------------

    def _scheduler(self) -> Scheduler:
        return split(self._chain).scheduler

    def _open(self) -> Session:
        parts = split(self._chain)
        return Session(parts.head, head_options(parts, self._options))

    def _know_id(self, far: Session) -> None:
        if not self._id:
            told = far_answer(far, "submitted", self.key, 60.0)
            self._id = self._scheduler().parse_submitted(told) if told else ""

    def _watch(self, timeout: float | None) -> None:
        """Look until the job is over or the time is up: at the spool all the time, at the scheduler once in a second."""
        until = None if timeout is None else time.monotonic() + timeout
        scheduler = self._scheduler()
        ended: tuple[float, Standing] | None = None
        with self._open() as far, spool.kept_answer() as file:
            self._know_id(far)
            argv = scheduler.query([self._id]) if self._id else []
            while not self._standing.state.final:
                left = INTERVAL if until is None else max(0.0, min(INTERVAL, until - time.monotonic()))
                asked = {"key": self.key, "at": file.tell(), "wait": left, "argv": argv}
                told = far_answer(far, "look", asked, left + 120.0)
                file.write(told["piece"])
                if told["piece"] and told["end"] is None:
                    continue
                now = self._judge(scheduler, told, ended)
                if now.state.final and told["end"] is None:
                    ended = ended or (time.monotonic(), now)
                    if told["there"] and time.monotonic() - ended[0] < GRACE and left:
                        time.sleep(0.2)
                        continue
                file.flush()
                self._answer = spool.read_answer(file, self._options.answer_limit)
                if told["end"] is not None and not self._answer.kind and argv:
                    now = self._ended_by(far, scheduler, argv, told)
                self._standing = self._concluded(told, now)
                file.seek(0, 2)
                if until is not None and time.monotonic() >= until:
                    return

    def _ended_by(
        self, far: Session, scheduler: Scheduler, argv: list[str], told: dict[str, Any]
    ) -> Standing:
        """What the scheduler says of a job whose script is over without an answer: it knows who ended it.

        Slurm calls a job COMPLETING at first, whatever its end; a process that is over has nobody who knows more.
        """
        until = time.monotonic() + 2 * GRACE
        while True:
            told["said"] = far_answer(far, "ask", argv, 60.0)
            now = self._judge(scheduler, told, None)
            if now.state is State.LOST:
                return Standing(State.RUNNING)
            if now.state.final or time.monotonic() >= until:
                return now
            time.sleep(0.2)

    def _judge(
        self, scheduler: Scheduler, told: dict[str, Any], ended: tuple[float, Standing] | None
    ) -> Standing:
        """What the scheduler's words come to."""
        if ended is not None:
            return ended[1]
        if not told["there"]:
            return Standing(State.LOST, "its folder at the submit host is gone")
        if not self._id:
            return Standing(State.LOST, "it was never submitted")
        said = told["said"]
        if said is None:
            return self._standing
        known = scheduler.parse_query(said["stdout"])
        if self._id in known:
            return known[self._id]
        if scheduler.knows_all(said["status"], said["stdout"]):
            return Standing(State.LOST, f"{scheduler.name} does not know job {self._id} any more")
        return self._standing

    def _concluded(self, told: dict[str, Any], now: Standing) -> Standing:
        """The standing, once what the job itself has written is counted in: that is believed before the scheduler."""
        assert self._answer is not None
        self._errors = told["errors"]
        if self._answer.kind:
            return Standing(State.COMPLETED if self._answer.kind == wire.RESULT else State.FAILED)
        if told["cancelled"] and (told["end"] is not None or now.state.final):
            return Standing(State.CANCELLED, now.reason or "by cancel()")
        if told["end"] is not None and (not now.state.final or now.state is State.COMPLETED):
            return Standing(State.FAILED, self._answer.goodbye or f"exit status {told['end']}")
        if now.state is State.COMPLETED:
            return Standing(State.FAILED, "it wrote no answer")
        return now
