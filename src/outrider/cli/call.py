"""`outrider call`: a Python function at the end of a route."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import click

from outrider.cli import common, traced

if TYPE_CHECKING:
    from outrider.results import CompletedCall

PRINTED = object()
"""Stands for a value that has been printed already."""


@common.verb()
@click.option("--kw", multiple=True, metavar="NAME=VALUE", help="A keyword argument; may be repeated.")
@click.option("--text", is_flag=True, help="Take an argument that is not JSON as a plain text.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End it after so many seconds.",
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Set a variable for it; may be repeated.")
@click.option("--cwd", metavar="FOLDER", help="The folder there to run in.")
@click.option("--json", "json_", is_flag=True, help="Report value, output, duration and place as JSON.")
@traced.option
@click.argument("route", type=common.ROUTE)
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def verb(
    route: str,
    function: str,
    args: tuple[str, ...],
    kw: tuple[str, ...],
    text: bool,
    timeout: float | None,
    env: tuple[str, ...],
    cwd: str | None,
    json_: bool,
) -> None:
    """Call MODULE:FUNCTION with ARGS at the end of ROUTE, and print what it returns.

    ARGS are JSON values: 3, '"text"', '[1, 2]', null. The value is printed as JSON, or as Python writes it
    where JSON cannot hold it. What the function prints goes to stderr, labelled with the host. The module is
    looked for here, the current folder included, and travels along. Of a generator each item is printed as it comes.
    """
    results = sys.stdout
    called, values, keywords = common.call_of(function, args, kw, text)
    settings = {"timeout": timeout, "cwd": cwd, "env": common.pairs(env, "--env") or None}
    with common.open_for_calls(common.route_of(route, **settings)) as far:
        try:
            done = far.call_detailed(called, *values, **keywords)
            if type(done.value).__module__ == "outrider.near.generators":
                done = replace(done, value=_items(done.value, None if json_ else results))
        except Exception as error:
            if not common.raised_there(error):
                raise
            if json_:
                common.print_json(_report_failure(error), results)
                results.flush()
            common.call_failed(error)
    if done.value is not PRINTED:
        common.print_json(_report(done) if json_ else done.value)


def _items(items: Iterable[Any], file: TextIO | None) -> Any:
    """All that a generator yields: printed as it comes, one a line, or, without a file, as a list."""
    if file is None:
        return list(items)
    for item in items:
        common.print_json(item, file)
        file.flush()
    return PRINTED


def _report_failure(error: BaseException) -> dict[str, Any]:
    """What the function raised, as plain data: its type's name, what it says, and the far traceback."""
    from outrider.errors import FarError

    notes = "\n".join(getattr(error, "__notes__", []))
    kind = error.kind if isinstance(error, FarError) else type(error).__name__
    message = error.message if isinstance(error, FarError) else str(error)
    traceback = error.traceback if isinstance(error, FarError) else notes
    return {"error": {"type": kind, "message": message, "traceback": traceback}}


def _report(done: CompletedCall) -> dict[str, Any]:
    return {
        "value": common.jsonable(done.value),
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
        "duration": done.duration,
        "host": done.far.host,
        "user": done.far.user,
        "pid": done.far.pid,
        "python": ".".join(map(str, done.far.python)),
    }
