"""What `qface check` prints: a table of every figure in 80 columns, and a sentence for each that is not fine."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.gate.verdict import Finding, Verdict
from qface_toolkit.gate.words import exceptions, headline, mark, shown, unchecked
from qface_toolkit.report._figures import clean

STYLES = {
    "failed": "bold red",
    "inconclusive": "yellow",
    "not looked at": "yellow",
    "not comparable": "dim",
    "passed": "",
}
LONGEST_NAME = 20
LONGEST_FIGURE = 21


def render(verdict: Verdict) -> RenderableType:
    """Return the verdict for a rich console of 80 columns or more; first and last, as logs are read from their end."""
    head = Text(headline(verdict), "bold red" if verdict.failed else "bold")
    timed = [one for one in verdict.of("passed") if one.figure == "latency_ratio"]
    parts = [Text(f"{mark(one)}: {clean(text, 600)}", STYLES[one.outcome]) for one, text in exceptions(verdict)]
    parts += [Text(f"{mark(one)}: {clean(one.artifact)}: {clean(one.said, 600)}") for one in timed]
    parts += [Text(f"not checked: {clean(text)}") for text in unchecked(verdict)]
    parts += [Text(f"note: {clean(note)}") for note in verdict.notes]
    return Group(head, Text(""), _table(verdict), Text(""), *parts, head)


def _table(verdict: Verdict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("file", max_width=LONGEST_NAME, overflow="fold")
    table.add_column("figure", max_width=LONGEST_FIGURE, overflow="fold")
    for heading in ("measured", "baseline", "allowed"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    for finding in verdict.findings:
        table.add_row(*_row(finding, finding.artifact != last))
        last = finding.artifact
    return table


def _row(finding: Finding, first: bool) -> list[Text]:
    name = clean(finding.artifact, LONGEST_NAME) if first else ""
    cells = (mark(finding), name, clean(finding.figure), *shown(finding))
    return [Text(cell, STYLES[finding.outcome]) for cell in cells]
