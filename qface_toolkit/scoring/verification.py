"""Does a model still tell people apart: the verification protocol, the same for float and int8 and for any data.

Everything here takes embeddings as arrays, so that it does not matter which runtime they came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError

Floats = npt.NDArray[np.floating]
THRESHOLDS = np.arange(0, 401) / 100
"""Squared distances between unit embeddings that are tried as the border between same and different."""

DEFAULT_FARS = (1e-3,)


@dataclass(frozen=True)
class Pairs:
    """Which images are compared: two indices and whether they show the same person, for each pair.

    The folds are contiguous and of equal size.
    """

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    same: npt.NDArray[np.bool_]
    folds: int


@dataclass(frozen=True)
class Verification:
    """How well pairs are told apart; rates lie in 0..1 and `tar` is keyed by the false accept rate ("1e-3")."""

    pair_accuracy: float
    pair_accuracy_std: float
    tar: dict[str, float]
    pairs: int


def make_pairs(labels: npt.ArrayLike, per_fold: int = 300, folds: int = 10, seed: int = 0) -> Pairs:
    """Choose `per_fold` genuine and as many impostor pairs a fold, every identity equally often (give or take one).

    Raises:
        MeasurementError: if there are fewer than two identities or one of them has a single image.
    """
    groups = _groups(np.asarray(labels))
    rng = np.random.default_rng(seed)
    count = per_fold * folds
    genuine = [_two_of(groups[owner], rng) for owner in _in_turn(len(groups), count, rng)]
    impostor = [_one_each(groups, owner, rng) for owner in _in_turn(len(groups), count, rng)]
    folded = (folds, per_fold, 2)
    chosen = np.concatenate([np.reshape(genuine, folded), np.reshape(impostor, folded)], axis=1).reshape(-1, 2)
    same = np.tile(np.repeat([True, False], per_fold), folds)
    return Pairs(chosen[:, 0], chosen[:, 1], same, folds)


def _groups(labels: npt.NDArray[np.generic]) -> list[npt.NDArray[np.intp]]:
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if len(groups) < 2 or min(len(group) for group in groups) < 2:
        raise MeasurementError(
            "verification needs at least two identities with two images each",
            fix="ask for more images of each identity",
        )
    return groups


def _in_turn(groups: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    rounds = [rng.permutation(groups) for _ in range(-(-count // groups))]
    return np.concatenate(rounds)[:count]


def _two_of(group: npt.NDArray[np.intp], rng: np.random.Generator) -> list[int]:
    first = int(rng.integers(len(group)))
    second = (first + 1 + int(rng.integers(len(group) - 1))) % len(group)
    return [int(group[first]), int(group[second])]


def _one_each(groups: list[npt.NDArray[np.intp]], owner: int, rng: np.random.Generator) -> list[int]:
    other = (owner + 1 + int(rng.integers(len(groups) - 1))) % len(groups)
    return [int(rng.choice(groups[owner])), int(rng.choice(groups[other]))]


def verify_identities(
    embeddings: Floats,
    labels: npt.ArrayLike,
    *,
    per_fold: int = 300,
    folds: int = 10,
    fars: Sequence[float] = DEFAULT_FARS,
) -> Verification:
    """Measure accuracy on chosen pairs and TAR over every pair there is; embeddings [N, D], labels [N].

    Raises:
        MeasurementError: if an embedding is not finite or zero, or there are too few identities or images.
    """
    units = unit_rows(embeddings)
    pairs = make_pairs(labels, per_fold, folds)
    mean, spread = fold_accuracy(squared_distances(units, pairs), pairs.same, folds)
    genuine, impostor = every_score(units, labels)
    return Verification(mean, spread, tar_at_far(genuine, impostor, fars), len(pairs.same))


def verify_pairs(embeddings: Floats, pairs: Pairs, *, fars: Sequence[float] = DEFAULT_FARS) -> Verification:
    """Measure accuracy and TAR on the given pairs alone; embeddings [N, D].

    Raises:
        MeasurementError: if an embedding is not finite or zero, or no pair is genuine or none an impostor.
    """
    distances = squared_distances(unit_rows(embeddings), pairs)
    mean, spread = fold_accuracy(distances, pairs.same, pairs.folds)
    tar = tar_at_far(1 - distances[pairs.same] / 2, 1 - distances[~pairs.same] / 2, fars)
    return Verification(mean, spread, tar, len(pairs.same))


def unit_rows(embeddings: Floats) -> npt.NDArray[np.float64]:
    """Return the embeddings [N, D] scaled to length one.

    Raises:
        MeasurementError: if they are no table, or one is not finite or has no length.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise MeasurementError(
            f"embeddings have the shape {list(rows.shape)}, where one row for each image is needed",
            where="the model's output",
            fix="give a model whose output is [images, size of the embedding]",
        )
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise MeasurementError(
            f"{bad.size} of {len(rows)} embeddings are zero or not finite",
            where=f"row {bad[0]}",
            fix="look at the model: it overflows or its weights are damaged",
        )
    units: npt.NDArray[np.float64] = rows / lengths
    return units


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


def every_score(units: npt.NDArray[np.float64], labels: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the cosine of every genuine and of every impostor pair of the set."""
    marks = np.asarray(labels)
    first, second = np.triu_indices(len(units), k=1)
    scores = (units @ units.T)[first, second]
    same = marks[first] == marks[second]
    return scores[same], scores[~same]


def tar_at_far(genuine: Floats, impostor: Floats, fars: Sequence[float] = DEFAULT_FARS) -> dict[str, float]:
    """Return the share of genuine scores that reach the k-th largest impostor score, k = floor(FAR x impostors) >= 1.

    Raises:
        MeasurementError: if either list is empty.
    """
    if not len(genuine) or not len(impostor):
        raise MeasurementError("TAR needs genuine and impostor pairs", fix="give pairs of both kinds")
    ordered = np.sort(impostor)[::-1]
    # A product such as 0.001 x 3000 may fall just below the whole number that is meant.
    ranks = {far: max(1, int(np.floor(far * len(ordered) + 1e-9))) for far in fars}
    return {far_key(far): float((genuine >= ordered[rank - 1]).mean()) for far, rank in ranks.items()}


def far_key(far: float) -> str:
    """Return the key of a false accept rate in a report: "1e-3" for 0.001."""
    digits, exponent = f"{far:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
