"""`outrider result`: what came of a job."""

from __future__ import annotations

import sys
from typing import Any

import click

from outrider.cli import common, job_words


@common.verb(epilog=job_words.JOB)
@click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer; the job goes on."
)
@click.option(
    "--retry",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Of an array: submit an item again, up to N times, that was ended by no fault of its own (a node that failed).",
)
@click.option("--json", "json_", is_flag=True, help="Report state, value and output as JSON.")
@job_words.key
def verb(key: str, timeout: float | None, retry: int, json_: bool) -> None:
    """Wait for JOB and print its value; of a command its output, and leave with its exit code.

    Of an array each item's value is printed as a line of JSON, in order. Ctrl-C ends the waiting, not the job.
    """
    job = job_words.found(key)
    array = _retried(job, retry) if retry else None
    failed: Exception | None = None
    status = 0
    for one in job_words.jobs_of(job):
        if array is not None:
            array._settle(one, timeout)
        try:
            value = one.result(timeout)
        except Exception as error:
            if not common.raised_there(error):
                raise
            failed = failed or error
            value = error
        status = _tell(one, value, json_) or status
    if failed is not None:
        common.call_failed(failed)
    raise SystemExit(status)


def _retried(job: Any, retry: int) -> Any:
    """The array, whose items are tried again so often."""
    from outrider.batch import JobArray

    if not isinstance(job, JobArray):
        raise click.UsageError("--retry is for an array; `outrider rerun JOB` submits one job once more")
    job.retry = retry
    return job


def _tell(job: Any, value: Any, json_: bool) -> int:
    """Print one result; the exit code that it comes to."""
    from outrider.results import CompletedCommand

    done = isinstance(value, CompletedCommand)
    status: int = (128 - value.returncode if value.returncode < 0 else value.returncode) if done else 0
    if json_:
        told = {"returncode": value.returncode} if done else {"value": common.jsonable(value)}
        if isinstance(value, Exception):
            told = {"error": common.told_of_call(value)}
        printed = {name: getattr(job, name)().decode(errors="replace") for name in ("stdout", "stderr")}
        common.print_json({**job_words.report(job), **told, **printed})
    elif done:
        for stream, text in ((sys.stdout, value.stdout), (sys.stderr, value.stderr)):
            stream.flush()
            stream.buffer.write(text)
            stream.flush()
    elif isinstance(value, Exception):
        if job.index is not None:  # the lines of an array are its items, in order
            common.print_json(None)
    else:
        common.print_json(value)
    return status
