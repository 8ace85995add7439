"""What a figure may be, and how it is put into words: all pages, and all rooms, say it by the words of this file."""

import unicodedata
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.runtimes import runtime_of
from qface_toolkit.runtimes.fusion import KEPT

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Rate = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
NOTHING = "-"
LONGEST_TEXT = 300
LONGEST_KIND = 30
_ALMOST_ONE = 0.999995
_SMALLEST_LOSS = 1e-5
_LONGEST_SECONDS = 36e6


class Block(BaseModel):
    """A part of a report: no unknown keys, no NaN, no infinity, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a stranger's text on one line, without control characters (a name may hold escape codes), cut if long."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" else sign for sign in text)
    line = " ".join(shown.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def runtime_name(runtime: str) -> str:
    """Return what people call a runtime."""
    return clean(runtime_of(runtime).title)


def megabytes(size_bytes: int) -> str:
    """Return a size in millions of bytes, without its unit."""
    return f"{size_bytes / 1e6:.2f}"


def milliseconds(value: float) -> str:
    """Return a time in three digits, without its unit."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def threads(count: int) -> str:
    """Return a number of threads."""
    return "1 thread" if count == 1 else f"{count} threads"


def times(value: float | None) -> str:
    """Return a ratio."""
    return NOTHING if value is None else f"{value:.2f}x"


def cosine(value: float | None) -> str:
    """Return a cosine in four digits; what is not quite one is not shown as one."""
    if value is None:
        return NOTHING
    return ">0.9999" if 0.99995 <= value < 1 else f"{value:.4f}"


def percent(value: float) -> str:
    """Return a rate in percent."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    if seconds >= _LONGEST_SECONDS:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def training_loss(value: float) -> str:
    """Return a loss that is trained on; it may be of any size."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def fine_cosine(value: float, *, exact: bool = False) -> str:
    """Return a cosine in five digits; what is not quite one is not shown as one."""
    if exact:
        return "exact"
    return ">0.99999" if value >= _ALMOST_ONE else f"{value:.5f}"


def loss(value: float) -> str:
    """Return what is lost of a cosine in five digits; what is not quite nothing is not shown as nothing."""
    return f"{value:.5f}" if value == 0 or value >= _SMALLEST_LOSS else f"<{_SMALLEST_LOSS:.5f}"


def layers_said(count: int, integer: int, name: str = "convolution", kept: int = 0) -> tuple[bool, str]:
    """Return whether layers are as they should be, and one sentence about how many of them run on integers."""
    if count == 0:
        return True, f"there are no {name}s"
    if integer == count:
        which = f"all {count} {name}s run" if count > 1 else f"the only {name} runs"
        return True, f"{which} on integers"
    if integer + kept == count:
        return True, f"{integer} of {count} {name}s run on integers, {kept} {'is' if kept == 1 else 'are'} {KEPT}"
    which = f"only {integer} of {count} {name}s run" if integer else f"none of {count} {name}s runs"
    return False, f"warning: {which} on integers"
