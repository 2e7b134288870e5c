"""`outrider config`: what is configured."""

from __future__ import annotations

import click

from outrider.cli import common


@click.group()
def verb() -> None:
    """Show the configuration."""


@verb.command(cls=common.Verb)
@click.option("--origin", is_flag=True, help="Also where each value is set: file and line, or variable.")
@click.option("--json", "json_", is_flag=True, help="As a JSON list.")
def show(origin: bool, json_: bool) -> None:
    """Show every configured value, as all files and variables together give it."""
    from outrider.config import Config

    found = Config.load().origins()
    if json_:
        common.print_json([item._asdict() for item in found])
        return
    for item in found:
        line = f"{common.styled(item.key, bold=True)} = {common.as_json(item.value)}"
        place = f"{item.file}:{item.line}" if item.line else item.file
        click.echo(f"{line}  {common.styled('# ' + place, dim=True)}" if origin else line)
    if not found:
        common.say("nothing is configured; routes stand in ~/.config/outrider/config.toml under [routes]")
