"""`outrider group`: the same on many routes at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from outrider.cli import common, traced

if TYPE_CHECKING:
    from outrider.cli.many import Shown
    from outrider.groups.group import Group

SECONDS = click.FloatRange(0, min_open=True)
LIMITS = ("at_once", "batch", "pause", "stop_after", "timeout", "total_timeout", "retry")
_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--on",
        "-w",
        "on",
        multiple=True,
        metavar="ROUTE",
        type=common.MEMBERS,
        help="A route, a range of them such as ssh:web[01-20], or a configured group; may be repeated.",
    ),
    click.option(
        "--hosts",
        "file",
        type=click.File(),
        help="A file with one route a line; lines that begin with # do not count.",
    ),
    click.option("--except", "-x", "leaving", multiple=True, metavar="NAME", help="Leave this member out."),
    click.option(
        "--at-once", "-f", type=click.IntRange(1), metavar="N", help="Members at work together: 32."
    ),
    click.option("--batch", metavar="N|N%", help="Go in batches of so many, one after the other."),
    click.option("--pause", type=click.FloatRange(0), metavar="SECONDS", help="Between two batches."),
    click.option(
        "--stop-after", type=click.IntRange(1), metavar="N", help="Start no more after so many failures."
    ),
    click.option("--cancel-rest", is_flag=True, help="Then also cancel those at work."),
    click.option("--timeout", type=SECONDS, metavar="SECONDS", help="For one member, opening included."),
    click.option("--total-timeout", type=SECONDS, metavar="SECONDS", help="For all together."),
    click.option(
        "--retry",
        type=click.IntRange(0),
        metavar="N",
        help="Try a member again after an error that may pass.",
    ),
    click.option("--gather", "-b", is_flag=True, help="Show output at the end, what is alike only once."),
    click.option("--lines", "-l", is_flag=True, help="Show lines as they come, behind the member's name."),
    click.option("--json", "json_", is_flag=True, help="One JSON object a member, as it is done."),
)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all verbs of a group have."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group()
def verb() -> None:
    """Do the same on many routes at once.

    Leaves with 0 only if all went well, else with 1. On a terminal it shows a table while it works; piped, lines
    behind the members' names.
    """


def _command(function: Callable[..., Any]) -> click.Command:
    command: click.Command = verb.command(cls=common.Verb)(traced.option(options(function)))
    return command


@_command
@click.option(
    "--input", "-i", "given", type=click.File("rb"), help="A file, or -, that each gets as its stdin."
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Set a variable for it; may be repeated.")
@click.option("--cwd", metavar="FOLDER", help="The folder there to run in.")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def run(argv: tuple[str, ...], given: Any, env: tuple[str, ...], cwd: str | None, **settings: Any) -> None:
    """Run the command ARGV at every member: outrider group run --on ssh:web[01-20] -- uptime

    It gets nothing on stdin, unless --input says what.
    """
    stdin = given.read() if given else None
    variables = common.pairs(env, "--env")
    _each(settings, "run", lambda group: group.run(argv, stdin=stdin, env=variables, cwd=cwd))


@_command
@click.option("--kw", multiple=True, metavar="NAME=VALUE", help="A keyword argument; may be repeated.")
@click.option("--text", is_flag=True, help="Take an argument that is not JSON as a plain text.")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def call(function: str, args: tuple[str, ...], kw: tuple[str, ...], text: bool, **settings: Any) -> None:
    """Call MODULE:FUNCTION with ARGS at every member, and print what each returns.

    Arguments and values are those of `outrider call`. What the function prints goes to stderr.
    """
    called, values, keywords = common.call_of(function, args, kw, text)
    _each(settings, "call", lambda group: group.call(called, *values, **keywords))


@_command
@click.argument("local", type=click.Path(exists=True))
@click.argument("remote")
def put(local: str, remote: str, **settings: Any) -> None:
    """Copy the file or folder LOCAL from here to REMOTE at every member; what is there unchanged is skipped."""
    _each(settings, "put", lambda group: group.put(local, remote))


@_command
@click.argument("remote")
@click.argument("local", type=click.Path())
def get(remote: str, local: str, **settings: Any) -> None:
    """Copy the file or folder REMOTE from every member into a folder of its own, LOCAL/NAME."""
    _each(settings, "get", lambda group: group.get(remote, local))


@verb.command("map", cls=common.Verb)
@traced.option
@click.option("--text", is_flag=True, help="Take an item that is not JSON as a plain text.")
@options
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("items", nargs=-1, type=click.UNPROCESSED)
def map_(function: str, items: tuple[str, ...], text: bool, **settings: Any) -> None:
    """Call MODULE:FUNCTION once for each item, at whichever member is free; results in the items' order.

    Items are JSON values: ITEMS, or else one a line on stdin. The first call that fails ends it.
    """
    called = common.function(function)
    values = (common.value_of(item, text) for item in (items or common.lines_in()))
    group = _group(settings)
    results = sys.stdout
    with redirect_stdout(sys.stderr):
        try:
            for value in group.map(called, values):
                click.echo(common.as_json(value), file=results)
        except Exception as error:
            if common.raised_there(error):
                common.call_failed(error)
            raise


@verb.command("list", cls=common.Verb)
@options
def list_(json_: bool, **settings: Any) -> None:
    """Show the members that --on, --hosts and --except give, with their routes; nothing is opened."""
    for name, route in _group(settings).routes.items():
        if json_:
            common.print_json({"name": name, "route": str(route)})
        else:
            click.echo(name if name == str(route) else f"{name}  {route}")


def _each(settings: dict[str, Any], what: str, start: Callable[[Any], Iterable[Any]]) -> None:
    """Do it at all members, show it in the way that fits, and leave with 0 if all went well."""
    group = _group(settings)
    shown = _shown(settings, group.names, what)
    group = group.options(on_output=shown.on_output, on_stage=shown.on_stage)
    results: Any = start(group.arriving)
    with shown, closing(results):
        for result in results:
            shown.arrived(result)
    raise SystemExit(0 if shown.ok else 1)


def _shown(settings: dict[str, Any], names: list[str], what: str) -> Shown:
    """The way that was asked for, or else that fits: a table on a terminal, lines in a pipe."""
    from outrider.cli import many

    if settings["json_"]:
        return many.AsJson(names, what)
    if settings["lines"] or not (settings["gather"] or sys.stdout.isatty()):
        return many.AsLines(names, what)
    if sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from outrider.cli.live import Live

        return Live(names, what)
    return many.Gathered(names, what)


def _group(settings: dict[str, Any]) -> Group:
    from outrider.groups.group import Group
    from outrider.ranges import fold

    texts = [*settings["on"], *(_lines_of(settings["file"]) if settings["file"] else ())]
    if not texts:
        raise click.UsageError("on which routes? Name them with --on ROUTE, or --hosts FILE")
    limits = {name: settings[name] for name in LIMITS if settings.get(name) is not None}
    if settings.get("cancel_rest"):
        limits["on_stop"] = "cancel"
    group = Group(texts, **limits)
    if settings["leaving"]:
        group = group.without(*settings["leaving"])
    common.Interrupts.place = fold(group.names[:50]) + (" …" if len(group) > 50 else "")
    return group


def _lines_of(file: Iterable[str]) -> Iterator[str]:
    lines = (line.strip() for line in file)
    return (line for line in lines if line and not line.startswith("#"))
