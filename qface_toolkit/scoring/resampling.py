"""How sure a figure is: intervals by drawing the people of a set anew, with replacement, many times (the bootstrap).

Images of one person are alike, so people are drawn and not images; all figures of a run share the draws, so that the
interval of a difference is that of the difference. Efron and Tibshirani, An Introduction to the Bootstrap (1993).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.agreement import measure_agreement, row_cosines
from qface_toolkit.scoring.embeddings import Floats

Draws = npt.NDArray[np.float64]
"""How often each person is drawn: [draws, people]."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval, NaN where no draw had the figure."""

    value: float
    low: float
    high: float


Figures = dict[str, Estimate]
"""Figures by name. Rates lie in 0..1; what is `lost` is the float model's rate less the other's."""

Samples = dict[str, tuple[float, npt.NDArray[np.float64]]]
"""Figures by name, each with the same figure of every draw."""


def draw_people(people: int, draws: int = 1000, seed: int = 0) -> Draws:
    """Draw as many people as there are, with replacement, `draws` times."""
    chances = np.full(people, 1 / people)
    return np.random.default_rng(seed).multinomial(people, chances, size=draws).astype(np.float64)


def estimate(value: float, drawn: npt.NDArray[np.float64]) -> Estimate:
    """Return a figure with the 2.5th and 97.5th percentile of the same figure over the draws; a NaN is no draw."""
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def estimates(samples: Samples) -> Figures:
    """Return figures with their intervals."""
    return {name: estimate(value, drawn) for name, (value, drawn) in samples.items()}


def cosine_figures(sides: tuple[Floats, Floats], owners: npt.NDArray[np.intp], draws: Draws) -> Samples:
    """Return how far the cosines of two models' embeddings [N, D] of the same images go."""
    whole = measure_agreement(*sides)
    drawn = drawn_cosines(row_cosines(*sides), owners, draws)
    values = {"cosine_mean": whole.cosine_mean, "cosine_p1": whole.cosine_p1, "cosine_min": whole.cosine_min}
    return {name: (value, row) for (name, value), row in zip(values.items(), drawn, strict=True)}


def worst_person(cosines: Floats, owners: npt.NDArray[np.intp], draws: Draws) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the lowest mean of a person's cosines [N], of all people and of those in each draw."""
    people, places = np.unique(owners, return_inverse=True)
    means = np.bincount(places, cosines) / np.bincount(places)
    there = draws[:, people] > 0
    drawn = np.where(there, means, np.inf).min(axis=1)
    return float(means.min()), np.where(there.any(axis=1), drawn, np.nan)


def drawn_cosines(cosines: Floats, owners: npt.NDArray[np.intp], draws: Draws) -> npt.NDArray[np.float64]:
    """Return mean, 1st percentile and minimum of each draw's cosines, [3, draws]; `owners` [N] says whose they are."""
    order = np.argsort(cosines)
    ascending, of_whom = np.asarray(cosines, np.float64)[order], owners[order]
    return np.stack([_cosine_figures(ascending, counts[of_whom]) for counts in draws], axis=1)


def _cosine_figures(ascending: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    reach = np.cumsum(counts)
    if not reach[-1]:
        return np.full(3, np.nan)
    # numpy.percentile's rule, on each value repeated as often as it was drawn.
    place = 0.01 * (reach[-1] - 1)
    below, above = ascending[np.searchsorted(reach, [np.floor(place), np.ceil(place)], side="right")]
    lowest = ascending[np.searchsorted(reach, 0, side="right")]
    return np.array([ascending @ counts / reach[-1], below + (above - below) * (place % 1), lowest])
