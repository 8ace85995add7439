"""What a compressed model loses in accuracy: its figures beside the float model's, on the same people and draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.measure.agreement import measure_agreement, row_cosines
from qface_toolkit.measure.every_pair import PairScores, score_every_pair
from qface_toolkit.measure.resampling import (
    Draws,
    Estimate,
    count_pairs,
    drawn_cosines,
    drawn_fold_accuracy,
    estimate,
)
from qface_toolkit.measure.verification import Floats, Pairs, far_key, fold_accuracy, squared_distances, unit_rows

FARS = (1e-3, 1e-4, 1e-5)

Figures = dict[str, Estimate]
"""Figures by name. Rates lie in 0..1; what is `lost` is the float model's rate less the other's."""


@dataclass(frozen=True)
class FaceSet:
    """Who is on which image: `owners` [N] are whole numbers from 0, `compared` the rows that TAR is taken over.

    `pairs` are those of a verification set, by row, where there is one.
    """

    owners: npt.NDArray[np.intp]
    compared: npt.NDArray[np.intp]
    pairs: Pairs | None = None


def first_of_each(owners: npt.NDArray[np.intp], most: int = 10) -> npt.NDArray[np.intp]:
    """Return the rows of at most `most` images a person, the first ones."""
    seen = np.zeros(owners.max(initial=-1) + 1, dtype=np.intp)
    rows = []
    for row, owner in enumerate(owners):
        if seen[owner] < most:
            rows.append(row)
        seen[owner] += 1
    return np.array(rows, dtype=np.intp)


def measure_accuracy(
    reference: Floats, other: Floats, faces: FaceSet, draws: Draws, fars: Sequence[float] = FARS
) -> Figures:
    """Compare a model with its float model; embeddings [N, D] of the same images.

    `tar` and `pair_accuracy` are the other's, `float_...` the float model's; `mixed_tar` has the float model's
    embeddings in the gallery and the other's as probes, over every ordered pair. Thresholds are each comparison's own,
    and are found anew in each draw.

    Raises:
        MeasurementError: if an embedding is zero or not finite, or there are no genuine or no impostor pairs.
    """
    figures = _agreement(reference, other, faces, draws) | _every_pair(reference, other, faces, draws, fars)
    return figures if faces.pairs is None else figures | _pairs(reference, other, faces, faces.pairs, draws)


def _agreement(reference: Floats, other: Floats, faces: FaceSet, draws: Draws) -> Figures:
    whole = measure_agreement(reference, other)
    drawn = drawn_cosines(row_cosines(reference, other), faces.owners, draws)
    values = {"cosine_mean": whole.cosine_mean, "cosine_p1": whole.cosine_p1, "cosine_min": whole.cosine_min}
    return {name: estimate(value, row) for (name, value), row in zip(values.items(), drawn, strict=True)}


def _every_pair(reference: Floats, other: Floats, faces: FaceSet, draws: Draws, fars: Sequence[float]) -> Figures:
    owners = faces.owners[faces.compared]
    gallery, probe = reference[faces.compared], other[faces.compared]
    whole, drawn = _tar(score_every_pair(gallery, owners, fars), fars, draws)
    figures = _named("float_tar", whole, drawn, fars)
    scores = {
        "tar": score_every_pair(probe, owners, fars),
        "mixed_tar": score_every_pair(gallery, owners, fars, probe),
    }
    for name, one in scores.items():
        its_whole, its_drawn = _tar(one, fars, draws)
        figures |= _named(name, its_whole, its_drawn, fars)
        figures |= _named(f"{name}_lost", whole - its_whole, drawn - its_drawn, fars)
    return figures


def _tar(
    scores: PairScores, fars: Sequence[float], draws: Draws
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return scores.tar(fars), np.stack([scores.tar(fars, counts) for counts in draws])


def _named(
    name: str, whole: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64], fars: Sequence[float]
) -> Figures:
    return {f"{name}@{far_key(far)}": estimate(whole[at], drawn[:, at]) for at, far in enumerate(fars)}


def _pairs(reference: Floats, other: Floats, faces: FaceSet, pairs: Pairs, draws: Draws) -> Figures:
    counts = count_pairs(draws, faces.owners[pairs.first], faces.owners[pairs.second])
    whole, drawn = [], []
    for embeddings in (reference, other):
        distances = squared_distances(unit_rows(embeddings), pairs)
        whole.append(fold_accuracy(distances, pairs.same, pairs.folds)[0])
        drawn.append(drawn_fold_accuracy(distances, pairs.same, pairs.folds, counts))
    return {
        "float_pair_accuracy": estimate(whole[0], drawn[0]),
        "pair_accuracy": estimate(whole[1], drawn[1]),
        "pair_accuracy_lost": estimate(whole[0] - whole[1], drawn[0] - drawn[1]),
    }
