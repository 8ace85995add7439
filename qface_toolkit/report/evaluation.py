"""An evaluation for people: the same sentences and tables on the terminal and in Markdown."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._evaluation_tables import ACCURACY, CHANGED, Section, evaluation_sections
from qface_toolkit.report._evaluation_verdict import evaluation_verdict
from qface_toolkit.report._headline import plain
from qface_toolkit.report._markup import escape, markdown_table, said_markdown
from qface_toolkit.report.suite import TITLES, Suite, suite_sections
from qface_toolkit.report.terminal import told

PLOT = "evaluation.svg"
LONGEST_LINE = 1000


def render_evaluation(found: Evaluation) -> RenderableType:
    """Return an evaluation for a rich console of 80 columns or more, the verdict last, where a terminal ends.

    The pairs that changed are in the files.
    """
    shown = [section for section in evaluation_sections(found) if section.title != CHANGED]
    return Group(_rendered_all(shown), *told(evaluation_verdict(found)))


def alarms(found: Evaluation | Suite) -> list[str]:
    """Return what must not be overlooked, for where an evaluation is not shown to a person."""
    judged = found.evaluations.values() if isinstance(found, Suite) else (found,)
    return [plain(said) for one in judged for said in evaluation_verdict(one) if said.alarm]


def render_suite(suite: Suite) -> RenderableType:
    """Return the table of a suite for a rich console of 80 columns or more."""
    return _rendered_all(suite_sections(suite))


def _rendered_all(sections: list[Section]) -> Group:
    return Group(*(part for section in sections for part in _rendered(section)))


def _rendered(section: Section) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(section.title, style="bold")] if section.title else []
    parts += [Text(line) for line in section.said]
    if section.rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place, heading in enumerate(section.headings):
            table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0, overflow="fold")
        for row in section.rows:
            table.add_row(*map(Text, row))
        parts.append(table)
    return [*parts, Text("")]


def evaluation_markdown(found: Evaluation) -> str:
    """Return evaluation.md."""
    picture = found.figures.every_pair or found.figures.pair_list
    parts = [f"# {escape(found.model.name)} on {escape(found.data.name)}", *said_markdown(evaluation_verdict(found))]
    for section in evaluation_sections(found):
        parts += section_markdown(section)
        if section.title == ACCURACY and picture:
            parts.append(f"![DET curve and scores]({PLOT})")
    return "\n\n".join(parts) + "\n"


def suite_markdown(suite: Suite) -> str:
    """Return suite.md: the table of all sets, and what there is to say of each."""
    parts = [part for section in suite_sections(suite) for part in section_markdown(section)]
    for key, found in suite.evaluations.items():
        parts += [f"# {TITLES[key]}", *said_markdown(evaluation_verdict(found))]
        parts += [part for section in evaluation_sections(found) for part in section_markdown(section)]
    return "\n\n".join(parts) + "\n"


def section_markdown(section: Section) -> list[str]:
    """Return a section's heading, sentences and table, each a part of a page."""
    parts = [f"## {section.title}"] if section.title else []
    parts += [escape(line, LONGEST_LINE) for line in section.said]
    if section.rows:
        rows = [[escape(cell) for cell in row] for row in section.rows]
        parts.append("\n".join(markdown_table([escape(heading) for heading in section.headings], rows)))
    return parts
