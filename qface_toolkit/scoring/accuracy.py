"""What a compressed model loses in accuracy: its figures beside the float model's, on the same people and draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.agreement import measure_agreement, row_cosines
from qface_toolkit.scoring.every_pair import drawn_tar, score_every_pair
from qface_toolkit.scoring.joint import JointPairs, score_jointly
from qface_toolkit.scoring.operating import FIELDS, JointFigures
from qface_toolkit.scoring.resampling import (
    Draws,
    Estimate,
    count_pairs,
    drawn_cosines,
    drawn_fold_accuracy,
    estimate,
)
from qface_toolkit.scoring.verification import Floats, Pairs, far_key, fold_accuracy, squared_distances, unit_rows

FARS = (1e-3, 1e-4, 1e-5)

Figures = dict[str, Estimate]
"""Figures by name. Rates lie in 0..1; what is `lost` is the float model's rate less the other's."""

Samples = dict[str, tuple[float, npt.NDArray[np.float64]]]
"""Figures by name, each with the same figure of every draw."""


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
    return estimates(draw_figures(compare(reference, other, faces, draws, fars)))


@dataclass(frozen=True)
class Comparison:
    """Two models' embeddings of the same images, every pair's scores by both, and what follows for each draw.

    `whole` [rates, fields] and `drawn` [draws, rates, fields] are those of `scoring.operating`.
    """

    reference: Floats
    other: Floats
    faces: FaceSet
    draws: Draws
    fars: tuple[float, ...]
    joint: JointPairs
    judged: JointFigures
    whole: npt.NDArray[np.float64]
    drawn: npt.NDArray[np.float64]


def compare(
    reference: Floats, other: Floats, faces: FaceSet, draws: Draws, fars: Sequence[float], listed: int = 20
) -> Comparison:
    """Score every pair of the compared rows by both models, and draw people.

    Raises:
        MeasurementError: as `measure_accuracy`.
    """
    rows = faces.compared
    joint = score_jointly(np.asarray(reference)[rows], np.asarray(other)[rows], faces.owners[rows], fars, listed)
    judged = JointFigures(joint, fars)
    whole, drawn = judged.figures(), judged.drawn(draws)
    return Comparison(reference, other, faces, draws, tuple(fars), joint, judged, whole, drawn)


def draw_figures(comparison: Comparison) -> Samples:
    """Return what `measure_accuracy` has, with each draw's figures instead of intervals."""
    sides = comparison.reference, comparison.other
    found = cosine_figures(sides, comparison.faces.owners, comparison.draws) | _every_pair(comparison)
    return found if comparison.faces.pairs is None else found | _pairs(comparison, comparison.faces.pairs)


def estimates(samples: Samples) -> Figures:
    """Return figures with their intervals."""
    return {name: estimate(value, drawn) for name, (value, drawn) in samples.items()}


def cosine_figures(sides: tuple[Floats, Floats], owners: npt.NDArray[np.intp], draws: Draws) -> Samples:
    """Return how far the cosines of two models' embeddings [N, D] of the same images go."""
    whole = measure_agreement(*sides)
    drawn = drawn_cosines(row_cosines(*sides), owners, draws)
    values = {"cosine_mean": whole.cosine_mean, "cosine_p1": whole.cosine_p1, "cosine_min": whole.cosine_min}
    return {name: (value, row) for (name, value), row in zip(values.items(), drawn, strict=True)}


def _every_pair(comparison: Comparison) -> Samples:
    faces, fars = comparison.faces, comparison.fars
    gallery, probe = (np.asarray(side)[faces.compared] for side in (comparison.reference, comparison.other))
    mixed = score_every_pair(gallery, faces.owners[faces.compared], fars, probe) if fars else None
    rates = {
        name: (comparison.whole[:, at], comparison.drawn[:, :, at])
        for at, name in ((FIELDS.index("float_tar"), "float_tar"), (FIELDS.index("tar"), "tar"))
    }
    if mixed is not None:
        rates["mixed_tar"] = drawn_tar(mixed, fars, comparison.draws)
    figures: Samples = {}
    for name, (whole, drawn) in rates.items():
        figures |= _named(name, whole, drawn, fars)
        if name != "float_tar":
            first = rates["float_tar"]
            figures |= _named(f"{name}_lost", first[0] - whole, first[1] - drawn, fars)
    return figures


def _named(name: str, whole: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64], fars: Sequence[float]) -> Samples:
    return {f"{name}@{far_key(far)}": (float(whole[at]), drawn[:, at]) for at, far in enumerate(fars)}


def _pairs(comparison: Comparison, pairs: Pairs) -> Samples:
    owners = comparison.faces.owners
    counts = count_pairs(comparison.draws, owners[pairs.first], owners[pairs.second])
    return pair_figures((comparison.reference, comparison.other), pairs, counts)


def pair_figures(sides: tuple[Floats, Floats], pairs: Pairs, counts: npt.NDArray[np.float64]) -> Samples:
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
