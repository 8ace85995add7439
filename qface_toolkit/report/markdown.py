"""Markdown of sections: report.md, evaluation.md and the like; nothing from outside can be markup or HTML."""

import re
from collections.abc import Iterable, Iterator, Sequence

from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.evaluation_sections import evaluation_sections
from qface_toolkit.report.evaluation_verdict import evaluation_verdict
from qface_toolkit.report.figures import LONGEST_TEXT, clean
from qface_toolkit.report.page import Block, Code, Facts, Notes, Plot, Said, Section, Table
from qface_toolkit.report.schema import Report
from qface_toolkit.report.sections import report_sections
from qface_toolkit.report.suite import TITLES, Suite, suite_sections
from qface_toolkit.report.summary import verdict
from qface_toolkit.report.training import Training
from qface_toolkit.report.training_sections import training_sections
from qface_toolkit.report.training_verdict import training_verdict

LONGEST_SENTENCE = 4000
_MARKUP = re.compile(r"[\\`*_\[\]|~#]")
_FIGURE = re.compile(r">?[\d.]+")
"""What stays as it is within a table: there, a sign such as that of >0.9999 cannot be markup."""
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_markdown(report: Report, evaluation: Evaluation | None = None) -> str:
    """Return the report as GitHub-flavoured Markdown, without what only the page has room for.

    `evaluation` is one of a file of the report.
    """
    sections = [one for one in report_sections(report, evaluation) if not one.page_only]
    return markdown_page(f"{report.source.name}, compressed", verdict(report, evaluation), sections)


def evaluation_markdown(found: Evaluation) -> str:
    """Return evaluation.md."""
    return markdown_page(
        f"{found.model.name} on {found.data.name}", evaluation_verdict(found), evaluation_sections(found)
    )


def training_markdown(training: Training) -> str:
    """Return the report of a training as Markdown, without its curves, which only the page has room for."""
    sections = [one for one in training_sections(training) if not one.page_only]
    return markdown_page(f"{training.student.name}, trained", training_verdict(training), sections)


def suite_markdown(suite: Suite) -> str:
    """Return suite.md: the table of all sets, and what there is to say of each."""
    parts = [part for section in suite_sections(suite) for part in _section(section)]
    pages = (
        markdown_page(TITLES[key], evaluation_verdict(found), evaluation_sections(found))
        for key, found in suite.evaluations.items()
    )
    return "\n\n".join((*parts, *map(str.rstrip, pages))) + "\n"


def markdown_page(title: str, said: Iterable[Said], sections: Iterable[Section]) -> str:
    """Return a page: its title, what must be known, and the sections."""
    parts = [f"# {escape(title)}", *_verdict(said), *(part for section in sections for part in _section(section))]
    return "\n\n".join(parts) + "\n"


def escape(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", clean(text, longest)).translate(_ENTITIES)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Return a table; the first `texts` columns hold words, the others figures."""
    rule = [*["---"] * texts, *["--:"] * (len(headings) - texts)]
    lines = (map(escape, headings), rule, *(map(_cell, row) for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    return text if _FIGURE.fullmatch(text) else escape(text)


def _verdict(sentences: Iterable[Said]) -> list[str]:
    """Return sentences as paragraphs, each alarm as a quotation that begins in bold."""
    shown = [(said.alarm, escape(said.text, LONGEST_SENTENCE)) for said in sentences]
    alarms = [f"> **Alarm:** {text}" for alarm, text in shown if alarm]
    rest = " ".join(text for alarm, text in shown if not alarm)
    return [*alarms, *([rest] if rest else [])]


def _section(section: Section, level: int = 2) -> Iterator[str]:
    """Yield the paragraphs of a section: heading, sentences, blocks and smaller sections."""
    if section.title:
        yield f"{'#' * level} {escape(section.title)}"
    yield from (escape(line, LONGEST_SENTENCE) for line in section.said)
    for block in section.blocks:
        yield from _block(block, section.title)
    for part in section.parts:
        yield from _section(part, level + 1)


def _block(block: Block, title: str) -> Iterator[str]:
    match block:
        case Table():
            if block.caption not in ("", title):
                yield f"*{escape(block.caption)}*"
            yield markdown_table(block.headings, block.words(), block.texts)
        case Notes(lines=lines) if lines:
            yield "\n".join(f"- {escape(line, LONGEST_SENTENCE)}" for line in lines)
        case Facts(pairs=pairs):
            yield "\n".join(f"- {escape(name)}: {escape(value, LONGEST_SENTENCE)}" for name, value in pairs)
        case Code():
            yield f"{escape(block.label)}:"
            yield "\n".join(f"    {line}" for line in block.text.splitlines())
        case Plot() if block.file:
            yield f"![{escape(block.alt)}]({block.file})"
