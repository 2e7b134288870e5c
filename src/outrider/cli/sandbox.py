"""`outrider sandbox`: untrusted commands in jails, the images that these may have, and what a machine can hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outrider.cli import common, sandbox_words
from outrider.cli.sandbox_images import images

if TYPE_CHECKING:
    from outrider.sandboxed import SandboxResult

META = "Write the verdict and what it used there, as JSON; then leave with 0."


@click.group()
def verb() -> None:
    """Run untrusted commands: limited, isolated, measured, and judged."""


verb.add_command(images)


@verb.command("run", cls=common.Verb)
@sandbox_words.limits
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Set a variable for it; may be repeated.")
@click.option(
    "--collect",
    multiple=True,
    metavar="INSIDE:HERE",
    help="Bring a file back when all is over; may be repeated.",
)
@click.option("--meta", metavar="FILE", help=META)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    argv: tuple[str, ...],
    route: str | None,
    env: tuple[str, ...],
    collect: tuple[str, ...],
    meta: str | None,
    **asked: Any,
) -> None:
    """Run ARGV in a jail, with our stdin and stdout, and leave with its exit code (128+N after signal N).

    With --meta FILE the exit code is 0 whatever the verdict: FILE tells it, as JSON.
    """
    from outrider.cli.run import Output
    from outrider.sandboxed.result import failed

    places = {inside: Path(here) for inside, here in (_brought(word) for word in collect)}
    for place in places.values():
        sandbox_words.writable(place, "--collect")
    variables = common.pairs(env, "--env")
    file = sandbox_words.Meta(meta, failed)
    with file.in_any_case():
        with sandbox_words.opened(route, asked) as box:
            done = box.run(
                argv, stdin=_stdin(), env=variables, on_output=Output(raw=False), collect=list(places)
            )
        sandbox_words.bring(dict(done.outputs), places)
        file.tell(done.report())
    sandbox_words.told(done)
    raise SystemExit(sandbox_words.status_of(done) if meta is None else 0)


@verb.command("interact", cls=common.Verb)
@sandbox_words.limits
@sandbox_words.others_limits("referee")
@click.option(
    "--linger",
    type=click.FloatRange(0),
    default=1.0,
    metavar="SECONDS",
    help="How long the contestant may go on after the referee's end.",
)
@click.option("--meta", metavar="FILE", help="Write both verdicts there, as JSON; then leave with 0.")
@click.argument(
    "argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CONTESTANT... -- REFEREE..."
)
def interact(argv: tuple[str, ...], route: str | None, linger: float, meta: str | None, **asked: Any) -> None:
    """Run two programs that talk: outrider sandbox interact … -- CONTESTANT… -- REFEREE…

    What each prints on stdout, the other reads on stdin. The limits are those of both; those that begin with --referee-
    are the referee's alone. What they print on stderr comes on ours. Leaves with the referee's exit code; if that is 0 and
    the contestant's verdict is not OK, with 1.
    """
    from outrider.sandboxed import interact as play
    from outrider.sandboxed.pairs import broken

    contestant, referee = _both(argv)
    own = {name: asked.pop(name) for name in list(asked) if name.startswith("referee_")}
    file = sandbox_words.Meta(meta, broken)
    with file.in_any_case():
        with sandbox_words.opened(route, asked) as box:
            judge = box.limited(
                **sandbox_words.jail(
                    {name.removeprefix("referee_"): value for name, value in own.items()}, here=route is None
                )
            )
            done = play(
                box.program(contestant), judge.program(referee), linger=linger, on_output=_on_stderr()
            )
        file.tell(done.report())
    sandbox_words.told(done.contestant, "contestant: ")
    sandbox_words.told(done.referee, "referee: ")
    if meta is None:
        raise SystemExit(sandbox_words.status_of(done.referee) or (0 if done.ok else 1))


@verb.command("check", cls=common.Verb)
@sandbox_words.limits
@click.option("--json", "json_", is_flag=True, help="As one JSON object.")
def check(route: str | None, json_: bool, **asked: Any) -> None:
    """Say which engine would run a job with these limits, what it could not guarantee, and what the others can.

    Leaves with 1 if none would.
    """
    from outrider.errors import Refused
    from outrider.sandboxed.engines import engines

    done: SandboxResult | None = None
    refused = ""
    with sandbox_words.opened(route, asked) as box:
        try:
            done = box.limited(wall=asked.get("wall") or "10s").run(["/bin/sh", "-c", ":"])
        except Refused as error:
            refused = error.message
        found = engines(box)
    if json_:
        report: dict[str, Any] = {
            "engine": done.engine if done else None,
            "missing": list(done.missing) if done else [],
            "reasons": dict(done.reasons) if done else {},
            "sources": dict(done.sources) if done else {},
            "refused": refused,
            "engines": [each.report() for each in found],
        }
        common.print_json(report)
    else:
        _show(done, refused)
        for each in found:
            click.echo(f"  {each.name:9} {each.words}")
    raise SystemExit(0 if done else 1)


def _show(done: SandboxResult | None, refused: str) -> None:
    if done is None:
        click.echo(f"none: {refused}")
    else:
        click.echo(f"engine: {done.engine}")
        click.echo("missing: " + ("" if done.missing else "nothing"))
        for name in done.missing:
            click.echo(f"  {name}: {done.reasons.get(name, '')}")
        click.echo("figures:")
        for figure, source in sorted(done.sources.items()):
            click.echo(f"  {figure}: by {source}")
    click.echo("engines:")


def _brought(word: str) -> tuple[str, str]:
    inside, sign, here = word.partition(":")
    if not sign:
        here = Path(word).name
    if not inside or not here:
        raise click.UsageError(f"--collect takes INSIDE:HERE, not {word!r}")
    return inside, here


def _both(argv: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if "--" not in argv or argv[0] == "--" or argv[-1] == "--":
        raise click.UsageError("two commands are needed: -- CONTESTANT… -- REFEREE…")
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _stdin() -> Iterator[bytes] | None:
    """Ours as it comes; nothing if it is a terminal that another job has just now."""
    from outrider.cli.run import piped_in

    if os.isatty(0) and os.tcgetpgrp(0) != os.getpgrp():
        return None
    return piped_in()


def _on_stderr() -> Any:
    from outrider.cli.run import Output

    both = {name: Output(raw=False) for name in ("contestant", "referee")}
    return lambda name, piece: both[name]("stderr", piece)
