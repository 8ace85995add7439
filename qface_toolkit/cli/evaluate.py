"""`qface evaluate`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from qface_toolkit.cli._options import (
    PATH,
    Choice,
    Command,
    force_option,
    look_at,
    look_at_facts,
    model_option,
    number_option,
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
                "--pairs",
                type=PATH,
                metavar="FILE",
                help="Pairs in insightface's .bin format: LFW, CFP-FP, AgeDB-30 and others.",
            ),
            click.option(
                "--faces", type=PATH, metavar="DIR", help="A folder with a folder of aligned crops for each person."
            ),
            click.option("--ijb", type=PATH, metavar="DIR", help="IJB-B or IJB-C, 1:1, as NIST's licensees have it."),
            click.option("--synthetic", is_flag=True, help="Drawn people: compares two models without a real face."),
            click.option(
                "--suite",
                nargs=2,
                type=(Choice(SUITES), PATH),
                metavar="quantface DIR",
                help="All sets in DIR that the QuantFace paper reports, each beside its figures.",
            ),
            click.option(
                "--flip/--no-flip",
                default=None,
                help="Add the embedding of the mirrored image; default for --pairs and --ijb.",
            ),
            number_option("--folds", "Folds of cross-validation, for --pairs.", least=2, most=1000, default=10),
            number_option("--per-identity", "Only the first N images of each person, for --faces.", least=2),
            click.option(
                "--groups",
                metavar="CSV|ita",
                help="The loss within each group: lines of image,group, for --faces, or ita, by skin tone.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command(
    cls=Command,
    short_help="Judge a model on faces, alone or beside its float model.",
    no_args_is_help=True,
    sections={
        "What to judge on, one of": ("pairs", "faces", "ijb", "synthetic", "suite"),
        "How": ("flip", "folds", "per_identity", "groups", "draws", "seed", "threads"),
        "Models": ("reference", "name", "sets"),
        "Where to": ("out", "force", "cache"),
    },
)
@click.argument("model")
@_set_options
@click.option(
    "--reference", metavar="MODEL", help="The float model to compare with; the folder of a result has its own."
)
@model_option
@set_option("Change a fact of the models, such as model.mean=127.5.")
@number_option("--draws", "How often people are drawn anew for an interval.", least=10, most=100_000, default=1000)
@seed_option(0)
@threads_option("How many threads the models run on.")
@click.option("--cache", type=PATH, metavar="DIR", help="Keep embeddings here, and use those that are here.")
@out_option("Write evaluation.json, evaluation.md and evaluation.svg into this folder.")
@force_option("Replace an evaluation that is in DIR.")
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
    """Judge a model by the protocols of face recognition.

    MODEL is a checkpoint, an .onnx file, a .ts archive or the folder of a result. With --reference, and always for
    the folder of a result, every figure is compared with the float model's: what is lost, with intervals of 95 % over
    people, the thresholds, the decisions that change, and a gallery of float embeddings searched with int8 ones.

    \b
    qface evaluate demo-out --synthetic
    qface evaluate int8.onnx --reference float.onnx --faces people
    qface evaluate backbone.pth --pairs lfw.bin --out lfw
    """
    _check_sets(suite, options)
    from qface_toolkit.result.writing import check_free

    if out:
        check_free(out / ("suite.json" if suite else "evaluation.json"), force=force)
    look_at(model, options["reference"])
    look_at_facts(options["sets"])
    from qface_toolkit.pipeline import EvaluationSet, evaluate, evaluate_suite, write_evaluation, write_suite
    from qface_toolkit.ranks import told_ranks
    from qface_toolkit.report import alarms, render_evaluation, render_suite

    leads = told_ranks().leads
    options["command"] = shlex.join(["qface", *sys.argv[1:]])
    habits = {key: options.pop(key) for key in _HABITS}
    found: Any
    with progress(quiet or as_json or not leads) as tell:
        if suite is not None:
            found = evaluate_suite(model, suite[1], habits, tell=tell, **options)
        else:
            found = evaluate(model, EvaluationSet(**habits), tell=tell, **options)
    if not leads:
        return
    write, render = (write_suite, render_suite) if suite else (write_evaluation, render_evaluation)
    written = write(found, out, force=force) if out else ()
    if as_json:
        click.echo(found.model_dump_json())
        for alarm in () if quiet else alarms(found):
            click.echo(alarm, err=True)
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
        drawn = options["synthetic"] and options[name] == "ita"
        if options[name] and not options["faces"] and not drawn:
            raise click.UsageError(f"--{name.replace('_', '-')} is for --faces, not for {given[0]}.")


_SETS = ("pairs", "faces", "ijb", "synthetic")
_HABITS = ("pairs", "faces", "ijb", "synthetic", "flip", "folds", "per_identity", "groups", "draws")
