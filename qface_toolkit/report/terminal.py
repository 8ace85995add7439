"""The table at the end of `qface compress`: what a person sees first, in 80 columns and plain in a pipe."""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.report._headline import plain, verdict
from qface_toolkit.report._page import Said
from qface_toolkit.report._sizes import SHORT_MEANING, load_cells, size_cells, size_rows
from qface_toolkit.report.allocation import allocation_said
from qface_toolkit.report.artifacts import float_rows, integer_said, island_said, latency_cells, runtimes, speed_cells
from qface_toolkit.report.budget import budget_said
from qface_toolkit.report.figures import NOTHING, clean, cosine, megabytes, percent, runtime_name, times
from qface_toolkit.report.parity import parity_line
from qface_toolkit.report.schema import ArtifactFigures, Report, VerificationBlock, VerificationFigures

LONGEST_NAME = 22


def render(report: Report) -> RenderableType:
    """Return the verdict and the tables, for a rich console of 80 columns or more."""
    parts: list[RenderableType] = [_figures_table(report), *_missing_lines(report), *_size_parts(report)]
    parts += _integer_lines(report) + _parity_lines(report) + _budget_lines(report)
    if report.verification:
        parts += [Text(""), Text(clean(report.verification.protocol)), _verification_table(report.verification)]
    return Group(*parts, Text(""), *told(verdict(report)))


def told(sentences: Iterable[Said]) -> list[Text]:
    """Return sentences for a console, alarms in red."""
    return [Text(plain(said), style="bold red" if said.alarm else "") for said in sentences]


def _figures_table(report: Report) -> Table:
    table = _table("", "MB", "ms", "p90", "vs fast", "vs float", "cosine", "lowest")
    for runtime in runtimes(report):
        table.add_row(Text(runtime_name(runtime), style="bold"))
        float_latency = float_rows(report, runtime)
        if float_latency:
            table.add_row(
                _name("float model"), NOTHING, *latency_cells(float_latency), NOTHING, times(1.0), *[NOTHING] * 2
            )
        for artifact in report.artifacts:
            if artifact.runtime == runtime:
                table.add_row(*_artifact_row(artifact))
    return table


def _artifact_row(artifact: ArtifactFigures) -> Iterable[str | Text]:
    found = artifact.agreement
    mean, lowest = (found.cosine_mean, found.cosine_min) if found else (None, None)
    figures = (megabytes(artifact.size_bytes), *speed_cells(artifact))
    return (_name(artifact.name), *figures, cosine(mean), cosine(lowest))


def _missing_lines(report: Report) -> list[Text]:
    missing = [(one.name, one.latency_missing) for one in report.artifacts if one.latency_missing]
    return [Text(f"{clean(name)} was not timed: {clean(reason)}", style="dim") for name, reason in missing]


def _size_parts(report: Report) -> list[RenderableType]:
    if not size_rows(report):
        return []
    table = _table("MB", "bits", "nominal", "payload", "file", "zipped")
    for one in report.artifacts:
        table.add_row(_name(one.name), *size_cells(one, report, "{} {}%"))
    loaded = [(clean(one.name), *load_cells(one)) for one in report.artifacts if one.load_ms is not None]
    told = "; ".join(f"{name} {taken} ms, {memory} MB" for name, taken, memory in loaded)
    lines = [Text(SHORT_MEANING, style="dim"), *([Text(f"to load: {told}", style="dim")] if loaded else [])]
    return [Text(""), table, *lines, Text("")]


def _integer_lines(report: Report) -> list[Text]:
    lines = []
    for artifact in report.artifacts:
        said = integer_said(artifact)
        if said:
            lines.append(Text(f"{clean(artifact.name)}: {said[1]}", style="dim" if said[0] else "bold red"))
        lines += [Text(f"  in float: {island_said(island)}") for island in artifact.islands]
    return lines


def _parity_lines(report: Report) -> list[Text]:
    if report.parity is None:
        return []
    fine, line = parity_line(report.parity)
    # Float sums depend on the kernel: behind layers in float a code may differ from the simulated one by one.
    expected = fine or (report.budget is not None and report.budget.kept != ())
    return [Text(line, style="dim" if expected else "bold red")]


def _budget_lines(report: Report) -> list[Text]:
    widths = [Text(allocation_said(report.allocation))] if report.allocation else []
    if report.budget is None:
        return widths
    met, said = budget_said(report.budget)
    return [*widths, Text(said, style="" if met else "bold red")]


def _verification_table(block: VerificationBlock) -> Table:
    fars = list(block.float_model.tar)
    table = _table("", "accuracy", "spread", *(f"TAR@{clean(far, 12)}" for far in fars))
    for name, figures in (("float model", block.float_model), *block.artifacts.items()):
        table.add_row(_name(name), *_verification_cells(figures, fars))
    return table


def _verification_cells(figures: VerificationFigures, fars: list[str]) -> list[str]:
    rates = [percent(figures.tar[far]) if far in figures.tar else NOTHING for far in fars]
    return [percent(figures.pair_accuracy), percent(figures.pair_accuracy_std), *rates]


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(headings[0], max_width=LONGEST_NAME + 2, overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _name(name: str) -> Text:
    # A Text and not a str: a name may look like rich's markup.
    return Text("  " + clean(name, LONGEST_NAME))
