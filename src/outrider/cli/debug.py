"""`outrider debug`: a function at the end of a route under Python's debugger, on this terminal."""

from __future__ import annotations

import click

from outrider.cli import common, traced


@common.verb()
@click.option("--enable", is_flag=True, help="Allow it this once; [debug] allow = true allows it for good.")
@click.option("--kw", multiple=True, metavar="NAME=VALUE", help="A keyword argument; may be repeated.")
@click.option("--text", is_flag=True, help="Take an argument that is not JSON as a plain text.")
@traced.option
@click.argument("route", type=common.ROUTE)
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def verb(
    route: str, function: str, args: tuple[str, ...], enable: bool, kw: tuple[str, ...], text: bool
) -> None:
    """Call MODULE:FUNCTION with ARGS at the end of ROUTE under pdb; the debugger talks to your terminal.

    It stops at the function's first line: n steps, c continues, p shows a value, q leaves. If the function
    raises, the debugger stands where it did. Refused unless allowed on this side.
    """
    called, values, keywords = common.call_of(function, args, kw, text)
    with common.route_of(route, debug=enable or None).open() as far:
        try:
            value = far.debug(called, *values, **keywords)
        except Exception as error:
            if common.raised_there(error):
                common.call_failed(error)
            raise
    common.print_json(value)
