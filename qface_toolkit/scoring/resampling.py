"""How sure a figure is: intervals by drawing the people of a set anew, with replacement, many times (the bootstrap).

Images of one person are alike, so people are drawn and not images; all figures of a run share the draws, so that the
interval of a difference is that of the difference. Efron and Tibshirani, An Introduction to the Bootstrap (1993).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.verification import THRESHOLDS, Floats

Draws = npt.NDArray[np.float64]
"""How often each person is drawn: [draws, people]."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval, NaN where no draw had the figure."""

    value: float
    low: float
    high: float


def draw_people(people: int, draws: int = 1000, seed: int = 0) -> Draws:
    """Draw as many people as there are, with replacement, `draws` times."""
    chances = np.full(people, 1 / people)
    return np.random.default_rng(seed).multinomial(people, chances, size=draws).astype(np.float64)


def estimate(value: float, drawn: npt.NDArray[np.float64]) -> Estimate:
    """Return a figure with the 2.5th and 97.5th percentile of the same figure over the draws; a NaN is no draw."""
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


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


def drawn_fold_accuracy(
    distances: Floats, same: npt.NDArray[np.bool_], folds: int, counts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return `verification.fold_accuracy`'s mean for each draw; `counts` [draws, pairs] is how often a pair counts."""
    hits, best = _fold_hits(distances, same, folds, counts)
    totals = np.stack([counts[:, part].sum(axis=1) for part in fold_parts(len(distances), folds)])
    with np.errstate(invalid="ignore"):
        rates = np.take_along_axis(hits, best[:, :, None], axis=2)[:, :, 0] / totals
    means: npt.NDArray[np.float64] = rates.mean(axis=0)
    return means


def drawn_fold_thresholds(
    distances: Floats, same: npt.NDArray[np.bool_], folds: int, counts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the threshold by which each fold is judged in each draw, [folds, draws]."""
    thresholds: npt.NDArray[np.float64] = THRESHOLDS[_fold_hits(distances, same, folds, counts)[1]]
    return thresholds


def _fold_hits(
    distances: Floats, same: npt.NDArray[np.bool_], folds: int, counts: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Return what each threshold gets right, [folds, draws, thresholds], and the best one for the other folds."""
    right = ((distances[None, :] < THRESHOLDS[:, None]) == same[None, :]).astype(np.float64)
    hits = np.stack([counts[:, part] @ right[:, part].T for part in fold_parts(len(distances), folds)])
    return hits, (hits.sum(axis=0) - hits).argmax(axis=2)


def fold_parts(pairs: int, folds: int) -> list[npt.NDArray[np.intp]]:
    """Return the places of each fold's pairs."""
    return np.array_split(np.arange(pairs), folds)


def count_pairs(draws: Draws, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return how often each pair counts in each draw, [draws, pairs], of the owners of its two images.

    A pair of two people counts as the product of theirs, one of a single person as often as that person.
    """
    return np.where(first == second, draws[:, first], draws[:, first] * draws[:, second])
