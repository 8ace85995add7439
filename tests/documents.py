"""What stands in the documents: pages, their blocks of code with the output shown beneath, their links and headings."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "recipes/README.md",
    ROOT / "calibration/README.md",
    ROOT / ".github/actions/qface-check/README.md",
)
"""Every page whose commands and snippets are run."""
ALL_PAGES = (*PAGES, ROOT / "benchmarks/README.md", ROOT / "qface_toolkit/models/demo.md", ROOT / "CHANGELOG.md")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\S+\.(?:yaml|py))\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NUMBER = re.compile(r"[<>+-]?\d[\d.,]*(?:e-?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of code; `said` is the output that is shown beneath it, `name` the file that its first line names."""

    language: str
    text: str
    said: str | None
    name: str | None

    def commands(self):
        """Return the lines of a shell block, comments taken off and continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def title(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    found = [(language, text, said) for language, text, said in _BLOCK.findall(page.read_text("utf-8"))]
    wanted = [one for one in found if not languages or one[0] in languages]
    return [Block(language, text, said or None, _named(text)) for language, text, said in wanted]


def _named(text):
    found = _NAME.match(text)
    return found[1] if found else None


def links(page):
    """Return where the links of a page lead within the repository, code left out."""
    text = re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", page.read_text("utf-8")))
    return [target for target in _LINK.findall(text) if "://" not in target]


def anchors(page):
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sentences(page):
    """Return the words that a page says itself: without code, names in code and generated tables."""
    text = re.sub(r"<!-- (\S+):begin -->.*?<!-- \1:end -->", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", text))


def masked(text):
    """Return an output's words with every figure masked and rules and line breaks evened out."""
    plain = re.sub(r"[─━]+", "─", text)
    return " ".join(_NUMBER.sub("#", plain).split())


def shows(shown, output):
    """Tell whether an output is as shown but for its figures; a line of "..." stands for whatever is left out."""
    parts = [re.escape(masked(part)) for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    return re.fullmatch(r".*".join(parts), masked(output)) is not None


def arguments(line):
    """Return the arguments behind `qface`."""
    program, *args = shlex.split(line)
    assert program == "qface"
    return args
