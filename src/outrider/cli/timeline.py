"""`outrider timeline`: when the jobs that were submitted here were queued, and when they ran."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from outrider.cli import common, traced

if TYPE_CHECKING:
    from outrider.batch.store import Row, Store
    from outrider.batch.timelines import Timeline


@common.verb()
@click.option("--svg", metavar="FILE", help="Write a picture; - is stdout.")
@click.option("--chrome", metavar="FILE", help="Write a trace for Perfetto or chrome://tracing; - is stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each job.")
@click.option(
    "--limit", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Show so many lines."
)
@click.option(
    "--since", default="1d", show_default=True, metavar="TIME", help="Jobs not older than this; without KEY."
)
@click.option("--tag", metavar="TAG", help="Only jobs that have this tag; without KEY.")
@click.argument("keys", nargs=-1, metavar="[KEY]…")
def verb(
    keys: tuple[str, ...],
    svg: str | None,
    chrome: str | None,
    as_json: bool,
    limit: int,
    since: str,
    tag: str | None,
) -> None:
    """Show when jobs were queued, and when they ran.

    KEY is a job's key, its beginning, or its name; an array is all its jobs. Without KEY: those that this
    account has submitted since yesterday. Submit hosts are asked about jobs that are not known to be over.
    """
    from outrider.batch.remembered import lives_of
    from outrider.batch.store import Store
    from outrider.batch.timelines import Timeline

    store = Store()
    rows = _rows(store, keys, since, tag)
    if not rows:
        common.say(f"no jobs since {since}: --since 7d looks further back")
    lives, troubles = lives_of(rows, store)
    for trouble in troubles:
        common.say(f"outrider: {trouble}; its jobs are shown as they were known last")
    made = Timeline(lives)
    if svg is not None:
        _write(svg, made.svg())
    if chrome is not None:
        _write(chrome, json.dumps(made.chrome()))
    if as_json:
        _print(made)
    elif svg is None and chrome is None and rows:
        click.echo(traced.shown(made, sys.stdout, limit=limit), nl=False)


def _rows(store: Store, keys: tuple[str, ...], since: str, tag: str | None) -> list[Row]:
    if keys:
        return list({row.key: row for row in map(store.get, keys)}.values())
    from outrider.hops.sizes import duration

    return store.rows(tag=tag, since=time.time() - duration(since, hop="--since", key="since"))


def _write(file: str, text: str) -> None:
    try:
        with click.open_file(file, "w", encoding="utf-8", errors="replace") as out:
            out.write(text)
    except OSError as error:
        raise click.FileError(file, error.strerror) from None


def _print(made: Timeline) -> None:
    for one in made.lives:
        spans = [{"phase": phase, "start": start, "end": end} for phase, start, end in one.spans]
        common.print_json({"name": one.name, "array": one.group, "state": one.state, "spans": spans})
