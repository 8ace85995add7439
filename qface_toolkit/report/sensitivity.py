"""Where the loss is, in words, in a table and in a plot: for the terminal and for report.md."""

import io
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.report._sensitivity import QuantizerFigures, SensitivityBlock
from qface_toolkit.report.figures import clean

PLOT = "sensitivity.svg"
HEADINGS = ("quantizer", "of", "loss alone", "gain left out")
SHOWN = 40
LABELLED = 5
LONGEST_NAME = 40
_SMALLEST = 1e-5
_COLORS = {"activation": "#0072b2", "weights": "#d55e00"}
"""Two of Okabe and Ito's colours, which colour-blind people can tell apart."""

_STYLE: dict[str, Any] = {"svg.hashsalt": "qface", "svg.fonttype": "none", "font.size": 9.0}
"""What makes a plot the same bytes each time; letters stay letters, in whatever font the reader has."""


def sensitivity_said(block: SensitivityBlock) -> str:
    """Return in two sentences what is lost, and to what."""
    images = f"mean of {block.images} held-out drawings"
    what = f"1 - cosine to the same weights unrounded, {images}, in the {clean(block.simulation)} simulation"
    parts = f"{_loss(block.activations_loss)} by activations alone and {_loss(block.weights_loss)} by weights alone"
    worst = block.by_loss()[:1]
    most = f" Most is lost by {_named(worst[0])}: {_loss(worst[0].loss_alone)} alone." if worst else ""
    return f"Rounding loses {_loss(block.loss)} ({what}): {parts}.{most}"


def _named(one: QuantizerFigures) -> str:
    return clean(one.name, LONGEST_NAME) if one.kind == "activation" else f"the weights of {clean(one.name)}"


def _loss(value: float) -> str:
    return f"{value:.5f}" if value == 0 or value >= _SMALLEST else f"<{_SMALLEST:.5f}"


def worst_quantizers(block: SensitivityBlock, most: int) -> list[list[str]]:
    """Return the rows of a table (see HEADINGS) of the quantizers that lose most alone."""
    return [
        [clean(one.name, LONGEST_NAME), one.kind, _loss(one.loss_alone), f"{one.gain_left_out:+.5f}"]
        for one in block.by_loss()[:most]
    ]


def render_sensitivity(block: SensitivityBlock) -> RenderableType:
    """Return the table for a rich console of 80 columns or more."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if place < 2 else "right", no_wrap=place > 0, overflow="fold")
    for name, *cells in worst_quantizers(block, SHOWN):
        table.add_row(Text(name), *cells)
    left = len(block.quantizers) - SHOWN
    more = [Text(f"and {left} more that lose less; --json has all", style="dim")] if left > 0 else []
    return Group(table, *more, Text(""), Text(sensitivity_said(block)))


def sensitivity_plot(
    block: SensitivityBlock, kind: str = "svg", size: tuple[float, float] = (9, 5), *, titled: bool = True
) -> bytes:
    """Return a picture of the block: every quantizer in order of execution, alone above and left out below.

    `size` is width and height in inches.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for name, color in _COLORS.items():
            found = [(place, one) for place, one in enumerate(block.quantizers) if one.kind == name]
            places, effects = [place for place, _ in found], [one for _, one in found]
            above.bar(places, [one.loss_alone for one in effects], width=0.9, color=color, label=name)
            below.bar(places, [one.gain_left_out for one in effects], width=0.9, color=color)
        above.legend(frameon=False, loc="upper center", ncols=2)
        above.margins(x=0.01, y=0.15)
        for one in _labelled(block):
            _label(above, one, block)
        told = f"{clean(block.simulation)} simulation, {block.images} images, everything on: {_loss(block.loss)}"
        if titled:
            above.set_title(f"What each quantizer loses ({told})", parse_math=False)
        above.set(ylabel="loss of cosine alone")
        below.set(ylabel="gain left out", xlabel="quantizers in order of execution")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _labelled(block: SensitivityBlock) -> list[QuantizerFigures]:
    """Return the few worst quantizers whose names do not stand in each other's way."""
    chosen: list[QuantizerFigures] = []
    places = {(one.kind, one.name): place for place, one in enumerate(block.quantizers)}
    for one in block.by_loss()[:LABELLED]:
        beside = [
            other
            for other in chosen
            if abs(places[other.kind, other.name] - places[one.kind, one.name]) < len(places) / 4
            and abs(other.loss_alone - one.loss_alone) < block.by_loss()[0].loss_alone / 12
        ]
        chosen += [] if beside else [one]
    return chosen


def _label(axes: Any, one: QuantizerFigures, block: SensitivityBlock) -> None:  # noqa: ANN401 - its type is matplotlib's
    place = block.quantizers.index(one)
    side, offset = ("right", -3) if place > len(block.quantizers) / 2 else ("left", 3)
    what = {"textcoords": "offset points", "ha": side, "parse_math": False}
    axes.annotate(clean(one.name, LONGEST_NAME), (place, one.loss_alone), (offset, 3), **what)
