"""`outrider cp`: files and folders to and from the end of a route."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from outrider.cli import common, traced


@common.verb()
@click.option("--json", "json_", is_flag=True, help="Report how much travelled as JSON.")
@traced.option
@click.argument("source")
@click.argument("dest")
def verb(source: str, dest: str, json_: bool) -> None:
    """Copy a file or folder: one of SOURCE and DEST is ROUTE::PATH, the other a path here.

    Modes, times and links are kept; what is there already and unchanged is skipped, so an interrupted copy
    goes on where it stopped. DEST is the name of the copy; a DEST that ends in / (or is a folder here) is
    where it goes into. A path here that holds :: is written with ./ before it.
    """
    from outrider.places import split_place, within

    (from_route, from_path), (to_route, to_path) = split_place(source), split_place(dest)
    if (from_route is None) == (to_route is None):
        raise click.UsageError("one of SOURCE and DEST is ROUTE::PATH, and the other a path here")
    to_path = within(to_path, from_path, here=to_route is None)
    started = time.monotonic()
    route = common.route_of(str(from_route if to_route is None else to_route))
    with route.open() as far, _progress() as progress:
        count = Count(progress)
        if to_route is None:
            files = far.get(from_path, to_path, progress=count)
        else:
            files = far.put(from_path, to_path, progress=count)
    seconds = time.monotonic() - started
    if json_:
        common.print_json({"files": files, "bytes": count.done, "seconds": seconds, "to": to_path})
    else:
        common.say(f"{files} file{'' if files == 1 else 's'} travelled, {count.done} bytes, {seconds:.2f} s")


class Count:
    """Remembers how far it got, and hands it on."""

    def __init__(self, shown: Callable[[int, int], None] | None) -> None:
        self.done = 0
        self.shown = shown

    def __call__(self, done: int, total: int) -> None:
        self.done = done
        if self.shown is not None:
            self.shown(done, total)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
