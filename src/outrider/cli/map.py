"""`outrider map`: a Python function over many items, at the end of a route."""

from __future__ import annotations

import sys

import click

from outrider.cli import common, traced


@common.verb()
@click.option(
    "--at-once",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    metavar="N",
    help="How many calls may be under way together.",
)
@click.option("--text", is_flag=True, help="Take an item that is not JSON as a plain text.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End a call after so many seconds.",
)
@traced.option
@click.argument("route", type=common.ROUTE)
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("items", nargs=-1, type=click.UNPROCESSED)
def verb(
    route: str, function: str, items: tuple[str, ...], at_once: int, text: bool, timeout: float | None
) -> None:
    """Call MODULE:FUNCTION once for each item at the end of ROUTE, and print the results in the items' order.

    Items are JSON values: ITEMS, or else one a line on stdin. Each result is one line of JSON, printed as
    soon as it and all before it are there. The first call that fails ends it.
    """
    called = common.function(function)
    values = (common.value_of(item, text) for item in (items or common.lines_in()))
    results = sys.stdout
    with common.open_for_calls(common.route_of(route, timeout=timeout)) as far:
        try:
            for value in far.map(called, values, at_once=at_once):
                click.echo(common.as_json(value), file=results)
        except Exception as error:
            if common.raised_there(error):
                common.call_failed(error)
            raise
