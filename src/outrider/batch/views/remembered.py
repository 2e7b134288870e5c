"""The lives of jobs that were submitted here before: of what is over the store tells, of the others their submit hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from outrider.batch.array import JobArray
from outrider.batch.job import BatchJob
from outrider.batch.opening import job_of
from outrider.batch.store import Row, Store
from outrider.batch.views.lives import UNKNOWN, Life, life
from outrider.batch.views.timelines import jobs_in, learn, life_of
from outrider.errors import Lost, OutriderError


def lives_of(rows: Iterable[Row], store: Store) -> tuple[dict[str, list[Life]], list[str]]:
    """({key: the lives of its items}, what went wrong).

    A submit host that cannot be asked leaves its jobs as they were known last; it is not tried again. Each is asked once.
    """
    rows = list(rows)
    troubles: dict[str, str] = {}
    jobs: dict[str, BatchJob | JobArray] = {}
    asked: set[int] = set()
    for row in rows:
        if not row.over:
            with _noted(troubles, row):
                jobs[row.key] = job_of(row)
    for row in rows:
        if row.key in jobs and _place(row) not in troubles:
            with _noted(troubles, row):
                learn([jobs[row.key]], asked)
    found: dict[str, list[Life]] = {}
    for row in rows:
        own: list[Life] | None = None
        if row.key in jobs and _place(row) not in troubles:
            with _noted(troubles, row):
                own = [_told(job, row) for job in jobs_in(jobs[row.key]) if isinstance(job, BatchJob)]
        found[row.key] = list(_known(row, store)) if own is None else own
    return found, list(troubles.values())


def _told(job: BatchJob, row: Row) -> Life:
    """As its submit host tells; of a job whose folder is gone that knows no more than its state."""
    if job._lot.record is not None:
        return life_of(job)
    return life(row.name or row.key, job._known().state, {"submitted": row.made})


def _place(row: Row) -> str:
    return row.route or row.key


@contextmanager
def _noted(troubles: dict[str, str], row: Row) -> Iterator[None]:
    try:
        yield
    except Lost as error:  # of this one only
        troubles[row.key] = f"{row.key}: {error.message}"
    except OutriderError as error:
        troubles[_place(row)] = f"{_place(row)} cannot be asked: {error.message}"


def _known(row: Row, store: Store) -> Iterator[Life]:
    """As the store has it."""
    times = store.times(row.key) if row.ended else {}
    name = row.name or row.key
    for item in range(row.items or 1):
        group, own = (name, f"{name}[{item}]") if row.items else ("", name)
        if item in row.ended:
            started, ended = times.get(item, (None, None))
            known = {"submitted": row.made, "started": started, "ended": ended}
            yield life(own, row.ended[item].state, known, group=group)
        else:
            yield Life(own, ((UNKNOWN, row.made, None),), "", group)
