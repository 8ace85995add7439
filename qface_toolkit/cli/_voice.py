"""How commands speak: results to stdout, everything else to stderr, 80 columns where nobody watches."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from qface_toolkit.errors import plain_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from qface_toolkit.pipeline import Tell

# torch takes a second to import, so nothing in this package imports it, or anything that does, before a command runs.

COLUMNS = 80
_VERBOSE = "qface.verbose"
_SECONDS_BETWEEN = 2.0


def voice_options(command: Any) -> Any:  # noqa: ANN401 - a decorator of whatever click makes of a function
    """Add the options that every command has: how its result is printed, and what it says meanwhile."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Say how each step gets on, and how long it took.",
    )
    quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result and errors.")
    return as_json(quiet(verbose(command)))


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_VERBOSE] = value


def say_row(head: str, text: str) -> None:
    """Print a row of two columns, the second one wrapped where a terminal of the usual width ends."""
    click.echo(
        textwrap.fill(
            head + text, COLUMNS, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
        )
    )


def show(what: Any) -> None:  # noqa: ANN401 - whatever rich can print
    """Print a table or text of rich."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else COLUMNS).print(what)


@contextmanager
def progress(quiet: bool) -> Iterator["Tell"]:
    """Give what a job reports its steps to: bars with the time left on a terminal, a line a step elsewhere."""
    context = click.get_current_context(silent=True)
    if quiet:
        yield _silent
    elif context is not None and context.meta.get(_VERBOSE):
        with _details() as tell:
            yield tell
    elif not sys.stderr.isatty():
        yield _line
    else:
        with _bars() as tell:
            yield tell


def _silent(step: str) -> Any:  # noqa: ANN401 - a Progress
    return lambda done, total: None


def _line(step: str) -> Any:  # noqa: ANN401 - a Progress
    click.echo(plain_text(step), err=True)
    return lambda done, total: None


@contextmanager
def _details() -> Iterator["Tell"]:
    """Write a line where a step begins, every two seconds while it goes on, and where it ends, with the seconds."""
    ended: list[Callable[[], None]] = []

    def tell(step: str) -> Any:  # noqa: ANN401 - a Progress
        _end_all(ended)
        click.echo(plain_text(step), err=True)
        started = said = time.perf_counter()

        def progress(done: int, total: int) -> None:
            nonlocal said
            if (now := time.perf_counter()) - said >= _SECONDS_BETWEEN:
                said = now
                click.echo(f"  {done} of {total}, {now - started:.1f} s", err=True)

        ended.append(lambda: click.echo(f"  took {time.perf_counter() - started:.1f} s", err=True))
        return progress

    yield tell
    _end_all(ended)


def _end_all(ended: list[Callable[[], None]]) -> None:
    while ended:
        ended.pop()()


@contextmanager
def _bars() -> Iterator["Tell"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def tell(step: str) -> Any:  # noqa: ANN401 - a Progress
            _fill_all(bars)
            task = bars.add_task(step, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield tell
        _fill_all(bars)


def _fill_all(bars: "Bars") -> None:
    """Let no bar of a step that is over look as if it went on: not every step tells how far it is."""
    for task in bars.tasks:
        bars.update(task.id, completed=task.total or 1, total=task.total or 1)


def warn(warnings: Iterable[str], quiet: bool) -> None:
    """Print what is to be known of a result that was made all the same, which a file of it says as well."""
    for warning in () if quiet else warnings:
        click.echo(f"warning: {warning}", err=True)


def warn_of_images(warnings: Iterable[str], quiet: bool) -> None:
    """Print what is to be known of calibration images."""
    warn((f"calibration images: {warning}" for warning in warnings), quiet)
