"""`outrider ps`: the jobs of this account, as they stand now."""

from __future__ import annotations

import functools
import sys
import time
from typing import Any

import click

from outrider.cli import common, job_words

RECENT = 86400.0
"""Seconds for which a job that is over is shown unasked."""


@common.verb()
@click.option(
    "-a", "--all", "everything", is_flag=True, help="Those too that have been over for more than a day."
)
@click.option("-w", "--watch", is_flag=True, help="Show it anew each second, until all are over.")
@click.option("--name", metavar="PATTERN", help="Only names like this: 'train-*'.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--state", help="Only those with an item in this state.")
@click.option("--offline", is_flag=True, help="What is known here; ask nobody.")
@click.option("--json", "json_", is_flag=True, help="A line of JSON for each job.")
def verb(
    everything: bool,
    watch: bool,
    name: str | None,
    tag: str | None,
    state: str | None,
    offline: bool,
    json_: bool,
) -> None:
    """Show what was submitted by this account on this machine, with how it stands now."""
    while True:
        rows = _rows(everything, name, tag, state, ask=not offline)
        if json_:
            for row in rows:
                common.print_json(row)
        else:
            if watch and sys.stdout.isatty():
                click.echo("\x1b[H\x1b[2J", nl=False)
            click.echo(_table(rows) if rows else "no jobs")
        if not watch or all(row["over"] for row in rows):
            return
        sys.stdout.flush()
        time.sleep(1)


def _rows(
    everything: bool, name: str | None, tag: str | None, state: str | None, ask: bool
) -> list[dict[str, Any]]:
    from outrider.batch.store import Store

    found = []
    for row in Store().rows(tag=tag, name=name):
        if row.over and not everything and time.time() - row.made > RECENT:
            continue
        counts, reason = job_words.standings_of(row, ask)
        if state is not None and not counts.get(state):
            continue
        over = not any(counts.get(name) for name in ("pending", "held", "running", "unknown"))
        told = {
            "key": row.key,
            "name": row.name,
            "id": row.id,
            "states": dict(counts),
            "reason": reason,
            "over": over,
        }
        found.append(
            {**told, "made": row.made, "route": row.route, "label": row.label, "tags": list(row.tags)}
        )
    return found


def _table(rows: list[dict[str, Any]]) -> str:
    from collections import Counter

    head = ["JOB", "STATE", "AGE", "NAME", "WHERE", "WHAT"]
    lines = [
        [
            row["key"].removeprefix("outrider-")[:8],
            job_words.counted(Counter(row["states"])),
            job_words.ago(row["made"]),
            row["name"] or "-",
            _where(row["route"]),
            row["label"] + (f"  ({row['reason']})" if row["reason"] else ""),
        ]
        for row in rows
    ]
    return job_words.table([head, *lines])


@functools.cache
def _where(route: str | None) -> str:
    """The route in few words, as messages name it: each hop with its goal, without its options."""
    from outrider.errors import OutriderError
    from outrider.route import Route

    try:
        return "?" if route is None else Route.parse(route).label()
    except OutriderError:  # a hop of a plugin that is gone
        return (route or "")[:40]
