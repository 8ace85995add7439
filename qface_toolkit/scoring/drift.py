"""How far a compressed model's scores move from the float model's, pair by pair."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.bins import edges
from qface_toolkit.scoring.both_models import ScoredPairs
from qface_toolkit.scoring.compare import Comparison
from qface_toolkit.scoring.embeddings import Owners, Scores, unit_rows
from qface_toolkit.scoring.resampling import Estimate, estimate

PERCENTILES = (1, 5, 50, 95, 99)


@dataclass(frozen=True)
class Drift:
    """The other model's score less the reference's, over pairs: mean, standard deviation, and percentiles ("1")."""

    mean: Estimate
    std: float
    percentiles: dict[str, float]


@dataclass(frozen=True)
class ChangedPair:
    """A pair of images, by their rows, whether both show the same person, and its scores by both models."""

    first: int
    second: int
    same: bool
    reference: float
    other: float


def drift_of(values: Scores, drawn: npt.NDArray[np.float64]) -> Drift:
    """Describe the drift of some pairs, whose mean over each draw is known."""
    percentiles = np.percentile(values, PERCENTILES)
    named = {str(name): float(one) for name, one in zip(PERCENTILES, percentiles, strict=True)}
    return Drift(estimate(float(values.mean()), drawn), float(values.std()), named)


def genuine_drift(comparison: Comparison) -> Drift:
    """Describe the drift of every genuine pair; a pair counts as often as its person."""
    values, owners = comparison.genuine.drift, comparison.owners[comparison.genuine.rows[0]]
    people = len(comparison.counts.images)
    draws = comparison.draws[:, :people]
    sums, counts = np.bincount(owners, values, minlength=people), np.bincount(owners, minlength=people)
    with np.errstate(invalid="ignore"):
        return drift_of(values, (draws @ sums) / (draws @ counts))


def impostor_drift(comparison: Comparison) -> Drift:
    """Describe the drift of every impostor pair, percentiles to within 4e-6.

    A pair counts as the product of its two people. The scores of all pairs of two people add up to the product of their
    summed embeddings, so that no pair has to be looked at again for a draw.
    """
    images = comparison.counts.images
    sums = [_sums(unit_rows(side), comparison.owners) for side in (comparison.reference, comparison.other)]
    weights = np.concatenate([np.ones((1, len(images))), comparison.draws[:, : len(images)]])
    totals = [_between(weights, side) for side in sums]
    pairs = _between(weights, images.astype(np.float64)[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(pairs > 0, (totals[1] - totals[0]) / pairs, np.nan)
    reach = np.cumsum(comparison.drift)
    middle = 2 * (edges() + edges()[1] / 2 + 0.5)
    at = np.searchsorted(reach, np.array(PERCENTILES) / 100 * reach[-1])
    named = {str(name): float(middle[one]) for name, one in zip(PERCENTILES, at, strict=True)}
    return Drift(estimate(float(means[0]), means[1:]), comparison.drift_std, named)


def _sums(units: npt.NDArray[np.float64], owners: Owners) -> npt.NDArray[np.float64]:
    sums = np.zeros((owners.max() + 1, units.shape[1]))
    np.add.at(sums, owners, units)
    return sums


def _between(weights: npt.NDArray[np.float64], sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return for each row of weights the sum over pairs of two people of the products of theirs."""
    whole = weights @ sums
    found: npt.NDArray[np.float64] = ((whole * whole).sum(axis=1) - weights**2 @ (sums * sums).sum(axis=1)) / 2
    return found


def changed_pairs(pairs: ScoredPairs, *, same: bool) -> tuple[ChangedPair, ...]:
    """Return pairs of one kind as plain values."""
    found = zip(*pairs.rows, *pairs.scores, strict=True)
    return tuple(ChangedPair(int(i), int(j), same, float(a), float(b)) for i, j, a, b in found)
