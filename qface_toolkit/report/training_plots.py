"""The curves of a training: the loss and its parts, the held-out figures, and how fast it learnt, over the epochs.

Thousands of points are drawn as means of a few hundred: a page is sent around, and eyes see no more.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from qface_toolkit.report import plots
from qface_toolkit.report.figures import clean
from qface_toolkit.report.plots import BLUE, GREY, ORANGE
from qface_toolkit.report.training import Training

MOST_POINTS = 300
PARTS_DRAWN = 8
RATES_DRAWN = 4
LONGEST_NAME = 20
_SHORT_LABEL = 18
"""Of labels no longer than this, three stand side by side; of others two."""
_FEW = 12
"""So few points are marked: a line between two of them says nothing by itself."""
_WIDE_RANGE = 20.0
"""How many times the least loss the largest one is where a linear scale hides what happens at the end."""
_LARGEST = 1e30
_INK = "#000000"
_LOOKS = [(color, dashes) for dashes in ("-", "--", ":") for color in (BLUE, ORANGE, GREY)]
"""Colours that a page has by day and by night, and dashes where there are more lines than colours."""

Curve = Sequence[tuple[float, float]]


def loss_picture(training: Training) -> bytes:
    """Return the loss and its weighted parts over the epochs."""
    return plots.stacked(partial(_draw_loss, training=training), 1)


def held_out_picture(training: Training) -> bytes:
    """Return the held-out figures over the epochs: what should rise above, and the error rate below."""
    errors = _ends(training, "eer")
    return plots.stacked(partial(_draw_held_out, training=training, errors=errors), 2 if errors else 1)


def rate_picture(training: Training) -> bytes:
    """Return the learning rate above, and the length of the gradient below."""
    return plots.stacked(partial(_draw_rate, training=training), 2)


def _draw_loss(axes: Sequence[Any], training: Training) -> None:
    only = axes[0]
    whole = [(one.epoch, one.loss) for one in training.points]
    parts = list(_parts(training))
    # A single part is the whole loss, and would lie beneath its line.
    parts = parts if len(parts) > 1 else []
    for (name, curve), (color, dashes) in zip(parts, _LOOKS, strict=False):
        _line(only, curve, name, color, dashes)
    _line(only, whole, "loss", _INK, "-", 1.6)
    _scale(only, [value for curve in (whole, *(curve for _, curve in parts)) for _, value in curve])
    for place, one in enumerate(training.teachers):
        if 0 < one.from_epoch - 1 < max((epoch for epoch, _ in whole), default=0.0):
            label = f"{clean(one.name, LONGEST_NAME).lstrip('_')} teaches"
            only.axvline(one.from_epoch - 1, color=GREY, linewidth=1, linestyle=(place, (1, 2)), label=label)
    only.set(xlabel="epochs", ylabel="loss")
    _finish(only)


def _draw_held_out(axes: Sequence[Any], training: Training, errors: Curve) -> None:
    above = axes[0]
    for (name, curve), (color, dashes) in zip(_rising(training), _LOOKS, strict=False):
        _line(above, curve, name, color, dashes)
    above.set(ylabel="held-out figures")
    _kept(above, training, f"epoch {training.chosen_epoch}, kept")
    _finish(above)
    if errors:
        _line(axes[1], errors, "", ORANGE, "-")
        _kept(axes[1], training)
        axes[1].set(ylabel="equal error rate")
        _from_zero(axes[1], errors)
        axes[1].grid(True, axis="y", alpha=0.4)
    axes[-1].set(xlabel="epochs")
    axes[-1].set_xlim(left=0)
    axes[-1].locator_params(axis="x", integer=True)


def _draw_rate(axes: Sequence[Any], training: Training) -> None:
    above, below = axes
    rates = [(one.epoch, one.rate) for one in training.points]
    _line(above, rates, "", BLUE, "-")
    above.set(ylabel="learning rate")
    _from_zero(above, rates)
    lengths = [(one.epoch, one.gradient) for one in training.points if one.gradient is not None]
    _line(below, lengths, "", GREY, "-")
    _scale(below, [value for _, value in lengths])
    below.set(ylabel="gradient", xlabel="epochs")
    for one in axes:
        one.grid(True, axis="y", alpha=0.4)
    below.locator_params(axis="x", integer=True)


def _parts(training: Training) -> Iterator[tuple[str, Curve]]:
    """Yield each part of the loss from when there is one, as it is called."""
    names = list(dict.fromkeys(name for one in training.points for name in one.parts))
    for name in names[:PARTS_DRAWN]:
        curve = [(one.epoch, one.parts[name]) for one in training.points if name in one.parts]
        # matplotlib leaves out of a legend what begins with a dash.
        yield clean(name, LONGEST_NAME).lstrip("_"), curve


def _rising(training: Training) -> Iterator[tuple[str, Curve]]:
    """Yield the curves of what is the better the higher it is."""
    for field, name in (("cosine_mean", "cosine to teacher"), ("pair_accuracy", "pair accuracy")):
        curve = _ends(training, field)
        if curve:
            yield name, curve
    rates = list(dict.fromkeys(far for one in training.epochs for far in one.tar))
    for far in rates[:RATES_DRAWN]:
        yield f"TAR@{far}", [(one.epoch, one.tar[far]) for one in training.epochs if far in one.tar]


def _ends(training: Training, field: str) -> Curve:
    found = [(one.epoch, getattr(one, field)) for one in training.epochs]
    return [(epoch, value) for epoch, value in found if value is not None]


def _line(axes: Any, curve: Curve, label: str, color: str, dashes: str, width: float = 1.2) -> None:  # noqa: ANN401 - its type is matplotlib's
    size = max(1, -(-len(curve) // MOST_POINTS))
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    across, up = ([fmean(_bounded(one[axis]) for one in group) for group in groups] for axis in (0, 1))
    marker = "." if len(groups) <= _FEW else ""
    looks = {"linestyle": dashes, "linewidth": width, "marker": marker, "markersize": 4}
    axes.plot(across, up, color=color, label=label, **looks)


def _bounded(value: float) -> float:
    """Return a figure that axes can hold."""
    return min(max(float(value), -_LARGEST), _LARGEST)


def _scale(axes: Any, values: Sequence[float]) -> None:  # noqa: ANN401 - its type is matplotlib's
    """Let axes count by factors where all is positive and far apart."""
    if values and min(values) > 0 and max(values) > _WIDE_RANGE * min(values):
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        # The usual formatter writes powers as TeX, which stays as it is where names are not to be read as TeX.
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _from_zero(axes: Any, curve: Curve) -> None:  # noqa: ANN401 - its type is matplotlib's
    """Let axes of figures that cannot be negative begin at zero, and leave room above a level line."""
    most = _bounded(max((value for _, value in curve), default=0.0))
    if most > 0:
        axes.set_ylim(0, 1.08 * most)


def _kept(axes: Any, training: Training, label: str = "") -> None:  # noqa: ANN401 - its type is matplotlib's
    axes.axvline(training.chosen_epoch, color=GREY, linewidth=1, linestyle="--", label=label)


def _finish(axes: Any) -> None:  # noqa: ANN401 - its type is matplotlib's
    """Add what helps to read; the legend stands above, where no line can lie under it."""
    axes.grid(True, axis="y", alpha=0.4)
    axes.locator_params(axis="x", integer=True)
    longest = max(map(len, axes.get_legend_handles_labels()[1]), default=0)
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2}
    axes.legend(frameon=False, ncols=3 if longest <= _SHORT_LABEL else 2, **place)
