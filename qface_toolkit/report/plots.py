"""The pictures of report.html and those beside a report: SVG that fits a phone, drawn in the colours of the page.

A picture is the same bytes each time; matplotlib is imported where one is drawn.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qface_toolkit.report.evaluation import Evaluation, EveryPairFigures, HistogramFigures
from qface_toolkit.report.figures import clean, cosine

SIZE = (5.6, 3.9)
"""Inches: with letters of 9 points a plot is legible on a screen of 400 pixels."""

LABELLED = 3
QUANTIZERS_LABELLED = 5
LONGEST_LABEL = 28
LONGEST_QUANTIZER = 40
_STYLE: dict[str, Any] = {"svg.hashsalt": "qface", "svg.fonttype": "none", "font.size": 9.0}
"""What makes a plot the same bytes each time; letters stay letters, in whatever font the reader has."""

_BARE_STYLE = _STYLE | {
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
_WORTH_A_NAME = 0.4
"""Lower bars, as a share of the highest, stay without a name: it would lie across their neighbours."""

_LETTER, _LINE = 0.017, 0.19
"""How wide a letter is, as a share of the plot, and how high a line, as a share of the highest bar."""

GREY, BLUE, ORANGE = "#555555", "#0072b2", "#d55e00"
"""Grey, and two of Okabe and Ito's colours, which colour-blind people can tell apart."""

_COLORS = {"activation": BLUE, "weights": ORANGE}
_LOWEST_FRR = 1e-4
Draw = Callable[[Sequence[Any]], None]
"""What draws on axes, one below or beside the other."""


class Effect(NamedTuple):
    """What one quantizer, of a tensor or of weights (`kind`), loses alone, and what leaving it out gains."""

    kind: str
    name: str
    loss_alone: float
    gain_left_out: float


def quantizers_picture(
    effects: Sequence[Effect], title: str = "", size: tuple[float, float] = (SIZE[0], 4.2), kind: str = "svg"
) -> bytes:
    """Return every quantizer in order of execution, alone above and left out below.

    `size` is width and height in inches.
    """
    draw = partial(_draw_effects, effects=effects, title=title)
    return _without_warnings(partial(_picture, draw, (2, 1), size, _STYLE, kind, height_ratios=(3, 2)))


def cost_picture(names: Sequence[str], kilobytes: list[float], milliseconds: list[float] | None) -> bytes:
    """Return the bytes of each layer above, and its milliseconds, where they were measured, below."""
    panels = [("kilobytes", kilobytes, GREY)]
    if milliseconds is not None:
        panels.append(("milliseconds", milliseconds, BLUE))
    return stacked(partial(_draw_bars, panels=panels, names=names), len(panels))


def channels_picture(counts: Sequence[tuple[int, int]]) -> bytes:
    """Return how many channels each layer had, and has, in order of execution."""
    return stacked(partial(_draw_channels, counts=counts), 1)


def cosine_picture(names: Sequence[str], cosines: Sequence[float], drops: Sequence[float]) -> bytes:
    """Return each tensor's cosine to float, in order of execution, and how far each falls by itself."""
    return stacked(partial(_draw_cosines, names=names, cosines=cosines, drops=drops), 2)


def histogram_picture(counts: Sequence[int], edges: Sequence[float], mean: float, percentile: float) -> bytes:
    """Return how many images have which cosine, with the mean and the 1st percentile."""
    return stacked(partial(_draw_histogram, counts=counts, edges=edges, mean=mean, percentile=percentile), 1)


def evaluation_plot(found: Evaluation, kind: str = "svg") -> bytes | None:
    """Return DET curves and scores side by side, or None where a protocol gives neither."""
    drawn = list(_evaluation_drawings(found).values())
    return _beside(drawn, (9, 4) if len(drawn) > 1 else (6, 4), kind) if drawn else None


def evaluation_pictures(found: Evaluation) -> dict[str, Callable[[], bytes]]:
    """Return what draws the DET curves, and how scores are spread, by their captions: as many as there are."""
    return {caption: partial(_beside, [draw], SIZE) for caption, draw in _evaluation_drawings(found).items()}


