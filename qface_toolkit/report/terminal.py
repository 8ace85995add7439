"""What the terminal shows: the figures at the end of `qface compress`, an evaluation, a training, and what each
quantizer costs.

All of it fits 80 columns, is plain in a pipe, and ends with the verdict, as a terminal is read from its end.
"""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from qface_toolkit.report.agreement import rates_of, verification_rows
from qface_toolkit.report.artifacts import (
    FIGURE_HEADINGS,
    SHORT_MEANING,
    figures_rows,
    has_sizes,
    integer_said,
    island_said,
    load_cells,
    not_timed,
    runtimes,
    size_cells,
)
from qface_toolkit.report.budget import allocation_said, budget_said
from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.evaluation_sections import CHANGED, evaluation_sections
from qface_toolkit.report.evaluation_verdict import evaluation_verdict
from qface_toolkit.report.figures import clean, runtime_name
from qface_toolkit.report.page import Said, Section, Table
from qface_toolkit.report.schema import Report, VerificationBlock
from qface_toolkit.report.sensitivity import HEADINGS, SensitivityBlock, sensitivity_said, worst_quantizers
from qface_toolkit.report.suite import Suite, suite_sections
from qface_toolkit.report.summary import first_alarms, ledger_line, verdict
from qface_toolkit.report.training import Training
from qface_toolkit.report.training_sections import epochs_table
from qface_toolkit.report.training_verdict import training_cards, training_verdict

LONGEST_NAME = 22
QUANTIZERS_SHOWN = 40
EPOCHS_SHOWN, RATES_SHOWN = 10, 2
ALARM = "bold red"
_COLUMNS = {
    "MB": "MB",
    "median ms": "ms",
    "p90 ms": "p90",
    "vs fast": "vs fast",
    "vs float": "vs float",
    "cosine mean": "cosine",
    "lowest": "lowest",
}
"""The columns of the figures that 80 characters have room for, and what they are called here."""


def render(report: Report) -> RenderableType:
    """Return the tables of a report and the verdict; before them, if a file is damaged or does not pay, that it is."""
    first = first_alarms(report)
    parts: list[RenderableType] = [*told(first), Text("")] if first else []
    parts += [_figures(report), *(Text(line, style="dim") for line in not_timed(report))]
    parts += _sizes(report) if has_sizes(report) else []
    parts += [*_integers(report), *_parity(report), *_budgets(report)]
    if report.verification:
        parts += [Text(""), Text(clean(report.verification.protocol)), _verification(report.verification)]
    return Group(*parts, Text(""), *told(verdict(report)))


def render_evaluation(found: Evaluation) -> RenderableType:
    """Return an evaluation, the verdict last; the pairs that changed are in the files."""
    shown = [section for section in evaluation_sections(found) if section.key != CHANGED]
    return Group(_sections(shown), *told(evaluation_verdict(found)))


def render_suite(suite: Suite) -> RenderableType:
    """Return the table of a suite."""
    return _sections(suite_sections(suite))


def render_sensitivity(found: SensitivityBlock) -> RenderableType:
    """Return the quantizers that lose most."""
    left = len(found.quantizers) - QUANTIZERS_SHOWN
    more = [Text(f"and {left} more that lose less; --json has all", style="dim")] if left > 0 else []
    shown = console_table(HEADINGS, worst_quantizers(found, QUANTIZERS_SHOWN), texts=2)
    return Group(shown, *more, Text(""), Text(sensitivity_said(found)))


def render_training(training: Training) -> RenderableType:
    """Return the last epochs of a training, its main figures, and the verdict."""
    shown = epochs_table(training, training.epochs[-EPOCHS_SHOWN:], RATES_SHOWN)
    left = len(training.epochs) - EPOCHS_SHOWN
    more = [Text(f"after {left} more {'epoch' if left == 1 else 'epochs'}", style="dim")] if left > 0 else []
    table: list[RenderableType] = [*more]
    table += [console_table(shown.headings, shown.words(), texts=shown.texts)] if shown.rows else []
    figures = [Text(f"{card.title}: {card.figure} ({card.said})") for card in training_cards(training)]
    return Group(*table, Text(""), *figures, Text(""), *told(training_verdict(training)))


