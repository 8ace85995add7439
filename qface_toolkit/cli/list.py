"""`qface list`: the names of a kind, each with a few words."""

import json

import click

from qface_toolkit.cli._voice import json_option, say_row

KINDS = ("models", "recipes", "sources", "methods", "backends")


def entries(kind: str) -> dict[str, str]:
    """Return what there is of one of KINDS: a remark for each name."""
    if kind == "models":
        from qface_toolkit.models import ARCHITECTURES

        return {name: f"{entry.count_parameters():>11,} parameters" for name, entry in ARCHITECTURES.entries().items()}
    if kind == "recipes":
        from qface_toolkit.recipe import list_recipes

        return list_recipes()
    if kind == "sources":
        from qface_toolkit.sources import SOURCES

        return {name: _first_line(entry) for name, entry in SOURCES.entries().items()}
    if kind == "methods":
        from qface_toolkit.methods import METHODS

        return {name: _first_line(entry) for name, entry in METHODS.entries().items()}
    from qface_toolkit.backends import BACKENDS, TOGETHER

    single = {name: f"{entry.artifact} for {entry.runtime}" for name, entry in BACKENDS.entries().items()}
    return dict(sorted((single | {name: " and ".join(members) for name, members in TOGETHER.items()}).items()))


def _first_line(entry: object) -> str:
    return (type(entry).__doc__ or "").strip().split("\n")[0]


@click.command("list", no_args_is_help=True)
@click.argument("kind", type=click.Choice(KINDS))
@json_option
def list_(kind: str, as_json: bool) -> None:
    """List what there is of a kind.

    \b
    qface list models
    """
    found = entries(kind)
    if as_json:
        click.echo(json.dumps(found))
        return
    width = max(map(len, found))
    for name, remark in found.items():
        say_row(f"{name:{width}}  ", remark)
