"""`qface recipes`."""

import json

import click

from qface_toolkit.cli._options import Command
from qface_toolkit.cli._voice import voice_options


@click.group()
def recipes() -> None:
    """Look at a recipe; `qface list recipes` has their names."""


@recipes.command(cls=Command, no_args_is_help=True)
@click.argument("name")
@click.option("--full", is_flag=True, help="Fill in all defaults.")
@voice_options
def show(name: str, full: bool, as_json: bool, quiet: bool) -> None:
    """Print the recipe NAME, as it is written or with every default.

    \b
    qface recipes show int8 --full
    """
    import yaml

    from qface_toolkit.recipe import find_recipe, read_file_of

    if full:
        from qface_toolkit.pipeline import read_full_recipe

        values = read_full_recipe(name)
        click.echo(json.dumps(values) if as_json else yaml.safe_dump(values, sort_keys=False), nl=as_json)
        return
    from qface_toolkit.training.recipe import find_training_recipe, list_training_recipes

    trains = name in list_training_recipes()
    text, values = read_file_of(find_training_recipe(name) if trains else find_recipe(name))
    click.echo(json.dumps(values) if as_json else text, nl=as_json)
