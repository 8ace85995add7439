"""Options that several commands share, so that one name, long or short, has one meaning in all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
"""A command, or the function that becomes one."""

PATH = click.Path(path_type=Path)
MOST_THREADS = 1024
CORES = "all cores"

model_option = click.option("--model", "name", metavar="NAME", help="The architecture, instead of recognising it.")


def out_option(text: str, *, required: bool = False) -> Callable[[F], F]:
    """Return --out: the folder that the command writes."""
    return click.option("-o", "--out", required=required, type=PATH, metavar="DIR", help=text)


def force_option(text: str) -> Callable[[F], F]:
    """Return --force: replace what is there."""
    return click.option("-f", "--force", is_flag=True, help=text)


def set_option(text: str, *, metavar: str = "KEY=VALUE") -> Callable[[F], F]:
    """Return --set, which may be given many times: change one value by its key."""
    return click.option("-s", "--set", "sets", multiple=True, metavar=metavar, help=text)


def seed_option(default: int | None) -> Callable[[F], F]:
    """Return --seed; None leaves it to what the command reads."""
    seeds = click.IntRange(0, 2**31 - 1)
    text = "What everything random starts from." if default is not None else "Instead of the set's own."
    return click.option("--seed", default=default, show_default=default is not None, type=seeds, metavar="N", help=text)


def threads_option(text: str, *, default: int | None = None) -> Callable[[F], F]:
    """Return --threads; None: as many as there are cores."""
    return click.option(
        "--threads",
        default=default,
        show_default=CORES if default is None else True,
        type=click.IntRange(1, MOST_THREADS),
        metavar="N",
        help=text,
    )
