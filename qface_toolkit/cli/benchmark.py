"""`qface benchmark`."""

import json
from typing import TYPE_CHECKING

import click

from qface_toolkit.cli._options import Command, look_at, model_option, number_option, set_option, threads_option
from qface_toolkit.cli._voice import progress, say_row, show, voice_options

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from qface_toolkit.pipeline import Benchmark, Timed

LONGEST_NAME = 28


@click.command(cls=Command, short_help="Time models beside each other.", no_args_is_help=True)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@threads_option("How many threads each model runs on.", default=1)
@number_option("--batch", "Images in a call.", least=1, most=1024, default=1)
@number_option("--rounds", "Calls of each model.", least=10, most=100_000, default=100)
@model_option
@set_option("Change a fact of the models, such as model.input_size=[160, 160].")
@voice_options
def benchmark(
    models: tuple[str, ...],
    threads: int,
    batch: int,
    rounds: int,
    name: str | None,
    sets: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Time models in turns, and say how many times as fast as the first one each is.

    A MODEL is a checkpoint, an .onnx file, a .ts archive or the folder of a result, which stands for all its files
    that are made for this machine. The preparation of images is not timed, nor is the time in which another process
    had the core. The ratio is the median of those within a round, with a 99 % interval.

    \b
    qface benchmark demo-out
    qface benchmark float.onnx int8.x86.onnx --threads 2 --batch 8
    """
    look_at(*models)
    from qface_toolkit.pipeline import benchmark as benchmark_models

    with progress(quiet or as_json) as tell:
        found = benchmark_models(models, threads=threads, batch=batch, rounds=rounds, name=name, sets=sets, tell=tell)
    if as_json:
        click.echo(json.dumps(_values(found)))
        return
    show(_table(found))
    say_row("", _conditions(found))


def _values(found: "Benchmark") -> dict[str, object]:
    conditions = {"threads": found.threads, "batch": found.batch, "rounds": found.rounds}
    rows = [_model_values(one) for one in found.models]
    return {"models": rows, **conditions, "environment": found.environment.model_dump(mode="json")}


def _model_values(one: "Timed") -> dict[str, object]:
    faster = one.times_faster
    return {
        "name": one.name,
        "runtime": one.runtime,
        "size_bytes": one.size_bytes,
        "p50_ms": one.latency.p50_ms,
        "p90_ms": one.latency.p90_ms,
        "times_faster": faster and faster.value,
        "times_faster_interval": [faster.low, faster.high] if faster else None,
        "images_per_second": one.images_per_second,
        "samples_ms": list(one.latency.samples_ms),
    }


def _table(found: "Benchmark") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", max_width=LONGEST_NAME, overflow="fold")
    for heading in ("MB", "p50 ms", "p90", "images/s", "times faster"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.models:
        table.add_row(*_row(one))
    return table


def _row(one: "Timed") -> tuple["str | Text", ...]:
    from rich.text import Text

    from qface_toolkit.report.figures import NOTHING, clean, megabytes, milliseconds

    faster = one.times_faster
    said = "1" if faster is None else f"{faster.value:.2f} ({faster.low:.2f} to {faster.high:.2f})"
    size = NOTHING if one.size_bytes is None else megabytes(one.size_bytes)
    # A Text and not a str: a name may look like rich's markup.
    times = (milliseconds(one.latency.p50_ms), milliseconds(one.latency.p90_ms), milliseconds(one.images_per_second))
    return (Text(clean(one.name)), size, *times, said)


def _conditions(found: "Benchmark") -> str:
    from qface_toolkit.report.figures import clean, threads

    runtimes = ", ".join(dict.fromkeys(one.runtime for one in found.models))
    batch = "1 image" if found.batch == 1 else f"{found.batch} images"
    head = f"{threads(found.threads)}, {batch} a call, {found.rounds} rounds in turns"
    return f"{head}, {clean(found.environment.cpu)}; {clean(runtimes)}"
