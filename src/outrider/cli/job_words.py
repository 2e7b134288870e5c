"""What the verbs for submitted jobs share: keys as words, tables, and how a job is told."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from outrider.cli import common

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from outrider.batch import BatchJob, JobArray
    from outrider.batch.states import Standing
    from outrider.batch.store import Row

F = TypeVar("F", bound=Callable[..., Any])
COLOURS = {"completed": "green", "running": "cyan", "failed": "red", "lost": "red", "cancelled": "yellow"}
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class KeyType(common.TextParameter):
    """A job's key, the beginning of it or its name, with [N] behind it for an item of an array; completes them."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from outrider.batch.store import Store
        from outrider.errors import OutriderError

        try:
            rows = Store().rows()[::-1]
        except OutriderError:
            return []
        words = {row.key: row.name or row.label for row in rows} | {
            row.name: row.label for row in rows if row.name
        }
        return [CompletionItem(word, help=words[word]) for word in words if word.startswith(incomplete)]


KEY = KeyType()
JOB = "A JOB is a key, the beginning of one, or a name (the newest that has it); with [N] behind it, an item of an array."
keys = click.argument("keys", metavar="JOB…", nargs=-1, required=True, type=KEY)
key = click.argument("key", metavar="JOB", type=KEY)


def found(words: str) -> BatchJob | JobArray:
    """The job that somebody means: `KEY`, the beginning of one, a name, or one of these with [N] behind it."""
    from outrider.batch import BatchJob, JobArray
    from outrider.errors import ConfigError

    name, index = item_of(words)
    job = BatchJob.open(name)
    common.Interrupts.place = ""
    if index is None:
        return job
    if not isinstance(job, JobArray) or index >= len(job):
        raise ConfigError(f"{name} has no item {index}", hint="items are counted from 0")
    return job[index]


def item_of(words: str) -> tuple[str, int | None]:
    """`train[3]` as ("train", 3), `train` as ("train", None)."""
    at = re.fullmatch(r"(.+)\[(\d+)\]", words)
    return (at[1], int(at[2])) if at else (words, None)


def jobs_of(job: BatchJob | JobArray) -> Sequence[BatchJob]:
    """One by one."""
    from outrider.batch import BatchJob

    return [job] if isinstance(job, BatchJob) else job


def report(job: BatchJob) -> dict[str, Any]:
    """A job as plain data, with its state as it is now."""
    state, reason = job.standing()
    return {
        "key": job.key,
        "index": job.index,
        "name": "" if job.name == job.key else job.name,
        "id": job.id,
        "state": str(state),
        "reason": reason,
        "times": job.times(),
    }


def counted(standings: Counter[str]) -> str:
    """`3 completed, 1 failed`; one state alone by its word."""
    told = {state: count for state, count in standings.items() if count}
    if sum(told.values()) == 1:
        return next(iter(told))
    return ", ".join(f"{count} {state}" for state, count in told.items())


def coloured(state: str) -> str:
    return common.styled(state, fg=COLOURS.get(state.split()[-1]))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; the last is cut where the terminal ends."""
    from outrider.harmless import printable

    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    room = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 1 << 20
    lines = []
    for number, row in enumerate(rows):
        left = room - 2 * (len(row) - 1) - sum(widths[:-1])
        last = row[-1] if len(row[-1]) <= left or left < 2 else row[-1][: left - 1] + "…"
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        if number:  # the state stands second
            cells[1] = coloured(cells[1].rstrip()) + " " * (widths[1] - len(row[1]))
        lines.append("  ".join([*cells, last]).rstrip())
    return "\n".join(lines)


def ago(when: float) -> str:
    """`3m`: how long since a time in epoch seconds."""
    seconds = max(0, int(time.time() - when))
    for unit in ("w", "d", "h", "m"):
        if seconds >= AGES[unit]:
            return f"{seconds // AGES[unit]}{unit}"
    return f"{seconds}s"


def age(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """`7d` as seconds, for an option."""
    from outrider.errors import ConfigError
    from outrider.hops.sizes import seconds

    if text is None:
        return None
    try:
        return seconds(text, hop="--older")
    except ConfigError as error:
        raise click.BadParameter(error.message) from None


def standings_of(row: Row, ask: bool) -> tuple[Counter[str], str]:
    """How a job's items stand, and a reason or what keeps us from knowing. ask: of those not over, at the submit host."""
    from outrider.batch.opening import job_of
    from outrider.batch.views.timelines import learn
    from outrider.errors import OutriderError

    known: dict[int, Standing] = dict(row.ended)
    trouble = ""
    if ask and not row.over:
        try:
            job = job_of(row)
            learn([job])
            known = {one.index or 0: one._known() for one in jobs_of(job)}
        except OutriderError as error:
            trouble = error.message
    counts = Counter(str(standing.state) for standing in known.values())
    missing = (row.items or 1) - len(known)
    if missing:
        counts["unknown"] += missing
    reasons = [standing.reason for standing in known.values() if standing.reason]
    return counts, trouble or (reasons[0] if reasons else "")
