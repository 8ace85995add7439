"""Does a model still tell people apart: the verification protocol, the same for float and int8 and for any data.

Everything here takes embeddings as arrays, so that it does not matter which runtime they came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.blocks import count_owned
from qface_toolkit.scoring.embeddings import Floats, unit_rows
from qface_toolkit.scoring.pair_list import Pairs, fold_accuracy, squared_distances
from qface_toolkit.scoring.rates import far_key
from qface_toolkit.scoring.separation import measure_separation

DEFAULT_FARS = (1e-3,)


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
    pairs = make_pairs(labels, per_fold, folds)
    mean, spread = fold_accuracy(squared_distances(unit_rows(embeddings), pairs), pairs.same, folds)
    return Verification(mean, spread, _tar(embeddings, labels, fars), len(pairs.same))


def _tar(embeddings: Floats, labels: npt.ArrayLike, fars: Sequence[float]) -> dict[str, float]:
    """Return TAR at the impostor of rank floor(FAR x impostors), and of rank 1 where that is 0."""
    owners = np.unique(np.asarray(labels), return_inverse=True)[1]
    least = 1 / count_owned(owners).impostors
    rates = measure_separation(embeddings, owners, [max(far, least) for far in fars]).rates
    return {far_key(far): rates.tar[far_key(max(far, least))] for far in fars}
