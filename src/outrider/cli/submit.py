"""`outrider submit`: a function or a command as a job that outlives this program."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from outrider.cli import common, job_words

EXAMPLES = """\b
outrider submit --name train 'ssh:login | slurm(time=1h)' train:main --kw epochs=3
outrider submit small -- ./simulate --steps 1000
seq 100 | outrider submit --items --limit 10 small mymodule:simulate
"""


@common.verb(epilog=EXAMPLES)
@click.option("--name", default="", help="A name for it, by which it is found again.")
@click.option("--tag", "tags", multiple=True, help="A word to find it by with `ps`; may be repeated.")
@click.option(
    "--after", multiple=True, type=job_words.KEY, metavar="JOB", help="A job that has to succeed first."
)
@click.option("--hold", is_flag=True, help="Let it wait until `outrider release`.")
@click.option("--kw", multiple=True, metavar="NAME=VALUE", help="A keyword argument of the function.")
@click.option("--text", is_flag=True, help="Take an argument that is not JSON as a plain text.")
@click.option(
    "--items", is_flag=True, help="Call the function once for each ARG, or line of stdin: one array."
)
@click.option("--chunk", type=click.IntRange(1), default=1, help="With --items: so many in each job.")
@click.option("--limit", type=click.IntRange(1), help="With --items: not more jobs at once.")
@click.option(
    "--retry",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="With --items --wait: submit an item again, up to N times, that was ended by no fault of its own.",
)
@click.option(
    "--warn",
    type=click.IntRange(1),
    default=60,
    metavar="SECONDS",
    help="Before the time limit: when a function is asked for its checkpoint.",
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Set a variable for it; may be repeated.")
@click.option("--cwd", metavar="FOLDER", help="The folder there to run in.")
@click.option(
    "--spec", type=click.File(), metavar="FILE", help="A command as JSON, in the words of PSI/J; - is stdin."
)
@click.option("--wait", is_flag=True, help="Wait for it, and print its result.")
@click.option("--json", "json_", is_flag=True, help="Report key and id as JSON.")
@click.argument("route", type=common.ROUTE)
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[MODULE:FUNCTION ARGS… | -- ARGV…]")
@click.pass_context
def verb(
    context: click.Context,
    /,
    route: str,
    args: tuple[str, ...],
    name: str,
    tags: tuple[str, ...],
    after: tuple[str, ...],
    hold: bool,
    retry: int,
    warn: int,
    env: tuple[str, ...],
    cwd: str | None,
    spec: Any,
    wait: bool,
    json_: bool,
    **words: Any,
) -> None:
    """Submit MODULE:FUNCTION with ARGS, or behind -- the command ARGV, as a job at the end of ROUTE.

    It prints the job's key and comes back at once. `outrider ps` shows your jobs; `logs -f`, `wait`, `result` and
    `cancel` look after one. ARGS are JSON values, as for `outrider call`. What is piped in is the stdin of a command.
    """
    if retry and not (wait and words["items"]):
        raise click.UsageError(
            "--retry holds while somebody waits for an array: add --items --wait, or later `outrider result --retry N`",
            context,
        )
    chosen = common.route_of(route, cwd=cwd, env=common.pairs(env, "--env") or None)
    first = [job for words_ in after for job in job_words.jobs_of(job_words.found(words_))[:1]]
    batch = chosen.batch(name=name, tags=tags, after=_whole(chosen, first), hold=hold, warn=warn)
    if spec is not None:
        job: Any = batch.submit_spec(_json(spec))
    elif not args:
        raise click.UsageError("what is to be submitted? a MODULE:FUNCTION, or -- and a command", context)
    elif context.meta["behind --"] == args:
        stdin = b"" if sys.stdin is None or os.isatty(0) else sys.stdin.buffer.read()
        job = batch.submit_command(args, stdin=stdin)
    else:
        job = _call(batch, args, **words)
    if wait:
        context.invoke(_result(), key=job.key, timeout=None, retry=retry, json_=json_)
    elif json_:
        common.print_json(
            {"key": job.key, "id": " ".join(job._lot.base_ids), "name": name, "route": str(chosen)}
        )
    else:
        click.echo(job.key)


def _call(batch: Any, args: tuple[str, ...], **words: Any) -> Any:
    if not words["items"]:
        called, values, keywords = common.call_of(args[0], args[1:], words["kw"], words["text"])
        return batch.submit(called, *values, **keywords)
    called, values, keywords = common.call_of(
        args[0], args[1:] or tuple(common.lines_in()), words["kw"], words["text"]
    )
    calls = [(called, (value,), keywords) for value in values]
    return batch.map_calls(calls, chunk=words["chunk"], limit=words["limit"])


def _whole(route: Any, jobs: list[Any]) -> list[Any]:
    """Of an array all of it, by any of its items."""
    return [route.job(job.key) for job in jobs]


def _json(file: Any) -> Any:
    try:
        return json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} is not JSON: {error}") from None


def _result() -> click.Command:
    from outrider.cli import result

    return result.verb
