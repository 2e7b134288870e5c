"""`outrider explain`: what a route really runs, at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from outrider.cli import common

if TYPE_CHECKING:
    from outrider.chain import Chain, Step
    from outrider.command import Command


@common.verb()
@click.option("--json", "json_", is_flag=True, help="As a JSON list of steps.")
@click.option("--full", is_flag=True, help="Show Outrider's own scripts whole, to copy and try by hand.")
@click.argument("route", type=common.ROUTE)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def verb(route: str, argv: tuple[str, ...], json_: bool, full: bool) -> None:
    """Show the command that is started at every step of ROUTE so that ARGV (default: true) runs at its end.

    Nothing is run. The last line is what arrives. Where "…" stands, --full and --json show all of it.
    """
    from outrider.command import Command

    found = common.route_of(route)
    steps = found.explain(Command(argv) if argv else _usual(found))
    if json_:
        common.print_json([_report(step) for step in steps])
        return
    for step in steps:
        place, _, line = (str(step) if full else step.brief()).partition(": ")
        click.echo(f"{common.styled(place, bold=True)}: {line}")


def _report(step: Step) -> dict[str, Any]:
    return {"place": step.place, "hop": step.hop.name if step.hop else None, "argv": list(step.argv)}


def _usual(route: Chain) -> Command:
    """`true`, or for a relay, which carries nothing else, what starts the far end."""
    from outrider.command import Command
    from outrider.far.loader import LOADER

    relays = any(hop.name == "relay" for hop in route.hops)
    return Command(["python3", "-c", LOADER] if relays else ["true"])
