"""An evaluation for people: the same sentences and tables on the terminal and in Markdown."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._evaluation_tables import ACCURACY, CHANGED, Section, evaluation_sections
from qface_toolkit.report._markup import escape, markdown_table

PLOT = "evaluation.svg"


def render_evaluation(found: Evaluation) -> RenderableType:
    """Return an evaluation for a rich console of 80 columns or more; the pairs that changed are in the files."""
    parts: list[RenderableType] = []
    for section in evaluation_sections(found):
        if section.title != CHANGED:
            parts += _rendered(section)
    return Group(*parts)


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
    title = f"# {escape(found.model.name)} on {escape(found.data.name)}"
    parts = [title]
    for section in evaluation_sections(found):
        lines = [f"## {section.title}"] if section.title else []
        lines += [escape(line, 1000) for line in section.said]
        if section.rows:
            rows = [[escape(cell) for cell in row] for row in section.rows]
            lines.append("\n".join(markdown_table([escape(heading) for heading in section.headings], rows)))
        parts.append("\n\n".join(lines))
        if section.title == ACCURACY:
            parts.append(f"![DET curve and scores]({PLOT})")
    return "\n\n".join(parts) + "\n"
