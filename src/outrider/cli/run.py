"""`outrider run`: a command at the end of a route."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import click

from outrider.cli import common, traced
from outrider.far import wire

if TYPE_CHECKING:
    from outrider.results import CompletedCommand
    from outrider.sandboxed import SandboxResult
    from outrider.session import Session


@common.verb()
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal: yours, where you have one.")
@click.option("-n", "--no-input", is_flag=True, help="Give it nothing on stdin.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End it after so many seconds.",
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Set a variable for it; may be repeated.")
@click.option("--cwd", metavar="FOLDER", help="The folder there to run in.")
@click.option("--raw", is_flag=True, help="On a terminal, let its control sequences (colours) through.")
@click.option("--json", "json_", is_flag=True, help="Report status, output and duration as JSON at the end.")
@traced.option
@click.argument("route", type=common.ROUTE)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def verb(
    route: str,
    argv: tuple[str, ...],
    tty: bool,
    no_input: bool,
    timeout: float | None,
    env: tuple[str, ...],
    cwd: str | None,
    raw: bool,
    json_: bool,
) -> None:
    """Run the command ARGV at the end of ROUTE, and leave with its exit code.

    What is piped in is its stdin. Put -- before ARGV, so that its options are not taken for ours. For a line
    with pipes or variables, run a shell: outrider run ROUTE -- sh -c 'LINE'.
    """
    settings = {"env": common.pairs(env, "--env"), "cwd": cwd, "timeout": timeout}
    with common.route_of(route).open() as far:
        completed = _run(far, argv, tty, no_input, Output(raw or tty, quiet=json_), settings)
    if json_:
        common.print_json(_report(completed))
    elif hasattr(completed, "verdict"):
        from outrider.cli.sandbox_words import told

        told(cast("SandboxResult", completed))
    status = completed.returncode
    raise SystemExit(status if status >= 0 else 128 - status)


def _run(
    far: Session,
    argv: tuple[str, ...],
    tty: bool,
    no_input: bool,
    output: Output,
    settings: dict[str, Any],
) -> CompletedCommand:
    from outrider.errors import RouteError

    stdin_is_terminal = os.isatty(0)
    try:
        if tty and stdin_is_terminal and not no_input:
            from outrider.near.terminal import run_on_terminal

            return run_on_terminal(far, argv, **settings)
        stdin = None if no_input or stdin_is_terminal else piped_in()
        return far.run(argv, stdin=stdin, on_output=output, tty=tty, **settings)
    except RouteError as error:
        # Only here does a status mean the command's own program: not found, or not executable.
        code = error.returncode if error.returncode in (126, 127) else error.exit_code
        common.fail(error, str(error), code)


class Output:
    """Puts a command's output on ours as it comes: byte by byte the same, except on a terminal."""

    def __init__(self, raw: bool, quiet: bool = False) -> None:
        self.quiet = quiet
        self._clean: dict[str, Callable[[bytes], bytes]] = {}
        terminals = [name for name, fd in (("stdout", 1), ("stderr", 2)) if not raw and os.isatty(fd)]
        if terminals:
            from outrider.harmless import Harmless

            self._clean = {name: Harmless() for name in terminals}

    def __call__(self, name: str, piece: bytes) -> None:
        if self.quiet:
            return
        clean = self._clean.get(name)
        try:
            wire.write_all(1 if name == "stdout" else 2, [clean(piece) if clean else piece])
        except OSError:
            raise common.OutputGone from None


def piped_in() -> Iterator[bytes]:
    """Our stdin as it comes; past Python's buffers, which no thread may hold when the program ends."""
    while piece := os.read(0, 65536):
        yield piece


def _report(completed: CompletedCommand) -> dict[str, Any]:
    judged = {} if not hasattr(completed, "report") else completed.report()
    return {
        **judged,
        "argv": list(completed.argv),
        "returncode": completed.returncode,
        "signal": completed.signal,
        "stdout": completed.stdout.decode(errors="replace"),
        "stderr": completed.stderr.decode(errors="replace"),
        "duration": completed.duration,
        "host": completed.far.host,
        "user": completed.far.user,
    }
