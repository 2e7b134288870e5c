"""An executor's calls as jobs, one each: submitted in the background, looked after until they are over, and cleaned up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from outrider.batch.crew import CallFuture, Crew, Item
from outrider.batch.hands import Hands
from outrider.batch.job import BatchJob
from outrider.batch.states import State
from outrider.batch.submitting import submit
from outrider.chain import Chain
from outrider.errors import OutriderError
from outrider.options import Options

T = TypeVar("T")
SUBMITTING, FOLLOWING = 4, 8
"""Threads that submit jobs, and that wait for them."""
PAUSES = 0.5, 30.0
"""Seconds before a submit host that did not answer is asked again: at first, and at the most."""
ENDING = 30.0
"""Seconds in which a job that was cancelled has ended, before its files are removed."""

Told = Callable[[Any, BaseException | None], None]


class JobFuture(CallFuture[T]):
    """The future of a call that is a job of its own.

    It runs, as `concurrent.futures` sees it, from when its job was seen to run: until then `cancel()` cancels the job too,
    be it in the queue. After that `cancel()` is False; `future.job.cancel()` ends what runs.
    """

    def __init__(self, crew: JobCrew) -> None:
        super().__init__()
        self._crew = crew
        self._job: BatchJob | None = None
        self._submitted = threading.Event()
        self.add_done_callback(_wake)

    @property
    def job(self) -> BatchJob:
        """The job. Waits until it was submitted; raises what kept it from that: CancelledError if it was cancelled."""
        self._submitted.wait()
        if self._job is None:
            raise self.exception() or CancelledError()
        return self._job

    def given(self, job: BatchJob) -> None:
        """It was submitted."""
        with self._gate:
            self._job = job
            self._submitted.set()

    def cancel(self) -> bool:
        """Cancel the call unless it was seen to run: then False. Does not wait for its job's end."""
        with self._gate:
            job = self._job
            if self.cancelled():
                return True
            if (job is not None and _seen_running(job)) or not super().cancel():
                return False
        if job is not None:
            self._crew.give_up(job)
        return True

    def running(self) -> bool:
        """True if its job was seen to run, and is not known to be over."""
        return super().running() or (not self.done() and self._job is not None and _seen_running(self._job))


def _wake(future: Any) -> None:
    future._submitted.set()


class JobCrew(Crew):
    """Submits each call as a job."""

    def __init__(self, chain: Chain, options: Options) -> None:
        super().__init__(chain.label())
        self._chain = chain
        self._options = options
        self._submitters = Hands(SUBMITTING, "outrider-submit")
        self._followers = Hands(FOLLOWING, "outrider-follow")
        self._cleaners = Hands(1, "outrider-clean")
        self._unsubmitted = 0
        self._chores = 0
        self._alone = False

    def new_future(self) -> CallFuture[Any]:
        return JobFuture(self)

    def begin(self, item: Item) -> None:
        self._submitters.do(self._submit, item)
        self._unsubmitted += 1

    def ended(self) -> bool:
        return not (self.under_way or self._unsubmitted or self._chores)

    def leave(self) -> None:
        self._alone = True

    def join(self) -> None:
        self._alone = False
        super().join()

    def at_exit(self) -> None:
        """Who has left the executor leaves its jobs, too, once they are submitted: these outlive the program."""
        with self.changed:
            self.changed.wait_for(lambda: not self._unsubmitted if self._alone else self.ended())

    # --- in the threads -------------------------------------------------------------------------------------------

    def _submit(self, item: Item) -> None:
        future, fn, args, kwargs = item
        assert isinstance(future, JobFuture)
        try:
            if not future.cancelled():
                job = submit(self._chain, self._options, fn, args, kwargs)
                future.given(job)
                if future.cancelled():
                    self.give_up(job)
                else:
                    self._chore(1)
                    follow(self._followers, job, partial(self._over, future, job))
        except BaseException as error:
            future.settle(None, error)
        finally:
            with self.changed:
                self._unsubmitted -= 1
                self.changed.notify_all()
                self._left()
            del self, item, future, fn, args, kwargs

    def _over(self, future: JobFuture[Any], job: BatchJob, value: Any, error: BaseException | None) -> None:
        """A job has ended: its files are of no more use once its future has what is in them."""
        future.settle(value, error)
        self._cleaners.do(self._clean, job, False)

    def give_up(self, job: BatchJob) -> None:
        """Cancel a job that nobody waits for, and clean up after it; in the background."""
        self._chore(1)
        self._cleaners.do(self._clean, job, True)

    def _clean(self, job: BatchJob, cancel: bool) -> None:
        with suppress(Exception):
            if cancel:
                job.cancel()
                job.wait(ENDING)
            job.clean()
        self._chore(-1)

    def _chore(self, more: int) -> None:
        with self.changed:
            self._chores += more
            self.changed.notify_all()
            self._left()


def _seen_running(job: BatchJob) -> bool:
    """Whether it runs or has run, by what was last heard; nobody is asked."""
    return job._standing.state not in (State.PENDING, State.HELD)


def follow(hands: Hands, job: BatchJob, told: Told) -> None:
    """Have `told(value, error)` called once the job is over."""
    hands.do(_wait, job, told)


def _wait(job: BatchJob, told: Told) -> None:
    """A submit host that cannot be reached for a while is no fault of the job, which goes on."""
    pause, longest = PAUSES
    try:
        while True:
            try:
                told(job.result(), None)
                return
            except BaseException as error:
                if not (isinstance(error, OutriderError) and error.transient) or job._standing.state.final:
                    told(None, error)
                    return
            time.sleep(pause)
            pause = min(2 * pause, longest)
    finally:  # an error's traceback has this frame, which would keep its future in a circle
        del job, told
