"""From a key to a job: the store knows the route of what was submitted here."""

from __future__ import annotations

from outrider.batch.array import JobArray
from outrider.batch.job import BatchJob
from outrider.batch.store import Row, Store
from outrider.chain import Chain
from outrider.errors import ConfigError
from outrider.options import Options


def opened(which: str) -> BatchJob | JobArray:
    """The job of that key, the beginning of it, or that name."""
    return job_of(Store().get(which))


def job_of(row: Row) -> BatchJob | JobArray:
    """The job of a row of the store. ConfigError if its route has no text."""
    if row.route is None:
        raise ConfigError(
            f"the route of {row.key} cannot be noted down, as it has a password by a function",
            hint="open it by the route itself: route.job(key)",
        )
    chain, options = Chain.parse(row.route), Options(**row.options)
    return JobArray(chain, options, row.key) if row.items else BatchJob(chain, options, row.key)
