"""`outrider rerun`: a job once more."""

from __future__ import annotations

from outrider.cli import common, job_words


@common.verb(epilog=job_words.JOB)
@job_words.keys
def verb(keys: tuple[str, ...]) -> None:
    """Submit each JOB once more that is over, under the same key; of an array, the items without a value."""
    from outrider.batch import BatchJob

    for key in keys:
        job = job_words.found(key)
        if isinstance(job, BatchJob):
            job.rerun()
        else:
            job.resubmit()
