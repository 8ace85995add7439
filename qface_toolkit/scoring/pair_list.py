"""Pairs of images on a list, such as the .bin sets: their distances, the accuracy of telling same from different by
cross-validation, and a model beside its reference: what is lost, and which decisions change.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.both_models import ScoredPairs, most_changed
from qface_toolkit.scoring.drift import ChangedPair, Drift, changed_pairs, drift_of
from qface_toolkit.scoring.embeddings import Floats, check_owners, unit_rows
from qface_toolkit.scoring.paired import Decisions
from qface_toolkit.scoring.resampling import Draws, Figures, Samples, cosine_figures, estimate, estimates

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


@dataclass(frozen=True)
class PairListLosses:
    """Pair accuracies and what is lost, how scores (cosines) drift, and decisions at the folds' thresholds.

    `mixed` accuracies are those of a gallery that is the reference's and probes that are the other's.

    In `own`, each model is judged by its own thresholds, in `kept` both by the reference's.
    """

    figures: Figures
    genuine_drift: Drift
    impostor_drift: Drift
    own: Decisions
    kept: Decisions
    most_changed: tuple[ChangedPair, ...]


def people_of_pairs(pairs: Pairs, images: int) -> npt.NDArray[np.intp]:
    """Return whose each image is, [images], as far as the pairs tell: images of a genuine pair show one person.

    People are numbered by their first image. Impostor pairs tell nothing; an image in none but those is a person.
    """
    parents = list(range(images))

    def root(image: int) -> int:
        while parents[image] != image:
            parents[image] = parents[parents[image]]
            image = parents[image]
        return image

    for first, second in zip(pairs.first[pairs.same].tolist(), pairs.second[pairs.same].tolist(), strict=True):
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    return np.unique([root(image) for image in range(images)], return_inverse=True)[1].astype(np.intp)


def measure_pair_list(
    reference: Floats, other: Floats, pairs: Pairs, owners: npt.ArrayLike, draws: Draws, listed: int = 20
) -> PairListLosses:
    """Compare a model with its reference on pairs; embeddings [N, D], `owners` [N] whole numbers, draws of them.

    At most `listed` pairs of each kind are listed.

    Raises:
        MeasurementError: if an embedding is zero or not finite, no pair is genuine or none an impostor, or there are
            fewer pairs than folds.
    """
    if pairs.same.all() or not pairs.same.any():
        raise MeasurementError("a list of pairs needs genuine and impostor ones", fix="give pairs of both kinds")
    marks = check_owners(owners, len(reference))
    counts = count_pairs(draws, marks[pairs.first], marks[pairs.second])
    accuracies = _accuracies((reference, other), pairs, counts)
    accuracies |= _mixed((unit_rows(reference), unit_rows(other)), pairs, counts, accuracies["float_pair_accuracy"])
    figures = estimates(cosine_figures((reference, other), marks, draws) | accuracies)
    distances = np.stack([squared_distances(unit_rows(side), pairs) for side in (reference, other)])
    scores = 1 - distances / 2
    own, kept = _decisions(distances, pairs, counts)
    kinds = (pairs.same, ~pairs.same)
    genuine, impostor = (_drift(scores[:, kind], counts[:, kind]) for kind in kinds)
    whole = ScoredPairs(np.stack([pairs.first, pairs.second]), scores)
    changed = [
        pair
        for kind in kinds
        for pair in changed_pairs(most_changed(whole.at(np.flatnonzero(kind)), listed), same=kind is kinds[0])
    ]
    return PairListLosses(figures, genuine, impostor, own, kept, tuple(changed))


def _accuracies(sides: tuple[Floats, Floats], pairs: Pairs, counts: npt.NDArray[np.float64]) -> Samples:
    """Return the pair accuracy of both models and what is lost; `counts` [draws, pairs] is how often a pair counts."""
    whole, drawn = [], []
    for embeddings in sides:
        distances = squared_distances(unit_rows(embeddings), pairs)
        whole.append(fold_accuracy(distances, pairs.same, pairs.folds)[0])
        drawn.append(drawn_fold_accuracy(distances, pairs.same, pairs.folds, counts))
    return {
        "float_pair_accuracy": (whole[0], drawn[0]),
        "pair_accuracy": (whole[1], drawn[1]),
        "pair_accuracy_lost": (whole[0] - whole[1], drawn[0] - drawn[1]),
    }


def _mixed(
    units: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    pairs: Pairs,
    counts: npt.NDArray[np.float64],
    before: tuple[float, npt.NDArray[np.float64]],
) -> Samples:
    """Return the accuracy where one image is the reference's and one the other's: the mean of both ways round."""
    found = []
    for first, second in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        distances = ((units[0][first] - units[1][second]) ** 2).sum(axis=1)
        drawn = drawn_fold_accuracy(distances, pairs.same, pairs.folds, counts)
        found.append((fold_accuracy(distances, pairs.same, pairs.folds)[0], drawn))
    whole, drawn = (found[0][0] + found[1][0]) / 2, (found[0][1] + found[1][1]) / 2
    return {
        "mixed_pair_accuracy": (whole, drawn),
        "mixed_pair_accuracy_lost": (before[0] - whole, before[1] - drawn),
    }


def _drift(scores: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> Drift:
    values = scores[1] - scores[0]
    with np.errstate(invalid="ignore"):
        return drift_of(values, counts @ values / counts.sum(axis=1))


def _decisions(
    distances: npt.NDArray[np.float64], pairs: Pairs, counts: npt.NDArray[np.float64]
) -> tuple[Decisions, Decisions]:
    """Return what changes with own thresholds and with the reference's; the first row of counts has every pair once."""
    weights = np.concatenate([np.ones((1, len(pairs.same))), counts])
    thresholds = np.stack([drawn_fold_thresholds(each, pairs.same, pairs.folds, weights) for each in distances])
    parts = fold_parts(len(pairs.same), pairs.folds)
    folds = np.repeat(np.arange(pairs.folds), [len(part) for part in parts])
    shares = np.array(list(_shares(distances, pairs.same, weights, thresholds[:, folds])))
    found = [estimate(column[0], column[1:]) for column in shares.T]
    return Decisions(*found[:4]), Decisions(*found[4:])


def _shares(
    distances: npt.NDArray[np.float64],
    same: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    thresholds: npt.NDArray[np.float64],
) -> Iterator[list[float]]:
    """Yield for each draw the shares lost and won of both kinds, with own thresholds and with the reference's."""
    kinds = np.stack([same, ~same]).astype(np.float64)
    for draw, counts in enumerate(weights):
        of_kind = kinds * counts
        totals = of_kind.sum(axis=1)
        before, own = distances < thresholds[:, :, draw]
        kept = distances[1] < thresholds[0, :, draw]
        changes = np.stack([before & ~own, own & ~before, before & ~kept, kept & ~before])
        with np.errstate(invalid="ignore"):
            found = changes @ of_kind.T / totals
        yield [*found[:2].T.ravel(), *found[2:].T.ravel()]
