"""What becomes of thresholds and decisions where one model takes the other's place, for every draw of the people.

A person drawn twice counts twice, a pair of two people as the product of theirs; two copies of a person are not
compared. All weights are whole numbers, so sums of them are exact in whatever order they are taken, and the pairs are
weighed for a thousand draws at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.blocks import PairCounts, Places
from qface_toolkit.scoring.both_models import ScoredPairs
from qface_toolkit.scoring.embeddings import Owners
from qface_toolkit.scoring.rates import ranks_of
from qface_toolkit.scoring.resampling import Draws

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

_PAIRS_AT_ONCE = 1024
_DRAWS_AT_ONCE = 1024

Weights = npt.NDArray[np.unsignedinteger]
Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DrawnPeople:
    """How often each person is drawn, [draws, people], whose each image is, [images], and what pairs that makes."""

    draws: Draws
    owners: Owners
    counts: PairCounts

    def batches(self) -> Iterator[tuple[Weights, Figures]]:
        """Yield some draws at a time: how often people are drawn, [people, draws], and what the impostors weigh."""
        people = len(self.counts.images)
        smallest = np.min_scalar_type(int(self.draws.max(initial=1)) ** 2)
        for at in range(0, len(self.draws), _DRAWS_AT_ONCE):
            here = self.draws[at : at + _DRAWS_AT_ONCE, :people]
            yield np.ascontiguousarray(here.T.astype(smallest)), self.counts.impostors_drawn(here)


class _Ranking:
    """Pairs by the score of one model, best first, down to the floor below which some are missing.

    `falling` are the scores with their sign changed, which ascend; `others` those of the other model, if there is one.
    """

    def __init__(self, pairs: ScoredPairs, owners: Owners, model: int = 0, floor: float = -np.inf) -> None:
        here = np.flatnonzero(pairs.scores[model] >= floor)
        # Which of equal scores comes first makes no difference: a threshold accepts all of them.
        ranked = pairs.at(here[np.argsort(-pairs.scores[model, here])])
        self.falling, self.others, self.floor = -ranked.scores[model], ranked.scores[model - 1], floor
        self.first, self.second = owners[ranked.rows]
        self.genuine = np.array_equal(self.first, self.second)

    def weights(self, times: Weights, places: Places | slice, draw: int | slice = slice(None)) -> Weights:
        """Return what the pairs at some places weigh, [pairs, draws], or in one draw, [pairs]."""
        found = times[self.first[places], draw]
        return found if self.genuine else found * times[self.second[places], draw]


class _Weighed:
    """A ranking in some draws; `times` [people, draws] says how often each person is drawn.

    `_sums` [draws, stretches + 1] are what the pairs before each stretch weigh; within one, sums are made on demand.
    """

    def __init__(self, ranking: _Ranking, times: Weights) -> None:
        self._ranking, self._times = ranking, times
        pairs = len(ranking.falling)
        self._sums = np.zeros((times.shape[1], -(-pairs // _PAIRS_AT_ONCE) + 1))
        for stretch in range(self._sums.shape[1] - 1):
            weights = ranking.weights(times, self._stretch(stretch))
            self._sums[:, stretch + 1] = _sum(weights)
        np.cumsum(self._sums, axis=1, out=self._sums)

    @property
    def totals(self) -> Figures:
        """Return what all pairs weigh, [draws]."""
        return self._sums[:, -1]

    def thresholds(self, ranks: Figures) -> Figures:
        """Return the score at which the pairs weigh this much, [draws], NaN where they never do."""
        return np.array([self._threshold(draw, rank) for draw, rank in enumerate(ranks)])

    def accepted(self, thresholds: Figures) -> Figures:
        """Return what the pairs that reach a threshold weigh, [draws], NaN where not all of them are here."""
        known = thresholds >= self._ranking.floor
        found = [self._until(draw, place) for draw, place in enumerate(self._places(thresholds))]
        return np.where(known, found, np.nan)

    def rejected_by_other(self, thresholds: Figures, others: Figures) -> Figures:
        """Return what those of them weigh that the other model rejects at its thresholds, [draws], NaN likewise."""
        ranking, until = self._ranking, self._places(thresholds)
        found = np.zeros(len(thresholds))
        # Most pairs are accepted by both models in every draw.
        candidates = np.flatnonzero(ranking.others[: until.max()] < np.nanmax(others, initial=-np.inf))
        for at in range(0, len(candidates), _PAIRS_AT_ONCE):
            places = candidates[at : at + _PAIRS_AT_ONCE]
            rejected = (ranking.others[places, None] < others) & (places[:, None] < until)
            found += _sum(ranking.weights(self._times, places) * rejected)
        return np.where((thresholds >= ranking.floor) & ~np.isnan(others), found, np.nan)

    def _threshold(self, draw: int, rank: float) -> float:
        stretch = int(np.searchsorted(self._sums[draw], rank)) - 1
        if stretch == self._sums.shape[1] - 1:
            return float(np.nan)
        weights = self._ranking.weights(self._times, self._stretch(stretch), draw)
        within = np.searchsorted(np.cumsum(weights, dtype=np.uint64), rank - self._sums[draw, stretch])
        return -float(self._ranking.falling[stretch * _PAIRS_AT_ONCE + within])

    def _until(self, draw: int, place: int) -> float:
        stretch = place // _PAIRS_AT_ONCE
        rest = slice(stretch * _PAIRS_AT_ONCE, place)
        return float(self._sums[draw, stretch] + _sum(self._ranking.weights(self._times, rest, draw)))

    def _places(self, thresholds: Figures) -> Places:
        """Return how many pairs reach each threshold, none where it is NaN."""
        places = np.searchsorted(self._ranking.falling, -thresholds, side="right")
        return np.where(np.isnan(thresholds), 0, places)

    @staticmethod
    def _stretch(number: int) -> slice:
        return slice(number * _PAIRS_AT_ONCE, (number + 1) * _PAIRS_AT_ONCE)


def _sum(weights: Weights) -> Weights:
    """Return the sum over pairs, [draws] of [pairs, draws], in the narrowest type that holds it: twice as fast."""
    # A thousand weights of 16 bits take 26.
    wide = np.uint32 if weights.itemsize <= 2 else np.uint64
    return np.asarray(weights.sum(axis=0, dtype=wide))


def joint_figures(
    genuine: ScoredPairs, impostor: ScoredPairs, floors: tuple[float, float], drawn: DrawnPeople, fars: Sequence[float]
) -> Figures:
    """Return FIELDS at each rate in each draw of people, [draws, rates, fields].

    `impostor` holds all impostor pairs that reach the model's own of the `floors`. NaN where nothing is left, or where
    pairs would have to be known that were too many to keep.
    """
    kinds = [
        [_Ranking(pairs, drawn.owners, model, floor) for model, floor in enumerate(lowest)]
        for pairs, lowest in ((genuine, (-np.inf, -np.inf)), (impostor, floors))
    ]
    parts = []
    for times, impostors in drawn.batches():
        weighed = [[_Weighed(ranking, times) for ranking in models] for models in kinds]
        rates = [_at_rate(far, weighed[0], weighed[1], impostors) for far in fars]
        parts.append(np.reshape(rates, (len(fars), len(FIELDS), len(impostors))).transpose(2, 0, 1))
    return np.concatenate(parts)


def drawn_tar(genuine: ScoredPairs, impostor: ScoredPairs, drawn: DrawnPeople, fars: Sequence[float]) -> Figures:
    """Return TAR at each rate in each draw of people, [draws, rates], of pairs that count in both orders.

    NaN where nothing is left, or where a draw needs more impostors than were kept.
    """
    rankings = [_Ranking(pairs, drawn.owners) for pairs in (genuine, impostor)]
    parts = []
    for times, impostors in drawn.batches():
        accepting, letting_in = (_Weighed(ranking, times) for ranking in rankings)
        rates = []
        for far in fars:
            thresholds = letting_in.thresholds(_ranks(far, 2 * impostors))
            rates.append(_share(accepting.accepted(thresholds), accepting.totals))
        parts.append(np.reshape(rates, (len(fars), len(impostors))).T)
    return np.concatenate(parts)


def _ranks(far: float, impostors: Figures) -> Figures:
    return np.where(impostors > 0, np.maximum(1.0, ranks_of(far, impostors)), np.nan)


def _share(some: Figures, whole: Figures) -> Figures:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, some / whole, np.nan)


def _at_rate(far: float, genuine: list[_Weighed], impostor: list[_Weighed], impostors: Figures) -> Figures:
    """Return FIELDS in each draw, [fields, draws], at the thresholds that let in this share of the impostors."""
    ranks = _ranks(far, np.where(genuine[0].totals > 0, impostors, 0.0))
    first, second = (side.thresholds(ranks) for side in impostor)
    first, second = (np.where(np.isnan(other), np.nan, one) for one, other in ((first, second), (second, first)))
    total = genuine[0].totals
    tar = [_share(genuine[0].accepted(first), total), _share(genuine[1].accepted(second), total)]
    kept = [_share(impostor[1].accepted(first), impostors), _share(genuine[1].accepted(first), total)]
    changed = [
        _share(side.rejected_by_other(*thresholds), whole)
        for threshold in (second, first)
        for sides, whole in ((genuine, total), (impostor, impostors))
        for side, thresholds in zip(sides, ((first, threshold), (threshold, first)), strict=True)
    ]
    return np.stack([*tar, first, second, second - first, *kept, *changed])
