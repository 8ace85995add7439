"""What a page is made of: sections of sentences, tables, plots and code, as plain values that every renderer shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A figure of a table with a bar behind it, `share` of the column's width: 0..1."""

    text: str
    share: float


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; the first `texts` columns are words, the others figures."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    texts: int = 1

    def words(self) -> list[list[str]]:
        """Return the rows for where no bars can be drawn."""
        return [[cell if isinstance(cell, str) else cell.text for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Plot:
    """A picture that `draw` gives as SVG where it is wanted, with what it shows below it.

    `said` is one sentence for who cannot see it: the figures are read from the tables. `file` is the name of a picture
    beside the page that shows the same, if there is one, and `alt` what that one shows.
    """

    key: str
    caption: str
    said: str
    draw: Callable[[], bytes]
    file: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Photo:
    """A picture of pixels, as a data: address, with its size and what it shows."""

    address: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to be copied."""

    label: str
    text: str


@dataclass(frozen=True)
class Notes:
    """Short lines."""

    lines: Sequence[str]


Block = Table | Plot | Photo | Facts | Code | Notes


@dataclass(frozen=True)
class Section:
    """A heading, sentences, blocks, and smaller sections; `key` is its address within the page.

    What is `page_only` is too long for a text: report.html alone has it.
    """

    key: str
    title: str
    said: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    parts: Sequence["Section"] = ()
    page_only: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar of a card: `kind` is its colour, float, fast or int8."""

    label: str
    value: str
    share: float
    kind: str


@dataclass(frozen=True)
class Card:
    """One of the few figures on the first screen: `figure` large, `said` small, bars that compare."""

    title: str
    figure: str
    said: str
    bars: Sequence[Bar]
    scale: str = ""
    alarm: bool = False


@dataclass(frozen=True)
class Sign:
    """Something a reader must know before shipping: fine, or to be looked at."""

    fine: bool
    text: str


@dataclass(frozen=True)
class Said:
    """A sentence of the first screen; an `alarm` must not be overlooked."""

    text: str
    alarm: bool = False

    @property
    def plain(self) -> str:
        """The sentence for where there are no colours: an alarm says that it is one."""
        return f"ALARM: {self.text}" if self.alarm else self.text
