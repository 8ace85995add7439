"""The command line: parse, call one function of the pipeline, print. The only place that prints, exits or catches."""

import json
import platform
import shlex
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qface_toolkit import __version__
from qface_toolkit._listing import KINDS, entries
from qface_toolkit.errors import QFaceError

if TYPE_CHECKING:
    from qface_toolkit._job import Job
    from qface_toolkit.models import FloatModel
    from qface_toolkit.pipeline import Tell

# torch takes a second to import, so nothing here imports it, or anything that does, before a command runs.

FOLDER = click.Path(path_type=Path)
COLUMNS = 80


@dataclass(frozen=True)
class Voice:
    """How much is said, and where: results to stdout, everything else to stderr."""

    json: bool
    quiet: bool


def main() -> None:
    """Run the command line and exit: 0 done, 1 yours to mend, 2 usage, 3 our bug, 130 interrupted."""
    try:
        sys.exit(qface.main(standalone_mode=False) or 0)
    except QFaceError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was finished of a compression is in OUT.partial (--resume)", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Exception:  # noqa: BLE001 - the one boundary: an error that is not a QFaceError is a bug of ours
        sys.exit(_own_bug())


def _own_bug() -> int:
    trace = traceback.format_exc()
    lines = [f"qface_toolkit {__version__}", f"python {platform.python_version()}", platform.platform(), "", trace]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="qface-", suffix=".log", delete=False) as log:
            log.write("\n".join([shlex.join(sys.argv), *lines]))
        told = f"in {log.name}"
    except OSError:
        told = "\n".join(["this:", *lines[:3]])
    click.echo(f"{trace}\nthis is a bug in qface_toolkit {__version__}; what we need to know is {told}", err=True)
    return 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qface")
def qface() -> None:
    """Compress a pretrained face-recognition model to a true int8 model, without one real face.

    \b
    Try it:   qface compress demo --out demo-out
    """


def _job_options(command: Any) -> Any:  # noqa: ANN401 - a decorator of whatever click makes of a function
    for option in (
        click.option("--recipe", default="int8", show_default=True, metavar="NAME|FILE", help="What to do."),
        click.option("--model", metavar="NAME", help="The architecture, instead of recognising it."),
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a recipe value or model fact."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1)),
        click.option(
            "--backend",
            "backends",
            multiple=True,
            metavar="NAME",
            help="Write this form (repeatable); the first is the one that training simulates.",
        ),
    ):
        command = option(command)
    return command


def _voice_options(command: Any) -> Any:  # noqa: ANN401 - as above
    command = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there.")(
        command
    )
    return click.option("--quiet", is_flag=True, help="Say nothing but the result.")(command)


