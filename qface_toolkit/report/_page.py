"""What a page is made of: sections of sentences, tables, plots and code, as plain values that a template can show."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


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


@dataclass(frozen=True)
class Plot:
    """A picture with what it shows below it."""

    svg: Markup
    caption: str


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
    """A heading, sentences, blocks, and smaller sections; `key` is its address within the page."""

    key: str
    title: str
    said: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    parts: Sequence["Section"] = ()


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
