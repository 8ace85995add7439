"""A verdict as people and CI systems read it: on the terminal, as Markdown, as JUnit XML and as plain values."""

import unicodedata
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.gate.verdict import (
    Finding,
    Verdict,
    exceptions,
    headline,
    mark,
    shown,
    unchecked,
    worst_first,
)
from qface_toolkit.report.figures import clean
from qface_toolkit.report.markdown import escape, markdown_table
from qface_toolkit.untrusted.writing import append_to, disk_errors, write_inside

STYLES = {
    "failed": "bold red",
    "inconclusive": "yellow",
    "not looked at": "yellow",
    "not comparable": "dim",
    "passed": "",
}
LONGEST_NAME = 20
LONGEST_FIGURE = 21
LONGEST_SENTENCE = 600
SHOWN_SENTENCES = 50
PASSED = "system-out"
NOT_CHECKED = "not checked"
Case = tuple[str, str, str, str]
"""Suite, name, element and text."""


def render(verdict: Verdict) -> RenderableType:
    """Return the verdict for a rich console of 80 columns or more; first and last, as logs are read from their end."""
    head = Text(headline(verdict), "bold red" if verdict.failed else "bold")
    timed = [one for one in verdict.of("passed") if one.figure == "latency_ratio"]
    parts = [
        Text(f"{mark(one)}: {clean(text, LONGEST_SENTENCE)}", STYLES[one.outcome]) for one, text in exceptions(verdict)
    ]
    parts += [Text(f"{mark(one)}: {clean(one.artifact)}: {clean(one.said, LONGEST_SENTENCE)}") for one in timed]
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


def to_markdown(verdict: Verdict, model: str) -> str:
    """Return the verdict as Markdown; `model` is the model's name."""
    lines = [f"## qface check: {escape(model)}", "", f"**{escape(headline(verdict))}**", ""]
    said = [f"- {mark(one)}: {escape(text, LONGEST_SENTENCE)}" for one, text in exceptions(verdict)]
    lines += said[:SHOWN_SENTENCES]
    lines += [f"- not checked: {escape(text)}" for text in unchecked(verdict)]
    lines += [f"- note: {escape(note)}" for note in verdict.notes]
    rows = [(mark(one), one.artifact, one.figure, *shown(one)) for one in worst_first(verdict.findings)]
    headings = ("", "file", "figure", "measured", "baseline", "allowed")
    return "\n".join([*lines, "", markdown_table(headings, rows, texts=3), ""])


def to_junit(verdict: Verdict) -> bytes:
    """Return the verdict as JUnit XML: a test case for each figure, a suite for each file, one for what is not checked.

    Every CI system can show it. Where the verdict is strict, what was skipped fails there too.
    """
    cases = [(one.artifact, one.figure, *_state(one, verdict.strict)) for one in verdict.findings]
    cases += [(NOT_CHECKED, one.what, "skipped", f"not checked: {one.why}") for one in verdict.unchecked]
    root = ElementTree.Element("testsuites", _counts(cases) | {"name": "qface check"})
    for name in dict.fromkeys(suite for suite, *_ in cases):
        ours = [case for case in cases if case[0] == name]
        suite = ElementTree.SubElement(root, "testsuite", _counts(ours) | {"name": _printable(name)})
        for case in ours:
            _add_case(suite, *case)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    states = [state for _, _, state, _ in cases]
    counted = {"tests": len(states), "failures": states.count("failure"), "skipped": states.count("skipped")}
    return {key: str(count) for key, count in {**counted, "errors": 0}.items()}


def _add_case(suite: ElementTree.Element, name: str, figure: str, state: str, said: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": _printable(name), "name": _printable(figure)})
    told = _printable(said)
    part = ElementTree.SubElement(case, state, {} if state == PASSED else {"message": told})
    part.text = told


def _state(finding: Finding, strict: bool) -> tuple[str, str]:
    """Return the element that a case gets, and what it says."""
    if finding.outcome == "passed":
        return PASSED, finding.said
    if finding.outcome == "failed":
        return "failure", finding.said
    return "failure" if strict else "skipped", f"{finding.outcome}: {finding.said}"


def _printable(text: str) -> str:
    """Return text without what XML cannot hold, not even escaped: control characters and halves of pairs."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in ("Cc", "Cs", "Cn") and sign not in "\n\t" else sign
        for sign in text
    )


def write_page(path: Path, page: bytes, *, append: bool = False) -> None:
    """Write a page, or add it to what other steps of a job have written.

    Raises:
        ArtifactError: if the disk does not let us.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if append:
            append_to(path, page)
        else:
            write_inside(path.parent, path.name, page)


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as the one object that `--json` prints.

    `outcome` is passed, failed or inconclusive; `said` the headline; `compared` and `total` count figures; `skipped`
    are the findings on figures that were not compared or could not be told from noise, each with its reason in `said`;
    `unchecked` is what no check was asked for (`what`, `why`); `findings` has every figure, `notes` sentences.
    """
    counted = {"compared": verdict.compared, "total": len(verdict.findings)}
    skipped = [asdict(one) for one in verdict.skipped]
    return {"outcome": verdict.outcome, "said": headline(verdict), **counted, "skipped": skipped, **asdict(verdict)}
