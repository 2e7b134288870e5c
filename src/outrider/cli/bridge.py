"""`outrider bridge`: a container's way out to its host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from outrider.cli import common

EXEC_EXAMPLE = """\b
outrider bridge exec --dir ~/.bridge --preset slurm --deny 'sbatch:--uid*' --image flow.sif -- snakemake
"""
SERVE_EXAMPLE = """\b
outrider bridge serve --dir ~/.bridge --preset slurm
outrider bridge serve --dir ~/.bridge --allow squeue,scontrol --only scontrol:show --deny 'squeue:--start'
"""
_RULES = ("allow", "preset", "only", "deny", "env", "no_stdin", "path")


def _rules(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, metavar, text in reversed(
        (
            ("--allow", "NAME[=PATH],...", "Commands that may be run; nothing else is."),
            ("--preset", "NAME", "slurm-read, slurm, flux or pbs: their commands, variables and paths."),
            (
                "--only",
                "NAME:WORD",
                "Of NAME, only where the first word that is no option matches: scontrol:show.",
            ),
            ("--deny", "NAME:WORD", "Never NAME with a word that matches this pattern: 'sbatch:--uid*'."),
            ("--env", "PATTERNS", "Variables that a client may hand over, such as SLURM_*,TZ."),
            ("--no-stdin", "NAMES", "Commands that read no stdin, so that a client keeps its own."),
            (
                "--path",
                "NAME:OPTION",
                "The value of this option is a path, translated by the container's binds.",
            ),
        )
    ):
        function = click.option(name, metavar=metavar, multiple=True, help=text)(function)
    return function


def _words(given: dict[str, Any]) -> list[str]:
    return [
        word for name in _RULES for value in given[name] for word in (f"--{name.replace('_', '-')}", value)
    ]


@click.group()
def verb() -> None:
    """Let code inside a container run commands on its host: few, named, and written down."""


@verb.command("serve", cls=common.Verb, epilog=SERVE_EXAMPLE)
@click.option(
    "--dir", "folder", required=True, metavar="FOLDER", help="A private folder, shown to the container."
)
@click.option(
    "--carrier",
    type=click.Choice(["auto", "socket", "fifo", "files"]),
    default="auto",
    show_default=True,
    help="auto: the socket, and FIFOs beside it (plain files where FOLDER is on a network file system).",
)
@_rules
@click.option(
    "--jobs", type=click.IntRange(1, 99999), default=64, show_default=True, help="At most so many at once."
)
@click.option(
    "--grace",
    type=click.IntRange(0, 99999),
    default=5,
    show_default=True,
    help="Seconds between HUP and KILL.",
)
@click.option(
    "--audit", metavar="FILE", help="Where each request is noted (FOLDER.audit.jsonl); none: nowhere."
)
@click.option("--any-user", is_flag=True, help="Take requests of other user ids, too.")
def serve(
    folder: str, carrier: str, jobs: int, grace: int, audit: str | None, any_user: bool, **rules: Any
) -> None:
    """Serve commands of this host in FOLDER until interrupted. Nothing is allowed that is not named.

    Whoever may write in FOLDER runs what is allowed, as you. Allowing sbatch, srun, docker or a shell lets a
    container do all that you can do.
    """
    from outrider.bridge.host.main import serve as run

    sys.exit(
        run(
            os.path.abspath(folder),  # noqa: PTH100 # resolve() would follow links
            _words(rules),
            carrier=carrier,
            jobs=jobs,
            grace=grace,
            audit=audit,
            any_user=any_user,
        )
    )


@verb.command("exec", cls=common.Verb, epilog=EXEC_EXAMPLE)
@click.option(
    "--dir",
    "folder",
    required=True,
    metavar="FOLDER",
    help="The folder that is served, /run/outrider-bridge in the container.",
)
@click.option(
    "--engine", help="apptainer, singularity, podman, docker or bwrap (the first that is installed)."
)
@click.option("--image", help="The image; for bwrap a root folder, or none for this machine's own.")
@click.option("--bind", multiple=True, metavar="SOURCE[:INSIDE[:ro]]", help="Show a folder inside, too.")
@click.option("--option", "extra", multiple=True, metavar="WORD", help="One more word for the engine.")
@_rules
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    folder: str,
    engine: str | None,
    image: str | None,
    bind: tuple[str, ...],
    extra: tuple[str, ...],
    argv: tuple[str, ...],
    **rules: Any,
) -> None:
    """Run ARGV in a container that has the bridge, and the host's commands on its PATH; leave with its exit code.

    ARGV starts in the folder in which you are: that one is shown inside under its own path, and each --bind.
    With --allow or --preset, FOLDER is served for as long as ARGV runs; else `bridge serve` must serve it.
    """
    from outrider.bridge import containers

    folder = os.path.abspath(folder)  # noqa: PTH100
    if not _words(rules) and not os.path.isdir(folder):  # noqa: PTH112
        raise click.UsageError(
            f"nothing is served in {folder}: add --preset or --allow to serve it meanwhile, or start `outrider bridge serve`"
        )
    terminal = os.isatty(0) and os.isatty(1)
    words = containers.command(
        containers.find_engine(engine),
        image,
        argv,
        folder=folder,
        cwd=str(Path.cwd()),
        binds=bind,
        extra=extra,
        terminal=terminal,
    )
    server = _serve_beside(folder, _words(rules)) if _words(rules) else None
    try:
        code = _contained(words)
    finally:
        if server is not None:
            server.terminate()
            server.wait()
    sys.exit(code if code >= 0 else 128 - code)


def _contained(words: list[str]) -> int:
    """The engine's exit code. Ctrl-C is the container's, which decides what comes of it; other ends are passed on."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *numbers)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        engine = subprocess.Popen(
            words, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None
        )
        for number in numbers:
            signal.signal(number, lambda number, _: engine.send_signal(number))
        return engine.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_beside(folder: str, rules: list[str]) -> subprocess.Popen[bytes]:
    """A server for the time of one container; leaves as it does if it cannot start."""
    server = subprocess.Popen(
        [sys.executable, "-m", "outrider.bridge.host", "--dir", folder, *rules],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert server.stdout is not None
    greeting = server.stdout.readline()
    if not greeting:
        sys.exit(server.wait())
    sys.stderr.write(os.fsdecode(greeting))
    return server


@verb.command("status", cls=common.Verb)
@click.option(
    "--dir",
    "folder",
    metavar="FOLDER",
    help="The bridge's folder (without it $OUTRIDER_BRIDGE, else /run/outrider-bridge).",
)
@click.option("--json", "json_", is_flag=True, help="Report as JSON.")
def status(folder: str | None, json_: bool) -> None:
    """Tell whether a bridge is served in FOLDER, how, and for which commands. Leaves with 1 if none answers."""
    from outrider import bridge
    from outrider.bridge import containers

    found = containers.status(folder or bridge.folder())
    alive = found.get("alive")
    alive = alive if isinstance(alive, dict) else {}
    if json_:
        common.print_json(found)
    elif not found:
        click.echo(f"no bridge in {folder or bridge.folder()}")
    else:
        for way, answers in alive.items():
            click.echo(f"{way}: {'answers' if answers else 'no answer'}")
        click.echo("serves: " + " ".join(map(str, found["serves"])))  # type: ignore[call-overload]
    sys.exit(0 if any(alive.values()) else 1)


@verb.command("script", cls=common.Verb)
def script() -> None:
    """Print the host's end as one bash script, for a host on which nothing may be installed."""
    from outrider import bridge

    sys.stdout.write(bridge.script())
