"""The picture of an evaluation: DET curves of a model and its float model, and how their scores are spread."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from qface_toolkit.report._evaluation import Evaluation, EveryPairFigures, HistogramFigures
from qface_toolkit.report.figures import clean

_STYLE: dict[str, Any] = {"svg.hashsalt": "qface", "svg.fonttype": "none", "font.size": 9.0}
_FLOAT, _MODEL, _IMPOSTOR = "#555555", "#0072b2", "#d55e00"
"""Grey, and two of Okabe and Ito's colours, which colour-blind people can tell apart."""
_LOWEST_FRR = 1e-4


def evaluation_plot(found: Evaluation, kind: str = "svg") -> bytes | None:
    """Return the picture, or None where a protocol gives neither a curve nor scores."""
    drawn = _drawings(found)
    return _picture(drawn, (9, 4) if len(drawn) > 1 else (6, 4), kind) if drawn else None


def evaluation_plots(found: Evaluation, size: tuple[float, float]) -> list[bytes]:
    """Return the curve and the scores as one SVG each, `size` inches wide and high: as many as there are."""
    return [_picture([draw], size, "svg") for draw in _drawings(found)]


def _drawings(found: Evaluation) -> list[Callable[[Any], None]]:
    """Return what draws each part, given axes."""
    curves, histograms = list(_curves(found)), list(_histograms(found))
    det = [partial(_draw_det, curves=curves)] if curves else []
    return [*det, partial(_draw_scores, histograms=histograms)] if histograms else []


def _picture(drawn: Sequence[Callable[[Any], None]], size: tuple[float, float], kind: str) -> bytes:
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        for draw, axes in zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True):
            draw(axes)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _curves(found: Evaluation) -> Iterator[tuple[str, str, EveryPairFigures]]:
    """Yield label, colour and figures of each curve, the float model's first."""
    if found.reference and found.reference_figures and found.reference_figures.every_pair:
        yield f"{clean(found.reference.name, 30)} (float)", _FLOAT, found.reference_figures.every_pair
    if found.figures.every_pair:
        yield clean(found.model.name, 30), _MODEL, found.figures.every_pair


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
        for kind, counts, color in (("genuine", one.genuine, _MODEL), ("impostor", one.impostor, _IMPOSTOR)):
            dashed = "--" if name == "float" and len(histograms) > 1 else "-"
            density = np.asarray(counts) / max(sum(counts), 1) / np.diff(one.edges)
            label = kind if len(histograms) == 1 else f"{kind}, {name}"
            axes.stairs(density, one.edges, color=color, linestyle=dashed, label=label)
    used = [np.flatnonzero(np.add(one.genuine, one.impostor)) for _, one in histograms]
    edges = histograms[0][1].edges
    axes.set_xlim(edges[min(int(some[0]) for some in used)], edges[max(int(some[-1]) for some in used) + 1])
    axes.set(xlabel="cosine", ylabel="density", title="Scores")
    axes.legend(frameon=False)
