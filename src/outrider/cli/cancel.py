"""`outrider cancel`: what is under way ends."""

from __future__ import annotations

from outrider.cli import common, job_words


@common.verb(epilog=job_words.JOB)
@job_words.keys
def verb(keys: tuple[str, ...]) -> None:
    """End each JOB, or the items KEY[N] of an array. What has been answered by then stays."""
    for key in keys:
        job = job_words.found(key)
        job.cancel()
