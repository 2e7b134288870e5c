"""`outrider relay`: becomes the rest of a route that this host has configured."""

from __future__ import annotations

import os
from typing import NoReturn

import click

from outrider.cli import common


@common.verb()
@click.argument("name")
def verb(name: str) -> None:
    """Become the start of the far end at the end of this host's own route NAME.

    Started by the hop relay:NAME of a route that leads through this host; of no use by hand. The route stands
    under [routes] in ~/.config/outrider/config.toml of the user that this runs as, or in
    OUTRIDER_ROUTE_<NAME>; nothing else is accepted, so that sudoers may allow exactly `outrider relay NAME`.
    """
    become_route(name)


def become_route(name: str) -> NoReturn:
    """Replace this process, with stdin and stdout untouched: both belong to the far end."""
    with common.errors_told():
        from outrider.near.relaying import start_command

        command = start_command(name)
        argv = [os.fsencode(word) for word in command.argv]
        try:
            if command.cwd is not None:
                os.chdir(command.cwd)
            os.execvpe(argv[0], argv, {**os.environ, **command.env})
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            common.fail(error, f"cannot start {command.argv[0]}: {error.strerror}", code)
    raise AssertionError("unreachable")
