"""`outrider shell`: an interactive shell at the end of a route, or part of the way."""

from __future__ import annotations

import os

import click

from outrider.cli import common, traced


@common.verb()
@click.option("--at", "hops", type=click.IntRange(0), metavar="N", help="Stop after N hops.")
@traced.option
@click.argument("route", type=common.ROUTE)
def verb(route: str, hops: int | None) -> None:
    """Open a shell at the end of ROUTE, on your terminal.

    It is the login shell of the user there, or sh. Leave it as any shell; should it hang, press Ctrl-] three
    times.
    """
    from outrider.near.terminal import shell

    whole = common.route_of(route)
    if hops is not None and hops > len(whole):
        raise click.UsageError(f"--at {hops}: the route has {len(whole)} hops")
    if not os.isatty(0):
        raise click.UsageError(f"a shell needs a terminal; for a script: outrider run '{route}' -- sh -s")
    part = whole if hops is None else whole.prefix(hops)
    with part.open() as far:
        common.say(f"{far.far.user} on {far.far.host}, by {part.label()}")
        completed = shell(far)
    status = completed.returncode
    raise SystemExit(status if status >= 0 else 128 - status)
