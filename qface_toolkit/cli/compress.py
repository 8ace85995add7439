"""`qface compress`."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qface_toolkit.cli._options import (
    PATH,
    Command,
    force_option,
    look_at,
    look_at_facts,
    model_option,
    out_option,
    seed_option,
    set_option,
    threads_option,
)
from qface_toolkit.cli._voice import progress, say_row, show, voice_options, warn, warn_of_images

if TYPE_CHECKING:
    from qface_toolkit.pipeline import Expected, Job


@click.command(
    cls=Command,
    short_help="Make an int8 model of a checkpoint, and a report.",
    no_args_is_help=True,
    sections={
        "What to do": ("recipe", "sets", "backends", "name", "faces", "seed", "threads"),
        "Where to": ("out", "force", "resume", "dry_run"),
    },
)
@click.argument("checkpoint")
@click.option(
    "-r",
    "--recipe",
    default="int8",
    show_default=True,
    metavar="NAME|FILE",
    help="The steps; see `qface list recipes`.",
)
@set_option("Change a value of the recipe or a fact of the model.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="A form to write, instead of the recipe's; may be given again. Training simulates the first.",
)
@click.option(
    "--faces",
    type=PATH,
    metavar="DIR",
    help="A few aligned crops, to check mean, std and colour order on; never calibrated on.",
)
@model_option
@seed_option(0)
@threads_option("Threads of torch; other counts give other bytes.")
@out_option("The folder to write.", required=True)
@click.option("--resume", is_flag=True, help="Go on with a job that was stopped, from DIR.partial.")
@force_option("Replace DIR if it is there.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@voice_options
def compress(
    checkpoint: str,
    out: Path,
    resume: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> int:
    """Compress a float model to int8, and report what that gained and what it cost.

    CHECKPOINT is a file (.pth, .ckpt, .pt, .safetensors, .onnx) or the word demo, which is a small model inside the
    package.

    \b
    qface compress demo --out demo-out
    qface compress backbone.pth --out out --set model.color=bgr
    """
    look_at(checkpoint, scripts=False)
    look_at_facts(options["sets"])
    from qface_toolkit.pipeline import plan_job, run_job
    from qface_toolkit.report import misses_floor, misses_speed

    job = plan_job(checkpoint, **options)
    job = replace(job, command=_command(job, options["threads"]))
    warn(job.model.warnings, quiet)
    if dry_run:
        _say_plan(job, out, as_json)
        return 0
    with progress(quiet or as_json) as tell:
        report = run_job(job, out, force=force, resume=resume, tell=tell)
    _say_report(report, out, as_json, quiet)
    return 1 if misses_speed(report) or misses_floor(report) else 0


def _command(job: "Job", threads: int | None) -> str:
    """Return this command as it does the same on a machine with another number of cores."""
    told = [] if threads else ["--threads", str(job.threads)]
    return shlex.join(["qface", sys.argv[1], *told, *sys.argv[2:]])


def _say_plan(job: "Job", out: Path, as_json: bool) -> None:
    from qface_toolkit.backends import BACKENDS
    from qface_toolkit.pipeline import estimate_cost, expect

    cost, speed = estimate_cost(job), expect(job)
    plan = {
        "model": job.model.spec.name,
        "input_size": list(job.model.spec.input_size),
        "color": job.model.spec.color,
        "crop": job.model.spec.crop,
        "notes": list(job.model.notes),
        "multiply_adds": cost.multiply_adds,
        "steps": [step.method for step in job.steps],
        "passes": dict(cost.passes),
        "seconds": {
            "steps": round(cost.steps_s),
            "measuring": round(cost.measuring_s),
            "all": round(cost.seconds),
        },
        "trained_for": job.recipe.backends[0],
        "predicted": speed
        and {
            "ms": round(speed.integer_ms, 3),
            "float_fast_ms": round(speed.float_ms, 3),
            "times_faster": round(speed.times_faster, 2),
            "slower_layers": speed.short_of(1.0),
        },
        "calibration": job.recipe.calibration.model_dump(),
        "artifacts": ["float.onnx", "float.fast.onnx", *(BACKENDS.get(name).artifact for name in job.recipe.backends)],
        "out": str(out),
    }
    if as_json:
        click.echo(json.dumps(plan))
        return
    plan |= {
        "multiply_adds": f"{cost.multiply_adds / 1e9:.2f} billion an image",
        "seconds": f"about {cost.seconds:.0f} on two cores: {cost.steps_s:.0f} for the steps, {cost.measuring_s:.0f} "
        "for measuring",
        "predicted": _prediction(speed),
    }
    for key, value in plan.items():
        values = [f"{name} {one}" for name, one in value.items()] if isinstance(value, dict) else value
        say_row(f"{key:13} ", ", ".join(map(str, values)) if isinstance(values, list) else str(values))


def _prediction(speed: "Expected | None") -> str:
    """Return in words what the first file should take, on the processor that the table was measured on."""
    if speed is None:
        return "nothing: only ONNX files for x86 have a table of operator times"
    slower = speed.short_of(1.0)
    told = f"{speed.artifact} {speed.integer_ms:.2f} ms, {speed.times_faster:.2f} times as fast as float.fast.onnx"
    return f"{told}; slower than in float: {', '.join(slower[:6])}" if slower else told


def _say_report(report: Any, out: Path, as_json: bool, quiet: bool) -> None:  # noqa: ANN401 - its type would import pydantic here
    warn_of_images(report.calibration.warnings, quiet)
    if as_json:
        click.echo(report.model_dump_json())
        return
    from qface_toolkit.report import render

    show(render(report))
    if not quiet:
        click.echo(f"\nEverything is in {out} - start with {out / 'report.html'}")
