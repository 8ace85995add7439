"""What becomes of thresholds and decisions where one model takes the other's place, for any weights of the people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.joint import JointPairs, KeptPairs
from qface_toolkit.scoring.resampling import Draws

Figures = npt.NDArray[np.float64]

FIELDS = (
    "float_tar",
    "tar",
    "float_threshold",
    "threshold",
    "shift",
    "kept_far",
    "kept_tar",
    "own_genuine_lost",
    "own_genuine_won",
    "own_impostor_lost",
    "own_impostor_won",
    "kept_genuine_lost",
    "kept_genuine_won",
    "kept_impostor_lost",
    "kept_impostor_won",
)
"""What is known at a false accept rate: in `own` each model has its own threshold, in `kept` both the reference's."""


@dataclass(frozen=True)
class _Side:
    """The pairs that one model puts above its floor, best first: where they are, both models' scores, and the floor.

    `falling` are the scores with their sign changed, which ascend.
    """

    places: npt.NDArray[np.intp]
    falling: Figures
    others: Figures
    floor: float

    def weigh(self, weights: Figures) -> "_Weighed":
        """Return the same with the weights of the pairs, [pairs]."""
        ordered = weights[self.places]
        return _Weighed(self, ordered, np.concatenate([[0.0], np.cumsum(ordered)]))


@dataclass(frozen=True)
class _Weighed:
    """One side and the weights of its pairs; `reach` is what its best ones weigh together, from none of them up."""

    side: _Side
    weights: Figures
    reach: Figures

    def threshold(self, rank: float) -> float:
        """Return the score at which the pairs weigh this much, NaN if they never do."""
        at = int(np.searchsorted(self.reach[1:], rank))
        return -float(self.side.falling[at]) if at < len(self.side.falling) else np.nan

    def accepted(self, threshold: float) -> float:
        """Return what the pairs that reach a threshold weigh, NaN if not all of them are here."""
        return float(self.reach[self._until(threshold)]) if threshold >= self.side.floor else np.nan

    def by_both(self, threshold: float, others: float) -> float:
        """Return what those of them weigh that the other model accepts at its threshold."""
        until = self._until(threshold)
        return float(self.weights[:until] @ (self.side.others[:until] >= others))

    def _until(self, threshold: float) -> int:
        return int(np.searchsorted(self.side.falling, -threshold, side="right"))


class JointFigures:
    """Thresholds and decisions at some false accept rates, for any weights of the people."""

    def __init__(self, joint: JointPairs, fars: Sequence[float]) -> None:
        """Sort the pairs once."""
        self.joint, self.fars = joint, fars
        self._genuine = [_side(joint.genuine, model, -np.inf) for model in (0, 1)]
        self._impostor = [_side(joint.impostor, model, joint.floors[model]) for model in (0, 1)]

    def figures(self, weights: Figures | None = None) -> Figures:
        """Return FIELDS at each rate, [rates, fields]; person i counts `weights[i]` times, or once.

        A pair of two people counts as often as the product of theirs. NaN where nothing is left, or where pairs would
        have to be known that were too many to keep.
        """
        joint = self.joint
        counts = np.ones(len(joint.counts.images)) if weights is None else weights[: len(joint.counts.images)]
        drawn = counts * joint.counts.images
        impostors = (drawn.sum() ** 2 - (drawn**2).sum()) / 2
        of_pairs = counts[joint.impostor.owners[0]] * counts[joint.impostor.owners[1]]
        genuine = [side.weigh(counts[joint.genuine.owners[0]]) for side in self._genuine]
        impostor = [side.weigh(of_pairs) for side in self._impostor]
        if not genuine[0].reach[-1] or not impostors:
            return np.full((len(self.fars), len(FIELDS)), np.nan)
        # A product such as 0.001 x 3000 may fall just below the whole number that is meant.
        ranks = [max(1.0, float(np.floor(far * impostors + 1e-9))) for far in self.fars]
        rows = [_at_rank(rank, genuine, impostor, impostors) for rank in ranks]
        return np.array(rows, dtype=np.float64).reshape(-1, len(FIELDS))

    def drawn(self, draws: Draws) -> npt.NDArray[np.float64]:
        """Return the figures of each draw, [draws, rates, fields]."""
        return np.stack([self.figures(counts) for counts in draws])

    def flipped(self, thresholds: Figures) -> tuple[KeptPairs, KeptPairs]:
        """Return the genuine and the impostor pairs that the models decide differently, each at its own threshold."""
        found = []
        for pairs in (self.joint.genuine, self.joint.impostor):
            accepted = [scores >= threshold for scores, threshold in zip(pairs.scores, thresholds, strict=True)]
            found.append(pairs.at(np.flatnonzero(accepted[0] != accepted[1])))
        return found[0], found[1]


def _side(pairs: KeptPairs, model: int, floor: float) -> _Side:
    scores, others = pairs.scores[model], pairs.scores[1 - model]
    here = np.flatnonzero(scores >= floor)
    down = here[np.argsort(-scores[here], kind="stable")]
    return _Side(down, -scores[down], others[down], floor)


def _at_rank(rank: float, genuine: list[_Weighed], impostor: list[_Weighed], impostors: float) -> list[float]:
    """Return FIELDS at the thresholds that let in as much of the impostors."""
    first, second = impostor[0].threshold(rank), impostor[1].threshold(rank)
    if np.isnan(first) or np.isnan(second):
        return [np.nan] * len(FIELDS)
    total = float(genuine[0].reach[-1])
    changed = [
        change
        for threshold in (second, first)
        for sides, whole in ((genuine, total), (impostor, impostors))
        for change in _changed(sides, first, threshold, whole)
    ]
    tar = [genuine[0].accepted(first) / total, genuine[1].accepted(second) / total]
    kept = [impostor[1].accepted(first) / impostors, genuine[1].accepted(first) / total]
    return [*tar, first, second, second - first, *kept, *changed]


def _changed(sides: list[_Weighed], first: float, second: float, total: float) -> tuple[float, float]:
    """Return the shares of pairs that the reference accepts and the other rejects, and the other way round."""
    both = sides[0].by_both(first, second)
    return (sides[0].accepted(first) - both) / total, (sides[1].accepted(second) - both) / total
