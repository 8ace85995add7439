"""What Markdown pages are made of: text that shows as it is, and tables."""

import re
from collections.abc import Iterable, Sequence

from qface_toolkit.report._page import Said
from qface_toolkit.report.figures import LONGEST_TEXT, clean

LONGEST_SENTENCE = 1000
_MARKUP = re.compile(r"[\\`*_\[\]|~#]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def escape(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", clean(text, longest)).translate(_ENTITIES)


def said_markdown(sentences: Iterable[Said]) -> list[str]:
    """Return sentences as paragraphs, each alarm as a quotation that begins in bold."""
    shown = [(said.alarm, escape(said.text, LONGEST_SENTENCE)) for said in sentences]
    alarms = [f"> **Alarm:** {text}" for alarm, text in shown if alarm]
    rest = " ".join(text for alarm, text in shown if not alarm)
    return [*alarms, *([rest] if rest else [])]


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose cells are escaped; all columns but the first are figures."""
    rule = ["---", *["--:"] * (len(headings) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]
