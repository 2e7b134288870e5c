"""JobArray: one call for each of many items, submitted together as an array of the scheduler."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, overload

from outrider.batch.job import BatchJob
from outrider.batch.splitting import split
from outrider.batch.states import State
from outrider.batch.submitting import submit_again
from outrider.batch.watching import watcher_of
from outrider.chain import Chain
from outrider.errors import Cancelled, FarError, Lost, OutriderError, RouteError
from outrider.options import Options
from outrider.results import ItemResult

TRANSIENT = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "node failed", "preempt")
"""Words in a scheduler's reason that say that trying again can help."""


class JobArray(Sequence[BatchJob]):
    """The jobs of `map(..., array=True)`, one for each item. Iterate over `values()`, `arriving()` or the jobs themselves.

    key: under which another process finds it, with `Route.jobs(key)`. Picklable.
    """

    def __init__(self, chain: Chain, options: Options, key: str, retry: int = 0) -> None:
        self.key = key
        self.retry = retry
        self._chain, self._options = chain, options
        self._watcher = watcher_of(split(chain), options)
        self._lot = self._watcher.lot(key, options.answer_limit)
        self._count: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return JobArray, (self._chain, self._options, self.key, self.retry)

    def __repr__(self) -> str:
        return f"<JobArray {self.key} of {len(self)} on {self._chain.label()}>"

    def _repr_html_(self) -> str:
        from outrider.batch.views.html import array_html

        counts = self.progress()
        failures = [(index, job._known()) for index, job in enumerate(self)]

        record = self._lot.record
        return array_html(
            key=self.key,
            counts={state.value: count for state, count in counts.items()},
            name=record.name if record is not None else "",
            place=self._chain.label(),
            failures=[
                (index, reason) for index, (state, reason) in failures if state in (State.FAILED, State.LOST)
            ],
        )

    def __len__(self) -> int:
        if self._count is None:
            if self._lot.record is None:
                self._watcher.refresh(self._lot)
            if self._lot.record is None:
                raise Lost(f"there is no array {self.key}", hop=self._chain.label())
            if not self._lot.record.items:
                raise RouteError(
                    f"{self.key} is a single job", hop=self._chain.label(), hint="open it with job()"
                )
            self._count = self._lot.record.items
        return self._count

    @overload
    def __getitem__(self, index: int) -> BatchJob: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BatchJob]: ...
    def __getitem__(self, index: int | slice) -> BatchJob | Sequence[BatchJob]:
        if isinstance(index, slice):
            return [self._job(number) for number in range(len(self))[index]]
        return self._job(range(len(self))[index])

    def _job(self, index: int) -> BatchJob:
        return BatchJob(self._chain, self._options, self.key, index)

    # --- results ------------------------------------------------------------------------------------------------

    def values(self, timeout: float | None = None) -> Iterator[Any]:
        """The values in the order of the items; an item's error is raised at its turn. timeout: seconds for each."""
        for job in self:
            self._settle(job, timeout)
            yield job.result(timeout)

    def _settle(self, job: BatchJob, timeout: float | None) -> None:
        """Wait for it, and try it again as often as that may be."""
        for _ in range(self.retry):
            if not job.wait(timeout) or not _transient(job):
                return
            self.resubmit([job])

    def arriving(self) -> Iterator[ItemResult]:
        """What came of the items, as they end. Failures are among them, apart from the values: see `ItemResult.error`."""
        news: queue.SimpleQueue[None] = queue.SimpleQueue()
        left: dict[int, list[BatchJob]] = {}  # the jobs of each element: they end together
        for job in self:
            left.setdefault(job._element, []).append(job)
        tries = Counter[int]()
        lot = self._lot
        with self._watcher.watching(lot):
            with lot.changed:
                lot.callbacks.append(lambda: news.put(None))
                told = lot.callbacks[-1]
            try:
                while left:
                    ended = [element for element in left if lot.standing(element).state.final]
                    over = [job for element in ended for job in left.pop(element)]
                    again = [job for job in over if tries[job.index or 0] < self.retry and _transient(job)]
                    repeated = {job.index for job in again}
                    items: Iterator[ItemResult] = map(
                        _item, [job for job in over if job.index not in repeated]
                    )
                    if again:
                        items = iter(list(items))  # their answers are forgotten with what is submitted again
                        tries.update(job.index or 0 for job in again)
                        self.resubmit(again)
                        for job in again:
                            left.setdefault(job._element, []).append(job)
                    yield from items
                    if left and not ended:
                        news.get()
                        while not news.empty():  # what is looked at next holds for all of it
                            news.get()
                        lot.raise_trouble()
            finally:
                with lot.changed:
                    lot.callbacks.remove(told)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are over; False if they are not within `timeout` seconds."""
        len(self)
        return self._watcher.wait(self._lot, lambda: self._lot.final, timeout)

    def progress(self) -> Counter[State]:
        """How many items are in which state."""
        if not self._lot.final:
            self._watcher.refresh(self._lot)
        return Counter(job._known().state for job in self)

    def failures(self) -> dict[int, BaseException]:
        """{item: what it raised, or why it ended} of the items that are over and have no value."""
        self.progress()
        over = [job for job in self if job._known().state.final and job._known().state is not State.COMPLETED]
        found = {job.index or 0: job.exception(0) for job in over}
        return {index: error for index, error in found.items() if error is not None}

    # --- what can be done with them -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """End those that are not over."""
        self._watcher.refresh(self._lot)
        ids = self._lot.ids()
        if ids and not self._lot.final:
            asked = {"key": self.key, "indices": None, "argv": self._watcher.scheduler.cancel(ids)}
            self._watcher.ask("cancel", asked)

    def resubmit(self, jobs: Sequence[BatchJob] | None = None) -> int:
        """Submit once more what has no value: the elements that failed, were cancelled or lost; their number.

        jobs: only these; RouteError if one of them is not over. An element whose calls share a job (`chunk`) is made again
        as a whole.
        """
        for job in jobs or ():
            if not job.done():
                raise RouteError(
                    f"item {job.index} is {job._known().state}: it cannot be submitted again yet",
                    hop=self._chain.label(),
                    hint="wait() for its end, or cancel() it first",
                )
        if jobs is None:
            self.progress()
            jobs = [
                job for job in self if job._known().state.final and job._known().state is not State.COMPLETED
            ]
        indices = sorted({job._element for job in jobs})
        if indices:
            submit_again(self._watcher, self._lot, split(self._chain), indices)
        return len(indices)

    def clean(self) -> None:
        """Remove what is kept of them at the submit host."""
        self._watcher.clean(self._lot)


def _item(job: BatchJob) -> ItemResult:
    index, name = job.index or 0, job.id
    try:
        return ItemResult(index, name, job.result())
    except Exception as error:
        return ItemResult(index, name, error=error)


def _transient(job: BatchJob) -> bool:
    """Whether an item that is over has failed for a reason that is not its own."""
    state, reason = job._known()
    if state in (State.COMPLETED, State.CANCELLED):
        return False
    if state is State.LOST or any(word in reason for word in TRANSIENT):
        return True
    if reason != "it raised":
        return False
    try:
        job.result()
    except (Lost, Cancelled, FarError, OutriderError) as error:
        return error.transient
    except Exception:
        return False
    return False
