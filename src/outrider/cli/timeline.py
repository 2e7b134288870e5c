"""`outrider timeline`: when the jobs that were submitted here were queued, and when they ran."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from outrider.cli import common, job_words, traced

if TYPE_CHECKING:
    from outrider.batch.store import Row, Store
    from outrider.batch.views.lives import Life
    from outrider.batch.views.timelines import Timeline


@common.verb()
@click.option("--svg", metavar="FILE", help="Write a picture; - is stdout.")
@click.option("--chrome", metavar="FILE", help="Write a trace for Perfetto or chrome://tracing; - is stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each job.")
@click.option(
    "--limit", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Show so many lines."
)
@click.option(
    "--since",
    default="1d",
    show_default=True,
    metavar="TIME",
    callback=job_words.age,
    help="Jobs not older than this; without JOB.",
)
@click.option("--tag", help="Only jobs with this tag; without JOB.")
@click.argument("keys", nargs=-1, metavar="[JOB…]", type=job_words.KEY)
def verb(
    keys: tuple[str, ...],
    svg: str | None,
    chrome: str | None,
    as_json: bool,
    limit: int,
    since: float,
    tag: str | None,
) -> None:
    """Show when jobs were queued, and when they ran.

    An array is all its jobs. Without JOB: those that this account has submitted since yesterday. Submit hosts
    are asked about jobs that are not known to be over.
    """
    from outrider.batch.store import Store
    from outrider.batch.views.remembered import lives_of
    from outrider.batch.views.timelines import Timeline

    store = Store()
    chosen = _chosen(store, keys, since, tag)
    if not chosen:
        common.say("no jobs: --since 7d looks further back")
    found, troubles = lives_of([row for row, _ in chosen], store)
    lives = [one for row, items in chosen for one in _items(row, found[row.key], items)]
    for trouble in troubles:
        common.say(f"outrider: {trouble}; its jobs are shown as they were known last")
    made = Timeline(lives)
    if svg is not None:
        _write(svg, made.svg())
    if chrome is not None:
        _write(chrome, json.dumps(made.chrome()))
    if as_json:
        _print(made)
    elif svg is None and chrome is None and chosen:
        click.echo(traced.shown(made, sys.stdout, limit=limit), nl=False)


def _chosen(
    store: Store, keys: tuple[str, ...], since: float, tag: str | None
) -> list[tuple[Row, set[int | None]]]:
    """Jobs, each once, with the items that are wanted of it; None among them: all."""
    if not keys:
        rows = store.rows(tag=tag, since=time.time() - since)
        return [(row, {None}) for row in rows]
    chosen: dict[str, tuple[Row, set[int | None]]] = {}
    for words in keys:
        name, item = job_words.item_of(words)
        row = store.get(name)
        chosen.setdefault(row.key, (row, set()))[1].add(item)
    return list(chosen.values())


def _items(row: Row, lives: list[Life], items: set[int | None]) -> list[Life]:
    if None in items:
        return lives
    from outrider.errors import ConfigError

    missing = [item for item in items if item is not None and item >= row.items]
    if missing:
        raise ConfigError(f"{row.name or row.key} has no item {missing[0]}", hint="items are counted from 0")
    return [lives[item] for item in sorted(item for item in items if item is not None)]


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
