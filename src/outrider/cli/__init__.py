"""The command line: one file a verb. A verb parses its words, calls the library and prints; no logic.

Verbs are imported when they are asked for, and each imports of the library what it uses when it runs.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

VERBS = (
    "run",
    "call",
    "map",
    "group",
    "submit",
    "ps",
    "timeline",
    "logs",
    "wait",
    "result",
    "cancel",
    "hold",
    "release",
    "rerun",
    "clean",
    "sandbox",
    "shell",
    "debug",
    "cp",
    "check",
    "explain",
    "config",
    "relay",
    "bridge",
    "demo",
    "completion",
)


OTHER_NAMES = {
    "ps": "status list ls lst jobs queue squeue qstat bjobs top",
    "cancel": "kill stop scancel qdel bkill",
    "clean": "rm remove delete del forget",
    "logs": "log tail output stdout cat",
    "submit": "sbatch qsub bsub batch start array",
    "run": "exec srun",
    "cp": "copy scp put get push pull upload download",
    "rerun": "retry resubmit restart requeue",
    "shell": "ssh login sh",
    "check": "doctor test ping",
    "config": "routes",
}
"""What those who come from other programs type first."""


class Verbs(click.Group):
    """Finds a verb in the module of its name, once it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").verb
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`outrider help VERB` is what many type first."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from outrider.hops.nearness import nearest

            same = [verb for verb, names in OTHER_NAMES.items() if args[0] in names.split()]
            hint = f"did you mean {same[0]!r}?" if same else nearest(args[0], list(VERBS))
            hint = hint or f"the verbs are {', '.join(VERBS)}"
            raise click.UsageError(f"there is no verb {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        click.echo(f"outrider {metadata.version('outrider')}")
    except metadata.PackageNotFoundError:
        click.echo("outrider (not installed: run from its sources)")
    ctx.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A ROUTE is hops joined with |, such as 'ssh:alice@login | sudo:grader | docker:pybox:1', or the "
    "name of a configured one. `outrider check ROUTE` is the first thing to run when something fails.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and leave.",
)
def outrider() -> None:
    """Run commands and Python functions through any stack of hops: ssh, sudo, Slurm, containers and more.

    Nothing needs to be installed at the far end but Python 3.8 or newer.
    """


def main() -> None:
    """The program `outrider`."""
    if sys.argv[1:2] == ["relay"] and len(sys.argv) == 3 and not sys.argv[2].startswith("-"):
        # A relay stands between two programs that wait for each other: it takes the short way.
        from outrider.cli.relay import become_route

        become_route(sys.argv[2])
    _keep_standard_streams()
    try:
        outrider(prog_name="outrider")
    except SystemExit as done:
        leave(done.code)


def _keep_standard_streams() -> None:
    """What we were started without leads nowhere; else the next file that is opened would be taken for it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def leave(code: str | int | None) -> NoReturn:
    """End this process with all that must be done before, but without Python's tidying of its own memory: it takes as long
    as a call over a warm connection.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()  # sessions are closed there
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code or 0)
