"""`outrider sandbox images`: root folders by name, kept here."""

from __future__ import annotations

import click

from outrider.cli import common


@click.group("images", invoke_without_command=True)
@click.pass_context
def images(ctx: click.Context) -> None:
    """Root folders by name, for --image; without another word, show them."""
    if ctx.invoked_subcommand is None:
        with common.errors_told():
            _show(json_=False)


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
    _show(json_)


def _show(json_: bool) -> None:
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
