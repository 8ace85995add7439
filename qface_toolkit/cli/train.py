"""`qface train`."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from qface_toolkit.cli._options import (
    Command,
    force_option,
    look_at,
    out_option,
    seed_option,
    set_option,
    threads_option,
)
from qface_toolkit.cli._voice import progress, show, voice_options, warn


@click.command(
    cls=Command,
    short_help="Train a small network from a large one, from labels, or both.",
    no_args_is_help=True,
    sections={
        "What to learn": ("teachers", "data", "recipe", "sets", "seed", "threads"),
        "Where to": ("out", "force", "resume"),
    },
)
@click.argument("student")
@click.option(
    "-t",
    "--teacher",
    "teachers",
    multiple=True,
    metavar="CKPT",
    help="A checkpoint to learn from; again, or a pattern in quotes, for one an epoch.",
)
@click.option(
    "-d",
    "--data",
    required=True,
    metavar="SOURCE",
    help="A set's name or YAML, a folder of crops or of people's folders, a .rec file, or shards: 'x-{00..09}.tar'.",
)
@click.option(
    "-r", "--recipe", default="kd", show_default=True, metavar="NAME|FILE", help="See `qface list trainings`."
)
@set_option("Change a value of the recipe, such as epochs=2 or width=0.5.")
@seed_option(0)
@threads_option("Threads of torch; other counts give other bytes.")
@out_option("The folder to write.", required=True)
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped, from DIR.partial.")
@force_option("Replace DIR if it is there.")
@voice_options
def train(
    student: str,
    teachers: tuple[str, ...],
    out: Path,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Train STUDENT and write it to a folder that `qface compress` takes.

    STUDENT is an architecture's name (`qface list models`), a genotype's YAML file, or a checkpoint to go on from. With
    --teacher it learns to give the teacher's embeddings; where SOURCE says who is on an image, to tell people apart.
    Under torchrun, `python -m qface_toolkit train` does the same on many cores or machines.

    \b
    qface train pocketnet-s-128 --teacher backbone.pth --data crops --out small
    qface train mobilefacenet --data people --out teacher --set epochs=16
    """
    look_at(*(one for one in teachers if not set(one) & set("*?[")), scripts=False)
    from qface_toolkit.pipeline import plan_training, run_training
    from qface_toolkit.ranks import told_ranks
    from qface_toolkit.report import render_training

    plan = plan_training(student, teachers=teachers, **options)
    plan = replace(plan, command=shlex.join(["qface", *sys.argv[1:]]))
    quiet = quiet or not told_ranks().leads
    warn(plan.student.warnings, quiet)
    with progress(quiet or as_json) as tell:
        report = run_training(plan, out, force=force, resume=resume, tell=tell)
    if not told_ranks().leads:
        return
    if as_json:
        click.echo(report.model_dump_json())
        return
    show(render_training(report))
    if not quiet:
        rounded = report.recipe["quantize"]
        recipe = f" --recipe {rounded['recipe']}" if rounded else ""
        click.echo(f"\nEverything is in {out} - start with {out / 'report.html'}, then make it int8:")
        click.echo(f"qface compress {shlex.quote(str(out))} --out int8{recipe}")
