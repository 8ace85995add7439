"""The page that a CI job shows of a check: the verdict first, then what failed, then every figure."""

from qface_toolkit.gate.verdict import Verdict, worst_first
from qface_toolkit.gate.words import headline, mark, shown
from qface_toolkit.report._markup import escape, markdown_table

SHOWN_SENTENCES = 50


def to_markdown(verdict: Verdict, model: str) -> str:
    """Return the verdict as Markdown; `model` is the model's name."""
    lines = [f"## qface check: {escape(model)}", "", f"**{escape(headline(verdict))}**", ""]
    said = [one for one in worst_first(verdict.findings) if one.outcome != "passed"]
    lines += [f"- {mark(one)}: {escape(one.artifact)}: {escape(one.said, 600)}" for one in said[:SHOWN_SENTENCES]]
    lines += [f"- note: {escape(note)}" for note in verdict.notes]
    rows = [(mark(one), escape(one.artifact), escape(one.figure), *shown(one)) for one in worst_first(verdict.findings)]
    headings = ("", "file", "figure", "measured", "baseline", "allowed")
    return "\n".join([*lines, "", *markdown_table(headings, rows), ""])