@qface.command()
@click.argument("checkpoint")
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="The folder to write.")
@_job_options
@click.option("--resume", is_flag=True, help="Go on with what DIR.partial holds.")
@click.option("--force", is_flag=True, help="Replace DIR.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@_voice_options
def compress(
    checkpoint: str,
    out: Path,
    resume: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Compress CHECKPOINT (a file, or the word "demo") to int8 and report what it gained and cost.

    \b
    qface compress demo --out demo-out
    qface compress backbone.pth --out out --set model.color=bgr
    """  # fmt: skip
    from qface_toolkit.pipeline import plan_job, run_job

    job = plan_job(checkpoint, command=shlex.join(["qface", *sys.argv[1:]]), **options)
    if dry_run:
        _say_plan(job, out, as_json)
        return
    with _progress(quiet or as_json) as tell:
        report = run_job(job, out, force=force, resume=resume, tell=tell)
    _say_report(report, out, as_json)


def _say_plan(job: "Job", out: Path, as_json: bool) -> None:
    from qface_toolkit._cost import estimate_cost
    from qface_toolkit.backends import BACKENDS

    cost = estimate_cost(job)
    plan = {
        "model": job.model.spec.name,
        "input_size": list(job.model.spec.input_size),
        "notes": list(job.model.notes),
        "multiply_adds": cost.multiply_adds,
        "steps": [step.method for step in job.steps],
        "passes": dict(cost.passes),
        "seconds": [round(seconds) for seconds in cost.seconds],
        "trained_for": job.recipe.backends[0],
        "calibration": job.recipe.calibration.model_dump(),
        "artifacts": ["float.onnx", "float.fast.onnx", *(BACKENDS.get(name).artifact for name in job.recipe.backends)],
        "out": str(out),
    }
    if as_json:
        click.echo(json.dumps(plan))
        return
    plan |= {
        "multiply_adds": f"{cost.multiply_adds / 1e9:.2f} billion an image",
        "seconds": "about {:.0f} to {:.0f} on two cores".format(*cost.seconds),
    }
    for key, value in plan.items():
        values = [f"{name} {one}" for name, one in value.items()] if isinstance(value, dict) else value
        _say_row(f"{key:13} ", ", ".join(map(str, values)) if isinstance(values, list) else str(values))


def _say_row(head: str, text: str) -> None:
    """Print a row of two columns, the second one wrapped where a terminal of the usual width ends."""
    click.echo(textwrap.fill(head + text, COLUMNS, subsequent_indent=" " * len(head), break_long_words=False,
                             break_on_hyphens=False))  # fmt: skip


def _say_report(report: Any, out: Path, as_json: bool) -> None:  # noqa: ANN401 - its type would import pydantic here
    _warn(report.calibration.warnings)
    if as_json:
        click.echo(report.model_dump_json())
        return
    from qface_toolkit.report import render

    _show(render(report))
    click.echo(f"\nEverything is in {out} - start with {out / 'report.md'}")


def _show(what: Any) -> None:  # noqa: ANN401 - whatever rich can print
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else COLUMNS).print(what)


@contextmanager
def _progress(quiet: bool) -> Iterator["Tell"]:
    """Give what a job reports its steps to: bars with the time left on a terminal, a line a step elsewhere."""
    from qface_toolkit.pipeline import silent

    if quiet:
        yield silent
    elif not sys.stderr.isatty():
        yield _line
    else:
        with _bars() as tell:
            yield tell


def _line(step: str) -> Any:  # noqa: ANN401 - a Progress
    click.echo(step, err=True)
    return lambda done, total: None


@contextmanager
def _bars() -> Iterator["Tell"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def tell(step: str) -> Any:  # noqa: ANN401 - a Progress
            task = bars.add_task(step, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield tell


@qface.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--backend", required=True, metavar="NAME", help="The form to write.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change where it will run; see below.")
@click.option("--out", metavar="FILE", help="The new file's name in DIR, instead of the backend's own.")
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there.")
def export(folder: Path, backend: str, sets: tuple[str, ...], out: str | None, force: bool, as_json: bool) -> None:
    """Lower the finished result in DIR again, for another runtime, machine or input.

    These can be set: target.onnxruntime, target.vnni, target.prelu (twin or scaled), export.input (float or uint8).

    \b
    qface export demo-out --backend torch-onednn
    qface export out --backend onnx-x86 --set target.vnni=false --out old.onnx
    """
    from qface_toolkit._export import exported_values
    from qface_toolkit.pipeline import export as export_again

    artifact = export_again(folder, backend, sets=sets, out=out, force=force)
    click.echo(json.dumps(exported_values(artifact)) if as_json else artifact)


@qface.command()
@click.argument("model", type=FOLDER)
@click.option("--sensitivity", is_flag=True, help="Of a result: what each quantizer costs, alone and left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there.")
def inspect(model: Path, sensitivity: bool, as_json: bool) -> None:
    """Show what the runtime really runs for MODEL: .onnx, .ts or a result's folder.

    Operators after its own optimization with their time, and every part left in float with its cost and the reason.

    \b
    qface inspect demo-out/int8.x86.onnx
    qface inspect demo-out --sensitivity
    """
    if sensitivity:
        _say_sensitivity(model, as_json)
        return
    from qface_toolkit.pipeline import inspect as inspect_files
    from qface_toolkit.report import inspection_values, render_inspection

    found = inspect_files(model)
    if as_json:
        click.echo(json.dumps(inspection_values(found)))
    else:
        _show(render_inspection(found))


def _say_sensitivity(folder: Path, as_json: bool) -> None:
    from qface_toolkit.pipeline import sensitivity
    from qface_toolkit.report import render_sensitivity

    with _progress(as_json) as tell:
        found = sensitivity(folder, tell)
    if as_json:
        click.echo(found.model_dump_json())
    else:
        _show(render_sensitivity(found))


@qface.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there.")
def verify(folder: Path, as_json: bool) -> int:
    """Check the result in DIR, and run its golden vectors on this machine's runtimes.

    Exit code 0 if everything that runs here gives what it gave where it was made, 1 if not.

    \b
    qface verify demo-out
    """
    from qface_toolkit.environment import record_environment
    from qface_toolkit.pipeline import verify as verify_result
    from qface_toolkit.report import render_verdicts, verdict_values

    found, environment = verify_result(folder), record_environment(seed=0, threads=1)
    if as_json:
        click.echo(json.dumps(verdict_values(found, environment)))
    else:
        _show(render_verdicts(found, environment))
    return 0 if found.trustworthy else 1


@qface.command()
@click.argument("name", metavar="SET")
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="The folder to write.")
@click.option("--count", type=click.IntRange(1), help="How many images.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1))
@click.option("--model", metavar="CHECKPOINT", help="What the images are for; sets of the kind matched need it.")
@_voice_options
def synth(
    name: str, out: Path, count: int | None, seed: int | None, model: str | None, as_json: bool, quiet: bool
) -> None:
    """Write the calibration images of SET, their manifest and a contact sheet to look at.

    \b
    qface synth drawings --out drawings --count 64
    qface synth matched --model backbone.pth --out matched
    """
    from qface_toolkit.sources._sets import find_set, write_set

    manifest = write_set(find_set(name), out, count, seed, _loaded(model))
    _warn(manifest.warnings)
    if as_json:
        click.echo(json.dumps(manifest.as_json()))
    elif not quiet:
        click.echo(f"{manifest.count} images in {out} - look at {out / 'contact_sheet.png'}")


def _loaded(checkpoint: str | None) -> "FloatModel | None":
    if checkpoint is None:
        return None
    from qface_toolkit.models import load_model

    return load_model(checkpoint)


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        click.echo(f"warning: calibration images: {warning}", err=True)


@qface.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there.")
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
        _say_row(f"{name:{width}}  ", remark)


@qface.group()
def recipes() -> None:
    """Look at the recipes."""


@recipes.command()
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
