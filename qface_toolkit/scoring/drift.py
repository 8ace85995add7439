"""How far a compressed model's scores move from the float model's, pair by pair."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.blocks import Owners, Scores
from qface_toolkit.scoring.histogram import edges
from qface_toolkit.scoring.joint import JointPairs, KeptPairs
from qface_toolkit.scoring.resampling import Draws, Estimate, estimate
from qface_toolkit.scoring.verification import Floats, unit_rows

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


def genuine_drift(joint: JointPairs, draws: Draws) -> Drift:
    """Describe the drift of every genuine pair; a pair counts as often as its person."""
    values, owners = joint.genuine.drift, joint.genuine.owners[0]
    people = len(joint.counts.images)
    sums, counts = np.bincount(owners, values, minlength=people), np.bincount(owners, minlength=people)
    with np.errstate(invalid="ignore"):
        return drift_of(values, (draws[:, :people] @ sums) / (draws[:, :people] @ counts))


def impostor_drift(joint: JointPairs, sides: tuple[Floats, Floats], owners: Owners, draws: Draws) -> Drift:
    """Describe the drift of every impostor pair, percentiles to within 4e-6.

    A pair counts as the product of its two people. The scores of all pairs of two people add up to the product of their
    summed embeddings, so that no pair has to be looked at again for a draw.
    """
    sums = [_sums(unit_rows(side), owners) for side in sides]
    weights = np.concatenate([np.ones((1, len(joint.counts.images))), draws[:, : len(joint.counts.images)]])
    totals = [_between(weights, side) for side in sums]
    pairs = _between(weights, joint.counts.images.astype(np.float64)[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(pairs > 0, (totals[1] - totals[0]) / pairs, np.nan)
    reach = np.cumsum(joint.drift)
    middle = 2 * (edges() + edges()[1] / 2 + 0.5)
    at = np.searchsorted(reach, np.array(PERCENTILES) / 100 * reach[-1])
    named = {str(name): float(middle[one]) for name, one in zip(PERCENTILES, at, strict=True)}
    return Drift(estimate(float(means[0]), means[1:]), joint.drift_std, named)


def _sums(units: npt.NDArray[np.float64], owners: Owners) -> npt.NDArray[np.float64]:
    sums = np.zeros((owners.max() + 1, units.shape[1]))
    np.add.at(sums, owners, units)
    return sums


def _between(weights: npt.NDArray[np.float64], sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return for each row of weights the sum over pairs of two people of the products of theirs."""
    whole = weights @ sums
    found: npt.NDArray[np.float64] = ((whole * whole).sum(axis=1) - weights**2 @ (sums * sums).sum(axis=1)) / 2
    return found


def changed_pairs(pairs: KeptPairs, rows: Owners, *, same: bool) -> tuple[ChangedPair, ...]:
    """Return pairs of one kind as plain values; `rows` are those of the images by which the pairs are known."""
    found = zip(rows[pairs.first], rows[pairs.second], *pairs.scores, strict=True)
    return tuple(ChangedPair(int(i), int(j), same, float(a), float(b)) for i, j, a, b in found)
