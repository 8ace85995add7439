"""Pairs of images on a list: their distances, and the accuracy of telling same from different by cross-validation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.embeddings import Floats
from qface_toolkit.scoring.resampling import Draws

THRESHOLDS = np.arange(0, 401) / 100
"""Squared distances between unit embeddings that are tried as the border between same and different."""


@dataclass(frozen=True)
class Pairs:
    """Which images are compared: two indices and whether they show the same person, for each pair.

    The folds are contiguous and of equal size.
    """

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    same: npt.NDArray[np.bool_]
    folds: int


def squared_distances(units: npt.NDArray[np.float64], pairs: Pairs) -> npt.NDArray[np.float64]:
    """Return the squared distance of each pair, 0..4."""
    gap = units[pairs.first] - units[pairs.second]
    distances: npt.NDArray[np.float64] = (gap * gap).sum(axis=1)
    return distances


def fold_accuracy(distances: Floats, same: npt.NDArray[np.bool_], folds: int) -> tuple[float, float]:
    """Return mean and population standard deviation over contiguous folds, each judged by the others' best threshold.

    The protocol of LFW (Huang et al. 2007): thresholds 0..4 in steps of 0.01 on squared distances, the first best one.

    Raises:
        MeasurementError: if there are fewer pairs than folds, or fewer than two folds.
    """
    if folds < 2 or len(distances) < folds:
        what = f"{len(distances)} pairs cannot be cut into {folds} folds"
        raise MeasurementError(what, fix="give more pairs or fewer folds")
    right = (distances[None, :] < THRESHOLDS[:, None]) == same[None, :]
    bounds = np.array_split(np.arange(len(distances)), folds)
    hits = np.stack([right[:, fold].sum(axis=1) for fold in bounds])
    best = (hits.sum(axis=0, keepdims=True) - hits).argmax(axis=1)
    rates = hits[np.arange(folds), best] / np.array([len(fold) for fold in bounds])
    return float(rates.mean()), float(rates.std())


def drawn_fold_accuracy(
    distances: Floats, same: npt.NDArray[np.bool_], folds: int, counts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return `fold_accuracy`'s mean for each draw; `counts` [draws, pairs] is how often a pair counts."""
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
