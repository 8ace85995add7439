"""Options that several commands share, so that one name, long or short, has one meaning in all of them."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from qface_toolkit.errors import CheckpointError
from qface_toolkit.scale import ON_PURPOSE, of_another_scale
from qface_toolkit.untrusted.formats import check_model_file

F = TypeVar("F", bound=Callable[..., Any])
"""A command, or the function that becomes one."""

OPTIONS, OUTPUT = "Options", "Output"
"""The sections of what stands in no other, and of what every command has."""

PATH = click.Path(path_type=Path, readable=False)
"""Whether it can be read is told by what reads it, as any other mistake is."""
MOST_THREADS = 1024
CORES = "all cores"
_OF_ALL = ("--json", "--quiet", "--verbose", "--help")


class Option(click.Option):
    """An option whose help does not tell the bounds that nobody meets."""

    def get_help_extra(self, context: click.Context) -> Any:  # noqa: ANN401 - click's own type is newer than its oldest version
        """Return what the brackets behind the help hold."""
        extra = super().get_help_extra(context)
        extra.pop("range", None)
        return extra


class Command(click.Command):
    """A command whose options are told in sections: `sections` are the names of the parameters under each title."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.sections = sections or {}

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section under its title, and last the options that all commands have."""
        options = [one for one in self.get_params(context) if isinstance(one, click.Option) and not one.hidden]
        titles = {name: title for title, names in self.sections.items() for name in names}
        told: dict[str, list[tuple[str, str]]] = {title: [] for title in (*self.sections, OPTIONS, OUTPUT)}
        for one in options:
            rest = OUTPUT if one.opts[-1] in _OF_ALL else OPTIONS
            told[titles.get(str(one.name), rest)].append(one.get_help_record(context) or ("", ""))
        for title, records in told.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(click.Group):
    """A group that lists its commands in the order of work."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order in which they were added."""
        return list(self.commands)


class Choice(click.Choice[str]):
    """A choice that names the one which was probably meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the word, if it is one of the choices."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            close = difflib.get_close_matches(str(value), self.choices, n=1)
            if not close:
                raise
            raise click.BadParameter(f"{error.message} Did you mean {close[0]!r}?", ctx, param) from None


def look_at(*models: str | Path | None, scripts: bool = True) -> None:
    """Refuse a model's file that is none by its first bytes, before torch is imported, which takes seconds.

    `scripts` tells whether TorchScript programs, and folders of results, will do. A folder that training wrote always
    does, since it stands for its student.
    """
    for model in models:
        if model is not None and str(model) != "demo" and not (scripts and Path(model).is_dir()):
            check_model_file(Path(model), scripts=scripts)


def look_at_facts(sets: Sequence[str]) -> None:
    """Refuse a mean and std on another scale, where both are given, before torch is imported; see `scale`."""
    from qface_toolkit.untrusted.settings import apply_setting

    values: dict[str, Any] = {}
    mistakes = [mistake for text in sets for mistake in apply_setting(values, text)]
    facts = values.get("model")
    if mistakes or not isinstance(facts, dict) or facts.get("checked"):
        return
    mean, std = (_numbers(facts.get(key)) for key in ("mean", "std"))
    if mean and std and len(mean) == len(std) and min(std) > 0 and (reason := of_another_scale(mean, std)):
        what, fix = reason
        raise CheckpointError(what, where="--set", fix=f"{fix}; {ON_PURPOSE}")


def _numbers(value: object) -> tuple[float, ...]:
    """Return the numbers of three channels; what is none is refused later, with all other mistakes."""
    listed = value if isinstance(value, list) else [value] * 3
    plain = all(isinstance(one, int | float) and not isinstance(one, bool) for one in listed)
    return tuple(map(float, listed)) if plain else ()


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


def number_option(
    name: str, text: str, *, least: int, most: int | None = None, default: int | None = None
) -> Callable[[F], F]:
    """Return an option that takes a whole number within bounds, which its help does not tell."""
    numbers = click.IntRange(least, most)
    shown = default is not None
    return click.option(name, cls=Option, default=default, show_default=shown, type=numbers, metavar="N", help=text)


def seed_option(default: int | None) -> Callable[[F], F]:
    """Return --seed; None leaves it to what the command reads."""
    text = "What everything random starts from." if default is not None else "Instead of the set's own."
    return number_option("--seed", text, least=0, most=2**31 - 1, default=default)


def threads_option(text: str, *, default: int | None = None) -> Callable[[F], F]:
    """Return --threads; None: as many as there are cores."""
    return click.option(
        "--threads",
        cls=Option,
        default=default,
        show_default=CORES if default is None else True,
        type=click.IntRange(1, MOST_THREADS),
        metavar="N",
        help=text,
    )
