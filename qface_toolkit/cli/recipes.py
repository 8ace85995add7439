"""`qface recipes`."""

import click


@click.group()
def recipes() -> None:
    """Look at the recipes."""


@recipes.command(no_args_is_help=True)
@click.argument("name")
@click.option("--full", is_flag=True, help="With all defaults filled in.")
def show(name: str, full: bool) -> None:
    """Print the recipe NAME, as it is written or with every default.

    \b
    qface recipes show int8 --full
    """
    from qface_toolkit.recipe import find_recipe

    if not full:
        click.echo(find_recipe(name).read_text("utf-8"), nl=False)
        return
    import yaml

    from qface_toolkit.pipeline import read_full_recipe

    click.echo(yaml.safe_dump(read_full_recipe(name), sort_keys=False), nl=False)
