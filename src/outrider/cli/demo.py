"""`outrider demo`: a function called through the tallest stack that this machine offers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from outrider.cli import common, traced

if TYPE_CHECKING:
    from outrider.demo import Timing
    from outrider.route import Route
    from outrider.session import Session


@common.verb()
@click.option("--route", "text", type=common.ROUTE, help="Use this route instead of what the machine offers.")
@traced.option
def verb(text: str | None) -> None:
    """Build a stack of hops from what this machine really offers, and call a Python function through it.

    Nothing is installed, and no file of yours is touched. Every line shows what was measured just now.
    """
    from outrider.demo import sample_module

    route = _surveyed() if text is None else common.route_of(text)
    common.Interrupts.place = route.label()
    _heading(f"Hop by hop: {route.label()}")
    if not _walk(route):
        raise SystemExit(1)
    with sample_module() as (module, path):
        click.echo(f"\nThe functions called are in {path}; nothing is installed anywhere, they travel along.")
        with route.open() as far:
            _call(far, module)
            _exception(far, module)
            _state(far, module)
        _timing(route, module)


def _surveyed() -> Route:
    from outrider.demo import survey
    from outrider.route import Route

    _heading("What this machine offers")
    route = Route()
    for found in survey():
        taken = found.hop is not None
        mark = common.styled("✓", fg="green") if taken else common.styled("-", dim=True)
        click.echo(f"{mark} {found.name:8}{'' if taken else 'not used: '}{found.told}")
        sys.stdout.flush()
        if found.hop is not None:
            route = route | found.hop
    return route


def _walk(route: Route) -> bool:
    from outrider.checking import check
    from outrider.cli.check import show

    reached = False
    for report in check(route):
        show(report)
        sys.stdout.flush()
        reached = report.reached
    return reached


def _call(far: Session, module: Any) -> None:
    _heading('far.call(hello, "you", steps=3), its output live')
    done = far.call_detailed(module.hello, "you", steps=3)
    click.echo(f"value: {common.as_json(done.value)}")
    click.echo(f"took {done.duration:.3f} s there, in process {done.pid} on {done.host}")


def _exception(far: Session, module: Any) -> None:
    _heading("far.call(share, 10, 0), which raises there")
    try:
        far.call(module.share, 10, 0)
    except Exception as error:  # as its own type where the far end is trusted, else as FarError
        click.echo(f"caught here: {type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", []):
            click.echo("    " + note.replace("\n", "\n    "))


def _state(far: Session, module: Any) -> None:
    _heading('far.invoke(counter, "visit"), which changes the object there')
    counter = module.Counter()
    click.echo(f"before: {vars(counter)}")
    value = far.invoke(counter, "visit")
    click.echo(f"after:  {vars(counter)}, returned {value!r}")


def _timing(route: Route, module: Any) -> None:
    from outrider.demo import WARM_CALLS, measure

    timing: Timing = measure(route, module.add, 2, 3)
    _heading("Timings, just measured")
    click.echo(f"open the whole stack      {1000 * timing.open:9.2f} ms")
    click.echo(f"first call                {1000 * timing.first_call:9.2f} ms")
    click.echo(f"warm call, median of {WARM_CALLS}  {1000 * timing.warm_call:9.3f} ms")


def _heading(text: str) -> None:
    click.echo("\n" + common.styled(text, bold=True))
