"""The page that a CI job shows of a check: the verdict first, then what failed, then every figure."""

from qface_toolkit.gate.verdict import Verdict, worst_first
from qface_toolkit.gate.words import exceptions, headline, mark, shown, unchecked
from qface_toolkit.report._markup import escape, markdown_table

SHOWN_SENTENCES = 50
LONGEST_SENTENCE = 600


def to_markdown(verdict: Verdict, model: str) -> str:
    """Return the verdict as Markdown; `model` is the model's name."""
    lines = [f"## qface check: {escape(model)}", "", f"**{escape(headline(verdict))}**", ""]
    said = [f"- {mark(one)}: {escape(text, LONGEST_SENTENCE)}" for one, text in exceptions(verdict)]
    lines += said[:SHOWN_SENTENCES]
    lines += [f"- not checked: {escape(text)}" for text in unchecked(verdict)]
    lines += [f"- note: {escape(note)}" for note in verdict.notes]
    rows = [(mark(one), escape(one.artifact), escape(one.figure), *shown(one)) for one in worst_first(verdict.findings)]
    headings = ("", "file", "figure", "measured", "baseline", "allowed")
    return "\n".join([*lines, "", *markdown_table(headings, rows), ""])
