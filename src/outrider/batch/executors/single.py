"""An executor's calls as jobs, one each: submitted in the background, looked after until they are over, and cleaned up.

What waits to be submitted goes together, as an array: a loop over `submit` is no storm on the scheduler.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

from outrider.batch.executors.crew import CallFuture, Crew, Item
from outrider.batch.executors.hands import Hands
from outrider.batch.job import BatchJob
from outrider.batch.states import State
from outrider.batch.submitting import check
from outrider.batch.watching import OUTAGE
from outrider.errors import OutriderError, Unserializable, VersionMismatch
from outrider.near.hub import hub

if TYPE_CHECKING:
    from outrider.batch.batch import Batch

T = TypeVar("T")
MOST = 500
"""Jobs of one array: Slurm takes 1,001 unless a site says otherwise."""
READERS = 8
"""Threads that read what jobs have answered."""
ENDING = 30.0
"""Seconds that the end of an executor waits for cancelled jobs to end, so that their files can be removed."""


PAUSE, TRIES = 2.0, 5
"""Seconds until the submit host is asked again when that failed, and how often an answer is fetched."""


class JobFuture(CallFuture[T]):
    """The future of a call that is a job of its own.

    It runs, as `concurrent.futures` sees it, from when its job was seen to run: until then `cancel()` cancels the job too,
    be it in the queue. After that `cancel()` is False; `future.job.cancel()` ends what runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._job: BatchJob | None = None
        self._together: Together | None = None
        self._submitted = threading.Event()
        self.add_done_callback(_wake)

    @property
    def job(self) -> BatchJob:
        """The job. Waits until it was submitted; raises what kept it from that: CancelledError if it was cancelled."""
        self._submitted.wait()
        if self._job is None:
            raise self.exception() or CancelledError()
        return self._job

    def given(self, job: BatchJob, together: Together) -> None:
        """It was submitted."""
        with self._gate:
            self._job, self._together = job, together
            self._submitted.set()
            cancelled = self.cancelled()
        if cancelled:
            together.give_up()

    def cancel(self) -> bool:
        """Cancel the call unless it was seen to run: then False. Does not wait for its job's end."""
        with self._gate:
            before = self.cancelled()
            if not super().cancel():
                return False
            together = self._together
        if together is not None and not before:
            together.give_up()
        return True


def _wake(future: Any) -> None:
    future._submitted.set()


