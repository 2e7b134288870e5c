"""`outrider wait`: until jobs are over."""

from __future__ import annotations

import time
from collections import Counter

import click

from outrider.cli import common, job_words


@common.verb(epilog=job_words.JOB)
@click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer; the jobs go on."
)
@click.option("--json", "json_", is_flag=True, help="A line of JSON for each job, and each item of an array.")
@job_words.keys
def verb(keys: tuple[str, ...], timeout: float | None, json_: bool) -> None:
    """Wait until each JOB is over. Leaves with 0 if all have succeeded, 1 if one has not, 124 if the time was up.

    Ctrl-C ends the waiting, not the jobs.
    """
    until = None if timeout is None else time.monotonic() + timeout
    fine = True
    for key in keys:
        found = job_words.found(key)
        left = None if until is None else max(0.0, until - time.monotonic())
        over = found.wait(left)
        jobs = job_words.jobs_of(found)
        counts = Counter(str(job.state if over else job._known().state) for job in jobs)
        if json_:
            for job in jobs:
                common.print_json(job_words.report(job))
        else:
            click.echo(f"{key}: {job_words.counted(counts)}")
        if not over:
            raise SystemExit(124)
        fine = fine and set(counts) == {"completed"}
    raise SystemExit(0 if fine else 1)
