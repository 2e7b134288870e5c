"""`outrider hold`: jobs that wait are held back."""

from __future__ import annotations

from outrider.cli import common, job_words


@common.verb(epilog=job_words.JOB)
@job_words.keys
def verb(keys: tuple[str, ...]) -> None:
    """Keep each JOB from starting, as long as it waits."""
    for key in keys:
        job = job_words.found(key)
        for one in job_words.jobs_of(job):
            one.hold()
