"""`qface completion`."""

import click
from click.shell_completion import get_completion_class

from qface_toolkit.cli._options import Choice

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print what makes a shell complete names.", no_args_is_help=True)
@click.argument("shell", type=Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the names of commands and options.

    \b
    eval "$(qface completion bash)"
    qface completion fish > ~/.config/fish/completions/qface.fish
    """
    kind, root = get_completion_class(shell), context.find_root()
    assert kind is not None  # of SHELLS
    click.echo(kind(root.command, {}, "qface", "_QFACE_COMPLETE").source())
