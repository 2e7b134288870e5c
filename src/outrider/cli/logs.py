"""`outrider logs`: what a job prints."""

from __future__ import annotations

import click

from outrider.cli import common, job_words
from outrider.cli.run import Output


@common.verb(epilog=job_words.JOB)
@click.option("-f", "--follow", is_flag=True, help="Go on as it comes, until the job is over.")
@click.option("--raw", is_flag=True, help="On a terminal, let its control sequences (colours) through.")
@job_words.key
def verb(key: str, follow: bool, raw: bool) -> None:
    """Print what JOB has printed: stdout on stdout, stderr on stderr. Of an array, of all items, one after the other.

    Ctrl-C ends the watching, not the job.
    """
    output = Output(raw)
    for job in job_words.jobs_of(job_words.found(key)):
        if follow:
            for name, piece in job.follow():
                output(name, piece)
        else:
            for name, text in (("stdout", job.stdout()), ("stderr", job.stderr())):
                output(name, text)
