"""BatchJob: a call that was submitted. Any process that has the route and the job's key can look after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from outrider.batch import spool
from outrider.batch.live import Live
from outrider.batch.lot import Lot
from outrider.batch.splitting import split
from outrider.batch.states import Standing, State
from outrider.batch.watching import may_pass, watcher_of
from outrider.chain import Chain
from outrider.errors import Cancelled, FarError, Lost, OutriderError, RouteError, TimedOut
from outrider.far import wire
from outrider.near.request import CHANNEL_NAMES
from outrider.options import Options
from outrider.results import CompletedCommand, FarEnd

if TYPE_CHECKING:
    from outrider.batch.array import JobArray

FULL = 1 << 16
"""Bytes left on a disk that is as good as full."""
FOLLOW = 0.1
"""Seconds between looks for more output."""


class BatchJob:
    """A job: `result()`, `state`, `cancel()`. Picklable; `Route.job(key)` gives it in another process, on another day.

    key: the random name under which the scheduler and the spool at the submit host know it; the items of an array share
    it. index: which item of its array it is; None if it is none. In an asyncio program, `await job` is its result.
    """

    def __init__(self, chain: Chain, options: Options, key: str, index: int | None = None) -> None:
        self.key = key
        self.index = index
        self._chain = chain
        self._options = options
        self._place = chain.label()
        self._watcher = watcher_of(split(chain), options)
        self._lot: Lot = self._watcher.lot(key, options.answer_limit)

    @staticmethod
    def open(which: str) -> BatchJob | JobArray:
        """A job that was submitted by this account on this machine: by its key, the beginning of it, or its name.

        The store has its route. An array is a `JobArray`. Raises ConfigError if there is no such job.
        """
        from outrider.batch.opening import opened

        return opened(which)

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchJob, (self._chain, self._options, self.key, self.index)

    def __repr__(self) -> str:
        which = self.key if self.index is None else f"{self.key}[{self.index}]"
        return f"<BatchJob {which} on {self._place}, {self._known().state}>"

    def _repr_html_(self) -> str:
        from outrider.batch.views.html import job_html

        state, reason = self.standing()
        return job_html(
            key=self.key,
            state=state,
            name="" if self.name == self.key else self.name,
            ident=self.id,
            reason=reason,
            place=self._place,
            index=self.index,
            times=self.times(),
        )

    # --- where it stands ----------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The scheduler's id of the job; "" if it never got one."""
        element = self._element
        if element not in self._lot.elements and self._lot.lost is None:
            self._watcher.refresh(self._lot)
        found = self._lot.elements.get(element)
        return found.ident if found is not None else ""

    @property
    def name(self) -> str:
        """The name that it was submitted with, or its key."""
        return (self._lot.record.name if self._lot.record is not None else "") or self.key

    @property
    def state(self) -> State:
        """Where it is now; asks the submit host, unless it is over."""
        return self.standing().state

    def standing(self) -> Standing:
        """The state with the scheduler's reason; asks the submit host, unless the job is over.

        However many jobs ask, the scheduler itself is asked for all of them together and once in a second.
        """
        if not self._known().state.final:
            self._watcher.refresh(self._lot)
        return self._known()

    def times(self) -> dict[str, float | None]:
        """When it was submitted, and when it `started` and `ended`: epoch seconds of this machine's clock, or None."""
        if self._lot.record is None or not self._known().state.final:
            self._watcher.refresh(self._lot)
        record, element = self._lot.record, self._lot.elements.get(self._element)
        begun, ended = (element.begun, element.ended) if element is not None else (None, None)
        offset = self._lot.clock
        return {
            "submitted": record.made if record is not None else None,
            "started": None if begun is None else begun + offset,
            "ended": None if ended is None else ended + offset,
        }

    def done(self) -> bool:
        """Whether it is over, however it ended."""
        return self.state.final

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over; False if it is not within `timeout` seconds. The job goes on then.

        If the submit host cannot be reached meanwhile, it is tried again for an hour.
        """
        return self._watcher.wait(self._lot, lambda: self._known().state.final, timeout)

    # --- what came of it ----------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """The value of the call, what it raised is raised; of a command a `CompletedCommand`, whatever its status.

        Raises TimedOut if it is not over within `timeout` seconds (the job goes on), Cancelled, FarError with the
        scheduler's reason if it was ended, and Lost if neither the scheduler nor the spool knows of it.
        """
        if not self.wait(timeout):
            raise TimedOut(
                f"the job is still {self._known().state} after {timeout:g} s",
                hop=self._place,
                hint="it goes on: ask again later, or end it with cancel()",
            )
        if self._is_command():
            return self._completed()
        answer = self._answer()
        if answer is None:
            raise self._failure()
        errors = self._live().output(self._call, wire.STDERR)[-4096:]
        return spool.value_of(answer, self._options, self._place, errors)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise once the job is over, or None. Raises TimedOut if it is not within `timeout` seconds."""
        if not self.wait(timeout):
            self.result(0)
        try:
            self.result()
        except Exception as error:
            return error
        return None

    def stdout(self) -> bytes:
        """What it has printed on stdout, so far."""
        return self._printed(wire.STDOUT)

    def stderr(self) -> bytes:
        """What it has printed on stderr, so far."""
        return self._printed(wire.STDERR)

    def follow(self) -> Iterator[tuple[str, bytes]]:
        """What it prints, as it comes: ("stdout" or "stderr", a piece), until it is over.

        If the submit host cannot be reached meanwhile, it is tried again for an hour.
        """
        with self._watcher.watching(self._lot):
            live, seen = self._live(), 0  # now that its record is known
            while True:
                over = self._known().state.final
                try:
                    now = self._updated()
                except OutriderError as error:
                    if over or not may_pass(error):
                        raise
                    now = live  # the watcher tries again, and says when that is of no use
                if now is not live:  # it was submitted once more
                    live, seen = now, 0
                pieces, seen = live.printed[seen:], len(live.printed)
                for call, channel, piece in pieces:
                    if call == self._call:
                        yield CHANNEL_NAMES[channel], piece
                if over:
                    return
                self._lot.raise_trouble()
                time.sleep(FOLLOW)

    # --- what can be done with it -------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End it. What it has answered by then stays. The whole element, if several items share one (`chunk`)."""
        self._watcher.refresh(self._lot)
        indices = None if self.index is None else [self._element]
        ids = self._lot.ids(indices)
        if ids and not self._known().state.final:
            asked = {"key": self.key, "indices": indices, "argv": self._scheduler.cancel(ids)}
            self._watcher.ask("cancel", asked)

    def hold(self) -> None:
        """Keep it from starting while it waits. Raises RouteError if the scheduler cannot or will not."""
        self._command_of(self._scheduler.hold, "held")

    def release(self) -> None:
        """Let it start after `hold`."""
        self._command_of(self._scheduler.release, "released")

    def rerun(self) -> BatchJob:
        """Submit it once more, as it was: what it answered is forgotten. Only when it is over. Gives the job itself.

        An item of an array takes those with it that share its job (`chunk`).
        """
        from outrider.batch.submitting import submit_again

        if not self.done():
            raise RouteError(
                f"the job is {self._known().state}: it cannot be run again yet",
                hop=self._place,
                hint="wait() for its end, or cancel() it first",
            )
        if self._lot.record is None:
            raise self._failure()
        submit_again(self._watcher, self._lot, split(self._chain), [self._element])
        return self

    def clean(self) -> None:
        """Remove what is kept of it, and of its whole array, at the submit host. End what still runs first: cancel()."""
        self._watcher.clean(self._lot)

    def __await__(self) -> Generator[Any, None, Any]:
        from outrider.batch.awaiting import awaited

        return awaited(self).__await__()

    def add_done_callback(self, function: Callable[[BatchJob], object]) -> None:
        """Call `function(job)` once it is over: in a thread of ours, or at once if it is over already."""
        from outrider.batch.awaiting import when_done

        when_done(self, lambda: function(self))

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _scheduler(self) -> Any:
        return self._watcher.scheduler

    @property
    def _chunk(self) -> int:
        if self.index is not None and self._lot.record is None:
            self._watcher.refresh(self._lot)
        return self._lot.record.chunk if self._lot.record is not None else 1

    @property
    def _element(self) -> int:
        return 0 if self.index is None else self.index // self._chunk

    @property
    def _call(self) -> int:
        """Which call of its element it is, from 1."""
        return 1 if self.index is None else self.index % self._chunk + 1

    def _known(self) -> Standing:
        """Where it stands, as far as is known here."""
        if self.index is not None and self._lot.record is None:
            return self._lot.lost or Standing(State.PENDING)
        return self._lot.item_standing(self._element, self._call)

    def _is_command(self) -> bool:
        return self._lot.record is not None and self._lot.record.kind == "command"

    def _live(self) -> Live:
        return self._lot.live(self._element)

    def _updated(self) -> Live:
        live = self._live()
        if self._lot.lost is None:
            live.update(self._watcher.ask)
        return live

    def _answer(self) -> spool.Answer | None:
        live = self._live()
        if self._call not in live.answers:
            live = self._updated()
        return live.answers.get(self._call)

    def _printed(self, channel: int) -> bytes:
        if not self._known().state.final:
            self._watcher.refresh(self._lot)
        return self._updated().output(self._call, channel)

    def _failure(self) -> Exception:
        state, reason = self._known()
        element = self._lot.elements.get(self._element)
        errors = element.errors.decode(errors="replace").strip() if element is not None else ""
        if state is State.CANCELLED:
            return Cancelled(f"the job was cancelled: {reason}", hop=self._place)
        if state is State.LOST:
            return Lost(f"the job is gone: {reason}", stderr=errors, hop=self._place)
        goodbye = self._live().goodbye
        if state is State.COMPLETED:
            reason = "it wrote no answer"
        hint = "the scheduler's reason says why; give it more time= or memory= if that is what it lacked"
        if self._watcher.ask("room", self.key) < FULL:
            reason += "; the disk of ~/.outrider/spool is full there"
            hint = "make room, `outrider clean --ended` removes what is over, then rerun() the job"
        return FarError(
            f"the job ended without an answer: {reason}" + (f" ({goodbye})" if goodbye else ""),
            far_stderr=errors,
            hop=self._place,
            hint=hint,
        )

    def _completed(self) -> CompletedCommand:
        element = self._lot.elements.get(self._element)
        if element is None or element.end is None or self._known().state in (State.CANCELLED, State.LOST):
            raise self._failure()
        state, reason = self._known()
        own = element.answered or reason.startswith(
            ("exit status", "FAILED")
        )  # else the scheduler has ended it
        if not element.end.isdigit() or (state is State.FAILED and not own):
            raise self._failure()
        assert self._lot.record is not None
        live = self._updated()
        status = int(element.end)
        times = (element.ended or 0.0) - (element.begun or 0.0)
        return CompletedCommand(
            self._lot.record.command,
            128 - status if status > 128 else status,
            live.output(1, wire.STDOUT),
            live.output(1, wire.STDERR),
            times,
            FarEnd(self._place, "", 0, (0, 0, 0), ""),
        )

    def _command_of(self, words: Callable[[list[str]], list[str] | None], done: str) -> None:
        """Run the scheduler's words for it."""
        if not self.id:
            raise RouteError(f"the job is {self._known().state} and cannot be {done}", hop=self._place)
        argv = words(self._lot.ids(None if self.index is None else [self._element]))
        if argv is None:
            raise RouteError(
                f"jobs of {self._scheduler.name} cannot be {done}",
                hop=self._place,
                hint="they start at once: cancel() and submit it again later",
            )
        told = self._watcher.ask("run", argv)
        if told["status"] != 0:
            said = (told["stderr"] or told["stdout"]).strip()
            raise RouteError(
                f"the job cannot be {done}: {said}",
                hop=self._place,
                hint="only a job that still waits can be held",
                argv=argv,
                stderr=said,
                returncode=told["status"],
            )
        self._lot.asked_at = -1e9
