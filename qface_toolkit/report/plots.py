"""The plots of report.html: each is one SVG that fits a phone, drawn in the colours that `_inline_svg` knows."""

import io
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from qface_toolkit.report._agreement import AgreementFigures
from qface_toolkit.report._cost import CostFigures
from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._ledger import LayerFigures
from qface_toolkit.report._sensitivity import SensitivityBlock
from qface_toolkit.report.evaluation_plot import evaluation_plots
from qface_toolkit.report.figures import clean, cosine
from qface_toolkit.report.sensitivity import sensitivity_plot

SIZE = (5.6, 3.9)
"""Inches: with letters of 9 points a plot is legible on a screen of 400 pixels."""

LABELLED = 3
LONGEST_LABEL = 28
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "qface",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
_WORTH_A_NAME = 0.4
"""Lower bars, as a share of the highest, stay without a name: it would lie across their neighbours."""

_LETTER, _LINE = 0.017, 0.19
"""How wide a letter is, as a share of the plot, and how high a line, as a share of the highest bar."""

_GREY, _BLUE, _ORANGE = "#555555", "#0072b2", "#d55e00"


def quietly(draw: Callable[[], bytes]) -> bytes:
    """Return a plot; that its font lacks the letters of somebody's layer names is no matter, the page's font draws."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        return draw()


def sensitivity_picture(block: SensitivityBlock) -> bytes:
    """Return what each quantizer loses."""
    return quietly(partial(sensitivity_plot, block, size=(SIZE[0], 4.2), titled=False))


def evaluation_pictures(found: Evaluation) -> list[bytes]:
    """Return the DET curves and the histograms of scores, those there are."""
    return evaluation_plots(found, SIZE)


def cost_picture(cost: CostFigures) -> bytes:
    """Return the bytes of each layer above, and its milliseconds, where they were measured, below."""
    panels = [("kilobytes", [layer.size_bytes / 1e3 for layer in cost.layers], _GREY)]
    if cost.time_ms is not None:
        panels.append(("milliseconds", [layer.time_ms or 0.0 for layer in cost.layers], _BLUE))
    names = [layer.name for layer in cost.layers]
    return quietly(partial(_picture, partial(_draw_bars, panels=panels, names=names), len(panels)))


def cosine_picture(layers: LayerFigures) -> bytes:
    """Return each tensor's cosine to float, in order of execution, and how far each falls by itself."""
    return quietly(partial(_picture, partial(_draw_cosines, layers=layers), 2))


def histogram_picture(found: AgreementFigures) -> bytes:
    """Return how many images have which cosine; there must be a histogram."""
    return quietly(partial(_picture, partial(_draw_histogram, found=found), 1))


def _picture(draw: Callable[[Sequence[Any]], None], panels: int) -> bytes:
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(list(figure.subplots(panels, 1, sharex=panels > 1, squeeze=False)[:, 0]))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_bars(axes: Sequence[Any], panels: Sequence[tuple[str, list[float], str]], names: Sequence[str]) -> None:
    for one, (unit, values, color) in zip(axes, panels, strict=True):
        one.bar(range(len(values)), values, width=0.85, color=color)
        one.set_ylabel(unit)
        one.margins(x=0.01, y=0.2)
        _label_largest(one, values, names)
    axes[-1].set_xlabel("layers in order of execution")


def _draw_cosines(axes: Sequence[Any], layers: LayerFigures) -> None:
    above, below = axes
    names, places = [one.tensor for one in layers.tensors], range(len(layers.tensors))
    above.plot(places, [one.cosine for one in layers.tensors], color=_BLUE, marker=".", markersize=4, linewidth=1)
    above.set_ylabel("cosine to float")
    above.grid(True, axis="y", alpha=0.4)
    above.ticklabel_format(useOffset=False)
    drops = [one.drop for one in layers.tensors]
    below.bar(places, drops, width=0.85, color=_ORANGE)
    below.set(ylabel="drop by itself", xlabel="tensors in order of execution")
    below.margins(x=0.01, y=0.25)
    _label_largest(below, drops, names)


def _draw_histogram(axes: Sequence[Any], found: AgreementFigures) -> None:
    if found.histogram is None:
        return
    only = axes[0]
    only.stairs(found.histogram.counts, found.histogram.edges, fill=True, color=_BLUE)
    only.axvline(found.cosine_mean, color=_ORANGE, linewidth=1.5, label=f"mean {cosine(found.cosine_mean)}")
    below = f"1 % lie below {cosine(found.cosine_p1)}"
    only.axvline(found.cosine_p1, color=_GREY, linewidth=1.5, linestyle="--", label=below)
    only.set(xlabel="cosine to the float model", ylabel="images")
    only.ticklabel_format(useOffset=False)
    only.locator_params(axis="x", nbins=6)
    only.locator_params(axis="y", integer=True)
    only.legend(frameon=False, loc="upper left")


def _label_largest(axes: Any, values: Sequence[float], names: Sequence[str]) -> None:  # noqa: ANN401 - its type is matplotlib's
    """Write names at the largest bars, but not over each other."""
    most, placed = max(values, default=0.0), list[tuple[float, float, float]]()
    for place in sorted(range(len(values)), key=lambda place: -values[place]):
        if values[place] <= _WORTH_A_NAME * most or len(placed) == LABELLED:
            return
        name, left = clean(names[place], LONGEST_LABEL), place > len(values) / 2
        wide = len(name) * _LETTER * len(values)
        span = (place - wide, place, values[place]) if left else (place, place + wide, values[place])
        if any(_overlap(span, other, most) for other in placed):
            continue
        placed.append(span)
        side, offset = ("right", -2) if left else ("left", 2)
        axes.annotate(name, (place, values[place]), (offset, 2), textcoords="offset points", ha=side)


def _overlap(one: tuple[float, float, float], other: tuple[float, float, float], most: float) -> bool:
    beside = one[1] < other[0] or other[1] < one[0]
    return not beside and abs(one[2] - other[2]) < _LINE * most
