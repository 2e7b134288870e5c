"""`outrider completion`: what makes a shell complete verbs, options and routes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from outrider.cli import common


@common.verb()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def verb(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: eval "$(outrider completion bash)"            in ~/.bashrc
    zsh:  eval "$(outrider completion zsh)"             in ~/.zshrc
    fish: outrider completion fish | source             in ~/.config/fish/config.fish
    """
    from outrider.cli import outrider

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(outrider, {}, "outrider", "_OUTRIDER_COMPLETE").source())
