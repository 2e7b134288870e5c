"""`--trace FILE` of the verbs that open a route, and OUTRIDER_TRACE."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

KEY = "outrider.trace"


def _given(ctx: click.Context, _: click.Parameter, file: str | None) -> None:
    if file is not None:
        ctx.meta[KEY] = file


option = click.option(
    "--trace",
    metavar="FILE",
    callback=_given,
    expose_value=False,
    help="Write where the time went: .json for Perfetto, .svg, .txt; - shows it on stderr.",
)


@contextmanager
def as_asked(ctx: click.Context) -> Iterator[None]:
    """Trace the block if that is asked for, and write or show the trace however the block ends."""
    file = ctx.meta.get(KEY)
    if file is None:
        yield
        return
    from outrider.errors import ConfigError
    from outrider.traces.trace import check_suffix, trace

    if file != "-":
        try:
            check_suffix(file)
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except (ConfigError, OSError) as error:
            raise click.UsageError(f"--trace: {error}") from None
    with trace() as found:
        try:
            yield
        finally:
            found.stop()
            _tell(found, file)


def _tell(found: Any, file: str) -> None:
    try:
        if file != "-":
            found.save(file)
            return
        sys.stdout.flush()
        click.echo("\n" + shown(found).rstrip("\n"), err=True)
    except OSError as error:  # what was done is done, and its exit code counts
        click.echo(f"outrider: the trace could not be written: {error}", err=True)


def shown(found: Any, stream: Any = None, **more: Any) -> str:
    """Its text, as wide as the terminal is, at most 120 letters, in letters that the stream can write."""
    import shutil

    stream = stream or sys.stderr
    width = min(shutil.get_terminal_size().columns, 120) if stream.isatty() else 80
    try:
        "█▏µ".encode(stream.encoding or "ascii")
        plain = False
    except UnicodeEncodeError:
        plain = True
    text: str = found.text(width, plain, **more)
    return text