def _without_warnings(draw: Callable[[], bytes]) -> bytes:
    """Return a plot; that its font lacks the letters of a layer's name does not matter, as the page's font draws."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        return draw()


def stacked(draw: Draw, panels: int) -> bytes:
    """Return a plot of panels one below the other."""
    return _without_warnings(partial(_picture, draw, (panels, 1), SIZE, _BARE_STYLE, "svg"))


def _beside(drawn: Sequence[Callable[[Any], None]], size: tuple[float, float], kind: str = "svg") -> bytes:
    """Return a plot of panels beside each other, each drawn by itself."""

    def draw(axes: Sequence[Any]) -> None:
        for each, one in zip(drawn, axes, strict=True):
            each(one)

    return _picture(draw, (1, len(drawn)), size, _STYLE, kind)


def _picture(
    draw: Draw,
    shape: tuple[int, int],
    size: tuple[float, float],
    looks: dict[str, Any],
    kind: str,
    height_ratios: Sequence[int] | None = None,
) -> bytes:
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", looks]):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(*shape, sharex=shape[0] > 1, squeeze=False, height_ratios=height_ratios)
        draw(list(axes.flat))
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _draw_channels(axes: Sequence[Any], counts: Sequence[tuple[int, int]]) -> None:
    places = np.arange(len(counts))
    axes[0].bar(places, [before for before, _ in counts], color="#dddddd", width=0.9, label="before")
    axes[0].bar(places, [after for _, after in counts], color=BLUE, width=0.6, label="left")
    axes[0].set_xlabel("layers, in order of execution")
    axes[0].set_ylabel("channels")
    axes[0].legend(frameon=False)


def _draw_bars(axes: Sequence[Any], panels: Sequence[tuple[str, list[float], str]], names: Sequence[str]) -> None:
    for one, (unit, values, color) in zip(axes, panels, strict=True):
        one.bar(range(len(values)), values, width=0.85, color=color)
        one.set_ylabel(unit)
        one.margins(x=0.01, y=0.2)
        _label_largest(one, values, names)
    axes[-1].set_xlabel("layers in order of execution")


def _draw_cosines(axes: Sequence[Any], names: Sequence[str], cosines: Sequence[float], drops: Sequence[float]) -> None:
    above, below = axes
    above.plot(range(len(names)), cosines, color=BLUE, marker=".", markersize=4, linewidth=1)
    above.set_ylabel("cosine to float")
    above.grid(True, axis="y", alpha=0.4)
    above.ticklabel_format(useOffset=False)
    below.bar(range(len(names)), drops, width=0.85, color=ORANGE)
    below.set(ylabel="drop by itself", xlabel="tensors in order of execution")
    below.margins(x=0.01, y=0.25)
    _label_largest(below, drops, names)


def _draw_histogram(
    axes: Sequence[Any], counts: Sequence[int], edges: Sequence[float], mean: float, percentile: float
) -> None:
    only = axes[0]
    only.stairs(counts, edges, fill=True, color=BLUE)
    only.axvline(mean, color=ORANGE, linewidth=1.5, label=f"mean {cosine(mean)}")
    below = f"1 % lie below {cosine(percentile)}"
    only.axvline(percentile, color=GREY, linewidth=1.5, linestyle="--", label=below)
    only.set(xlabel="cosine to the float model", ylabel="images")
    only.ticklabel_format(useOffset=False)
    only.locator_params(axis="x", nbins=6)
    only.locator_params(axis="y", integer=True)
    only.legend(frameon=False, loc="upper left")


def _draw_effects(axes: Sequence[Any], effects: Sequence[Effect], title: str) -> None:
    above, below = axes
    for kind, color in _COLORS.items():
        places = [place for place, one in enumerate(effects) if one.kind == kind]
        above.bar(places, [effects[place].loss_alone for place in places], width=0.9, color=color, label=kind)
        below.bar(places, [effects[place].gain_left_out for place in places], width=0.9, color=color)
    above.legend(frameon=False, loc="upper center", ncols=2)
    above.margins(x=0.01, y=0.15)
    for place in _worst_apart(effects):
        side, offset = ("right", -3) if place > len(effects) / 2 else ("left", 3)
        what = {"textcoords": "offset points", "ha": side, "parse_math": False}
        name = clean(effects[place].name, LONGEST_QUANTIZER)
        above.annotate(name, (place, effects[place].loss_alone), (offset, 3), **what)
    if title:
        above.set_title(title, parse_math=False)
    above.set(ylabel="loss of cosine alone")
    below.set(ylabel="gain left out", xlabel="quantizers in order of execution")


def _worst_apart(effects: Sequence[Effect]) -> list[int]:
    """Return the places of the few worst quantizers whose names do not stand in each other's way."""
    worst = sorted(range(len(effects)), key=lambda place: -effects[place].loss_alone)[:QUANTIZERS_LABELLED]
    near = effects[worst[0]].loss_alone / 12 if worst else 0.0
    chosen: list[int] = []
    for place in worst:
        alone = effects[place].loss_alone
        beside = (other for other in chosen if abs(other - place) < len(effects) / 4)
        if not any(abs(effects[other].loss_alone - alone) < near for other in beside):
            chosen.append(place)
    return chosen


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


