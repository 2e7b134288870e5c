"""`outrider sandbox`: untrusted commands in jails, the images that these may have, and what a machine can hold."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outrider.cli import common

if TYPE_CHECKING:
    from outrider.sandboxed import Sandbox, SandboxResult

LIMITS = (
    ("--time", "AMOUNT", "Time of the processor: 2s, 500ms."),
    ("--wall", "AMOUNT", "Time that passes; without, three times --time and two seconds."),
    ("--memory", "SIZE", "Memory of all its processes together: 128M."),
    ("--output", "SIZE", "Bytes on its stdout and stderr together."),
    ("--disk", "SIZE", "Bytes that it may write into files."),
    ("--stack", "SIZE", "Stack of each process."),
)


def limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a jail."""
    for name, what, text in reversed(LIMITS):
        command = click.option(name, metavar=what, help=text)(command)
    for name, text in (
        ("--processes", "Processes and threads at once."),
        ("--inodes", "Files that it may make."),
        ("--open-files", "Descriptors of each process."),
    ):
        command = click.option(name, type=click.IntRange(1), metavar="N", help=text)(command)
    more = (
        click.option("--network", is_flag=True, help="Let it reach the network."),
        click.option("--engine", metavar="NAME", help="native, isolate, bwrap, sio2jail, proot or none."),
        click.option(
            "--allow-missing", multiple=True, metavar="NAME", help="A guarantee that you can do without."
        ),
        click.option(
            "--strict", is_flag=True, help="Refuse where memory or time would be limited less exactly."
        ),
        click.option("--fresh", is_flag=True, help="A jail in which nothing ever ran."),
        click.option("--rootfs", metavar="DIR", help="A folder there to be its whole file system."),
        click.option("--image", metavar="NAME", help="A sandbox image to be its whole file system."),
        click.option(
            "--ro", multiple=True, metavar="HOST:INSIDE", help="Show it a folder, read-only; may be repeated."
        ),
        click.option(
            "--on", "route", type=common.ROUTE, metavar="ROUTE", help="Where; this machine without."
        ),
    )
    for option in reversed(more):
        command = option(command)
    return command


@click.group()
def verb() -> None:
    """Run untrusted commands: limited, isolated, measured, and judged."""


@verb.command("run", cls=common.Verb)
@limits
@click.option(
    "--file", "files", multiple=True, metavar="HERE:INSIDE", help="Put a file into its folder first."
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Set a variable for it; may be repeated.")
@click.option(
    "--meta", metavar="FILE", help="Write the verdict and what it used there, as JSON; then leave with 0."
)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    argv: tuple[str, ...],
    route: str | None,
    files: tuple[str, ...],
    env: tuple[str, ...],
    meta: str | None,
    **asked: Any,
) -> None:
    """Run ARGV in a jail, with our stdin and stdout, and leave with its exit code (128+N after signal N).

    With --meta FILE the exit code is 0 whatever the verdict: FILE tells it, as JSON.
    """
    from outrider.cli.run import Output, piped_in

    given = {inside: Path(here) for here, inside in map(_mapped, files)}
    with opened(route, asked) as box:
        stdin = None if os.isatty(0) else piped_in()
        done = box.run(
            argv, stdin=stdin, env=common.pairs(env, "--env"), on_output=Output(raw=False), files=given
        )
    if meta is not None:
        write(Path(meta), done.report())
        raise SystemExit(0)
    if not done.ok and done.verdict != "RE":
        common.say(f"outrider: {done.verdict}: {done.message}")
    raise SystemExit(_status(done))


def _status(done: SandboxResult) -> int:
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return status or (0 if done.ok else 1)


def opened(route: str | None, asked: dict[str, Any]) -> Sandbox:
    """The sandbox that the words ask for."""
    from outrider.sandboxed import Sandbox

    limits = {name: value for name, value in asked.items() if value not in (None, (), False)}
    if "ro" in limits:
        limits["ro"] = dict(map(_mapped, limits["ro"]))
    chain = common.route_of(route) if route else None
    return Sandbox(chain, **limits)


def _mapped(word: str) -> tuple[str, str]:
    host, sign, inside = word.rpartition(":")
    if not sign or not host or not inside:
        raise click.UsageError(f"{word!r} is not of the form HOST:INSIDE")
    return host, inside


def write(path: Path, report: dict[str, Any]) -> None:
    """The whole report at once, or nothing: whoever watches for the file never reads half of it."""
    if path.exists() and not path.is_file():  # a pipe, or /dev/stdout
        path.write_text(json.dumps(report) + "\n")
        return
    fd, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w") as file:
            file.write(json.dumps(report) + "\n")
        Path(new).chmod(0o666 & ~_umask())
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@verb.command("check", cls=common.Verb)
@limits
@click.option("--json", "json_", is_flag=True, help="As one JSON object.")
def check(route: str | None, json_: bool, **asked: Any) -> None:
    """Say which engine would run a job with these limits, and what it could not guarantee."""
    with opened(route, asked) as box:
        done = box.limited(wall=asked.get("wall") or "10s").run(["/bin/sh", "-c", ":"])
    if json_:
        common.print_json(
            {"engine": done.engine, "missing": list(done.missing), "sources": dict(done.sources)}
        )
        return
    click.echo(f"engine: {done.engine}")
    click.echo("missing: " + ("; ".join(done.missing) or "nothing"))
    for figure, source in sorted(done.sources.items()):
        click.echo(f"  {figure}: by {source}")


@verb.group("images")
def images() -> None:
    """Root folders by name, for --image."""


@images.command("add", cls=common.Verb)
@click.option("--sha256", metavar="HASH", help="Refuse it if the archive has another.")
@click.argument("name")
@click.argument("source")
def images_add(name: str, source: str, sha256: str | None) -> None:
    """Keep SOURCE, a folder, an archive or the URL of one, as NAME."""
    from outrider.sandboxed import images as kept

    image = kept.add(name, source, sha256)
    click.echo(f"{image.name}  {image.sha256}  {image.size} bytes")


@images.command("list", cls=common.Verb)
@click.option("--json", "json_", is_flag=True, help="One JSON object an image.")
def images_list(json_: bool) -> None:
    """Show all images."""
    from dataclasses import asdict

    from outrider.sandboxed import images as kept

    for image in kept.listed():
        if json_:
            common.print_json(asdict(image))
        else:
            click.echo(f"{image.name}  {image.sha256[:16]}  {image.size} bytes  {image.source}")


@images.command("remove", cls=common.Verb)
@click.argument("name")
def images_remove(name: str) -> None:
    """Forget NAME."""
    from outrider.sandboxed import images as kept

    kept.remove(name)


@images.command("check", cls=common.Verb)
@click.argument("name")
def images_check(name: str) -> None:
    """Read all of NAME again: is it still what was added?"""
    from outrider.sandboxed import images as kept

    image = kept.check(name)
    click.echo(f"{image.name}  {image.sha256}  whole")