def alarms(found: Evaluation | Suite | Training) -> list[str]:
    """Return what must not be overlooked, for where an evaluation or a training is not shown to a person."""
    if isinstance(found, Training):
        return [said.plain for said in training_verdict(found) if said.alarm]
    judged = found.evaluations.values() if isinstance(found, Suite) else (found,)
    return [said.plain for one in judged for said in evaluation_verdict(one) if said.alarm]


def told(sentences: Iterable[Said]) -> list[Text]:
    """Return sentences for a console, alarms in red."""
    return [Text(said.plain, style=ALARM if said.alarm else "") for said in sentences]


def console_table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, texts: int = 1, widest: int | None = None
) -> RichTable:
    """Return a table for a rich console.

    The first `texts` columns hold words, the others figures, which are never broken; the first column, which may be
    broken, is `widest` characters wide at most.
    """
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, heading in enumerate(headings):
        limit = None if place else widest
        justify: JustifyMethod = "left" if place < texts else "right"
        shown.add_column(heading, justify=justify, no_wrap=place > 0, overflow="fold", max_width=limit)
    for row in rows:
        # A Text and not a str: a name may look like rich's markup.
        shown.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return shown


def _sections(sections: Iterable[Section]) -> Group:
    return Group(*(part for section in sections for part in _section(section)))


def _section(section: Section) -> list[RenderableType]:
    """Return a section's heading, sentences and tables; pictures are for other places."""
    parts: list[RenderableType] = [Text(section.title, style="bold"), *map(Text, section.said)]
    parts += [
        console_table(one.headings, one.words(), texts=one.texts) for one in section.blocks if isinstance(one, Table)
    ]
    return [*parts, Text("")]


def _named(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> RichTable:
    """Return a table whose first column names files."""
    return console_table(headings, rows, widest=LONGEST_NAME + 2)


def _name(name: str) -> str:
    return "  " + clean(name, LONGEST_NAME)


def _figures(report: Report) -> RichTable:
    places = [FIGURE_HEADINGS.index(heading) for heading in _COLUMNS]
    rows: list[list[str | Text]] = []
    for runtime in runtimes(report):
        rows.append([Text(runtime_name(runtime), style="bold")])
        rows += [[_name(row[0]), *(row[place] for place in places)] for row in figures_rows(report, runtime)]
    return _named(("", *_COLUMNS.values()), rows)


def _sizes(report: Report) -> list[RenderableType]:
    rows = [[_name(one.name), *size_cells(one, report, "{} {}%")] for one in report.artifacts]
    loaded = [(clean(one.name), *load_cells(one)) for one in report.artifacts if one.load_ms is not None]
    taken = "; ".join(f"{name} {milliseconds} ms, {memory} MB" for name, milliseconds, memory in loaded)
    lines = [SHORT_MEANING, *([f"to load: {taken}"] if loaded else [])]
    headings = ("MB", "bits", "nominal", "payload", "file", "zipped")
    return [Text(""), _named(headings, rows), *(Text(line, style="dim") for line in lines), Text("")]


def _integers(report: Report) -> list[Text]:
    lines = []
    for artifact in report.artifacts:
        said = integer_said(artifact)
        if said:
            lines.append(Text(f"{clean(artifact.name)}: {said[1]}", style="dim" if said[0] else ALARM))
        lines += [Text(f"  in float: {island_said(island)}") for island in artifact.islands]
    return lines


def _parity(report: Report) -> list[Text]:
    ledger = ledger_line(report)
    return [Text(ledger[1], style="dim" if ledger[0] else ALARM)] if ledger else []


def _budgets(report: Report) -> list[Text]:
    widths = [Text(allocation_said(report.allocation))] if report.allocation else []
    if report.budget is None:
        return widths
    met, said = budget_said(report.budget)
    return [*widths, Text(said, style="" if met else ALARM)]


def _verification(block: VerificationBlock) -> RichTable:
    headings = ("", "accuracy", "spread", *(f"TAR@{far}" for far in rates_of(block)))
    rows = [[_name(name), accuracy, spread, *rest] for name, accuracy, spread, _, *rest in verification_rows(block)]
    return _named(headings, rows)
