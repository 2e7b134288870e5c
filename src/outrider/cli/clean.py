"""`outrider clean`: what is kept of jobs is removed."""

from __future__ import annotations

import time

import click

from outrider.cli import common, job_words


@common.verb(epilog=job_words.JOB)
@click.option("--ended", is_flag=True, help="All that are over.")
@click.option(
    "--older",
    metavar="AGE",
    callback=job_words.age,
    help="All that are over and older: 7d, 12h.",
)
@click.option(
    "--forget",
    is_flag=True,
    help="Also where the submit host cannot be reached: the note here goes.",
)
@click.argument("keys", metavar="[JOB…]", nargs=-1, type=job_words.KEY)
def verb(keys: tuple[str, ...], ended: bool, older: float | None, forget: bool) -> None:
    """Remove what is kept of jobs, at the submit host and here. A job that is not over must be cancelled first."""
    from outrider.batch.opening import job_of
    from outrider.batch.store import Store
    from outrider.errors import OutriderError

    if not keys and not ended and older is None:
        raise click.UsageError(
            "which jobs? Name them (`outrider ps` shows them), or give --ended for all that are over, or --older 7d"
        )
    store = Store()
    named = {row.key: row for row in map(store.get, keys)}
    chosen = list(named.values())
    if ended or older is not None:
        before = time.time() - (older or 0)
        chosen += [row for row in store.rows() if row.made <= before and row.key not in named]
    removed = left = 0
    for row in chosen:
        try:
            counts, _ = job_words.standings_of(row, ask=True)
            if any(counts.get(name) for name in ("pending", "held", "running")):
                left += 1
                if row.key in named:
                    common.say(f"outrider: {row.key} is not over: cancel it first")
                continue
            job_of(row).clean()
        except OutriderError as error:
            if not forget:
                left += 1
                common.say(f"outrider: {row.key}: {error.message}")
                continue
            store.forget(row.key)
        removed += 1
    click.echo(f"{removed} removed" + (f", {left} left" if left else ""))
    raise SystemExit(1 if left and keys else 0)
