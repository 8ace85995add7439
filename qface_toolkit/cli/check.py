"""`qface check`."""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qface_toolkit.cli._options import PATH, Command, force_option, set_option
from qface_toolkit.cli._voice import progress, show, voice_options, warn

if TYPE_CHECKING:
    from qface_toolkit.gate import OpenedReport, Timing, Verdict

SUMMARY = "GITHUB_STEP_SUMMARY"


@click.command(cls=Command, short_help="Fail if a result got worse than its baseline.", no_args_is_help=True)
@click.argument("report", type=PATH)
@click.option("--baseline", required=True, type=PATH, metavar="BASE", help="What to compare with; see --update.")
@click.option("--budgets", type=PATH, metavar="FILE", help="YAML: what each figure may lose.")
@set_option("One budget, such as latency_growth=0.1.", metavar="BUDGET=VALUE")
@click.option("--measure", is_flag=True, help="Measure the latency anew, of the files beside REPORT; under a minute.")
@click.option("--strict", is_flag=True, help="Fail too on every figure that was not compared.")
@click.option("--junit", type=PATH, metavar="FILE", help="Write JUnit XML.")
@click.option("--update", is_flag=True, help="Make REPORT the baseline: write it to BASE.")
@force_option("With --update: even if BASE is another model's, or loses its evaluation.")
@voice_options
def check(
    report: Path,
    baseline: Path,
    budgets: Path | None,
    sets: tuple[str, ...],
    measure: bool,
    strict: bool,
    junit: Path | None,
    update: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Compare REPORT (report.json or a result's folder) with a baseline, and fail if it lost more than its budgets.

    Exit code 1 if a figure is over its budget, or a file is not the one that was measured. The first line says how many
    figures were not looked at, and the last ones why: without --measure, on another kind of CPU, without an evaluation
    like the baseline's, or because the machine was too busy to tell. With --strict each of these fails.

    \b
    qface check demo-out --baseline baseline.json --update --measure
    qface check demo-out --baseline baseline.json
    qface check demo-out --baseline baseline.json --measure --strict
    """
    from qface_toolkit.gate import compare, open_baseline, open_report, read_budgets

    _check_usage(update, force)
    wanted, judged = read_budgets(budgets, sets), open_report(report)
    timing = _measured(judged, quiet or as_json) if measure else None
    if update:
        return _update(judged, baseline, timing, force, as_json, quiet)
    verdict = compare(judged, open_baseline(baseline), wanted, timing, strict=strict)
    _publish(verdict, judged.report.source.name, junit, as_json, quiet)
    return 0 if verdict.passed else 1


def _check_usage(update: bool, force: bool) -> None:
    if force and not update:
        raise click.UsageError("--force goes with --update: it replaces the baseline of another model")


def _measured(judged: "OpenedReport", quiet: bool) -> "Timing":
    from qface_toolkit.pipeline import measure_beside

    with progress(quiet) as tell:
        return measure_beside(judged, tell=tell)


def _update(
    judged: "OpenedReport", place: Path, timing: "Timing | None", force: bool, as_json: bool, quiet: bool
) -> int:
    from qface_toolkit.gate import evaluation_beside, update_baseline

    path = update_baseline(judged, place, timing, force=force)
    given = [str(judged.folder or judged.path), "--baseline", str(path), *(["--measure"] if timing else [])]
    command = shlex.join(["qface", "check", *given])
    if as_json:
        click.echo(json.dumps({"outcome": "updated", "baseline": str(path), "check": command}))
    elif not quiet:
        told = " and ".join(map(str, (path, *filter(Path.is_file, [evaluation_beside(path)]))))
        click.echo(f"The baseline is now {told}; commit it, and compare with it by\n{command}")
    return 0


def _publish(verdict: "Verdict", model: str, junit: Path | None, as_json: bool, quiet: bool) -> None:
    from qface_toolkit.gate import render, to_junit, to_markdown, verdict_values, write_page

    if junit:
        write_page(junit, to_junit(verdict))
    if os.environ.get(SUMMARY):
        write_page(Path(os.environ[SUMMARY]), to_markdown(verdict, model).encode(), append=True)
    if as_json:
        click.echo(json.dumps(verdict_values(verdict)))
    else:
        show(render(verdict))
    warn((f"{one.artifact}: {one.said}" for one in verdict.of("inconclusive")), quiet)
