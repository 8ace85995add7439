"""`qface list`: the names of a kind, each with a few words."""

import json
from collections.abc import Callable
from typing import Any

import click

from qface_toolkit.cli._options import Choice, Command
from qface_toolkit.cli._voice import say_row, voice_options

Fact = dict[str, Any]
"""What there is to know of one name: `name`, `about`, and what only its kind has."""


def _models() -> list[Fact]:
    from qface_toolkit.models import ARCHITECTURES

    return [
        {
            "name": name,
            "about": entry.source,
            "parameters": entry.count_parameters(),
            "embedding_size": entry.published.embedding_size,
        }
        for name, entry in ARCHITECTURES.entries().items()
    ]


def _recipes() -> list[Fact]:
    from qface_toolkit.recipe import list_recipes

    return [{"name": name, "about": about} for name, about in list_recipes().items()]


def _trainings() -> list[Fact]:
    from qface_toolkit.training.recipe import list_training_recipes

    return [{"name": name, "about": about} for name, about in list_training_recipes().items()]


def _sets() -> list[Fact]:
    from qface_toolkit.sources import find_set, list_sets

    found = [(name, about, find_set(name)) for name, about in list_sets().items()]
    return [{"name": name, "about": about, "source": one.kind, "count": one.count} for name, about, one in found]


def _sources() -> list[Fact]:
    from qface_toolkit.sources import SOURCES

    return [{"name": name, "about": _first_line(entry)} for name, entry in SOURCES.entries().items()]


def _methods() -> list[Fact]:
    from qface_toolkit.methods import METHODS

    return [{"name": name, "about": _first_line(entry)} for name, entry in METHODS.entries().items()]


def _backends() -> list[Fact]:
    from qface_toolkit.backends import BACKENDS, TOGETHER

    found = []
    for name, entry in BACKENDS.entries().items():
        about = f"{entry.artifact} for {entry.runtime}"
        found.append({"name": name, "about": about, "artifacts": [entry.artifact], "runtime": entry.runtime.name})
    for name, members in TOGETHER.items():
        entries = [BACKENDS.get(member) for member in members]
        artifacts, runtime = [entry.artifact for entry in entries], entries[0].runtime.name
        found.append({"name": name, "about": " and ".join(members), "artifacts": artifacts, "runtime": runtime})
    return sorted(found, key=lambda one: str(one["name"]))


KINDS: dict[str, Callable[[], list[Fact]]] = {
    "models": _models,
    "recipes": _recipes,
    "trainings": _trainings,
    "sets": _sets,
    "sources": _sources,
    "methods": _methods,
    "backends": _backends,
}


def _first_line(entry: object) -> str:
    return (type(entry).__doc__ or "").strip().split("\n")[0]


@click.command(
    "list",
    cls=Command,
    short_help="List models, recipes, trainings, sets, sources, methods or backends.",
    no_args_is_help=True,
)
@click.argument("kind", type=Choice(tuple(KINDS)), metavar="KIND")
@voice_options
def list_(kind: str, as_json: bool, quiet: bool) -> None:
    """List what there is of a KIND, each name with a few words.

    KIND is models, recipes, trainings (recipes of `qface train`), sets (of calibration images), sources, methods or
    backends.

    \b
    qface list models
    qface list sets --json
    """
    found = KINDS[kind]()
    if as_json:
        click.echo(json.dumps({kind: found}))
        return
    width = max(len(one["name"]) for one in found)
    for one in found:
        size = f"{one['parameters']:>11,} parameters, {one['embedding_size']} numbers; " if "parameters" in one else ""
        say_row(f"{one['name']:{width}}  ", size + one["about"])