class JobCrew(Crew):
    """Submits each call as a job."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch.route.label())
        self.batch = batch
        self.readers = Hands(READERS, "outrider-read")
        self.cleaners = Hands(1, "outrider-clean")
        self._submitters = Hands(1, "outrider-submit")
        self._queue: deque[Item] = deque()
        self._submitting = 0
        self._open: set[Together] = set()
        self._cancelling = 0
        self._alone = False

    def new_future(self) -> CallFuture[Any]:
        return JobFuture()

    def begin(self, item: Item) -> None:
        check(item.fn)
        self._queue.append(item)
        self._submitters.do(self._submit)

    def ended(self) -> bool:
        return not (self.under_way or self._unsubmitted() or self._open)

    def _unsubmitted(self) -> bool:
        return bool(self._queue or self._submitting)

    def leave(self) -> None:
        self._alone = True

    def wait_for_end(self) -> None:
        self._alone = False
        self.changed.wait_for(lambda: not (self.under_way or self._unsubmitted()))
        self.changed.wait_for(self.ended, ENDING)

    def at_exit(self) -> None:
        """Who has left the executor leaves its jobs, too, once they are submitted: these outlive the program."""
        with self.changed:
            self.changed.wait_for(self._can_be_left if self._alone else lambda: not self.under_way)
            if not self._alone:
                self.changed.wait_for(self.ended, ENDING)

    def _can_be_left(self) -> bool:
        return not (self._unsubmitted() or self._cancelling)

    def cancel(self, together: Together) -> None:
        """Cancel those jobs of these that nobody waits for, in the background."""
        with self.changed:
            self._cancelling += 1
        self.cleaners.do(self._cancel, together)

    def _cancel(self, together: Together) -> None:
        try:
            with suppress(OutriderError, OSError):
                together.cancel()
        finally:
            with self.changed:
                self._cancelling -= 1
                self.changed.notify_all()

    def opened(self, together: Together, is_open: bool) -> None:
        """Jobs are looked after from now on, or not any more."""
        with self.changed:
            (self._open.add if is_open else self._open.discard)(together)
            self.changed.notify_all()
            self._left()

    # --- in the submitting thread -----------------------------------------------------------------------------------

    def _submit(self) -> None:
        with self.changed:
            items = self._taken()
            self._submitting += 1
        try:
            self._try(items)
        finally:
            with self.changed:
                self._submitting -= 1
                self.changed.notify_all()
                self._left()

    def _taken(self) -> list[Item]:
        """The next calls that can go together: of the same function, and as many to a job."""
        taken: list[Item] = []
        while self._queue and len(taken) < MOST * self._queue[0].chunk:
            if taken and not _alike(self._queue[0], taken[0]):
                break
            item = self._queue.popleft()
            if not item.future.cancelled():
                taken.append(item)
        if self._queue:
            self._submitters.do(self._submit)
        return taken

    def _try(self, items: list[Item]) -> None:
        if not items:
            return
        try:
            self._send(items)
        except (Unserializable, VersionMismatch) as error:  # it is the fault of one of them
            if len(items) == 1:
                items.pop().future.settle(None, error)
            while items:
                self._try([items.pop(0)])
        except BaseException as error:
            while items:
                items.pop().future.settle(None, error)

    def _send(self, items: list[Item]) -> None:
        if len(items) == 1:
            jobs: Sequence[BatchJob] = [self.batch.submit(items[0].fn, *items[0].args, **items[0].kwargs)]
        else:
            calls = [(item.fn, item.args, item.kwargs) for item in items]
            jobs = self.batch.map_calls(calls, chunk=items[0].chunk)
        together = Together(self, [(item.future, job) for item, job in zip(items, jobs, strict=True)])
        together.follow()


def _alike(one: Item, other: Item) -> bool:
    """Whether two calls can be of one array. A method is another object each time that it is looked up."""
    same = one.fn is other.fn or (type(one.fn) is type(other.fn) is MethodType and one.fn == other.fn)
    return same and one.chunk == other.chunk


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OutriderError) and error.transient


class Together:
    """Jobs that were submitted together, and the futures that wait for them."""

    def __init__(self, crew: JobCrew, jobs: Sequence[tuple[CallFuture[Any], BatchJob]]) -> None:
        self._crew = crew
        self._jobs = dict(enumerate(jobs))
        self._since = time.monotonic()
        self._reading = 0
        self._look_due = self._cancel_due = self._closed = False
        self._lot, self._watcher = jobs[0][1]._lot, jobs[0][1]._watcher
        crew.opened(self, True)
        for future, job in jobs:
            assert isinstance(future, JobFuture)
            future.given(job, self)

    def follow(self) -> None:
        """Have the futures settled as the jobs end. A submit host that cannot be reached just now is tried again."""
        try:
            self._watcher.watch(self._lot)
        except BaseException as error:
            if _may_pass(error) and time.monotonic() - self._since < OUTAGE:
                hub().later(PAUSE, lambda: self._crew.readers.do(self.follow))
            else:
                self._fail(error)
            return
        with self._lot.changed:
            self._lot.callbacks.append(self._news)
            self._news()

    def _news(self) -> None:
        """In the watcher's thread, which waits for nobody: something is known of a job."""
        if not self._look_due:
            self._look_due = True
            self._crew.readers.do(self._look)

    def _look(self) -> None:
        """Which jobs run, and which are over: of these, the answer is read."""
        with self._lot.changed:
            self._look_due = False
            trouble, self._lot.trouble = self._lot.trouble, None
            states = [(number, future, job._known().state) for number, (future, job) in self._jobs.items()]
            over = [self._jobs.pop(number) for number, _, state in states if state.final]
            self._reading += len(over)
        for _, future, state in states:
            if state is State.RUNNING:
                future.begin()
        for future, job in over:
            self._crew.readers.do(self._read, future, job)
        if trouble is not None:
            self._fail(trouble)
        self._end()

    def _read(self, future: CallFuture[Any], job: BatchJob) -> None:
        try:
            with self._crew.at_work():
                self._settle(future, job)
        finally:
            with self._lot.changed:
                self._reading -= 1
            self._end()
            del self, future, job

    @staticmethod
    def _settle(future: CallFuture[Any], job: BatchJob) -> None:
        tries = TRIES
        try:
            while not future.done():
                try:
                    future.settle(job.result(), None)
                except BaseException as error:
                    tries -= 1
                    its_own = job._call in job._live().answers or job._known().state is State.LOST
                    if not tries or its_own or not _may_pass(error):
                        future.settle(None, error)
                if not future.done():
                    time.sleep(PAUSE)
        finally:  # an error's traceback has this frame, which would keep them in a circle
            del future, job

    def _fail(self, error: BaseException) -> None:
        """Nothing more can be learned of them. They may go on: their files stay."""
        with self._lot.changed:
            jobs, self._jobs = list(self._jobs.values()), {}
            self._close()
        self._crew.opened(self, False)
        while jobs:
            jobs.pop()[0].settle(None, error)

    def _end(self) -> None:
        """When all are over and have been read, their files are of no more use."""
        with self._lot.changed:
            if self._jobs or self._reading or self._closed:
                return
            self._close()
        self._crew.cleaners.do(self._clean)

    def _close(self) -> None:
        """They need not be looked after any more."""
        self._closed = True
        if self._news in self._lot.callbacks:
            self._lot.callbacks.remove(self._news)
            self._watcher.unwatch(self._lot)

    def _clean(self) -> None:
        with suppress(OutriderError, OSError):
            self._watcher.clean(self._lot)
        self._crew.opened(self, False)

    def give_up(self) -> None:
        """Nobody waits for one of them any more: it is cancelled, in the background and together with others."""
        with self._lot.changed:
            due, self._cancel_due = self._cancel_due, True
        if not due:
            self._crew.cancel(self)

    def cancel(self) -> None:
        """Cancel what was given up. Calls that share a job with one that is still wanted go on."""
        with self._lot.changed:
            self._cancel_due = False
        self._watcher.refresh(self._lot)
        with self._lot.changed:
            wanted = {job._element for future, job in self._jobs.values() if not future.cancelled()}
            unwanted = {job._element for future, job in self._jobs.values() if future.cancelled()} - wanted
        chosen = sorted(unwanted) if wanted else None
        ids = self._lot.ids(chosen)
        if unwanted and ids:
            argv = self._watcher.scheduler.cancel(ids)
            self._watcher.ask("cancel", {"key": self._lot.key, "indices": chosen, "argv": argv})