def _evaluation_drawings(found: Evaluation) -> dict[str, Callable[[Any], None]]:
    """Return what draws each part, given axes, by its caption."""
    curves, histograms = list(_curves(found)), list(_histograms(found))
    drawn: dict[str, Callable[[Any], None]] = {}
    if curves and histograms:
        drawn["DET curve: false rejects over false accepts"] = partial(_draw_det, curves=curves)
    if histograms:
        drawn["How the scores of pairs are spread"] = partial(_draw_scores, histograms=histograms)
    return drawn


def _curves(found: Evaluation) -> Iterator[tuple[str, str, EveryPairFigures]]:
    """Yield label, colour and figures of each curve, the float model's first."""
    if found.reference and found.reference_figures and found.reference_figures.every_pair:
        yield f"{clean(found.reference.name, 30)} (float)", GREY, found.reference_figures.every_pair
    if found.figures.every_pair:
        yield clean(found.model.name, 30), BLUE, found.figures.every_pair


def _histograms(found: Evaluation) -> Iterator[tuple[str, HistogramFigures]]:
    for name, figures in (("float", found.reference_figures), ("this", found.figures)):
        scored = figures and (figures.every_pair or figures.pair_list)
        if scored:
            yield name, scored.histogram


def _draw_det(axes: Any, curves: list[tuple[str, str, EveryPairFigures]]) -> None:  # noqa: ANN401 - matplotlib's
    for place, (name, color, one) in enumerate(curves):
        rejected = np.maximum(one.det.frr, _LOWEST_FRR)
        axes.plot(one.det.far, rejected, color=color, label=name, linewidth=2.5 - place)
    axes.set(xscale="log", yscale="log", xlabel="false accept rate", ylabel="false reject rate", title="DET curve")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, loc="lower left")


def _draw_scores(axes: Any, histograms: list[tuple[str, HistogramFigures]]) -> None:  # noqa: ANN401 - matplotlib's
    for name, one in histograms:
        for kind, counts, color in (("genuine", one.genuine, BLUE), ("impostor", one.impostor, ORANGE)):
            dashed = "--" if name == "float" and len(histograms) > 1 else "-"
            density = np.asarray(counts) / max(sum(counts), 1) / np.diff(one.edges)
            label = kind if len(histograms) == 1 else f"{kind}, {name}"
            axes.stairs(density, one.edges, color=color, linestyle=dashed, label=label)
    used = [np.flatnonzero(np.add(one.genuine, one.impostor)) for _, one in histograms]
    edges = histograms[0][1].edges
    axes.set_xlim(edges[min(int(some[0]) for some in used)], edges[max(int(some[-1]) for some in used) + 1])
    axes.set(xlabel="cosine", ylabel="density", title="Scores")
    axes.legend(frameon=False)
