"""`qface evaluate`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from qface_toolkit.cli._options import (
    PATH,
    force_option,
    model_option,
    out_option,
    seed_option,
    set_option,
    threads_option,
)
from qface_toolkit.cli._voice import progress, show, voice_options

SUITES = ("quantface",)


def _set_options(command: Any) -> Any:  # noqa: ANN401 - a decorator of whatever click makes of a function
    for option in reversed(
        (
            click.option(
                "--pairs", type=PATH, metavar="FILE", help="An insightface .bin set: LFW, CFP-FP, AgeDB-30, …"
            ),
            click.option("--faces", type=PATH, metavar="DIR", help="A folder of aligned crops for each person."),
            click.option("--ijb", type=PATH, metavar="DIR", help="IJB-B or IJB-C, 1:1, as NIST's licensees have it."),
            click.option(
                "--synthetic", is_flag=True, help="Drawn identities: tells two models apart without a real face."
            ),
            click.option(
                "--suite",
                nargs=2,
                type=(click.Choice(SUITES), PATH),
                metavar="quantface DIR",
                help="Every set in DIR, beside the published rows.",
            ),
            click.option(
                "--flip/--no-flip", default=None, help="Add the mirrored image's embedding (pairs, ijb: yes)."
            ),
            click.option("--folds", default=10, show_default=True, type=click.IntRange(2, 1000), help="Of --pairs."),
            click.option("--per-identity", type=click.IntRange(2), metavar="N", help="The first N images of a person."),
            click.option("--groups", type=PATH, metavar="CSV", help="image,group: losses within each, for --faces."),
        )
    ):
        command = option(command)
    return command


@click.command(no_args_is_help=True)
@click.argument("model")
@_set_options
@click.option("--reference", metavar="MODEL", help="The float model to compare with; a result has its own.")
@model_option
@set_option("Change a fact, such as model.mean=127.5.")
@click.option("--draws", default=1000, show_default=True, type=click.IntRange(10, 100_000), help="For intervals.")
@seed_option(0)
@threads_option("Of the runtimes.")
@click.option("--cache", type=PATH, metavar="DIR", help="Keep embeddings here, and use those that are there.")
@out_option("Write evaluation.json, evaluation.md and evaluation.svg here.")
@force_option("Replace an evaluation in --out.")
@voice_options
def evaluate(
    model: str,
    suite: tuple[str, Path] | None,
    out: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Judge MODEL (a checkpoint, .onnx, .ts, or a result's folder) by the field's protocols.

    With --reference, or for a result's folder, every figure is compared with the float model's: what is lost, with
    95 % intervals over people, thresholds, decisions that change, and a float gallery searched with int8 probes.

    \b
    qface evaluate demo-out --synthetic
    qface evaluate int8.onnx --reference float.onnx --faces people
    qface evaluate backbone.pth --pairs lfw.bin --out lfw
    """
    _check_sets(suite, options)
    from qface_toolkit.pipeline import Protocol, evaluate, evaluate_suite, write_evaluation, write_suite
    from qface_toolkit.pipeline._writing import check_free
    from qface_toolkit.report import render_evaluation, render_suite

    options["command"] = shlex.join(["qface", *sys.argv[1:]])
    habits = {key: options.pop(key) for key in _HABITS}
    if out:
        check_free(out / ("suite.json" if suite else "evaluation.json"), force=force)
    found: Any
    with progress(quiet or as_json) as tell:
        if suite is not None:
            found = evaluate_suite(model, suite[1], habits, tell=tell, **options)
        else:
            found = evaluate(model, Protocol(**habits), tell=tell, **options)
    write, render = (write_suite, render_suite) if suite else (write_evaluation, render_evaluation)
    written = write(found, out, force=force) if out else ()
    if as_json:
        click.echo(found.model_dump_json())
        return
    show(render(found))
    if written and not quiet:
        click.echo(f"Everything is in {written[0].parent} - start with {written[1]}")


def _check_sets(suite: object, options: dict[str, Any]) -> None:
    """Refuse a command that does not say what to judge on, or says more than is done."""
    given = [f"--{name}" for name in _SETS if options[name]] + ["--suite"] * bool(suite)
    if len(given) != 1:
        wanted = ", ".join(f"--{name}" for name in _SETS)
        raise click.UsageError(f"Give one of {wanted} and --suite, not {' and '.join(given) or 'none of them'}.")
    for name in ("groups", "per_identity"):
        if options[name] and not options["faces"]:
            raise click.UsageError(f"--{name.replace('_', '-')} is for --faces, not for {given[0]}.")


_SETS = ("pairs", "faces", "ijb", "synthetic")
_HABITS = ("pairs", "faces", "ijb", "synthetic", "flip", "folds", "per_identity", "groups", "draws")
