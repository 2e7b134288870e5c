"""`outrider check`: how far a route gets."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from outrider.cli import common, traced

if TYPE_CHECKING:
    from outrider.checking import HopReport


@common.verb()
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long one hop may take to be passed.",
)
@click.option("--json", "json_", is_flag=True, help="One JSON object a hop, as it is known.")
@traced.option
@click.argument("route", type=common.ROUTE)
def verb(route: str, timeout: float | None, json_: bool) -> None:
    """Walk ROUTE hop by hop, and show what is found after each, what is missing, and what took how long.

    Stops at the first hop that cannot be passed, says why and what to do, and leaves with 1. A scheduler hop
    gets a short job for itself and for each hop behind it. At the end stands where the time of the last
    opening went.
    """
    from outrider.checking import Check

    found = Check(common.route_of(route, open_timeout=timeout))
    reached = False
    for report in found.reports():
        reached = report.reached
        if json_:
            common.print_json(dataclasses.asdict(report))
        else:
            show(report)
        sys.stdout.flush()
    if not json_:
        click.echo("\n" + traced.shown(found.opening, sys.stdout).rstrip("\n"))
    raise SystemExit(0 if reached else 1)


def show(report: HopReport) -> None:
    """One hop, for the eye."""
    from outrider.traces.views.rows import human

    mark = common.styled("✓", fg="green") if report.reached else common.styled("✗", fg="red")
    hop = common.styled(report.hop, bold=True)
    if not report.reached:
        click.echo(f"{mark} {report.number} {hop}  not reached, after {report.opened_in:.2f} s")
        if report.blamed:
            click.echo(f"    at: {report.blamed}")
        for line in report.error.splitlines():
            click.echo(f"    {line}")
    else:
        latency = 1000 * (report.latency or 0)
        click.echo(
            f"{mark} {report.number} {hop}  {report.user}@{report.host}, Python {report.python}, "
            f"opened in {report.opened_in:.2f} s, latency {latency:.1f} ms"
        )
    if report.phases:
        click.echo("    " + ", ".join(f"{phase.name} {human(phase.seconds)}" for phase in report.phases))
    if report.reached:
        _found(report)
    if report.hint:
        click.echo(f"    {common.styled('hint:', fg='yellow')} {report.hint}")


def _found(report: HopReport) -> None:
    from outrider.near.request import printable
    from outrider.traces.views.rows import size

    about = [] if report.tmp_free is None else [f"{size(report.tmp_free)} free in {printable(report.tmp)}"]
    if report.scheduler:
        about.append(printable(report.scheduler))
    if about:
        click.echo("    " + "; ".join(about))
    if report.sandbox:
        click.echo(f"    sandbox: {printable('; '.join(report.sandbox))}")
    if report.missing:
        click.echo(f"    missing there: {printable(', '.join(report.missing))}")
    if report.noise:
        click.echo(f"    prints at login: {_shortened(report.noise)}")


def _shortened(noise: str) -> str:
    from outrider.near.request import printable

    first = printable(noise.splitlines()[0])
    return first if len(first) <= 70 else first[:69] + "…"
